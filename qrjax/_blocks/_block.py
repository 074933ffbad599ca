"""`qrjax.block`: a part of a program, or of a model, whose randomness is its own."""

from __future__ import annotations

import contextlib
import copy
import functools
import inspect
import warnings
from collections.abc import Callable
from contextvars import ContextVar
from types import TracebackType
from typing import Any, TypeVar

from qrjax._adapters._linen_blocks import linen_block, linen_module
from qrjax._adapters._nnx_blocks import check_rngs, nnx_block
from qrjax._blocks._frames import entered
from qrjax._blocks._generators import Generators
from qrjax._blocks._stream import seed
from qrjax._words._block_key import component

Function = TypeVar("Function", bound=Callable[..., Any])


class BlockWarning(UserWarning):
    """Two blocks of one model have the same name, and hence their layers equal weights."""


class Entry:
    """One entry of a block and how to undo it."""

    def __init__(self, block: Block, undo: contextlib.ExitStack, messages: list[str]) -> None:
        self.block, self.undo, self.messages = block, undo, messages


# Of the calling context, and of all, for a block that is left in another context than it was entered in, as fixtures
# of asynchronous tests and the garbage collector do.
_entries: ContextVar[tuple[Entry, ...]] = ContextVar("qrjax.block.entries", default=())
_everywhere: list[Entry] = []


class Block:
    """What `qrjax.block` returns: a context manager and a decorator, of any number of uses, also within each other."""

    def __init__(self, name: str | int, rngs: Any, restore: bool) -> None:
        self._name, self._rngs, self._restore = name, rngs, restore
        # Frames between the line to warn about and the one that warns.
        self._depth = 2

    def __repr__(self) -> str:
        return f"qrjax.block({self._name!r})"

    def __enter__(self) -> Block:
        messages: list[str] = []
        with contextlib.ExitStack() as undo:
            self._begin(undo, messages)
            entry = Entry(self, undo.pop_all(), messages)
        _everywhere.append(entry)
        _entries.set((*_entries.get(), entry))
        return self

    def _begin(self, undo: contextlib.ExitStack, messages: list[str]) -> None:
        module, number = linen_module(), seed()
        if number is None and module is None and self._rngs is None:
            raise RuntimeError(
                f"{self!r} must seed Python's and NumPy's generators, but there is no seed yet; call "
                "qrjax.set_seed(42) first, or for an NNX model pass its generators, "
                f"qrjax.block({self._name!r}, rngs=rngs)"
            )
        if number is not None:
            undo.enter_context(entered(Generators.seeded(number, self._name), self._restore))
        if module is not None:
            undo.enter_context(linen_block(module, self._name, messages))
        if self._rngs is not None:
            undo.enter_context(nnx_block(self._rngs, self._name, messages))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        entry = self._last()
        _entries.set(tuple(other for other in _entries.get() if other is not entry))
        _everywhere.remove(entry)
        entry.undo.__exit__(kind, error, traceback)
        if error is None:
            for where in entry.messages:
                warnings.warn(self._message(where), BlockWarning, stacklevel=self._depth)

    def _last(self) -> Entry:
        for entry in (*reversed(_entries.get()), *reversed(_everywhere)):
            if entry.block is self:
                return entry
        raise RuntimeError(f"{self!r} is left without having been entered; write `with {self!r}:`")

    def _message(self, where: str) -> str:
        return (
            f"{self!r} was entered twice {where}: both times its layers get the same keys, hence equal weights where "
            "shapes are equal; give each block of a model a name of its own"
        )

    def __call__(self, function: Function) -> Function:
        """A function that runs in this block, entered anew at each call.

        Raises:
          TypeError: if `function` is a generator function, a class or no function at all.
        """
        if isinstance(function, type) or not callable(function):
            raise TypeError(f"{self!r} decorates functions, got {function!r}; use `with {self!r}:` inside instead")
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            # Its caller runs between its steps, and would be in the block as well.
            raise TypeError(
                f"{self!r} cannot decorate the generator function {function.__qualname__}; use `with {self!r}:` "
                "inside of it, around lines without a yield"
            )
        inner = copy.copy(self)
        inner._depth = 3
        decorated: Any = _asynchronous if inspect.iscoroutinefunction(function) else _synchronous
        return decorated(function, inner)


def _synchronous(function: Callable[..., Any], inner: Block) -> Callable[..., Any]:
    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        with inner:
            return function(*args, **kwargs)

    return call


def _asynchronous(function: Callable[..., Any], inner: Block) -> Callable[..., Any]:
    @functools.wraps(function)
    async def call(*args: Any, **kwargs: Any) -> Any:
        with inner:
            return await function(*args, **kwargs)

    return call


def block(name: str | int, rngs: Any = None, *, restore: bool = True) -> Block:
    """A part of a program or of a model whose randomness depends on its name alone, not on what is around it.

    A context manager and a decorator, also of coroutine functions. After `qrjax.set_seed(seed)`, inside of it
    Python's `random`, NumPy's global generator, Torch's if it is imported, and `qrjax.next_key` start in a state that
    depends on `seed` and `name` alone, whatever ran before and in whichever block it lies. On leaving, by an
    exception too, the outer state is as it was. Threads and asynchronous tasks are apart from each other, with three
    limits: Torch's state is that of one of them, the first in a block; so are references to functions that were made
    before, such as `from random import shuffle`; and a draw that another thread is in the middle of, at the moment
    of entering, may take values from either state. Generators that you made yourself are not touched.

    In a model it also governs initial weights, which then depend only on the key given to `init` or `Rngs`, the block
    and the order of the layers within it; no `set_seed` is needed. Adding, removing or reordering layers in one
    block, or blocks among each other, changes no weight of another.

    * *Linen*: around what a method creates, in a compact method or in `setup` (there, a layer is created by the line
      that assigns it to `self`). Names of parameters stay Flax's. If a module's stream is at key k, layer number i of
      block "b" in it starts from block_key(block_key(k, "b"), i), for a block "c" inside from
      block_key(block_key(k, "b", "c"), i); parameters of the module itself draw from block_key(k, "b"). Outside of
      `init` nothing changes. The first such block extends two methods of Flax's scopes, for layers outside of blocks
      without effect.
    * *NNX*: `block(name, rngs=rngs)` puts block_key(key, name) in the place of each stream's key and 0 in that of its
      count, and both back afterwards.

    `qrjax.autoinit` draws weights anew by their paths, so blocks do not govern those.

    Args:
      name: a string, or an integer in [0, 2**32); 1 and "1" differ. It is the block's identity, so give each block of
        a model another. A second one with the same name in the same module, or with the same Rngs, gets the same
        keys, of which a `BlockWarning` warns.
      rngs: the `nnx.Rngs`, or one stream of it, that layers in the block are made with.
      restore: False lets Python's, NumPy's, Torch's and qrjax's streams run on after the block from their state
        inside. Models are not concerned.

    Returns:
      A `Block`; the same one may be entered many times, in many threads, and within itself.

    Raises:
      TypeError: if `name` is neither a string nor an integer, or `rngs` no nnx.Rngs; when decorating, if it is no
        function, or a generator function.
      ValueError: if `name` is an integer outside [0, 2**32), or has no UTF-8 form.
      RuntimeError: on entering, before `set_seed`, outside of a Linen module and without `rngs`.

    Example:
      >>> import jax, jax.numpy as jnp, qrjax
      >>> from flax import linen as nn
      >>> class Network(nn.Module):
      ...     depth: int
      ...     @nn.compact
      ...     def __call__(self, x):
      ...         with qrjax.block("features"):
      ...             for _ in range(self.depth):
      ...                 x = nn.relu(nn.Dense(8)(x))
      ...         with qrjax.block("classifier"):
      ...             return nn.Dense(4)(x)
      >>> one, two = (Network(depth).init(jax.random.key(0), jnp.ones((1, 8)))["params"] for depth in (1, 2))
      >>> bool((one["Dense_1"]["kernel"] == two["Dense_2"]["kernel"]).all())
      True
    """
    checked = component("name", name)
    check_rngs(rngs)
    return Block(checked, rngs, restore)
