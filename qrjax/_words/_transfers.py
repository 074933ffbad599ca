"""What goes between the host and the devices because a function's arguments say so."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from typing import Any, TypeVar, cast

import jax

F = TypeVar("F", bound=Callable[..., Any])

_GUARDS: dict[str, Callable[[str], contextlib.AbstractContextManager[Any]]] = {
    "jax_transfer_guard_host_to_device": jax.transfer_guard_host_to_device,
    "jax_transfer_guard_device_to_device": jax.transfer_guard_device_to_device,
    "jax_transfer_guard_device_to_host": jax.transfer_guard_device_to_host,
}


def transferring(function: F) -> F:
    """The function, whose own transfers are meant: under `jax.transfer_guard("disallow")` they pass.

    The guard finds what a program moves unawares. Where even `jax.device_put` is forbidden, so are these.
    """

    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        with contextlib.ExitStack() as stack:
            for name, guard in _GUARDS.items():
                if getattr(jax.config, name) == "disallow":
                    stack.enter_context(guard("allow"))
            return function(*args, **kwargs)

    return cast(F, run)
