"""What the elements of weights add up to over their outputs, which a derivative that outputs share meets."""

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

# Sums of squares below this share of what independent weights have are by design, where there are so many.
SMALL, TELLING = 0.5, 16


def designed(ledger: Ledger) -> dict[Key, float]:
    """Of weights that will be drawn with the layout "outputs": for each input all quantiles, which sum to nothing."""
    return {entry.weight.key: 0.0 for entry in _products(ledger)}


def found(model: Model, flat: Sequence[Any], ledger: Ledger) -> dict[Key, float]:
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


def _products(ledger: Ledger) -> list[Entry]:
    """The rows of contractions with a whole weight."""
    return [e for e in ledger.entries.values() if e.weight is not None and e.axes and e.op != "gather"]


def _shares(array: Any, stacked: tuple[int, ...], outputs: tuple[int, ...]) -> Array:
    """For each layer of a stack; 1 where there are few outputs, or few sums."""
    rest = [a for a in range(np.ndim(array)) if a not in stacked and a not in outputs]
    size = math.prod(array.shape[a] for a in outputs)
    layers = jnp.ones(tuple(array.shape[a] for a in sorted(stacked)))
    if size < 2 or math.prod(array.shape[a] for a in rest) < TELLING:
        return layers
    wide = jnp.asarray(array, jnp.complex64 if jnp.iscomplexobj(array) else jnp.float32)
    energy = jnp.mean(jnp.abs(wide) ** 2, (*rest, *outputs)) * size
    square = jnp.mean(jnp.abs(wide.sum(outputs, keepdims=True)) ** 2, (*rest, *outputs))
    return jnp.where(energy > 0, square / jnp.where(energy > 0, energy, 1.0), layers)
