"""Where a program uses its parameters, found without walking: what meets the model's input, and in which equations.

Each value is data (the input has a part in it) or not, and made of some parameters. Where data meets what is made of
parameters, these are used.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from qrjax._rules._control import CALLS, program_of, scan_counts

# Whether the input has a part in a value, and the numbers of the parameters that it is made of.
Made: TypeAlias = "tuple[bool, frozenset[int]]"
NOTHING: Made = (False, frozenset())
# The carry of a loop is followed until it stays; it can only grow.
ROUNDS = 8


@dataclasses.dataclass
class Flow:
    """One program, for one way in which its arguments are made.

    Attributes:
      uses: for each equation, the parameters used in it.
      inner: the flows of the calls among the equations.
      outputs: how the results are made.
      primitives: for each parameter, the names of the primitives that use it.
      loops: the equations that hold programs and are no calls.
    """

    uses: list[frozenset[int]] = dataclasses.field(default_factory=list)
    inner: dict[int, Flow] = dataclasses.field(default_factory=dict)
    outputs: list[Made] = dataclasses.field(default_factory=list)
    primitives: dict[int, set[str]] = dataclasses.field(default_factory=dict)
    loops: set[int] = dataclasses.field(default_factory=set)

    def used(self, primitives: Mapping[int, Iterable[str]]) -> None:
        """Takes down which primitives use some parameters."""
        for parameter, names in primitives.items():
            self.primitives.setdefault(parameter, set()).update(names)

    def stretches(self) -> Iterator[range]:
        """The equations in order, in stretches within which every parameter has all its uses."""
        last: dict[int, int] = {}
        for number, used in enumerate(self.uses):
            last |= dict.fromkeys(used, number)
        start = end = 0
        for number, used in enumerate(self.uses):
            if number > end:
                yield range(start, end + 1)
                start = end = number
            end = max([end, *(last[parameter] for parameter in used)])
        if self.uses:
            yield range(start, end + 1)


def flow(jaxpr: Any, arguments: Sequence[Made]) -> Flow:
    """The flow of a jaxpr, closed or open."""
    body = getattr(jaxpr, "jaxpr", jaxpr)
    made: dict[Any, Made] = dict.fromkeys(body.constvars, NOTHING)
    made |= dict(zip(body.invars, arguments, strict=True))
    result = Flow()
    for number, equation in enumerate(body.eqns):
        operands = [NOTHING if hasattr(v, "val") else made[v] for v in equation.invars]
        inner = _inner(equation, operands)
        if inner is None:
            outputs, used = _plain(equation, operands)
            result.used({parameter: [equation.primitive.name] for parameter in used})
        else:
            outputs, used = inner.outputs, frozenset().union(*inner.uses)
            result.used(inner.primitives)
            if equation.primitive.name in CALLS:
                result.inner[number] = inner
            else:
                result.loops.add(number)
        result.uses.append(used)
        made.update(zip(equation.outvars, outputs, strict=True))
    result.outputs = [NOTHING if hasattr(v, "val") else made[v] for v in body.outvars]
    return result


def _plain(equation: Any, operands: Sequence[Made]) -> tuple[list[Made], frozenset[int]]:
    parameters = frozenset().union(*(own for _, own in operands))
    if any(data for data, _ in operands):
        return [(True, frozenset())] * len(equation.outvars), parameters
    return [(False, parameters)] * len(equation.outvars), frozenset()


def _inner(equation: Any, operands: Sequence[Made]) -> Flow | None:
    """The flow of an equation that holds programs, None if it holds none that is known how to run."""
    name, p = equation.primitive.name, equation.params
    if name == "scan":
        whole = [v.aval for v in equation.invars], [v.aval for v in equation.outvars]
        return _looped(p["jaxpr"], operands, *scan_counts(p["jaxpr"], *whole))
    if name == "while":
        a, b = p["cond_nconsts"], p["body_nconsts"]
        return _looped(p["body_jaxpr"], operands[a:], b, len(operands) - a - b)
    if name == "cond":
        return _joined([flow(branch, operands[1:]) for branch in p["branches"]])
    body = program_of(p)
    if body is None or len(getattr(body, "jaxpr", body).invars) != len(operands):
        return None
    return flow(body, operands)


def _looped(body: Any, operands: Sequence[Made], constants: int, carried: int) -> Flow:
    """The flow of a loop's body once what is carried stays as it is made."""
    own = list(operands)
    for _ in range(ROUNDS):
        found = flow(body, own)
        carry = [_both(a, b) for a, b in zip(own[constants : constants + carried], found.outputs, strict=False)]
        if carry == own[constants : constants + carried]:
            break
        own[constants : constants + carried] = carry
    return found


def _joined(flows: Sequence[Flow]) -> Flow:
    """What any of several programs may do."""
    result = Flow([use for one in flows for use in one.uses])
    for one in flows:
        result.used(one.primitives)
    for column in zip(*(one.outputs for one in flows), strict=True):
        result.outputs.append(functools.reduce(_both, column))
    return result


def _both(first: Made, second: Made) -> Made:
    """Either may be there."""
    return first[0] or second[0], first[1] | second[1]
