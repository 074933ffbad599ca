"""Blocks in Linen modules: what a module creates inside one draws from keys of the block, by order, not by name.

Flax gives a child the stream of its parent with the child's name folded in, and a parameter the next number of its
module's counter; automatic names and counters change with what else the module creates. Both happen in two methods
of `flax.core.scope.Scope`, which are extended here, once, when the first block opens in a module.

What a scope knows about its blocks lies among its `rng_counters`, the one thing that Flax shares between a scope and
its doubles inside `nn.remat`, `nn.scan` and the like; hashable keys and integers only, since `nn.jit` counts them.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import sys
from collections.abc import Callable, Iterator
from typing import Any

from qrjax._words._block_key import block_key

Path = tuple[str | int, ...]

# Keys among the counters: the path of the open block; by path, its streams' counts and its number of layers; by a
# layer's name, its block and its place in that.
_OPEN, _COUNTS, _LAYERS, _PLACE = ("qrjax open",), "qrjax counts", "qrjax layers", "qrjax place"
# On a scope itself, which is new for each call of a module: the blocks in which something was created, and their keys.
_USED, _KEYS = "_qrjax_used", "_qrjax_keys"
# On the extended method.
_EXTENDED = "_qrjax_extended"


def linen_module() -> Any:
    """The bound module whose method is running in this thread, or None."""
    linen = sys.modules.get("flax.linen.module")
    if linen is None:
        return None
    try:
        module = linen._context.module_stack[-1]
    except AttributeError:
        raise _unsupported() from None
    return None if module is None or module.scope is None else module


@contextlib.contextmanager
def linen_block(module: Any, name: str | int, warnings: list[str]) -> Iterator[None]:
    """What `module` creates is governed by the block; nothing happens unless it is being initialized."""
    scope = module.scope
    if not (scope.has_rng("params") and scope.is_mutable_collection("params")):
        yield
        return
    _extend()
    counters = scope.rng_counters
    outer = _path(counters)
    path = (*outer, name)
    counters[_COUNTS, path] = dict.fromkeys(scope.rngs, 0)
    counters[_LAYERS, path] = 0
    try:
        counters[_OPEN] = {path: 1}
        yield
    finally:
        if outer:
            counters[_OPEN] = {outer: 1}
        else:
            counters.pop(_OPEN, None)
    _note(module, path, warnings)


def _note(module: Any, path: Path, warnings: list[str]) -> None:
    counters, used = module.scope.rng_counters, vars(module.scope).setdefault(_USED, set())
    if not counters[_LAYERS, path] and not any(counters[_COUNTS, path].values()):
        return
    if path in used:
        where = "/".join((type(module).__name__, *module.path))
        warnings.append(f"in the Linen module {where}")
    used.add(path)


def _path(counters: dict[Any, Any]) -> Path:
    """The blocks that are open in a scope, from the outermost on; none is the empty path."""
    return next(iter(counters.get(_OPEN, ((),))))


@functools.cache
def _extend() -> None:
    """Extends the two methods of Flax's scopes, for the rest of the process.

    Raises:
      RuntimeError: if this Flax has no such methods.
    """
    from flax.core import scope

    try:
        push, make_rng = scope.Scope.push, scope.Scope.make_rng
        found = [tuple(inspect.signature(method).parameters) for method in (push, make_rng)]
    except AttributeError:
        raise _unsupported() from None
    if hasattr(push, _EXTENDED):
        return  # by an earlier import of this file
    expected = [("self", "name", "prefix", "reuse"), ("self", "name")]
    if found != expected or not (hasattr(scope, "child_rng_token") and hasattr(scope, "LazyRng")):
        raise _unsupported()
    extended = _pushing(push, scope)
    setattr(extended, _EXTENDED, True)
    scope.Scope.push, scope.Scope.make_rng = extended, _drawing(make_rng, scope)  # type: ignore[method-assign]


def _unsupported() -> RuntimeError:
    import flax

    return RuntimeError(
        f"`block` cannot govern Linen modules under Flax {flax.__version__}, whose scopes work in another way than "
        "those of 0.12.8; install that version, or create the layers outside of blocks"
    )


def _pushing(original: Callable[..., Any], flax: Any) -> Callable[..., Any]:
    """`Scope.push`, a child scope: one made inside a block gets the streams of its place there, now and later on."""

    @functools.wraps(original)
    def push(self: Any, name: str | None = None, prefix: str = "", reuse: bool = False) -> Any:
        counters = self.rng_counters
        name = self.default_name(prefix) if name is None else name
        known = (flax.child_rng_token, name) in counters
        child = original(self, name, prefix, reuse)
        place = _place(counters, name, known)
        if place is not None:
            path, number = place
            # Two steps: block_key(key, *path, number) is what a block named `number` inside this one starts from.
            keys = {stream: block_key(_stream_key(self, stream, path), number) for stream in self.rngs}
            child.rngs = {stream: flax.LazyRng.create(key) for stream, key in keys.items()}
        return child

    return push


def _place(counters: dict[Any, Any], name: str, known: bool) -> tuple[Path, int] | None:
    """The block in which a child was made and its number among the block's layers; None outside of blocks."""
    path = _path(counters)
    if path and not known:
        counters[_PLACE, name] = {path: counters[_LAYERS, path]}
    if (_PLACE, name) not in counters:
        return None
    ((made_in, number),) = counters[_PLACE, name].items()
    if path == made_in:
        counters[_LAYERS, path] = max(counters[_LAYERS, path], number + 1)
    return made_in, number


def _stream_key(scope: Any, stream: str, path: Path) -> Any:
    """A block's key, hashed once for all of its layers, since compiling the hash takes some 40 ms each time."""
    kept, rng = vars(scope).setdefault(_KEYS, {}), scope.rngs[stream]
    # nn.jit changes a scope's streams for a time.
    if (stream, path) not in kept or kept[stream, path][0] is not rng:
        kept[stream, path] = rng, block_key(rng.as_jax_rng(), *path)
    return kept[stream, path][1]


def _drawing(original: Callable[..., Any], flax: Any) -> Callable[..., Any]:
    """`Scope.make_rng`, a key for a parameter of the module itself: inside a block, from its streams and counts."""

    @functools.wraps(original)
    def make_rng(self: Any, name: str = "params") -> Any:
        path = _path(self.rng_counters)
        stream = name if name in self.rngs else "params"
        if not path or stream not in self.rngs:
            return original(self, name)
        rngs, counters = self.rngs, self.rng_counters
        block = flax.LazyRng.create(_stream_key(self, stream, path))
        self.rngs, self.rng_counters = {**rngs, stream: block}, counters[_COUNTS, path]
        try:
            return original(self, name)
        finally:
            self.rngs, self.rng_counters = rngs, counters

    return make_rng
