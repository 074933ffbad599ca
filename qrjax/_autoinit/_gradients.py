"""Predicted gradients: the walk of a model followed backwards, in its rows."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

from qrjax._adjoint._cotangent import Cotangent
from qrjax._adjoint._heads import heads
from qrjax._adjoint._reverse import Reverse
from qrjax._interpreter._ledger import Entry
from qrjax._interpreter._model import Model
from qrjax._interpreter._report import Row
from qrjax._interpreter._walk import Walk
from qrjax._rules._operands import Value
from qrjax._signals._recipe import Key


def backward(
    model: Model, walk: Walk, outputs: Sequence[Value], given: Sequence[Cotangent] | None = None,
    sums: Mapping[Key, float] | None = None,
) -> tuple[list[Row], frozenset[str]]:  # fmt: skip
    """The rows of a walk with gradients, and the paths of the weights that make what the model returns.

    The gradients are those for a random cotangent of second moment 1 at all that the model returns.

    Args:
      walk, outputs: a walk that was taken down, and what the call returns.
      given: other laws, of the derivative by each output.
      sums: by weight, what the square of a sum over its outputs has of that of independent elements, where less.
    """
    assert walk.tape is not None
    found = Reverse(sums=sums or {})
    found.start(outputs, given)
    found.follow(walk.tape.moves)
    last, rows = heads(outputs, walk.tape.moves), walk.ledger.rows()
    filled = [_filled(row, walk.ledger.entries[row.site], found, model) for row in rows]
    return filled, frozenset(row.weight for row in rows if row.site in last and row.weight is not None)


def _filled(row: Row, entry: Entry, found: Reverse, model: Model) -> Row:
    if row.site not in found.outputs:
        return row
    moment = found.outputs[row.site].value
    norm = math.sqrt(moment * math.prod(row.shape) / model.examples)
    guessed = found.approximate.get(row.site)
    notes = (f"gradient approximate behind {', '.join(sorted(guessed))}",) if guessed else ()
    key = entry.weight.key if entry.weight is not None else ("", ())
    if entry.weight is not None and (weight := found.weight(row.site, key[1])) is not None:
        shape = next(leaf.shape for leaf in model.leaves if leaf.path == key[0])
        size = math.prod(n for axis, n in enumerate(shape) if axis not in {axis for axis, _ in key[1]})
        row = dataclasses.replace(row, weight_gradient=weight, weight_gradient_norm=math.sqrt(weight * size))
    return dataclasses.replace(row, notes=(*row.notes, *notes), gradient=moment, gradient_norm=norm)
