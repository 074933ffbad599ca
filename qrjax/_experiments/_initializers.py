"""The paper's ten initializers, from each source of randomness, and a person's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jax import Array
from jax.nn import initializers as theirs

from qrjax._autoinit._names import Drawn
from qrjax._experiments._names import INITIALIZERS, OWN
from qrjax._experiments._own import built, is_whole
from qrjax._initializers import _builders as ours

Initializer = Callable[..., Array]

# Keras's defaults for the three of fixed scale, as in the paper.
STDDEV = LIMIT = 0.05


class Family(NamedTuple):
    """One initializer in all its forms."""

    random: Callable[[], Initializer]
    sobol: Callable[..., Initializer]
    hash: Callable[[], Initializer]
    distribution: Drawn  # what `autoinit` draws from in its place


def _random_uniform() -> Initializer:
    def init(key: Array, shape: Any, dtype: Any = "float32", out_sharding: Any = None) -> Array:
        return jax.random.uniform(key, shape, dtype, -LIMIT, LIMIT, out_sharding=out_sharding)

    return init


def _scaled(name: str) -> Family:
    distribution: Drawn = "uniform" if name.endswith("uniform") else "truncated_normal"
    builders = getattr(theirs, name), getattr(ours, f"{name}_qr"), getattr(ours, f"{name}_hash")
    return Family(*builders, distribution)


def _fixed(random: Callable[[], Initializer], name: str, arguments: tuple[float, ...], distribution: Drawn) -> Family:
    sobol, hashed = getattr(ours, f"{name}_qr"), getattr(ours, f"{name}_hash")
    return Family(random, lambda **options: sobol(*arguments, **options), lambda: hashed(*arguments), distribution)


_FIXED = {
    "orthogonal": _fixed(theirs.orthogonal, "orthogonal", (), "orthogonal"),
    "random_uniform": _fixed(_random_uniform, "random_uniform", (-LIMIT, LIMIT), "uniform"),
    "random_normal": _fixed(lambda: theirs.normal(STDDEV), "random_normal", (0.0, STDDEV), "normal"),
    "truncated_normal": _fixed(
        lambda: theirs.truncated_normal(STDDEV), "truncated_normal", (STDDEV,), "truncated_normal"
    ),
}
FAMILIES = {name: _FIXED[name] if name in _FIXED else _scaled(name) for name in INITIALIZERS}


def kernel_inits(name: str, source: str, kernels: int, dim: int) -> tuple[Initializer, ...]:
    """An initializer for each kernel; `dim` is the Sobol' dimension of the first one in the paper's order."""
    if source == OWN:
        own = built(name)
        # What makes all params at once replaces what the module draws, as autoinit does.
        return (theirs.lecun_normal() if is_whole(own) else own,) * kernels
    family = FAMILIES[name]
    if source == "sequence":
        return tuple(family.sobol(layout="sequence", dim=dim + k, scramble=None) for k in range(kernels))
    # Autoinit replaces what the module draws.
    build = {"sobol": family.sobol, "hash": family.hash}.get(source, family.random)
    return (build(),) * kernels
