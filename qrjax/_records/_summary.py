"""A record as a page: which variable has which law and scale."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from qrjax._initializers._specification import Specification, source_to_dict
from qrjax._records._derived import Offset, Rescaled, Transposed
from qrjax._records._entries import Entry
from qrjax._records._origins import Constant, Drawn, Factored, Keys, Origin, Stored
from qrjax._terminal._tables import Table, text

# Columns of a page; variables from which on those that differ by numbers in their paths share a line; and lines.
WIDTH, FOLDED, LINES = 80, 24, 40
# A mean of so many standard deviations is the rounding of an integral.
NEGLIGIBLE = 1e-9
HEADER = ("variable", "shape", "law, mean ± stddev", "source")


class Law(NamedTuple):
    """How the values of a variable are distributed.

    Attributes:
      name: of the distribution, with a mean that is not 0.
      least, most: the standard deviation, over the layers of a stack; NaN where there is none.
      source: "hash", or "sobol" and the layout.
      mean: where it is not 0.
      relative: whether least and most are factors of a scale that the record does not know.
    """

    name: str
    least: float = math.nan
    most: float = math.nan
    source: str = ""
    mean: float = 0.0
    relative: bool = False

    def times(self, factors: Sequence[np.ndarray]) -> Law:
        """After multiplications."""
        product = np.prod([np.asarray(f, float) for f in np.broadcast_arrays(*factors)], axis=0)
        if not product.size:
            return self
        ends = float(abs(product).min()), float(abs(product).max())
        return self._replace(
            least=self.least * ends[0], most=self.most * ends[1], mean=self.mean * float(product.mean())
        )


def law_of(origin: Origin) -> Law:
    """Of one variable."""
    if isinstance(origin, Drawn):
        return _drawn(origin.drawn).times((np.ones(()), *origin.factors))
    if isinstance(origin, Factored):
        return _orthogonal(origin).times((np.ones(()), *origin.factors))
    if isinstance(origin, Constant):
        value = origin.value.item()
        return Law(f"constant {value:.4g}" if isinstance(value, (float, complex)) else f"constant {origin.value}")
    if isinstance(origin, Transposed):
        return law_of(origin.whole)
    if isinstance(origin, Offset):
        whole, extra = law_of(origin.whole), float(np.var(origin.offsets))
        least, most = (math.sqrt(end**2 + extra) for end in (whole.least, whole.most))
        return Law(f"{whole.name}, shifted", least, most, whole.source, whole.mean)
    if isinstance(origin, Rescaled):
        whole = law_of(origin.whole)
        known = not math.isnan(whole.least)
        return (whole if known else Law(whole.name, 1.0, 1.0, relative=True)).times((np.ones(()), *origin.factors))
    if isinstance(origin, Stored):
        return Law("stored values")
    return Law("keys" if isinstance(origin, Keys) else "the model's own")


def _drawn(drawn: Specification) -> Law:
    law = drawn.distribution
    name = {"Uniform": "uniform", "Normal": "normal"}.get(type(law).__name__, "trunc. normal")
    if name == "trunc. normal" and law.bounds != (-2.0, 2.0):
        name = f"normal in {law.bounds[0]:g}..{law.bounds[1]:g}"
    mean = drawn.mean if abs(drawn.mean) > NEGLIGIBLE * drawn.stddev else 0.0
    source = source_to_dict(drawn.source)
    kind = " ".join([source["name"], *(["zero-mean"] if source.get("zero_mean") else []), *_layout(source)])
    return Law(name, drawn.stddev, drawn.stddev, kind, mean)


def _layout(source: Mapping[str, Any]) -> list[str]:
    return [source["layout"]] if "layout" in source else []


def _orthogonal(origin: Factored) -> Law:
    build, shape = origin.build, origin.drawn_shape
    shape = shape[-2:] if build.delta else shape
    columns = shape[build.column_axis]
    longer = max(math.prod(shape) // max(columns, 1), columns, 1)
    # What autoinit draws was multiplied to unit variance.
    size = 1.0 if origin.axes is not None else build.scale / math.sqrt(longer)
    source = source_to_dict(build.source)
    kind = " ".join([source["name"], *_layout(source)])
    return Law("delta orthogonal" if build.delta else "orthogonal", size, size, kind)


def page(entries: Sequence[Entry], made: Mapping[str, Any], lines: int = LINES) -> str:
    """A line for every variable, or for those that are alike but for numbers in their paths."""
    return text(table(entries, made), WIDTH, lines, "; to_json(indent=1) has every variable")


def table(entries: Sequence[Entry], made: Mapping[str, Any]) -> Table:
    """What the page and a notebook show."""
    return Table(_title(entries, made), HEADER, _lines(entries), texts=range(len(HEADER)))


def rows(entries: Sequence[Entry]) -> list[dict[str, Any]]:
    """What is known of each variable's initial law, by column; of a stack's layers the least and the most."""
    found = []
    for entry in entries:
        leaf, law = entry.leaf, law_of(entry.origin)
        known = not (math.isnan(law.least) or law.relative)
        least, most = (law.least, law.most) if known else (None, None)
        found.append(
            {"path": leaf.path, "shape": list(leaf.shape), "dtype": str(leaf.dtype), "weights": math.prod(leaf.shape),
             "trained": leaf.trained, "law": law.name, "source": law.source, "mean": law.mean if known else None,
             "least_stddev": least, "most_stddev": most}
        )  # fmt: skip
    return found


def _title(entries: Sequence[Entry], made: Mapping[str, Any]) -> str:
    weights = sum(math.prod(e.leaf.shape) for e in entries if e.leaf.trained)
    plural = "" if len(entries) == 1 else "s"
    first = f"Record of {len(entries):,} variable{plural}, {weights:,} weights, by {made.get('by')}"
    key = made.get("key") or {}
    words = " ".join(map(str, key.get("words", [])))
    version = ", ".join(f"{name} {made[name]}" for name in ("qrjax", "jax") if name in made)
    return f"{first}\nkey {words} ({key.get('impl') or 'raw'}); {version}; {_common(entries)} where not said"


def _common(entries: Sequence[Entry]) -> str:
    return Counter(str(entry.leaf.dtype) for entry in entries).most_common(1)[0][0] if entries else "float32"


def _lines(entries: Sequence[Entry]) -> list[tuple[str, ...]]:
    """The table's cells."""
    usual, folds = _common(entries), len(entries) > FOLDED
    found: dict[tuple[str, ...], list[tuple[str, Law]]] = {}
    for entry in entries:
        leaf, law = entry.leaf, law_of(entry.origin)
        shape = "x".join(map(str, leaf.shape)) or "()"
        shape += "" if str(leaf.dtype) == usual else f" {leaf.dtype}"
        path = re.sub(r"\d+", "*", leaf.path) if folds else leaf.path
        found.setdefault((path, shape, law.name, law.source), []).append((leaf.path, law))
    lines: list[tuple[str, ...]] = []
    for (pattern, shape, name, source), members in found.items():
        path = members[0][0] if len(members) == 1 else f"{pattern} ({len(members)})"
        lines.append((path, shape, f"{name} {_scale([law for _, law in members])}".strip(), source))
    return lines


def _scale(laws: Sequence[Law]) -> str:
    """Means and standard deviations, from the least to the largest."""
    if math.isnan(laws[0].least):
        return ""
    means = sorted({f"{law.mean:.3g}" for law in laws}, key=float)
    ends = [f"{min(law.least for law in laws):.3g}", f"{max(law.most for law in laws):.3g}"]
    text = ends[0] if ends[0] == ends[1] else " to ".join(ends)
    if laws[0].relative:
        return f"x {text}"
    return f"± {text}" if means == ["0"] else f"{' to '.join(dict.fromkeys((means[0], means[-1])))} ± {text}"
