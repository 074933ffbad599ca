"""Programs of scalars: traced once, for words of any shape.

A function of words that works element by element is the same program whatever the shape is. JAX traces and lowers such
a function anew for each shape, which takes longer than compiling it. Here it is traced once, on scalars, and where it
is lowered each of its operations is written down for arrays.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, Literal
from jax.extend.mlir import ir
from jax.extend.mlir.dialects import stablehlo
from jax.interpreters import mlir

_NO_MESH = jax.sharding.AbstractMesh((), ())
Write = Callable[..., Any]  # (the result's type, *values) to a value


def traced(function: Callable[..., Any], operands: int) -> ClosedJaxpr:
    """The program of a function of so many words, on scalars."""
    # Where arrays lie, and on what mesh, is a matter of where it is used; JAX would write it down here.
    with jax.sharding.use_abstract_mesh(_NO_MESH):
        return jax.make_jaxpr(function)(*[jax.ShapeDtypeStruct((), np.uint32)] * operands)


def is_plain(program: ClosedJaxpr, others: Callable[[Any], bool]) -> bool:
    """Whether all its operations are of scalar integers and known here, or known to `others`."""
    return all(_is_known(e) or others(e.primitive) for e in program.jaxpr.eqns)


def _is_known(equation: Any) -> bool:
    avals = [v.aval for v in (*equation.invars, *equation.outvars)]
    if any(a.shape or a.dtype.kind not in "uib" for a in avals):
        return False
    name = equation.primitive.name
    # A truth value is made by a comparison, and chooses between two.
    to_truth = name == "convert_element_type" and avals[-1].dtype == np.bool_
    by_number = name == "select_n" and avals[0].dtype != np.bool_
    return name in OPERATIONS and not to_truth and not by_number


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
            aval: Any = operand.aval
            return constant(np.asarray(operand.val, aval.dtype))
        return known[operand]

    for equation in program.jaxpr.eqns:
        values = [value_of(operand) for operand in equation.invars]
        write = OPERATIONS.get(equation.primitive.name)
        if write is None:
            known |= zip(equation.outvars, others(equation, values), strict=True)
        else:
            (result,) = equation.outvars
            kind: Any = result.aval
            known[result] = write(_type_of(kind.dtype, shape), *values)
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


def _type_of(dtype: Any, shape: Sequence[int]) -> Any:
    return ir.RankedTensorType.get(shape, mlir.dtype_to_ir_type(np.dtype(dtype)))


def _operation(name: str) -> Write:
    write = getattr(stablehlo, name)
    return lambda _, *values: write(*values)


def _compared(direction: str) -> Write:
    def write(_: Any, x: Any, y: Any) -> Any:
        element = ir.IntegerType(ir.RankedTensorType(x.type).element_type)
        kind = "SIGNED" if element.is_signless and element.width > 1 else "UNSIGNED"  # truth values have one bit
        direction_of = stablehlo.ComparisonDirectionAttr.get(direction)
        return stablehlo.compare(x, y, direction_of, compare_type=stablehlo.ComparisonTypeAttr.get(kind))

    return write


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
    "select_n": lambda _, condition, otherwise, chosen: stablehlo.select(condition, chosen, otherwise),
    "convert_element_type": stablehlo.convert, "broadcast_in_dim": lambda _, value: value,
}  # fmt: skip
