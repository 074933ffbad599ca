"""`changes`: how far training moved each variable."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Any, overload

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from qrjax._terminal._abbreviations import in_order
from qrjax._terminal._cells import counted, decimal
from qrjax._terminal._names import listed, meant
from qrjax._terminal._shown import Shown, plain, scalars_of
from qrjax._terminal._tables import Table
from qrjax._tracking._amount import check_threshold
from qrjax._tracking._initial import initial_like
from qrjax._tracking._pairs import Pair, check_not_traced, pairs, traced_error
from qrjax._tracking._statistics import Sums, sums
from qrjax._words._transfers import transferring

BROKEN = "NaN or inf"
HEADINGS = (
    "variable", "weights", "changed", "sleeping", "mean |Δ|", "rms |Δ|", "max |Δ|", "cosine", "sign flips", BROKEN,
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Change:
    """One variable, or all together.

    Attributes:
      path: of the variable; "total" for all together.
      shape: of the array; None for all together.
      weights: how many there are.
      changed: how many moved by more than the threshold.
      sleeping: how many did not.
      not_finite: how many are NaN or infinite, now or at first; they are neither, and no figure below counts them.
      mean_change, max_change, rms_change: mean, maximum and root-mean-square of |current - initial|.
      cosine: between the initial and the current weights; None where one of them is zero.
      sign_flips: how many went from one side of zero to the other.
    """

    path: str
    shape: tuple[int, ...] | None
    weights: int
    changed: int
    sleeping: int
    not_finite: int
    mean_change: float
    max_change: float
    rms_change: float
    cosine: float | None
    sign_flips: int

    @property
    def changed_percent(self) -> float:
        """Of all weights; 0 where there are none."""
        return 100 * self.changed / self.weights if self.weights else 0.0

    @property
    def sleeping_percent(self) -> float:
        """Of all weights; 0 where there are none."""
        return 100 * self.sleeping / self.weights if self.weights else 0.0

    def to_dict(self) -> dict[str, Any]:
        """The row as plain values."""
        return plain(self)


class Changes(Shown, Sequence[Change]):
    """One `Change` for every variable, in the order of the params, and their total.

    Iterate over it, index it by number or by path, print it, or keep it with `to_json`.

    Attributes:
      rows: the variables.
      total: all together.
      threshold: beyond which a weight counts as changed.
    """

    def __init__(self, rows: Sequence[Change], total: Change, threshold: float, pairs: Sequence[Pair] = ()):
        self.rows, self.total, self.threshold = tuple(rows), total, threshold
        self._pairs = {pair.leaf.path: pair for pair in pairs}

    @transferring
    def delta(self, path: str) -> Array:
        """Current minus initial weights of one variable, computed now, float32 for lower precision.

        Raises:
          KeyError: if there is no variable of that path.
        """
        self[path]
        pair = self._pairs[path]
        wide = np.promote_types(pair.leaf.dtype, np.float32)
        return jnp.asarray(pair.array, wide) - jnp.asarray(initial_like(pair), wide)

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Change]:
        return iter(self.rows)

    @overload
    def __getitem__(self, which: int | str) -> Change: ...
    @overload
    def __getitem__(self, which: slice) -> Sequence[Change]: ...

    def __getitem__(self, which: int | str | slice) -> Change | Sequence[Change]:
        if not isinstance(which, str):
            return self.rows[which]
        for row in self.rows:
            if row.path == which:
                return row
        paths = [row.path for row in self.rows]
        raise KeyError(f"no variable has the path {which!r}; paths: {listed(paths)}{meant(which, paths)}")

    def to_dict(self) -> dict[str, Any]:
        """{"threshold", "total", "rows": [...]}, plain values."""
        return {"threshold": self.threshold, "total": self.total.to_dict(), "rows": self._rows()}

    def scalars(self) -> dict[str, float]:
        """All numbers of the variables and of their total, "Dense_0/kernel/rms_change", "total/changed_percent"."""
        return scalars_of((row.path, row.to_dict()) for row in (*self.rows, self.total))

    def _rows(self) -> list[dict[str, Any]]:
        return [row.to_dict() for row in self.rows]

    def _table(self) -> Table:
        total = self.total
        title = f"Changes: {total.changed:,} of {total.weights:,} weights in {counted(len(self.rows), 'variable')}"
        broken = any(row.not_finite for row in self.rows)
        headings = [name for name in HEADINGS if broken or name != BROKEN]
        place = {path: k for k, path in enumerate(in_order([row.path for row in self.rows]))}
        rows = sorted(self.rows, key=lambda row: place[row.path])
        cells = [_cells(row)[: len(headings)] for row in (*rows, total)]
        return Table(
            title, headings, cells, spare=(4, 6, 8, 7), total=True,
            remarks=[f"changed: moved by more than {self.threshold:g}"],
        )  # fmt: skip


def _cells(row: Change) -> list[str]:
    shares = [f"{row.weights:,}", f"{row.changed_percent:.1f} %", f"{row.sleeping_percent:.1f} %"]
    moved = [f"{v:.3g}" for v in (row.mean_change, row.rms_change, row.max_change)]
    cosine = "-" if row.cosine is None else decimal(row.cosine, 4)
    return [row.path, *shares, *moved, cosine, f"{row.sign_flips:,}", f"{row.not_finite:,}"]


@transferring
def changes(record_or_init_fn: Any, params: Any, threshold: float = 0.0) -> Changes:
    """How far training moved each variable from its initial values.

    These are computed as the reduction needs them, a few hundred thousand at a time: no copy of them is stored or
    made. Sharded arrays are read where they lie.

    Args:
      record_or_init_fn: a `qrjax.Record`; or a function without arguments that returns the initial variables, such
        as functools.partial(module.init, key, x), which is traced, not run, where its builders are qrjax's; or the
        initial variables.
      params: the trained variables, or their "params" alone; an NNX module or its state.
      threshold: a weight counts as changed if it moved by more; with 0 if its bits changed (0 and -0 are equal).

    Returns:
      A `qrjax.Changes`.

    Raises:
      ValueError: if `threshold` is negative or NaN, or the params have other paths, shapes or dtypes.
      LookupError: if values come from a builder that is not qrjax's and the record knows no model.
      TypeError: inside of `jax.jit` or `jax.vmap`, as figures are Python's numbers.

    Example:
      >>> import flax.linen as nn, functools, jax, jax.numpy as jnp, qrjax
      >>> layer, key = nn.Dense(4, kernel_init=qrjax.he_normal_hash()), jax.random.key(0)
      >>> init = functools.partial(layer.init, key, jnp.ones((1, 3)))
      >>> params = init()["params"]
      >>> found = qrjax.changes(init, params | {"bias": params["bias"].at[0].add(1.0)})
      >>> found.total.changed, found.total.weights, found["bias"].rms_change
      (1, 16, 0.5)
    """
    threshold = check_threshold(threshold)
    check_not_traced("changes", params, record_or_init_fn)
    rows, total = [], Sums()
    found = pairs(record_or_init_fn, params)
    for pair in found:
        try:
            with jax.ensure_compile_time_eval():  # of a program's constants, too
                own = sums(pair, threshold)
        except jax.errors.TracerArrayConversionError:  # where weights began is traced
            raise traced_error("changes") from None
        rows.append(_row(pair.leaf.path, pair.leaf.shape, own))
        total = total.plus(own)
    return Changes(rows, _row("total", None, total), threshold, found)


def _row(path: str, shape: tuple[int, ...] | None, s: Sums) -> Change:
    n = max(s.finite, 1.0)
    norm = math.sqrt(s.initial) * math.sqrt(s.current)
    cosine = max(-1.0, min(1.0, s.product / norm)) if norm > 0 else None
    return Change(
        path, shape, round(s.weights), round(s.changed), round(s.finite - s.changed), round(s.weights - s.finite),
        s.absolute / n, s.largest, math.sqrt(s.squared / n), cosine, round(s.flips),
    )  # fmt: skip
