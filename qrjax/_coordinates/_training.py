"""A model of one width, trained for some steps from each seed."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from qrjax._autoinit._backward import loss_at
from qrjax._coordinates._outputs import Kept, Outputs, of_row, squares
from qrjax._coordinates._parameters import Parameters, descent
from qrjax._coordinates._settings import Loss
from qrjax._interpreter._ledger import Ledger
from qrjax._interpreter._model import Model
from qrjax._interpreter._replay import Path
from qrjax._interpreter._report import Row
from qrjax._signals._quadrature import Floats

# A row among those of other widths: its path, its operation, and which of those that share them.
Name = tuple[str, str, int]


@dataclasses.dataclass(frozen=True, eq=False)
class Run:
    """What became of one width.

    Attributes:
      width: that.
      first, changes: of each row the root mean square of its output before the first step, (seeds,), and of the
        output's change after each step, (seeds, steps).
      losses: (seeds, steps + 1).
      operations: of each row in a reader's words.
    """

    width: int
    first: Mapping[Name, Floats]
    changes: Mapping[Name, Floats]
    losses: Floats
    operations: Mapping[Name, str]


@dataclasses.dataclass(frozen=True, eq=False)
class Trainer:
    """One width's model, with the rows to look at and an optimizer.

    Attributes:
      model: the traced model.
      parameters: which of its variables are trained.
      ledger, rows: those of a walk.
      loss: a function of what the model returns.
      optimizer: an optax transformation.
    """

    model: Model
    parameters: Parameters
    ledger: Ledger
    rows: Sequence[Row]
    loss: Loss
    optimizer: Any

    def run(self, width: int, starts: Sequence[Sequence[Any]], steps: int) -> Run:
        """Trains from each of the starts, all variables of the model each."""
        begin, step = (jax.jit(self.model.bound(function)) for function in (self._begin, self._step))
        found = [self._trained(begin, step, start, steps) for start in starts]
        # (seeds, steps, rows, 2): the first output and the change.
        moments = np.array([[self._of_rows(squares) for squares in one] for one, _ in found])
        names = names_of(self.rows)
        return Run(
            width,
            {name: moments[:, 0, k, 0] for k, name in enumerate(names)},
            {name: moments[:, :, k, 1] for k, name in enumerate(names)},
            np.array([losses for _, losses in found]),
            dict(zip(names, (row.operation for row in self.rows), strict=True)),
        )

    def _trained(
        self, begin: Any, step: Any, start: Sequence[Any], steps: int
    ) -> tuple[list[Mapping[Path, Any]], list[float]]:
        """The squares after each step, and all losses."""
        flat, inputs, found = list(start), [*self.model.inputs], []
        first, loss, state = begin(flat, inputs)
        losses = [float(loss)]
        for _ in range(steps):
            flat, state, loss, changed = step(first, flat, state, inputs)
            losses.append(float(loss))
            found.append(changed)
        return found, losses

    def _of_rows(self, squares: Mapping[Path, Any]) -> list[tuple[float, float]]:
        return [of_row(row, self.ledger.entries[row.site], squares) for row in self.rows]

    def _begin(self, flat: Sequence[Any], inputs: Sequence[Any]) -> tuple[Outputs, Any, Any]:
        """The rows' outputs, the loss, and the optimizer's state before the first step."""
        with as_optax():
            state = self.optimizer.init(self.parameters.of(flat))
        return *self._looked(flat, inputs), state

    def _step(
        self, first: Outputs, flat: Sequence[Any], state: Any, inputs: Sequence[Any]
    ) -> tuple[list[Any], Any, Any, dict[Path, Any]]:
        """The variables and the state after a step, the loss there, and the squares of what has changed."""
        import optax

        def loss(parameters: Any) -> Any:
            return self._run(frozenset(), self.parameters.put(flat, parameters), inputs)[1]

        parameters = self.parameters.of(flat)
        gradients = descent(loss, parameters)
        with as_optax():
            updates, state = self.optimizer.update(gradients, state, parameters)
            flat = self.parameters.put(flat, optax.apply_updates(parameters, updates))
        outputs, value = self._looked(flat, inputs)
        return flat, state, value, squares(first, outputs, {row.site[0]: len(row.shape) for row in self.rows})

    def _looked(self, flat: Sequence[Any], inputs: Sequence[Any]) -> tuple[Outputs, Any]:
        return self._run(frozenset(row.site[0] for row in self.rows), flat, inputs)

    def _run(self, places: frozenset[Path], flat: Sequence[Any], inputs: Sequence[Any]) -> tuple[Outputs, Any]:
        """The outputs of places, and the loss. A random stream has one key, so that nothing but training changes."""
        arguments = [*flat, *[jax.random.key(0)] * self.model.keys, *inputs]
        outputs, kept = Kept(places, {}).run(self.model.program, arguments)
        count = len(jax.tree.leaves(self.model.outputs))
        return kept, loss_at(self.loss, self.model, outputs[:count])


def behind(rows: Sequence[Row], ledger: Ledger) -> list[Row]:
    """The rows, but of a product that a module hands on with its bias the module's output, where there is one."""
    sites, kept = list(ledger.entries), {row.site for row in rows}
    after = dict(itertools.pairwise(sites))
    result = []
    for row in rows:
        site = after.get(row.site)
        same = site is not None and site not in kept and ledger.entries[site].path == row.path
        result.append(dataclasses.replace(row, site=site) if same else row)
    return result


def as_optax() -> Any:
    """Optax's own arithmetic, which promotes types whatever the caller's settings say."""
    return jax.numpy_dtype_promotion("standard")


def names_of(rows: Sequence[Row]) -> list[Name]:
    """The rows' names; those of one path and operation are numbered, as by a module that is called twice."""
    seen: dict[tuple[str, str], int] = {}
    names = []
    for row in rows:
        count = seen[row.path, row.op] = seen.get((row.path, row.op), 0) + 1
        names.append((row.path, row.op, count))
    return names
