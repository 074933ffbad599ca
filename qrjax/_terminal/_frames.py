"""Errors without the frames of our own code, as JAX shows its without JAX's, and warnings at the caller's line."""

from __future__ import annotations

import functools
import os
import sys
import traceback
import types
import warnings
from collections.abc import Callable
from typing import Any, TypeVar, cast

import jax

F = TypeVar("F", bound=Callable[..., Any])

PACKAGE = os.path.dirname(os.path.dirname(__file__)) + os.sep
# Where the walk is, in which nothing but a user's rule is called.
WALK = tuple(os.path.join(PACKAGE, part, "") for part in ("_signals", "_rules", "_interpreter"))


def frames_hidden(function: F) -> F:
    """The function; what it raises shows the caller's and the model's lines, and not those between them.

    JAX_TRACEBACK_FILTERING=off shows all. So does an error that nobody raised on purpose, of which the lines are
    needed to find the fault.
    """

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except Exception as error:
            ours = _is_ours(sys._getframe(1))
            if not ours and not _is_fault(error) and getattr(jax.config, "jax_traceback_filtering", "auto") != "off":
                error.__traceback__ = _of_others(error.__traceback__)
            raise  # without an argument, for this adds no line of its own

    return cast(F, call)


def warn_caller(message: str, category: type[Warning]) -> None:
    """A warning of the line that called us, however many of our functions and decorators lie between."""
    frame: types.FrameType | None = sys._getframe(1)
    level = 2
    while frame is not None and _is_ours(frame):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)


def _is_ours(frame: types.FrameType) -> bool:
    return frame.f_code.co_filename.startswith(PACKAGE)


def _is_fault(error: Exception) -> bool:
    """Whether our code broke, rather than refused something or called a model that did."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if frame.filename.startswith(PACKAGE)]
    if own[-1] is frames[-1]:
        return not (own[-1].line or "").startswith("raise ")
    return own[-1].filename.startswith(WALK)


def _of_others(found: types.TracebackType | None) -> types.TracebackType | None:
    """The traceback without our frames."""
    entries = []
    while found is not None:
        if not _is_ours(found.tb_frame):
            entries.append(found)
        found = found.tb_next
    for entry in reversed(entries):
        found = types.TracebackType(found, entry.tb_frame, entry.tb_lasti, entry.tb_lineno)
    return found
