"""Each parameter's multiplier from its uses, and the rows and findings that say where it came from."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from qrjax._interpreter._finding import INFO, WARNING, Finding
from qrjax._interpreter._model import Leaf
from qrjax._interpreter._report import Row
from qrjax._rates._names import Optimizer
from qrjax._rates._optimizers import SHARE, multiplier, orthogonalized
from qrjax._rates._uses import FUNCTION, LOOKUP, PRODUCT, SCALE, Use
from qrjax._signals._weight import Layer
from qrjax._terminal._names import listed

# Of parameters that no use was seen of.
UNSEEN = 1.0
# Several uses that would have multipliers further apart than this are said.
APART = 2.0


@dataclasses.dataclass(eq=False)
class Rated:
    """What came out.

    Attributes:
      values: by path, the multiplier: a float, or an array with the parameter's axes, of which those that layers lie
        along are as long as these are many and the others 1.
      rows: one for each use of a parameter, in order of execution, and one for each that has none.
      guesses: for what was guessed, the paths.
    """

    values: dict[str, Any] = dataclasses.field(default_factory=dict)
    rows: list[Row] = dataclasses.field(default_factory=list)
    guesses: dict[str, list[str]] = dataclasses.field(default_factory=dict)

    def guess(self, how: str, path: str) -> None:
        """Takes down what was guessed of a parameter."""
        paths = self.guesses.setdefault(how, [])
        if path not in paths:
            paths.append(path)

    def findings(self) -> Iterator[Finding]:
        """What was guessed, in words."""
        for how, paths in self.guesses.items():
            serious = how in (_UNSEEN, _UNKNOWN)
            yield Finding(f"rate {how}: {listed(paths)}", WARNING if serious else INFO)


_UNSEEN = f"{UNSEEN:g}, as no use of it was seen"
_UNKNOWN = "1, as no derivative or signal reaches it"
_SCALAR = f"{SHARE[SCALE]:g} times its value, or as of 1, guessed of a single number that is not followed"
_GUESSED = "guessed from its own size, since a function of it meets the signal"
_SEVERAL = "the smallest of its uses"


def rated(leaves: Sequence[Leaf], uses: Sequence[Use], optimizer_of: Callable[[str], Optimizer]) -> Rated:
    """The multipliers of all parameters."""
    found = Rated()
    by_key: dict[tuple[str, Layer], list[float]] = {}
    shapes = {leaf.path: leaf.shape for leaf in leaves}
    for use in uses:
        path, _layer = use.key
        shape = shapes[path]
        made = multiplier(use, optimizer_of(path), shape)
        if made is None:
            found.guess(_UNKNOWN, path)
        if use.guessed:
            found.guess(_GUESSED, path)
        by_key.setdefault(use.key, []).append(1.0 if made is None else made)
    chosen = {key: min(values) for key, values in by_key.items()}
    for key, values in by_key.items():
        if max(values) > APART * min(values):
            found.guess(_SEVERAL, key[0])
    for leaf in leaves:
        found.values[leaf.path] = _value(leaf, {k[1]: v for k, v in chosen.items() if k[0] == leaf.path}, found)
    found.rows = [_row(use, chosen[use.key], optimizer_of(use.key[0]), shapes[use.key[0]]) for use in uses]
    seen = {use.key[0] for use in uses}
    found.rows += [_unseen(leaf, found.values[leaf.path]) for leaf in leaves if leaf.path not in seen]
    return found


def _value(leaf: Leaf, layers: Mapping[Layer, float], found: Rated) -> Any:
    if not layers:
        scalar = not leaf.shape and jax.numpy.issubdtype(leaf.dtype, np.inexact)
        found.guess(_SCALAR if scalar else _UNSEEN, leaf.path)
        return SHARE[SCALE] if scalar else UNSEEN
    stack = tuple(axis for axis, _ in max(layers, key=len))
    if not stack:
        return layers[()]
    # A loop is walked until it repeats itself: the layers that are left are like the last one.
    last = list(layers.values())[-1]
    whole = layers.get((), math.inf)
    values = np.empty([n if axis in stack else 1 for axis, n in enumerate(leaf.shape)], np.float32)
    for index in np.ndindex(*values.shape):
        layer = tuple((axis, index[axis]) for axis in stack)
        values[index] = min(whole, layers.get(layer, last))
    return values


def _row(use: Use, rate: float, optimizer: Optimizer, shape: tuple[int, ...]) -> Row:
    path, layer = use.key
    name = path + "".join(f"[{place}]" for _, place in layer)
    adam = optimizer == "muon" and not orthogonalized(shape)
    by = "makes outputs: measured by their target" + ("" if use.wanted == 1 else f", {use.wanted:.3g}")
    among = f"in one of {use.branches:g} branches: slower by the root of that"
    notes = (*[by] * use.makes_outputs, *["no matrix: as for Adam"] * adam, *[among] * (use.branches > 1))
    has_input = use.kind in (PRODUCT, FUNCTION, SCALE)
    weight = use.kind in (PRODUCT, FUNCTION, LOOKUP) or use.op == "gather"
    return Row(
        path=name, op=use.op, shape=use.shape, fan=use.fan, gain=use.own if weight else None,
        input_mean=0.0 if has_input else None, input_variance=use.input if has_input else None,
        mean=0.0, variance=use.output, correlation={}, notes=notes, weight=path, rate=rate, rule=use.kind,
    )  # fmt: skip


def _unseen(leaf: Leaf, rate: float) -> Row:
    return Row(
        path=leaf.path, op="", shape=leaf.shape, fan=None, gain=None, input_mean=None, input_variance=None, mean=0.0,
        variance=0.0, correlation={}, weight=leaf.path, rate=rate, rule="unseen",
    )  # fmt: skip
