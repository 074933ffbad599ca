"""What a model is called with, as options: shapes of arrays, and settings."""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from qrjax._cli._arguments import alternatives, nearest

if TYPE_CHECKING:
    import jax

# Those of 64 bits are none of JAX's by default.
DTYPES = (
    "float32", "bfloat16", "float16", "int32", "int16", "int8", "uint32", "uint16", "uint8", "bool", "complex64",
)  # fmt: skip
SHAPE = re.compile(r"(?:(?P<name>[^\W\d]\w*)=)?(?P<shape>\(\)|\(?[1-9]\d*(?:,[1-9]\d*)*,?\)?)(?::(?P<dtype>\w+))?")


class Input(NamedTuple):
    """An array that a model is called with: its argument's name ("" by position), shape and dtype ("" if not given)."""

    name: str
    shape: tuple[int, ...]
    dtype: str


class RealNumber(click.ParamType[float]):
    """Numbers from `least` to `most`, NaN not among them."""

    name = "number"

    def __init__(self, example: str, least: float = -math.inf, most: float = math.inf) -> None:
        self._least, self._most, self._example = least, most, example

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not self._least <= number <= self._most:
            bounds = f" from {self._least:g}" if self._least > -math.inf else ""
            bounds += f" to {self._most:g}" if self._most < math.inf else ""
            self.fail(f"must be a number{bounds}, got {value!r}; for example {self._example}", param, ctx)
        return number


class Shape(click.ParamType):  # type: ignore[type-arg]
    """Inputs such as 1,32,32,3 and 1,128:int32 and mask=1,128:bool."""

    name = "shape"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Input:
        if isinstance(value, Input):
            return value
        found = SHAPE.fullmatch(re.sub(r"\s", "", value))
        if found is None:
            self.fail(
                "must be positive sizes with commas between them and, after a colon, a dtype, got "
                f"{value!r}; for example --input 1,32,32,3 or --input 1,128:int32", param, ctx,
            )  # fmt: skip
        dtype = found["dtype"] or ""
        if dtype and dtype not in DTYPES:
            self.fail(f"must have the dtype {alternatives(DTYPES)}, got {dtype!r}{nearest(dtype, DTYPES)}", param, ctx)
        return Input(found["name"] or "", tuple(int(n) for n in re.findall(r"\d+", found["shape"])), dtype)


class Setting(click.ParamType):  # type: ignore[type-arg]
    """A Python literal with a name: train=False."""

    name = "setting"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, Any]:
        if isinstance(value, tuple):
            return value
        name, equals, literal = value.partition("=")
        if not (equals and name.isidentifier()):
            self.fail(f"must be NAME=VALUE, got {value!r}; for example train=False", param, ctx)
        try:
            return name, ast.literal_eval(literal.strip())
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            # Without quotes a false would be the true string "false".
            quoted = f"'{name}=\"{literal}\"'"
            self.fail(
                f"must have a Python literal for its value, got {value!r}; for example train=False, "
                f"features=64 or, with quotes inside quotes, {quoted}", param, ctx,
            )  # fmt: skip


def arrays(inputs: Sequence[Input], dtypes: Sequence[str]) -> tuple[list[Any], dict[str, Any]]:
    """Shapes and dtypes of the inputs by position and by name, with `dtypes` where they have none of their own."""
    if not inputs:
        raise click.UsageError("give the shape that the model is called with, e.g. --input 1,32,32,3")
    if len(dtypes) not in (0, 1, len(inputs)):
        raise click.BadParameter(
            f"must be given once, or as often as --input, got {len(dtypes)} for {len(inputs)}",
            param_hint="--dtype",
        )
    spread = list(dtypes) if len(dtypes) == len(inputs) else [*dtypes, "float32"][:1] * len(inputs)
    given = [(i.name, _abstract(i, dtype)) for i, dtype in zip(inputs, spread, strict=True)]
    positional = [array for name, array in given if not name]
    if not positional:
        raise click.BadParameter("must have one without a name, which comes first", param_hint="--input")
    return positional, {name: array for name, array in given if name}


def written(array: jax.ShapeDtypeStruct) -> str:
    """An array as its option has it, "1,128:int32"."""
    return f"{','.join(map(str, array.shape)) or '()'}:{array.dtype}"


def _abstract(given: Input, dtype: str) -> jax.ShapeDtypeStruct:
    import jax

    return jax.ShapeDtypeStruct(given.shape, jax.numpy.dtype(given.dtype or dtype))
