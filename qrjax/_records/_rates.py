"""Multipliers of the learning rate that a record carries along, as plain values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from qrjax._adapters._variables import named_leaves, trained_of
from qrjax._interpreter._model import Leaf
from qrjax._records._leaves import nested
from qrjax._terminal._names import listed
from qrjax._terminal._received import received


def described(rates: Any, leaves: Sequence[Leaf]) -> dict[str, Any]:
    """A number, or nested lists of them, for the path of every parameter.

    Raises:
      ValueError: if they are of other parameters.
      TypeError: if they hold anything but numbers.
    """
    given = dict(named_leaves(rates))
    expected = {leaf.path: leaf for leaf in leaves if leaf.trained}
    for path in (*(p for p in expected if p not in given), *(p for p in given if p not in expected)):
        lacking, having = ("`rates`", "the record") if path not in given else ("the record", "`rates`")
        raise ValueError(
            f"{lacking} lacks {path!r}, which {having} has; are they of another model? the record's parameters: "
            f"{listed([*expected])}"
        )
    return {path: _plain(path, rate, expected[path]) for path, rate in given.items()}


def _plain(path: str, rate: Any, leaf: Leaf) -> Any:
    array = np.asarray(rate)
    if array.dtype.kind not in "fiu":
        raise TypeError(f"`rates` must hold numbers, got {received(rate)} at {path!r}; see qrjax.learning_rates")
    if array.ndim not in (0, len(leaf.shape)) or not np.isfinite(array).all():
        raise ValueError(
            f"`rates` must hold finite numbers, or arrays with the {len(leaf.shape)} axes of the parameter, got "
            f"{received(rate)} at {path!r}"
        )
    return array.tolist()  # of single precision too its decimal digits are exact


def tree_of(
    kept: Mapping[str, Any] | None, leaves: Sequence[Leaf], rebuild: Callable[[Sequence[Any]], Any] | None
) -> Any:
    """The tree of the multipliers; None where there are none."""
    if kept is None:
        return None
    values = [_value(kept[leaf.path]) if leaf.trained else 0.0 for leaf in leaves]
    if rebuild is not None:
        return trained_of(rebuild(values))
    return trained_of(nested(leaves, values))


def _value(plain: Any) -> Any:
    return np.asarray(plain, np.float32) if isinstance(plain, list) else float(plain)
