"""Streams: from one key, weights that are independent from name to name."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, Self

from jax import Array

from qrjax._words._block_key import block_key, component
from qrjax._words._keys import drawn_words, key_words

Component = str | int


class Streams:
    """What initializers have in common: a path, which leads from the key that is given to the one drawn from."""

    __dataclass_fields__: ClassVar[dict[str, Any]]
    expression: str
    path: tuple[Component, ...]

    def stream(self, *path: Component) -> Self:
        """An initializer like this one, whose weights from one key are independent of those of other paths.

        It draws what this one draws from `qrjax.block_key(key, *path)`. A stream of a stream is that of the
        joined path, and one of no path is the initializer itself.

        Args:
          *path: strings, and integers in [0, 2**32); static.

        Raises:
          TypeError: for a component that is neither a string nor an integer.
          ValueError: for an integer outside [0, 2**32), or a string without a UTF-8 form.

        Example:
          >>> import jax, qrjax
          >>> init, root = qrjax.he_normal_hash(), jax.random.key(0)
          >>> query, key, value = (init.stream(name)(root, (64, 64)) for name in ("query", "key", "value"))
          >>> bool((query == init(qrjax.block_key(root, "query"), (64, 64))).all())
          True
          >>> init.stream("query")
          he_normal_hash().stream('query')
        """
        return dataclasses.replace(self, path=(*self.path, *(component("path", part) for part in path)))

    def __repr__(self) -> str:
        stream = f".stream({', '.join(map(repr, self.path))})" if self.path else ""
        return self.expression + stream

    def _repr_html_(self) -> str:
        from qrjax._terminal._tables import Table, as_html

        compared = [field.name for field in dataclasses.fields(self) if field.compare]
        rows = [(name, _words(value)) for name in compared if (value := getattr(self, name)) not in (None, ())]
        return as_html(Table(repr(self), ("part", "setting"), rows, (0, 1)))

    def _without_path(self) -> Self:
        """What draws from the key at the path: one compiled program serves all streams."""
        return dataclasses.replace(self, path=()) if self.path else self

    def _words(self, key: Any) -> Array:
        """The words of the key at the path."""
        return key_words(block_key(key, *self.path) if self.path else key)

    def _drawn_words(self, key: Any) -> Array:
        """The same for a draw, which uses the key up; a path, which leads to a key of its own, does not."""
        return self._words(key) if self.path else drawn_words(key)


def _words(value: Any) -> str:
    """A setting; of one with parts its name and these."""
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        return str(value)
    parts = [f"{field.name} {getattr(value, field.name)}" for field in dataclasses.fields(value) if field.compare]
    return f"{type(value).__name__}: {', '.join(parts)}" if parts else type(value).__name__
