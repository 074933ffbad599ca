"""Names of axes that a program needs, as in a sum over devices: bound while it is traced."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

import jax

from qrjax._adapters._groups import within_groups
from qrjax._adapters._returned import returned
from qrjax._terminal._received import received

Result = TypeVar("Result")
# JAX says in words alone which name it lacks.
UNBOUND = re.compile(r"unbound axis name: (.+?)(?:\.\s|\.?$)")


def sizes_of(axes: Any) -> dict[Any, int]:
    """The sizes of named axes.

    Raises:
      TypeError: if this is no mapping of integers.
      ValueError: if a size is below 1.
    """
    if axes is None:
        return {}
    if not isinstance(axes, Mapping):
        raise TypeError(f'`axes` must be a dict of sizes by name, got {received(axes)}; as in {{"batch": 8}}')
    return {name: _size(name, size) for name, size in axes.items()}


def _size(name: Any, size: Any) -> int:
    if isinstance(size, bool) or not hasattr(size, "__index__"):
        raise TypeError(f"`axes` must hold integers, got {received(size)} for {name!r}; as in {{{name!r}: 8}}")
    number = operator.index(size)
    if number < 1:
        raise ValueError(f"`axes` must hold sizes of at least 1, got {number} for {name!r}")
    return number


def with_axes(
    sizes: Mapping[Any, int], trace: Callable[[dict[Any, int]], Result], start: Mapping[Any, int]
) -> tuple[Result, dict[Any, int]]:
    """What `trace` gives with the axes of `start` and those that it turns out to lack, by default of size 1."""
    bound = dict(start)
    while True:
        try:
            return trace(bound), bound
        except NameError as error:
            found = UNBOUND.search(str(error))
            if found is None or found[1] in bound:
                raise
            bound[found[1]] = sizes.get(found[1], 1)


class Program(NamedTuple):
    """A program, the shapes of what its call returns, the sizes of its named axes, and which of them nobody gave."""

    program: Any
    outputs: Any
    axes: dict[Any, int]
    assumed: list[Any]


def program_of(
    function: Callable[..., Any], arguments: Any, sizes: Mapping[Any, int], forget: Callable[[], None] = lambda: None
) -> Program:
    """The program of a function that returns a pair, what the call returns and what else came of it.

    `forget` drops what an earlier try noted.
    """

    def run(*arguments: Any) -> Any:
        outputs, written = function(*arguments)
        return returned(outputs), written

    def trace(bound: dict[Any, int]) -> Any:
        forget()
        return jax.make_jaxpr(run, axis_env=list(bound.items()), return_shape=True)(*arguments)

    (traced, (outputs, _)), bound = with_axes(sizes, trace, sizes)
    program, axes = within_groups(traced, bound)
    return Program(program, outputs, axes, [name for name, size in axes.items() if name not in sizes and size == 1])
