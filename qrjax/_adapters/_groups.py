"""Groups of shards: where every exchange over a named axis stays within groups, one group is all there is to see."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

GROUPS = "axis_index_groups"


def within_groups(closed: Any, axes: Mapping[Any, int]) -> tuple[Any, dict[Any, int]]:
    """The program of one group, and its axes; the program itself where groups differ or some exchange has none."""
    found = [(name, groups) for name, groups in _exchanges(closed.jaxpr) if name in axes]
    if not any(groups for _, groups in found):
        return closed, dict(axes)
    sizes = {name: {len(groups[0]) if groups else None for n, groups in found if n == name} for name, _ in found}
    if any(len(of_axis) > 1 for of_axis in sizes.values()):
        return closed, dict(axes)
    grouped = {name: size for name, (size,) in sizes.items() if size is not None}
    return closed.replace(jaxpr=_without_groups(closed.jaxpr)), {**axes, **grouped}


def _exchanges(jaxpr: Any) -> Iterator[tuple[Any, Any]]:
    """The names of axes and the groups of all exchanges."""
    for equation in jaxpr.eqns:
        if GROUPS in equation.params:
            names = equation.params.get("axes", equation.params.get("axis_name"))
            for name in names if isinstance(names, (tuple, list)) else (names,):
                yield name, equation.params[GROUPS]
        for value in equation.params.values():
            for inner in value if isinstance(value, (tuple, list)) else (value,):
                if _is_program(inner):
                    yield from _exchanges(getattr(inner, "jaxpr", inner))


def _without_groups(jaxpr: Any) -> Any:
    equations = []
    for equation in jaxpr.eqns:
        params = {name: _inside(value, _without_groups) for name, value in equation.params.items()}
        equations.append(equation.replace(params=params | ({GROUPS: None} if GROUPS in params else {})))
    return jaxpr.replace(eqns=equations)


def _inside(value: Any, change: Callable[[Any], Any]) -> Any:
    """A parameter with its programs changed."""
    if isinstance(value, (tuple, list)) and any(map(_is_program, value)):
        return type(value)(_inside(inner, change) for inner in value)
    if not _is_program(value):
        return value
    return value.replace(jaxpr=change(value.jaxpr)) if hasattr(value, "jaxpr") else change(value)


def _is_program(value: Any) -> bool:
    return hasattr(value, "eqns") or hasattr(getattr(value, "jaxpr", None), "eqns")
