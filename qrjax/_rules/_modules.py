"""Rules of users: by primitive and by type of module."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

# Types of modules, most of them of frameworks that this layer does not know.
MODULES: dict[type, Callable[..., Any]] = {}


def rule_of(kind: type) -> Callable[..., Any] | None:
    """The rule of a type or of the nearest of its bases."""
    return next((MODULES[base] for base in kind.__mro__ if base in MODULES), None)
