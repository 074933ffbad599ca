"""A record: how a set of variables came to be."""

from __future__ import annotations

import dataclasses
import functools
import json
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
from jax import Array

from qrjax._adapters._variables import leaves_of
from qrjax._records import _format
from qrjax._records._entries import Entry, check_code
from qrjax._records._leaves import check_leaves, nested
from qrjax._terminal._names import listed, meant
from qrjax._terminal._shown import Shown, scalars_of
from qrjax._terminal._tables import Table
from qrjax._words._transfers import transferring


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Record(Shown):
    """How a set of variables came to be; any initial weight from it, exactly, without the model's code.

    Made by `qrjax.record`, kept with `save` or inside a checkpoint's metadata (`to_dict`), pickled as its JSON, which
    also says when two are equal. `print` shows every variable with its law and standard deviation.

    Attributes:
      entries: one for every variable, in the order of `jax.tree.leaves`.
      made: by what, from which key and with which versions.
    """

    entries: tuple[Entry, ...]
    made: Mapping[str, Any]
    rebuild: Callable[[Sequence[Any]], Any] | None = dataclasses.field(default=None, repr=False)

    @property
    def paths(self) -> tuple[str, ...]:
        """The variables' paths; those of Linen's parameters begin below "params"."""
        return tuple(entry.leaf.path for entry in self.entries)

    @transferring
    def weight(self, path: str, index: Any) -> Array:
        """Initial weights at an index of one variable, and nothing else computed.

        Args:
          path: "encoder/Dense_0/kernel"; for other collections than the parameters with their name before it.
          index: integers, slices, an Ellipsis or integer arrays, or a tuple of these, as in NumPy; so a shard's
            `index` too, or those of `sharding.devices_indices_map(shape)`.

        Returns:
          What the variable's array had at that index at the start, bit for bit.

        Raises:
          KeyError: if there is no such path.
          IndexError, TypeError: if the index does not fit the shape, or is none.
          LookupError: if the values come from a builder that is not qrjax's and the record was loaded without the
            model; see `with_model`.
          ValueError: if the values have 64 bits and jax_enable_x64 is off.

        Example:
          >>> import flax.linen as nn, jax, jax.numpy as jnp, qrjax
          >>> record = qrjax.record(nn.Dense(64), jax.ShapeDtypeStruct((8, 32), jnp.float32), seed=7)
          >>> variables = qrjax.autoinit(nn.Dense(64), jax.ShapeDtypeStruct((8, 32), jnp.float32), seed=7)
          >>> bool(record.weight("kernel", (5, 10)) == variables["params"]["kernel"][5, 10])
          True
        """
        return self.entry(path).origin.at(index)

    @transferring
    def initial(self, path: str | None = None) -> Any:
        """The initial array of one variable, or, without a path, of all.

        Returns:
          An array; or what the framework calls variables: as `module.init` or `qrjax.autoinit` returned it while
          the record knows the model, else nested dicts and lists with the same keys.

        Raises:
          KeyError, LookupError, ValueError: as `weight`.
        """
        if path is not None:
            return self.entry(path).origin.array()
        arrays = [_ready(entry).origin.array() for entry in self.entries]
        if self.rebuild is not None:
            return self.rebuild(arrays)
        return nested([entry.leaf for entry in self.entries], arrays)

    def entry(self, path: str) -> Entry:
        """The entry of one variable; errors as `weight`."""
        found = [entry for entry in self.entries if entry.leaf.path == path]
        if not found:
            raise KeyError(f"no variable has the path {path!r}; paths: {listed(self.paths)}{meant(path, self.paths)}")
        if len(found) > 1:  # {"a/b": ..., "a": {"b": ...}}
            steps = " and ".join(str(entry.leaf.steps) for entry in found)
            raise KeyError(f"{len(found)} variables have the path {path!r}, at {steps}; take them from initial()")
        return _ready(found[0])

    def __len__(self) -> int:
        return len(self.entries)

    def with_model(
        self, module: Any, sample_input: Any = None, *args: Any, key: Array | None = None, **kwargs: Any
    ) -> Record:
        """This record with the model's code, for variables whose builders are not qrjax's.

        Args:
          module, sample_input, *args, **kwargs: as in `qrjax.record`.
          key: the key that initialized the model; by default the one in the record.

        Raises:
          ValueError: if the model has other variables than the record; the first that differs is named.
        """
        from qrjax._records._attach import attached

        return Record(*attached(self.entries, self.made, module, sample_input, args, kwargs, key))

    def with_rates(self, rates: Any) -> Record:
        """This record, carrying the multipliers of the learning rate along, in its JSON too.

        Args:
          rates: what `qrjax.learning_rates` returned, or another tree like the parameters.

        Raises:
          ValueError, TypeError: if they are of other parameters or no numbers.

        Example:
          >>> import flax.linen as nn, jax, jax.numpy as jnp, qrjax
          >>> layer, x = nn.Dense(64), jax.ShapeDtypeStruct((8, 32), jnp.float32)
          >>> record = qrjax.record(layer, x).with_rates(qrjax.learning_rates(layer, x))
          >>> qrjax.Record.from_json(record.to_json()).rates
          {'bias': 0.0625, 'kernel': 0.03125}
        """
        from qrjax._records._rates import described

        kept = described(rates, [entry.leaf for entry in self.entries])
        return dataclasses.replace(self, made={**self.made, "rates": kept})

    @property
    def rates(self) -> Any:
        """The multipliers that `with_rates` was given: a tree like the parameters, as `initial`; None without any."""
        from qrjax._records._rates import tree_of

        return tree_of(self.made.get("rates"), [entry.leaf for entry in self.entries], self.rebuild)

    def check(self, variables: Any) -> None:
        """Nothing, if the trained variables have the record's paths, shapes and dtypes.

        Raises:
          ValueError: otherwise; the first that differs is named.
        """
        check_leaves([e.leaf for e in self.entries if e.leaf.trained], [v for v in leaves_of(variables) if v.trained])

    def to_dict(self) -> dict[str, Any]:
        """Plain values: what `to_json` writes, for metadata that is JSON itself."""
        return _format.to_dict(self.entries, self.made)

    def to_json(self, indent: int | None = None) -> str:
        """The record as JSON."""
        return json.dumps(self.to_dict(), indent=indent, allow_nan=False)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Record:
        """The inverse of `to_dict`.

        Raises:
          ValueError: if this is no record, was altered, or has a later format.
        """
        return cls(*_format.from_dict(data))

    @classmethod
    def from_json(cls, text: str) -> Record:
        """The inverse of `to_json`; errors as `from_dict`."""
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"the record is no JSON ({error}); save it again") from None
        return cls.from_dict(data)

    def save(self, file: str | os.PathLike[str]) -> None:
        """Writes the record; the file appears whole or not at all.

        Raises:
          OSError: if it cannot be written.
        """
        _format.write(file, self.to_json(indent=1))

    @classmethod
    def load(cls, file: str | os.PathLike[str]) -> Record:
        """Reads a record that `save` wrote.

        Raises:
          ValueError: as `from_dict`, with the file's name.
          OSError: if it cannot be read.
        """
        with open(file, encoding="utf-8") as opened:
            try:
                return cls.from_json(opened.read())
            except ValueError as error:
                raise ValueError(f"{os.fspath(file)}: {error}") from None

    def scalars(self) -> dict[str, float]:
        """What is known of the initial laws, "Dense_0/kernel/most_stddev" and so on, to log beside a training's."""
        numbers = ("mean", "least_stddev", "most_stddev")
        return scalars_of((row["path"], {name: row[name] for name in numbers}) for row in self._rows())

    def _rows(self) -> list[dict[str, Any]]:
        from qrjax._records._summary import rows

        return rows(self.entries)

    def _table(self) -> Table:
        from qrjax._records._summary import table

        return table(self.entries, self.made)

    def __str__(self) -> str:
        from qrjax._records._summary import page

        return page(self.entries, self.made)

    def __eq__(self, other: object) -> bool:
        """Whether both say the same: what `to_json` writes; a model at hand does not count."""
        if not isinstance(other, Record):
            return NotImplemented
        return self is other or self._digest == other._digest

    def __hash__(self) -> int:
        return hash(self._digest)

    @functools.cached_property
    def _digest(self) -> str:
        digest: str = self.to_dict()["sha256"]
        return digest

    # Nothing of it changes, so a copy is itself; elsewhere it is what its JSON says, without the model's code.
    def __copy__(self) -> Record:
        return self

    def __deepcopy__(self, memo: Any) -> Record:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return Record.from_json, (self.to_json(),)


def _ready(entry: Entry) -> Entry:
    """An entry whose values can be computed here.

    Raises:
      LookupError: if they need the model's code.
      ValueError: if they have 64 bits and JAX has not.
    """
    leaf = entry.leaf
    check_code(entry)
    is_key = jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    if not is_key and jax.dtypes.canonicalize_dtype(leaf.dtype) != leaf.dtype:
        raise ValueError(
            f"{leaf.path!r} has the dtype {leaf.dtype}, which JAX would cut to 32 bits; "
            'jax.config.update("jax_enable_x64", True) first'
        )
    return entry
