"""The leaves of a record: put together again, and compared with those of variables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from qrjax._interpreter._model import Leaf
from qrjax._terminal._names import listed


def nested(leaves: Sequence[Leaf], arrays: Sequence[Any]) -> Any:
    """Arrays in dicts by the leaves' steps; dicts whose keys are 0, 1, ... become lists."""
    root: dict[Any, Any] = {}
    for leaf, array in zip(leaves, arrays, strict=True):
        if not leaf.steps:
            return array
        place = root
        for step in leaf.steps[:-1]:
            place = place.setdefault(step, {})
        place[leaf.steps[-1]] = array
    return _listed_where_numbered(root)


def _listed_where_numbered(tree: Any) -> Any:
    if not isinstance(tree, dict):
        return tree
    below = {key: _listed_where_numbered(value) for key, value in tree.items()}
    return list(below.values()) if below and list(below) == list(range(len(below))) else below


def check_leaves(expected: Sequence[Leaf], given: Sequence[Leaf]) -> None:
    """Nothing, if paths, shapes and dtypes are the same in the same order.

    Raises:
      ValueError: otherwise.
    """
    there, here = ({leaf.path: leaf for leaf in leaves} for leaves in (expected, given))
    for path, leaf in there.items():
        if path not in here:
            raise ValueError(
                f"the variables lack {path!r} of shape {leaf.shape}, which the record has; is this another model's "
                f"record? their paths: {listed(tuple(here))}"
            )
        if here[path].shape != leaf.shape:
            raise ValueError(
                f"{path!r} has the shape {here[path].shape}, and in the record {leaf.shape}; "
                "is this another model's record?"
            )
        if here[path].dtype != leaf.dtype:
            raise ValueError(
                f"{path!r} has the dtype {here[path].dtype}, in the record {leaf.dtype}; convert it back, as "
                "rounding would pass for training"
            )
    for path, leaf in here.items():
        if path not in there:
            raise ValueError(
                f"the variables have {path!r} of shape {leaf.shape}, which the record lacks; is this another model's "
                f"record? its paths: {listed(tuple(there))}"
            )
