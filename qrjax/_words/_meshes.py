"""The axes of a mesh by their types."""

from __future__ import annotations

from typing import Any

from jax.sharding import AxisType


def axes_of(mesh: Any, kind: AxisType) -> tuple[str, ...]:
    """Its axes of one type, in its order; none of an empty mesh."""
    types = mesh.axis_types or ()
    return tuple(name for name, found in zip(mesh.axis_names, types, strict=True) if found == kind)


def explicit_axes(aval: Any) -> tuple[str, ...]:
    """The explicit axes of the mesh that an array's type tells of."""
    return axes_of(aval.sharding.mesh, AxisType.Explicit)
