"""The table of all builders, on which the laws are run, and the digests of what they draw."""

import hashlib
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest
from jax.nn import initializers as jax_initializers

import qrjax

FAMILIES = [f"{name}_{law}" for name in ("glorot", "xavier", "lecun", "he", "kaiming") for law in ("uniform", "normal")]
LAYOUTS = ("sequence", "shuffled", "outputs", "neurons", "points")
SCRAMBLES = (None, "shift", "linear", "owen")
ARGUMENTS = {"variance_scaling": (2.0, "fan_geo_avg", "normal"), "truncated_normal": (0.5,)}
TWINS = ("uniform", "normal", "truncated_normal", "variance_scaling", "orthogonal", "delta_orthogonal", *FAMILIES)
STEMS = (*TWINS, "random_uniform", "random_normal")
# Each distribution and each source, a bound of 0, a scale of its own, and both kinds of orthogonal matrices.
SAMPLE = (
    "he_normal_qr", "uniform_qr", "normal_hash", "glorot_uniform_hash", "random_uniform_hash zero_mean",
    "orthogonal_qr", "delta_orthogonal_hash",
)  # fmt: skip


class Member(NamedTuple):
    """A builder with arguments to call it with, and its twin in JAX where there is one."""

    stem: str
    source: str
    options: dict[str, Any]

    @property
    def builder_name(self) -> str:
        return f"{self.stem}_{self.source}"

    @property
    def name(self) -> str:
        return " ".join((self.builder_name, *self.options))

    @property
    def builder(self) -> Callable[..., Any]:
        return getattr(qrjax, self.builder_name)

    @property
    def arguments(self) -> tuple[Any, ...]:
        return ARGUMENTS.get(self.stem, ())

    @property
    def twin(self) -> Callable[..., Any] | None:
        return getattr(jax_initializers, self.stem, None)

    @property
    def shape(self) -> tuple[int, ...]:
        return (3, 3, 8, 12) if "delta" in self.stem else (48, 40)

    @property
    def initializer(self) -> Any:
        return self.build()

    def build(self, **more: Any) -> Any:
        return self.builder(*self.arguments, **self.options | more)

    @property
    def orthogonal(self) -> bool:
        return "orthogonal" in self.stem

    @property
    def zero_mean(self) -> bool:
        return "zero_mean" in self.options


# The second names of the same functions need no second run of the laws.
SECOND_NAMES = tuple(stem for stem in STEMS if stem.startswith(("xavier", "kaiming")))
# One of values in (0, scale) has no zero mean, and orthogonal columns no pairs.
WITHOUT_ZERO_MEAN = ("uniform", "orthogonal", "delta_orthogonal", *SECOND_NAMES)
MEMBERS = [Member(stem, source, {}) for source in ("qr", "hash") for stem in STEMS]
MEMBERS += [Member(stem, "hash", {"zero_mean": True}) for stem in STEMS if stem not in WITHOUT_ZERO_MEAN]
EXACT = [m for m in MEMBERS if not m.orthogonal and m.stem not in SECOND_NAMES]


def named(members: list[Member], sampled: bool = False) -> dict[str, Any]:
    """Keyword arguments of `pytest.mark.parametrize` for a list of members.

    `sampled`: for laws that compile a lot, builders outside the sample wait for the slow tests.
    """
    marks = [pytest.mark.slow if sampled and m.name not in SAMPLE else () for m in members]
    return {"argvalues": [pytest.param(m, id=m.name, marks=k) for m, k in zip(members, marks, strict=True)]}


def cases() -> dict[str, tuple[Any, tuple[int, ...], str]]:
    """What the committed digests cover: name -> (initializer, shape, dtype)."""
    result = {}
    for m in EXACT:
        dtypes = ["float32", "bfloat16", "float16"]
        if m.stem in ("variance_scaling", "normal", *FAMILIES):
            dtypes.append("complex64")
        result |= {f"{m.name} {dtype}": (m.initializer, m.shape, dtype) for dtype in dtypes}
    for layout in LAYOUTS:
        for scramble in SCRAMBLES:
            if scramble is None and layout in ("outputs", "neurons"):
                continue
            for dim in (None, 7):
                init = qrjax.he_normal_qr(layout=layout, scramble=scramble, dim=dim)
                result[f"he_normal_qr {layout} {scramble} {dim}"] = (init, (3, 3, 10, 24), "float32")
    for init, name in ((qrjax.he_normal_qr(), "he_normal_qr"), (qrjax.he_normal_hash(), "he_normal_hash")):
        for shape in ((1, 1), (7, 1), (1, 9), (50, 257), (3, 5, 64), (1000, 96)):
            result[f"{name} {shape}"] = (init, shape, "float32")
    # An even and an odd number of inputs, and of two only.
    for shape in ((2, 9), (7, 3), (3, 3, 3, 16), (5, 5, 6, 8), (1000, 96)):
        result[f"he_normal_hash zero_mean {shape}"] = (qrjax.he_normal_hash(zero_mean=True), shape, "float32")
    for name in ("he_normal_qr", "lecun_uniform_hash"):
        result[f"{name} stream"] = (getattr(qrjax, name)().stream("decoder", 3, "query"), (48, 40), "float32")
    result["truncated_normal_qr -1 2.5"] = (qrjax.truncated_normal_qr(0.5, None, -1.0, 2.5), (40, 30), "float32")
    return result


def digest(array: Any) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()[:16]


def digests(every: int = 1, without: str = "nothing", first: int = 0) -> dict[str, str]:
    """The digests of the cases, or of some: every how many-th, and leaving out those with a word in the name."""
    key = jax.random.key(2024)
    chosen = [(name, case) for name, case in list(cases().items())[first::every] if without not in name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", qrjax.RankCollapseWarning)
        return {name: digest(init(key, shape, dtype)) for name, (init, shape, dtype) in chosen}
