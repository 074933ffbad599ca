"""Programs of scalars: traced once, for words of any shape.

A function of words that works element by element is the same program whatever the shape is. JAX traces and lowers such
a function anew for each shape, which takes longer than compiling it. Here it is traced once, on scalars, and where it
is lowered each of its operations is written down for arrays.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, Literal
from jax.extend.mlir import ir
from jax.extend.mlir.dialects import stablehlo
from jax.interpreters import mlir

_NO_MESH = jax.sharding.AbstractMesh((), ())
Write = Callable[..., Sequence[Any]]  # (type of an operand, values) to values


def traced(function: Callable[..., Any], operands: int) -> ClosedJaxpr:
    """The program of a function of so many words, on scalars."""
    # Where arrays lie, and on what mesh, is a matter of where it is used; JAX would write it down here.
    with jax.sharding.use_abstract_mesh(_NO_MESH):
        return jax.make_jaxpr(function)(*[jax.ShapeDtypeStruct((), np.uint32)] * operands)


def is_plain(program: ClosedJaxpr, others: Callable[[Any], bool]) -> bool:
    """Whether all its operations are of the words alone and known here, or known to `others`."""
    equations = program.jaxpr.eqns
    if any(v.aval.shape for e in equations for v in (*e.invars, *e.outvars)):
        return False
    return all(e.primitive.name in OPERATIONS or others(e.primitive) for e in equations)


def written(program: ClosedJaxpr, words: Sequence[Any], others: Callable[..., Sequence[Any]]) -> list[Any]:
    """The results of a plain program, as operations on values of MLIR; `others` writes (equation, values)."""
    shape = ir.RankedTensorType(words[0].type).shape
    constants: dict[Any, Any] = {}
    known = dict(zip(program.jaxpr.invars, words, strict=True))

    def constant(value: Any) -> Any:
        scalar = np.asarray(value)
        place = (scalar.dtype, scalar.item())
        if place not in constants:
            constants[place] = _filled(scalar, shape)
        return constants[place]

    known |= {v: constant(value) for v, value in zip(program.jaxpr.constvars, program.consts, strict=True)}

    def value_of(operand: Any) -> Any:
        if isinstance(operand, Literal):
            return constant(np.asarray(operand.val, operand.aval.dtype))
        return known[operand]

    for equation in program.jaxpr.eqns:
        values = [value_of(operand) for operand in equation.invars]
        write = OPERATIONS.get(equation.primitive.name)
        results = others(equation, values) if write is None else write(equation, shape, values)
        known |= zip(equation.outvars, results, strict=True)
    return [value_of(result) for result in program.jaxpr.outvars]


def halves(value: Any) -> list[Any]:
    """The high and the low word of a value of 64 bits."""
    shape = ir.RankedTensorType(value.type).shape
    high = stablehlo.shift_right_logical(value, _filled(np.asarray(32, np.uint64), shape))
    return [stablehlo.convert(_type_of(np.uint32, shape), part) for part in (high, value)]


def _filled(scalar: np.ndarray, shape: Sequence[int]) -> Any:
    value = mlir.ir_constant(scalar)
    if not shape:
        return value
    return stablehlo.broadcast_in_dim(_type_of(scalar.dtype, shape), value, ir.DenseI64ArrayAttr.get([]))


@functools.cache
def _unsigned(dtype: Any) -> bool:
    return bool(dtype.kind in "ub")


def _type_of(dtype: Any, shape: Sequence[int]) -> Any:
    return ir.RankedTensorType.get(shape, mlir.dtype_to_ir_type(np.dtype(dtype)))


def _operation(name: str) -> Write:
    write = getattr(stablehlo, name)
    return lambda equation, shape, values: [write(*values)]


def _compared(direction: str) -> Write:
    def write(equation: Any, shape: Any, values: Any) -> list[Any]:
        kind = "UNSIGNED" if _unsigned(equation.invars[0].aval.dtype) else "SIGNED"
        return [
            stablehlo.compare(
                *values, stablehlo.ComparisonDirectionAttr.get(direction),
                compare_type=stablehlo.ComparisonTypeAttr.get(kind),
            )
        ]  # fmt: skip

    return write


def _converted(equation: Any, shape: Any, values: Any) -> list[Any]:
    return [stablehlo.convert(_type_of(equation.outvars[0].aval.dtype, shape), values[0])]


def _selected(equation: Any, shape: Any, values: Any) -> list[Any]:
    condition, otherwise, chosen = values
    return [stablehlo.select(condition, chosen, otherwise)]


def _same(equation: Any, shape: Any, values: Any) -> list[Any]:
    return [values[0]]


# Of integers and truth values. What JAX has beside these is lowered by JAX.
OPERATIONS: dict[str, Write] = {
    "add": _operation("add"), "sub": _operation("subtract"), "mul": _operation("multiply"),
    "div": _operation("divide"), "rem": _operation("remainder"), "neg": _operation("negate"),
    "min": _operation("minimum"), "max": _operation("maximum"), "abs": _operation("abs"),
    "and": _operation("and_"), "or": _operation("or_"), "xor": _operation("xor"), "not": _operation("not_"),
    "shift_left": _operation("shift_left"), "shift_right_logical": _operation("shift_right_logical"),
    "clz": _operation("count_leading_zeros"), "population_count": _operation("popcnt"),
    "eq": _compared("EQ"), "ne": _compared("NE"), "lt": _compared("LT"), "le": _compared("LE"),
    "gt": _compared("GT"), "ge": _compared("GE"),
    "select_n": _selected, "convert_element_type": _converted, "broadcast_in_dim": _same,
}  # fmt: skip
