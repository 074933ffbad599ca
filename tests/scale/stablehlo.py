"""Operations of a program in StableHLO's text, with the types of what goes in and comes out."""

import math
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
from jax import export

TENSOR = re.compile(r"tensor<((?:\d+x)*)(complex<f\d+>|!?\w[\w.]*)>")
OPERATION = re.compile(r'^\s*(?:%[\w:, ]+ = )?"?((?:stablehlo|chlo|mhlo)\.\w+)"?[ (]')
TARGET = re.compile(r"custom_call @(\w+)")
REGION = re.compile(r'^\s*(?:%[\w:]+ = )?"[\w.]+"\(.*\) (?:<.*> )?\(\{$')


class Tensor(NamedTuple):
    """A type."""

    shape: tuple[int, ...]
    element: str

    @property
    def size(self) -> int:
        return math.prod(self.shape)


class Operation(NamedTuple):
    """One line of a program.

    name: without its dialect.
    tensors: all types that it names, operands first.
    target: of a custom call.
    """

    name: str
    tensors: tuple[Tensor, ...]
    target: str


def exported(
    function: Callable[..., Any], *arguments: Any, platforms: tuple[str, ...] = ("tpu",), anywhere: bool = False
) -> export.Exported:
    """`function` lowered; `anywhere`: a program that any platform will run, its own or not."""
    checks = [export.DisabledSafetyCheck.platform()] if anywhere else []
    return export.export(jax.jit(function), platforms=platforms, disabled_checks=checks)(*arguments)


def operations(text: str) -> Iterator[Operation]:
    """Those of the program and of all functions that it calls, each once."""
    opened: list[str] = []
    for line in text.splitlines():
        found = OPERATION.match(line)
        if found and REGION.match(line):
            opened.append(found[1])  # its types stand behind its regions
        elif line.lstrip().startswith("})"):
            yield _operation(opened.pop(), line)
        elif found:
            yield _operation(found[1], line)


def _operation(name: str, line: str) -> Operation:
    tensors = tuple(
        Tensor(tuple(int(n) for n in shape.split("x") if n), element) for shape, element in TENSOR.findall(line)
    )
    target = TARGET.search(line)
    return Operation(name.partition(".")[2], tensors, target[1] if target else "")
