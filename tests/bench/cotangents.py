"""Predicted beside measured second moments of the derivative at every equation: where a prediction departs.

    python tests/bench/cotangents.py vgg [--seeds 4] [--all] [--from 0.1]

For a network of the zoo, from its outputs backwards, one line an equation: log2 of the measured over the predicted
second moment of the derivative by its output (the measured one the mean over seeds of weights, batches and cotangents),
by how much this changed since the equation after it that used the output, and by sets of axes the share of a sum over
these of that of independent elements, predicted and measured. The first line at which the octaves jump names the
equation whose adjoint, or whose result's law, is wrong; the one before it at which a share departs, what it was told.
By default only lines where one of both departs by more than `--from` octaves from the line before. While loops and
choices are one equation each.
"""

import argparse
import dataclasses
import itertools
import math
import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np
from autoinit import DRAW, everything, gains_of, input_values, plans, traced
from jax import lax

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
from zoo import NETWORKS

from qrjax._adjoint._reverse import Reverse
from qrjax._autoinit._initialize import drawn
from qrjax._autoinit._sums import designed_sums
from qrjax._interpreter._replay import Replay
from qrjax._rules._control import CALLS, program_of, scan_counts

# Derivatives that differ by so many octaves are of what cancels.
NOTHING = 15


@dataclasses.dataclass
class Mean:
    """A mean of tables, of arrays of one shape."""

    total: np.ndarray | float = 0.0
    count: float = 0.0

    def add(self, table, count=1.0):
        self.total, self.count = self.total + count * table, self.count + count

    @property
    def value(self):
        return self.total / max(self.count, 1e-300)


@dataclasses.dataclass(eq=False)
class Watching(Reverse):
    """A pass that keeps the tables of all derivatives by outputs; keys are (path of the equation, which output)."""

    tables: dict = dataclasses.field(default_factory=dict)
    made: dict = dataclasses.field(default_factory=dict)

    def _move(self, move, times):
        for number, value in enumerate(move.results):
            # What a name hands on as it is has one derivative, by all ways, which is that of where it was made.
            handed_on = any(value is operand for operand in move.operands)
            if not handed_on and hasattr(value, "dtype") and jnp.issubdtype(value.dtype, np.inexact):
                key = (move.site[0], number)
                self.tables.setdefault(key, Mean()).add(self._seen(value).table, times)
                self.made[key] = move
        super()._move(move, times)


@dataclasses.dataclass(frozen=True)
class Shifted(Replay):
    """A run in which to the outputs of all equations a zero is added, by which the derivative can be taken."""

    zeros: dict = dataclasses.field(default_factory=dict)

    def _apply(self, equation, values, here):
        name = equation.primitive.name
        if name in CALLS:
            return self.run(program_of(equation.params), values, here)
        if name == "scan":
            return self._scan(equation, values, here)
        results = super()._apply(equation, values, here)[0]
        return [r + self.zeros[here, i] if (here, i) in self.zeros else r for i, r in enumerate(results)], {}

    def _scan(self, equation, values, here):
        p = equation.params
        consts, carried = scan_counts(p["jaxpr"], values, [v.aval for v in equation.outvars])
        constants, carry, inputs = values[:consts], values[consts : consts + carried], values[consts + carried :]

        def step(carry, given):
            inputs, zeros = given
            results, _ = dataclasses.replace(self, zeros=zeros).run(p["jaxpr"], [*constants, *carry, *inputs], here)
            return results[:carried], results[carried:]

        own = {key: zero for key, zero in self.zeros.items() if key[0][: len(here)] == here}
        final, outputs = lax.scan(step, carry, (inputs, own), length=p["length"], reverse=p["reverse"])
        return [*final, *outputs], {}


def zeros_of(jaxpr, place=(), lengths=()):
    """By equation and output a zero of its shape, with an axis before for each scan around it."""
    found = {}
    for number, equation in enumerate(getattr(jaxpr, "jaxpr", jaxpr).eqns):
        here, name = (*place, number), equation.primitive.name
        if name in CALLS or name == "scan":
            inner = (equation.params["length"],) if name == "scan" else ()
            found |= zeros_of(program_of(equation.params), here, (*lengths, *inner))
            continue
        for i, v in enumerate(equation.outvars):
            if hasattr(v.aval, "dtype") and jnp.issubdtype(v.aval.dtype, jnp.floating):
                found[here, i] = jnp.zeros((*lengths, *v.aval.shape), v.aval.dtype)
    return found


def pairs(g):
    """E[g g'] of an array by the axes along which the two elements differ."""
    squares = np.empty((2,) * g.ndim)
    for chosen in itertools.product((0, 1), repeat=g.ndim):
        squares[chosen] = (g.sum(tuple(a for a, c in enumerate(chosen) if c)) ** 2).sum()
    for axis, n in enumerate(g.shape):
        same, whole = squares.take(0, axis), squares.take(1, axis)
        squares = np.stack([same, (whole - same) / max(1, n - 1)], axis)
    return squares / max(1, g.size)


def compared(network, seeds):
    """By (path, which output), from the last: the move, the predicted and the measured table."""
    model = traced(network)
    gains, values = gains_of(model, 1.0, None), input_values(model, None, None)
    walk, outputs = model.taped(gains, values)
    watching = Watching(sums=designed_sums(walk.ledger))
    watching.start(outputs)
    watching.follow(walk.tape.moves)
    planned, zeros = plans(model, walk, everything, DRAW), zeros_of(model.program)
    zeros = {key: zero for key, zero in zeros.items() if key in watching.tables}

    @jax.jit
    def pulled(flat, keys, inputs, given):
        def forward(zeros):
            made = Shifted(frozenset(), {}, zeros=zeros).run(model.program, [*flat, *keys, *inputs])[0]
            return [y for y in made[: len(outputs)] if jnp.issubdtype(y.dtype, jnp.floating)]

        return jax.vjp(forward, zeros)[1](given)[0]

    measured = {key: Mean() for key in zeros}
    for seed in range(seeds):
        flat, key = drawn(model, planned, jax.random.key(seed)), jax.random.key(seed)
        inputs = [leaf for leaf in jax.tree.leaves(network.inputs(seed)) if hasattr(leaf, "dtype")]
        shapes = [y for y in jax.tree.leaves(model.outputs) if jnp.issubdtype(y.dtype, jnp.floating)]
        given = [jax.random.normal(jax.random.key(1000 + seed + i), y.shape, y.dtype) for i, y in enumerate(shapes)]
        given = [g / jnp.sqrt(jnp.mean(g**2)) for g in given]
        for place, g in pulled(flat, [key] * model.keys, inputs, given).items():
            own = watching.tables[place].value
            ndim = own.ndim if hasattr(own, "ndim") else 0
            steps = np.asarray(g, np.float64).reshape(-1, *g.shape[g.ndim - ndim :])
            for step in steps:
                measured[place].add(pairs(step))
    return [
        (place, watching.made[place], watching.tables[place].value, measured[place].value)
        for place in reversed(list(zeros))
    ]


def shares(table, shape):
    """By sets of axes longer than 1: a sum's square as a share of independent elements'."""
    first, found = float(table.flat[0]), {}
    for chosen in itertools.product((0, 1), repeat=len(shape)):
        if any(c and n == 1 for c, n in zip(chosen, shape, strict=True)) or not any(chosen) or not first > 0:
            continue
        total = 0.0
        for pattern in itertools.product(*((0, 1) if c else (0,) for c in chosen)):
            total += table[pattern] * math.prod(n - 1 for n, p in zip(shape, pattern, strict=True) if p)
        found[chosen] = total / first
    return found


def lines(found, least, full=False):
    """The table's lines: those that depart, or all."""
    known = {}
    for (path, number), move, predicted, measured in found:
        shape = move.results[number].shape
        top = float(np.asarray(predicted).flat[0]), float(np.asarray(measured).flat[0])
        if not min(top) > 0:
            if top[0] > 1e-20:  # what is zero but for rounding is left out
                yield f"{'.'.join(map(str, path)):14} {move.equation.name:22} {top[0]:9.2e} {top[1]:9.2e}"
            continue
        octaves = math.log2(top[1] / top[0])
        ours, theirs = shares(predicted, shape), shares(measured, shape)
        from_there = known.get(id(move.results[number]))
        cancels = abs(octaves) > NOTHING
        for value in () if cancels else move.operands:
            known.setdefault(id(value), octaves)
        jump = octaves - from_there if from_there is not None else octaves
        if not full and (abs(jump) < least or cancels):
            continue
        cells = [
            f"{''.join('x' if c else '.' for c in chosen)} {ours[chosen]:.2f}|{theirs[chosen]:.2f}"
            for chosen in ours
            if abs(math.log2(max(ours[chosen], 1e-3) / max(theirs[chosen], 1e-3))) > 0.2
        ]
        mark = "W" if move.weight is not None else " "
        name = f"{move.equation.name}{mark}"
        yield (f"{'.'.join(map(str, path)):14} {name:22} {shape!s:22} {top[1]:9.2e} {octaves:+6.2f} {jump:+6.2f}  "
               + "  ".join(cells))  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=list(NETWORKS), help="a network of the zoo")
    parser.add_argument("--seeds", type=int, default=2, help="of weights, batches and cotangents")
    parser.add_argument("--from", dest="least", type=float, default=0.1, help="octaves")
    parser.add_argument("--all", action="store_true", help="all equations")
    options = parser.parse_args()
    for line in lines(compared(NETWORKS[options.name], options.seeds), options.least, options.all):
        print(line)


if __name__ == "__main__":
    main()
