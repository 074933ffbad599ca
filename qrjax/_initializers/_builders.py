"""The builders: same parameters, order and defaults as `jax.nn.initializers`, then keyword-only extras.

Each comes twice, `_qr` on the Sobol' sequence and `_hash` on SplitMix64. The ten fan-scaled ones are
made from the table at the end.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, Protocol

from qrjax._initializers._arguments import Axes, axes, bound, number, positive
from qrjax._initializers._docstrings import documented
from qrjax._initializers._initializer import Initializer
from qrjax._initializers._orthogonal import Orthogonal
from qrjax._initializers._scaling import Fixed, VarianceScaling
from qrjax._layouts._sources import Hash, Layout, Sobol, Source
from qrjax._sequences._scrambles import Scramble
from qrjax._terminal._names import choice
from qrjax._values._distributions import Distribution, Normal, TruncatedNormal, Uniform, check_dtype
from qrjax._values._truncated import check_interval

DISTRIBUTIONS: dict[str, Distribution] = {
    "truncated_normal": TruncatedNormal(),
    "normal": Normal(),
    "uniform": Uniform(),
}
Mode = Literal["fan_in", "fan_out", "fan_avg", "fan_geo_avg"]


def _dtype(dtype: Any) -> Any:
    return None if dtype is None else check_dtype(dtype)


def _call(name: str, source: Source, dtype: Any, **arguments: Any) -> str:
    """The expression that built an initializer, for its repr."""
    if dtype is not None:
        arguments["dtype"] = str(check_dtype(dtype))
    if isinstance(source, Sobol) and source != Sobol("outputs", None, "owen"):
        arguments |= {"layout": source.layout, "dim": source.dim, "scramble": source.scramble}
    if source == Hash(zero_mean=True):
        arguments["zero_mean"] = True
    return f"{name}({', '.join(f'{key}={value!r}' for key, value in arguments.items())})"


def _uniform(name: str, source: Source, scale: Any, dtype: Any) -> Initializer:
    half = positive("scale", scale) / 2
    return Initializer(Uniform(), Fixed(half, half), source, _dtype(dtype), _call(name, source, dtype, scale=scale))


def _normal(name: str, source: Source, stddev: Any, dtype: Any) -> Initializer:
    scaling = Fixed(0.0, positive("stddev", stddev))
    return Initializer(Normal(), scaling, source, _dtype(dtype), _call(name, source, dtype, stddev=stddev))


def _truncated_normal(name: str, source: Source, stddev: Any, dtype: Any, lower: Any, upper: Any) -> Initializer:
    lower, upper = bound("lower", lower), bound("upper", upper)
    check_interval(lower, upper)
    expression = _call(name, source, dtype, stddev=stddev, lower=lower, upper=upper)
    scaling = Fixed(0.0, positive("stddev", stddev))
    return Initializer(TruncatedNormal(lower, upper), scaling, source, _dtype(dtype), expression)


def _random_uniform(name: str, source: Source, minval: Any, maxval: Any, dtype: Any) -> Initializer:
    least, most = number("minval", minval), number("maxval", maxval)
    if not least < most:
        raise ValueError(f"`minval` must be less than `maxval`, got minval={minval} and maxval={maxval}")
    scaling = Fixed((least + most) / 2, (most - least) / 2)
    return Initializer(
        Uniform(), scaling, source, _dtype(dtype), _call(name, source, dtype, minval=minval, maxval=maxval)
    )


def _random_normal(name: str, source: Source, mean: Any, stddev: Any, dtype: Any) -> Initializer:
    scaling = Fixed(number("mean", mean), positive("stddev", stddev))
    return Initializer(Normal(), scaling, source, _dtype(dtype), _call(name, source, dtype, mean=mean, stddev=stddev))


def _variance_scaling(
    name: str, source: Source, scaled: tuple[Any, Any, Any], roles: tuple[Any, Any, Any], dtype: Any, **shown: Any
) -> Initializer:
    scale, mode, distribution = scaled
    names = ("in_axis", "out_axis", "batch_axis")
    found = [axes(key, value) for key, value in zip(names, roles, strict=True)]
    scaling = VarianceScaling(positive("scale", scale), mode, *found)
    law = DISTRIBUTIONS[choice("distribution", distribution, tuple(DISTRIBUTIONS))]
    shown |= {k: v for k, v, default in zip(names, found, (-2, -1, ()), strict=True) if v != default}
    return Initializer(law, scaling, source, _dtype(dtype), _call(name, source, dtype, **shown))


def _orthogonal(name: str, source: Source, scale: Any, column_axis: Any, dtype: Any, delta: bool) -> Orthogonal:
    column = axes("column_axis", column_axis)
    if not isinstance(column, int):
        raise TypeError(f"`column_axis` must be one axis, got {column_axis!r}")
    expression = _call(name, source, dtype, scale=scale, column_axis=column)
    return Orthogonal(positive("scale", scale), column, source, _dtype(dtype), delta, expression)


_SCALE = "upper bound of the values, exclusive; positive"
_UNIT_RANGE = "values lie in the open interval (0, scale)"
_NORMAL_RANGE = "values are finite, standardized ones below 6.34 in absolute value"
_TRUNCATED_RANGE = "values lie in the open interval (lower * stddev, upper * stddev)"
_VALUE_RANGE = "values lie in the open interval (minval, maxval)"
_FAN_RANGE = "values lie strictly inside the distribution's bounds"
_ORTHONORMAL = "the smaller of rows and columns are orthonormal, times `scale`"
_SCALING = "scaling factor of the variance, scale / n; positive"


@documented("qr", "Builds an initializer of uniform values in (0, scale).", range=_UNIT_RANGE, scale=_SCALE)
def uniform_qr(
    scale: float = 1e-2, dtype: Any = None, *, layout: Layout = "outputs", dim: int | None = None,
    scramble: Scramble = "owen",
) -> Initializer:  # fmt: skip
    return _uniform("uniform_qr", Sobol(layout, dim, scramble), scale, dtype)


@documented("hash", "Builds an initializer of uniform values in (0, scale).", range=_UNIT_RANGE, scale=_SCALE)
def uniform_hash(scale: float = 1e-2, dtype: Any = None, *, zero_mean: bool = False) -> Initializer:
    return _uniform("uniform_hash", Hash(zero_mean), scale, dtype)


@documented("qr", "Builds an initializer of normal values with mean 0.", range=_NORMAL_RANGE)
def normal_qr(
    stddev: float = 1e-2, dtype: Any = None, *, layout: Layout = "outputs", dim: int | None = None,
    scramble: Scramble = "owen",
) -> Initializer:  # fmt: skip
    return _normal("normal_qr", Sobol(layout, dim, scramble), stddev, dtype)


@documented("hash", "Builds an initializer of normal values with mean 0.", range=_NORMAL_RANGE)
def normal_hash(stddev: float = 1e-2, dtype: Any = None, *, zero_mean: bool = False) -> Initializer:
    return _normal("normal_hash", Hash(zero_mean), stddev, dtype)


@documented("qr", "Builds an initializer of truncated normal values.", range=_TRUNCATED_RANGE)
def truncated_normal_qr(
    stddev: float = 1e-2, dtype: Any = None, lower: float = -2.0, upper: float = 2.0, *, layout: Layout = "outputs",
    dim: int | None = None, scramble: Scramble = "owen",
) -> Initializer:  # fmt: skip
    return _truncated_normal("truncated_normal_qr", Sobol(layout, dim, scramble), stddev, dtype, lower, upper)


@documented("hash", "Builds an initializer of truncated normal values.", range=_TRUNCATED_RANGE)
def truncated_normal_hash(
    stddev: float = 1e-2, dtype: Any = None, lower: float = -2.0, upper: float = 2.0, *, zero_mean: bool = False
) -> Initializer:
    return _truncated_normal("truncated_normal_hash", Hash(zero_mean), stddev, dtype, lower, upper)


@documented("qr", "Builds an initializer of uniform values, in Keras's form.", range=_VALUE_RANGE)
def random_uniform_qr(
    minval: float = -0.05, maxval: float = 0.05, dtype: Any = None, *, layout: Layout = "outputs",
    dim: int | None = None, scramble: Scramble = "owen",
) -> Initializer:  # fmt: skip
    return _random_uniform("random_uniform_qr", Sobol(layout, dim, scramble), minval, maxval, dtype)


@documented("hash", "Builds an initializer of uniform values, in Keras's form.", range=_VALUE_RANGE)
def random_uniform_hash(
    minval: float = -0.05, maxval: float = 0.05, dtype: Any = None, *, zero_mean: bool = False
) -> Initializer:
    return _random_uniform("random_uniform_hash", Hash(zero_mean), minval, maxval, dtype)


@documented("qr", "Builds an initializer of normal values, in Keras's form.", range=_NORMAL_RANGE)
def random_normal_qr(
    mean: float = 0.0, stddev: float = 0.05, dtype: Any = None, *, layout: Layout = "outputs",
    dim: int | None = None, scramble: Scramble = "owen",
) -> Initializer:  # fmt: skip
    return _random_normal("random_normal_qr", Sobol(layout, dim, scramble), mean, stddev, dtype)


@documented("hash", "Builds an initializer of normal values, in Keras's form.", range=_NORMAL_RANGE)
def random_normal_hash(
    mean: float = 0.0, stddev: float = 0.05, dtype: Any = None, *, zero_mean: bool = False
) -> Initializer:
    return _random_normal("random_normal_hash", Hash(zero_mean), mean, stddev, dtype)


_EXAMPLE = "(1.0, 'fan_avg', 'uniform')"


@documented("qr", "Builds an initializer whose variance is scale / n, with n a fan of the shape.", range=_FAN_RANGE,
            scale=_SCALING, call="variance_scaling_qr" + _EXAMPLE)  # fmt: skip
def variance_scaling_qr(
    scale: float, mode: Mode, distribution: Literal["truncated_normal", "normal", "uniform"], in_axis: Axes = -2,
    out_axis: Axes = -1, batch_axis: Axes = (), dtype: Any = None, *, layout: Layout = "outputs",
    dim: int | None = None, scramble: Scramble = "owen",
) -> Initializer:  # fmt: skip
    scaled, roles = (scale, mode, distribution), (in_axis, out_axis, batch_axis)
    shown = {"scale": scale, "mode": mode, "distribution": distribution}
    return _variance_scaling("variance_scaling_qr", Sobol(layout, dim, scramble), scaled, roles, dtype, **shown)


@documented("hash", "Builds an initializer whose variance is scale / n, with n a fan of the shape.", range=_FAN_RANGE,
            scale=_SCALING, call="variance_scaling_hash" + _EXAMPLE)  # fmt: skip
def variance_scaling_hash(
    scale: float, mode: Mode, distribution: Literal["truncated_normal", "normal", "uniform"], in_axis: Axes = -2,
    out_axis: Axes = -1, batch_axis: Axes = (), dtype: Any = None, *, zero_mean: bool = False,
) -> Initializer:  # fmt: skip
    scaled, roles = (scale, mode, distribution), (in_axis, out_axis, batch_axis)
    shown = {"scale": scale, "mode": mode, "distribution": distribution}
    return _variance_scaling("variance_scaling_hash", Hash(zero_mean), scaled, roles, dtype, **shown)


_ORTHOGONAL = "Builds an initializer of orthogonal matrices."
_DELTA = "Builds an initializer of kernels that are orthogonal at their centre and 0 around it."
_FACTOR = "factor of the orthonormal entries; positive"


@documented("qr", _ORTHOGONAL, range=_ORTHONORMAL, scale=_FACTOR, orthogonal=True)
def orthogonal_qr(
    scale: float = 1.0, column_axis: int = -1, dtype: Any = None, *, layout: Layout = "outputs",
    dim: int | None = None, scramble: Scramble = "owen",
) -> Orthogonal:  # fmt: skip
    return _orthogonal("orthogonal_qr", Sobol(layout, dim, scramble), scale, column_axis, dtype, delta=False)


@documented("hash", _ORTHOGONAL, range=_ORTHONORMAL, scale=_FACTOR, orthogonal=True)
def orthogonal_hash(scale: float = 1.0, column_axis: int = -1, dtype: Any = None) -> Orthogonal:
    return _orthogonal("orthogonal_hash", Hash(), scale, column_axis, dtype, delta=False)


@documented("qr", _DELTA, range=_ORTHONORMAL, scale=_FACTOR, orthogonal=True)
def delta_orthogonal_qr(
    scale: float = 1.0, column_axis: int = -1, dtype: Any = None, *, layout: Layout = "outputs",
    dim: int | None = None, scramble: Scramble = "owen",
) -> Orthogonal:  # fmt: skip
    return _orthogonal("delta_orthogonal_qr", Sobol(layout, dim, scramble), scale, column_axis, dtype, delta=True)


@documented("hash", _DELTA, range=_ORTHONORMAL, scale=_FACTOR, orthogonal=True)
def delta_orthogonal_hash(scale: float = 1.0, column_axis: int = -1, dtype: Any = None) -> Orthogonal:
    return _orthogonal("delta_orthogonal_hash", Hash(), scale, column_axis, dtype, delta=True)


class FamilyQR(Protocol):
    """The signature of the ten fan-scaled `_qr` builders."""

    def __call__(
        self, in_axis: Axes = -2, out_axis: Axes = -1, batch_axis: Axes = (), dtype: Any = None, *,
        layout: Layout = "outputs", dim: int | None = None, scramble: Scramble = "owen",
    ) -> Initializer: ...  # fmt: skip


class FamilyHash(Protocol):
    """The signature of the ten fan-scaled `_hash` builders."""

    def __call__(
        self, in_axis: Axes = -2, out_axis: Axes = -1, batch_axis: Axes = (), dtype: Any = None, *,
        zero_mean: bool = False,
    ) -> Initializer: ...  # fmt: skip


def _named(
    builder: Callable[..., Initializer], name: str, source: str, scaled: tuple[float, str, str], title: str
) -> Any:
    """`builder` with the name and docstring of one member of the family."""
    builder.__name__ = builder.__qualname__ = name
    scale, mode, distribution = scaled
    summary = f"Builds {title}: {distribution.replace('_', ' ')} values of variance {scale:g} / {mode}."
    return documented(source, summary, range=_FAN_RANGE)(builder)


def _family(stem: str, title: str, scale: float, mode: str, distribution: str) -> tuple[FamilyQR, FamilyHash]:
    scaled = (scale, mode, distribution)

    def qr(
        in_axis: Axes = -2, out_axis: Axes = -1, batch_axis: Axes = (), dtype: Any = None, *,
        layout: Layout = "outputs", dim: int | None = None, scramble: Scramble = "owen",
    ) -> Initializer:  # fmt: skip
        source = Sobol(layout, dim, scramble)
        return _variance_scaling(f"{stem}_qr", source, scaled, (in_axis, out_axis, batch_axis), dtype)

    def hashed(
        in_axis: Axes = -2, out_axis: Axes = -1, batch_axis: Axes = (), dtype: Any = None, *, zero_mean: bool = False
    ) -> Initializer:
        source = Hash(zero_mean)
        return _variance_scaling(f"{stem}_hash", source, scaled, (in_axis, out_axis, batch_axis), dtype)

    return _named(qr, f"{stem}_qr", "qr", scaled, title), _named(hashed, f"{stem}_hash", "hash", scaled, title)


glorot_uniform_qr, glorot_uniform_hash = _family(
    "glorot_uniform", "a Glorot (Xavier) uniform initializer", 1.0, "fan_avg", "uniform"
)
glorot_normal_qr, glorot_normal_hash = _family(
    "glorot_normal", "a Glorot (Xavier) normal initializer", 1.0, "fan_avg", "truncated_normal"
)
lecun_uniform_qr, lecun_uniform_hash = _family("lecun_uniform", "a LeCun uniform initializer", 1.0, "fan_in", "uniform")
lecun_normal_qr, lecun_normal_hash = _family(
    "lecun_normal", "a LeCun normal initializer", 1.0, "fan_in", "truncated_normal"
)
he_uniform_qr, he_uniform_hash = _family("he_uniform", "a He (Kaiming) uniform initializer", 2.0, "fan_in", "uniform")
he_normal_qr, he_normal_hash = _family(
    "he_normal", "a He (Kaiming) normal initializer", 2.0, "fan_in", "truncated_normal"
)
# As in jax.nn.initializers, these are second names of the same functions.
xavier_uniform_qr, xavier_uniform_hash = glorot_uniform_qr, glorot_uniform_hash
xavier_normal_qr, xavier_normal_hash = glorot_normal_qr, glorot_normal_hash
kaiming_uniform_qr, kaiming_uniform_hash = he_uniform_qr, he_uniform_hash
kaiming_normal_qr, kaiming_normal_hash = he_normal_qr, he_normal_hash
