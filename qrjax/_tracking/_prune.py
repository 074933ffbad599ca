"""`prune`: params without the weights that a mask takes away."""

from __future__ import annotations

from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from qrjax._adapters._variables import holes_of, leaves_of, values_of, with_values
from qrjax._interpreter._model import Leaf
from qrjax._terminal._names import choice
from qrjax._terminal._received import is_key
from qrjax._tracking._initial import initial_like
from qrjax._tracking._pairs import Pair, check_arrays, pairs
from qrjax._words._transfers import transferring


@transferring
def prune(params: Any, mask: Any, to: Literal["zero", "initial"] = "zero", record_or_init_fn: Any = None) -> Any:
    """The params with pruned weights at zero, or back where they began.

    Works inside `jax.jit` and `jax.vmap` too. JAX keys among the variables stay as they are.

    Args:
      params: as in `qrjax.mask`.
      mask: of booleans, as `qrjax.mask` returns it, for all variables or for the parameters alone; False goes.
      to: "zero", or "initial", which rewinds a weight to its initial value.
      record_or_init_fn: as in `qrjax.changes`; needed for "initial".

    Returns:
      Params of the same structure; for an NNX module a new module.

    Raises:
      ValueError: if the mask has another structure or shape, or the initial values are not given.
      TypeError: if the mask is not of booleans.

    Example:
      >>> import jax.numpy as jnp, qrjax
      >>> qrjax.prune({"w": jnp.arange(3.0)}, {"w": jnp.array([True, False, True])})["w"].tolist()
      [0.0, 0.0, 2.0]
    """
    choice("to", to, ("zero", "initial"))
    flat = check_mask(mask, params)
    if to == "zero":
        new = [zeroed(m, a) for m, a in zip(flat, values_of(params), strict=True)]
        return with_values(params, new)
    if record_or_init_fn is None:
        raise ValueError("`record_or_init_fn` must be given for to='initial': it says where weights began")
    begin: dict[str, Pair] = {pair.leaf.path: pair for pair in pairs(record_or_init_fn, params)}
    new = []
    for leaf, m, array in zip(leaves_of(params), flat, values_of(params), strict=True):
        pair = begin.get(leaf.path)
        new.append(array if pair is None or m is None else _chosen(m, array, initial_like(pair)))
    return with_values(params, new)


def zeroed(mask: Any, array: Any) -> Any:
    """An array with zeros where its mask is False; as it is without a mask, and if it holds keys."""
    return array if mask is None or is_key(array) else _chosen(mask, array, array.dtype.type(0))


def _chosen(mask: Any, array: Any, other: Any) -> Any:
    """NumPy's stay NumPy's, which may be of float64 where JAX has none."""
    if isinstance(array, np.ndarray) and not isinstance(mask, jax.core.Tracer):
        return np.where(np.asarray(mask), array, other)
    return jnp.where(mask, array, other)


def check_mask(mask: Any, params: Any) -> list[Any]:
    """The mask's leaves in the order of the params', if they fit; None for what it lacks.

    What is no parameter, such as statistics, may be missing in either, and what one of optax's wrappers left out.

    Raises:
      ValueError, TypeError: if they do not; the first that differs is named.
    """
    check_arrays("params", params)
    check_arrays("mask", mask)
    there, here = ({leaf.path: leaf for leaf in leaves_of(tree)} for tree in (params, mask))
    holes = {"mask": holes_of(mask), "params": holes_of(params)}
    for path, leaf in (there | here).items():
        lacking = "mask" if path not in here else "params" if path not in there else None
        if lacking and leaf.trained and not _is_within(path, holes[lacking]):
            raise ValueError(f"`mask` and `params` differ in structure: the {lacking} lack {path!r}")
    for path in [path for path in there if path in here]:
        _check_fit(path, here[path], there[path])
    flat = dict(zip(here, values_of(mask), strict=True))
    return [flat.get(path) for path in there]


def _check_fit(path: str, mask: Leaf, array: Leaf) -> None:
    if mask.shape != array.shape:
        raise ValueError(f"`mask` has the shape {mask.shape} at {path!r}, the params {array.shape}")
    if mask.dtype != np.dtype(bool):
        raise TypeError(f"`mask` must be of booleans, got {mask.dtype} at {path!r}; compare, as in w != 0")


def _is_within(path: str, holes: set[str]) -> bool:
    """Whether something was left out at a path, or above it."""
    steps = path.split("/")
    return any("/".join(steps[:n]) in holes for n in range(len(steps) + 1))
