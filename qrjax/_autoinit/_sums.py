"""What elements of weights add up to: over outputs, which a shared derivative meets, and over inputs, as means do."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from qrjax._interpreter._ledger import Entry, Ledger
from qrjax._interpreter._model import Model
from qrjax._signals._recipe import Key

# Squared sums below this share of what independent weights have are by design, and below that are zero, where there are
# so many of them, and of so many weights each.
SMALL, ZERO, TELLING = 0.5, 0.05, 16
PRODUCTS = ("dot_general", "conv_general_dilated")


def designed_sums(ledger: Ledger) -> dict[Key, float]:
    """Of weights that will be drawn with the layout "outputs": for each input all quantiles, which sum to nothing."""
    return {entry.weight.key: 0.0 for entry in _products(ledger)}


def measured_sums(model: Model, flat: Sequence[Any], ledger: Ledger) -> dict[Key, float]:
    """Of weights as they are: squares of sums as shares of those of independent weights, where they are far less."""
    arrays = {leaf.path: array for leaf, array in zip(model.leaves, flat, strict=True)}
    shares: dict[Key, float] = {}
    stacks: dict[tuple[str, tuple[int, ...], tuple[int, ...]], np.ndarray] = {}
    for entry in _products(ledger):
        path, layer = entry.weight.key
        stacked = tuple(axis for axis, _ in layer)
        outputs = tuple(a for a in range(np.ndim(arrays[path])) if a not in (*stacked, *(entry.axes or ())))
        kind = (path, stacked, outputs)
        if kind not in stacks:
            stacks[kind] = np.asarray(_shares(arrays[path], stacked, outputs), np.float64)
        share = float(stacks[kind][tuple(place for _, place in layer)])
        if share < SMALL:
            shares[entry.weight.key] = share
    return shares


def is_zero_sum(model: Model, flat: Sequence[Any], ledger: Ledger) -> bool:
    """Whether the weights of every neuron sum to zero, as with the layout "neurons": they do not see a mean."""
    arrays = {leaf.path: array for leaf, array in zip(model.leaves, flat, strict=True)}
    summed = {e.weight.path: e.axes for e in ledger.entries.values() if e.weight is not None and e.axes}
    sizes = {path: math.prod(arrays[path].shape[a] for a in axes) for path, axes in summed.items()}
    # Fewer weights, or neurons, may do so by chance.
    many = [p for p, size in sizes.items() if size >= TELLING and arrays[p].size >= TELLING * size]
    return bool(many) and all(float(_shares(arrays[p], (), summed[p])) <= ZERO for p in many)


def _products(ledger: Ledger) -> list[Entry]:
    """The rows of products with a whole weight: sums of others are not followed, see `output_axes`."""
    return [e for e in ledger.entries.values() if e.weight is not None and e.axes and e.op in PRODUCTS]


def _shares(array: Any, stacked: tuple[int, ...], summed: tuple[int, ...]) -> Array:
    """For each layer of a stack what squares of sums along axes have of those of independent elements.

    It is 1 where sums are of one element, or few.
    """
    rest = [a for a in range(np.ndim(array)) if a not in stacked and a not in summed]
    size = math.prod(array.shape[a] for a in summed)
    layers = jnp.ones(tuple(array.shape[a] for a in sorted(stacked)))
    if size < 2 or math.prod(array.shape[a] for a in rest) < TELLING:
        return layers
    wide = jnp.asarray(array, jnp.complex64 if jnp.iscomplexobj(array) else jnp.float32)
    energy = jnp.mean(jnp.abs(wide) ** 2, (*rest, *summed)) * size
    square = jnp.mean(jnp.abs(wide.sum(summed, keepdims=True)) ** 2, (*rest, *summed))
    return jnp.where(energy > 0, square / jnp.where(energy > 0, energy, 1.0), layers)
