"""What a walk found, row by row, to read, to print and to keep."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, overload

from qrjax._interpreter._finding import Finding, check_healthy
from qrjax._terminal._cells import cell, counted, decimal, number
from qrjax._terminal._names import listed, meant
from qrjax._terminal._shown import Shown, plain, scalars_of
from qrjax._terminal._tables import Table

# Primitives as readers call them.
WORDS = {
    "dot_general": "product",
    "ragged_dot_general": "product",
    "conv_general_dilated": "convolution",
    "gather": "look-up",
    "mul": "multiplication",
}
# The columns of a table by what they have of a row; a number that is not among them stands under its own name. Of
# gradients g is the derivative by an output, w' that by a weight.
HEADINGS = {
    "path": "module",
    "operation": "operation",
    "shape": "output",
    "fan": "fan",
    "gain": "gain",
    "input_second_moment": "in: E x²",
    "mean": "out: mean",
    "variance": "variance",
    "second_moment": "E y²",
    "measured_second_moment": "measured E y²",
    "octaves": "octaves",
    "gradient": "E g²",
    "measured_gradient": "measured E g²",
    "gradient_octaves": "octaves of g",
    "gradient_norm": "|g|",
    "measured_gradient_norm": "measured |g|",
    "weight_gradient": "E w'²",
    "measured_weight_gradient": "measured E w'²",
    "weight_gradient_octaves": "octaves of w'",
    "weight_gradient_norm": "|w'|",
    "measured_weight_gradient_norm": "measured |w'|",
    "rate": "rate",
    "rule": "as",
    "correlation": "correlation along axes",
    "notes": "notes",
}
ENDING = ("correlation", "notes")
HIDDEN = ("op", "module", "weight", "input_mean", "input_variance", "measured_mean", "measured_variance")
TEXTS = ("path", "operation", "shape", "rule", *ENDING)
ALWAYS = ("fan", "gain", "input_second_moment")
# What rates do not come from.
UNRATED = ("mean", "variance", "correlation")
# Left out one after the other where a page is narrow.
SPARE = (
    "measured_weight_gradient_norm", "weight_gradient_norm", "measured_gradient_norm", "correlation", "notes", "mean",
    "variance", "fan", "input_second_moment", "weight_gradient_octaves", "measured_weight_gradient", "shape",
    "gradient_octaves", "measured_gradient", "weight_gradient",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Row:
    """One operation with a weight, or the output of one module.

    Attributes:
      path: the module, "encoder/Dense_0"; layers stacked by a scan end in their number, "layers/Dense_0[3]".
      op: the primitive, "dot_general", or the type of the module.
      module: the type of the module that does no more than this operation, "Dense"; None for others.
      shape: shape of the output.
      fan: how many products a weight's output sums, on average where a border cuts some; None without a weight.
      gain: the weight's standard deviation; None without a weight.
      input_mean, input_variance: predicted, of the input that meets the weight; None without a weight.
      mean, variance: predicted, of the output.
      measured_mean, measured_variance: on a real batch; None until measured.
      correlation: for each axis longer than 1, the correlation of two outputs that differ along it only.
      notes: what a reader should know, such as "by sampling".
      weight: the path of the parameter; None without one.
      gradient: the predicted second moment per element of the derivative with respect to the output, for a random
        cotangent of second moment 1 at the model's output; None unless asked for.
      gradient_norm: the norm per example of that derivative: the root of its sum of squares over all elements, divided
        by the number of examples (the length of the inputs' first axis) before the root is taken.
      weight_gradient: the predicted second moment per element of the derivative with respect to the weight, summed
        over the batch as in training; None without a weight.
      weight_gradient_norm: the root of the sum of squares of that derivative over the whole batch.
      measured_gradient, measured_gradient_norm, measured_weight_gradient, measured_weight_gradient_norm: the same in a
        real backward pass, from a random cotangent or a loss; None until measured.
      rate: the learning rate's multiplier, from `qrjax.learning_rates`; None elsewhere.
      rule: the parameter's role in the signal, which decides its rate: "product", "look-up", "scale", "shift" and so
        on; None elsewhere.
    """

    path: str
    op: str
    shape: tuple[int, ...]
    fan: float | None
    gain: float | None
    input_mean: float | None
    input_variance: float | None
    mean: float
    variance: float
    correlation: dict[int, float]
    notes: tuple[str, ...] = ()
    weight: str | None = None
    module: str | None = None
    measured_mean: float | None = None
    measured_variance: float | None = None
    gradient: float | None = None
    gradient_norm: float | None = None
    weight_gradient: float | None = None
    weight_gradient_norm: float | None = None
    measured_gradient: float | None = None
    measured_gradient_norm: float | None = None
    measured_weight_gradient: float | None = None
    measured_weight_gradient_norm: float | None = None
    rate: float | None = None
    rule: str | None = None
    # Where in the program the row is, for measuring it; not part of what it says.
    site: Any = dataclasses.field(default=None, repr=False, compare=False)

    def __repr__(self) -> str:
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self) if field.repr}
        said = [f"{name}={value!r}" for name, value in fields.items() if value not in (None, ())]
        return f"Row({', '.join(said)})"

    @property
    def second_moment(self) -> float:
        """Predicted E[y^2]."""
        return self.mean**2 + self.variance

    @property
    def input_second_moment(self) -> float | None:
        """Predicted E[x^2] of the input."""
        if self.input_mean is None or self.input_variance is None:
            return None
        return self.input_mean**2 + self.input_variance

    @property
    def measured_second_moment(self) -> float | None:
        """Measured E[y^2]."""
        if self.measured_mean is None or self.measured_variance is None:
            return None
        return self.measured_mean**2 + self.measured_variance

    @property
    def octaves(self) -> float | None:
        """log2 of the measured over the predicted second moment; None until measured."""
        return _octaves(self.measured_second_moment, self.second_moment)

    @property
    def gradient_octaves(self) -> float | None:
        """log2 of the measured over the predicted second moment of the gradient; None unless both are there."""
        return _octaves(self.measured_gradient, self.gradient)

    @property
    def weight_gradient_octaves(self) -> float | None:
        """log2 of the measured over the predicted second moment of the weight's gradient, as `gradient_octaves`."""
        return _octaves(self.measured_weight_gradient, self.weight_gradient)

    @property
    def operation(self) -> str:
        """`op` in a reader's words: the module's type where it is all that the module does."""
        return self.module or WORDS.get(self.op, self.op)

    def to_dict(self) -> dict[str, Any]:
        """The row as plain values."""
        return plain(self)


def _octaves(measured: float | None, predicted: float | None) -> float | None:
    if measured is None or predicted is None:
        return None
    if measured == predicted:
        return 0.0
    if measured <= 0 or predicted <= 0:
        return math.inf if measured > predicted else -math.inf
    return math.log2(measured / predicted)


class Report(Shown, Sequence[Row]):
    """The rows of a walk in order of execution, and findings in words.

    Iterate over it, index it by number or by path, print it, or keep it with `to_json`. A notebook shows its table;
    a prompt shows as much of it as there is place for.

    Attributes:
      rows: the rows.
      findings: sentences on what a reader should look at, each with a `severity`: "info", "warning" or "error"; empty
        where nothing stands out.
      target: the second moment that weights aim at, or what gives one for each: a mapping from patterns of paths, of
        which the first that matches counts, or a function of a path. Of "stable" what was chosen.

    Example:
      >>> import flax.linen as nn, jax, jax.numpy as jnp, qrjax
      >>> network = nn.Sequential([nn.Dense(64), nn.relu, nn.Dense(10)])
      >>> report = qrjax.analyze(network, jax.ShapeDtypeStruct((4, 16), jnp.float32))
      >>> [(row.path, row.operation, row.shape) for row in report.weights]
      [('layers_0', 'Dense', (4, 64)), ('layers_2', 'Dense', (4, 10))]
      >>> round(report.scalars()["layers_2/gain"], 3)
      0.177
    """

    def __init__(self, rows: Sequence[Row], findings: Sequence[str] = (), target: Any = 1.0):
        self.rows, self.target = tuple(rows), target
        self.findings = tuple(f if isinstance(f, Finding) else Finding(f) for f in findings)

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    @overload
    def __getitem__(self, which: int | str) -> Row: ...
    @overload
    def __getitem__(self, which: slice) -> Sequence[Row]: ...

    def __getitem__(self, which: int | str | slice) -> Row | Sequence[Row]:
        if not isinstance(which, str):
            return self.rows[which]
        found = self.at(which)
        if not found:
            paths = list(dict.fromkeys(row.path for row in self.rows))
            raise KeyError(f"no row has the path {which!r}; paths: {listed(paths)}{meant(which, paths)}")
        return next((row for row in found if row.gain is not None), found[-1])

    def at(self, path: str) -> tuple[Row, ...]:
        """All rows of a path: a module used twice has several."""
        return tuple(row for row in self.rows if row.path == path)

    @property
    def weights(self) -> tuple[Row, ...]:
        """The rows with a weight."""
        return tuple(row for row in self.rows if row.gain is not None)

    @property
    def measured(self) -> bool:
        """Whether a real batch has been through."""
        return any(row.measured_mean is not None for row in self.rows)

    @property
    def has_gradients(self) -> bool:
        """Whether any row has a gradient, predicted or measured."""
        return any(row.gradient is not None or row.measured_gradient is not None for row in self.rows)

    def to_dict(self) -> dict[str, Any]:
        """{"target", "findings", "severities", "rows": [...]}, plain values."""
        said = {"findings": list(map(str, self.findings)), "severities": [found.severity for found in self.findings]}
        return {"target": _plain_target(self.target), **said, "rows": self._rows()}

    def assert_healthy(self, severity: str = "error") -> None:
        """Raises where the report has findings of this severity or a higher one, as in a test of a model.

        Args:
          severity: "error" for what as a rule keeps a network from training: a signal or a gradient that vanishes or
            explodes; "warning" for dead units, saturation, weights without a gradient and the like too; "info" for any
            finding at all.

        Raises:
          UnhealthyError: if there are some; an AssertionError whose message lists them.
          ValueError: if `severity` is none of the three.

        Example:
          >>> import flax.linen as nn, jax, qrjax
          >>> network, x = nn.Dense(256), jax.random.normal(jax.random.key(1), (32, 64))
          >>> variables = network.init(jax.random.key(0), x)
          >>> qrjax.measure(network, variables, x, gradients=True).assert_healthy()
        """
        check_healthy(self.findings, severity)

    def scalars(self) -> dict[str, float]:
        """All numbers of the rows, "encoder/Dense_0/gain" and so on, to log beside a training's."""
        return scalars_of((row.path, row.to_dict()) for row in self.rows)

    def _rows(self) -> list[dict[str, Any]]:
        return [row.to_dict() for row in self.rows]

    def _table(self) -> Table:
        counts = [counted(len(self.rows), "row"), counted(len(self.weights), "weight")]
        title = f"Report: {', '.join(counts)}, target {_said(self.target)}"
        columns = _columns(self.rows)
        cells = [[_cell(row, name) for name in columns] for row in self.rows]
        headings = [HEADINGS.get(name, name.replace("_", " ")) for name in columns]
        texts = {columns.index(name) for name in TEXTS if name in columns}
        spare = [columns.index(name) for name in SPARE if name in columns]
        return Table(title, headings, cells, texts, spare, remarks=[f"- {finding}" for finding in self.findings])


def _plain_target(target: Any) -> Any:
    if callable(target):
        return getattr(target, "__name__", repr(target))
    return dict(target) if isinstance(target, Mapping) else target


def _said(target: Any) -> str:
    if not isinstance(target, Mapping):
        found = _plain_target(target)
        return found if isinstance(found, str) else number(found)
    return ", ".join(f"{number(value)} for {pattern}" for pattern, value in target.items())


def _columns(rows: Sequence[Row]) -> list[str]:
    """What is shown of rows: every number that one of them has, but for the hidden ones."""
    known = [name for name in HEADINGS if name not in ENDING]
    fields = [field.name for field in dataclasses.fields(Row) if field.compare]
    names = [*known, *(name for name in fields if name not in (*HEADINGS, *HIDDEN)), *ENDING]
    if any(row.rate is not None for row in rows):
        names = [name for name in names if name not in UNRATED]
    always = {*TEXTS, *ALWAYS} - {"rule"}
    return [name for name in names if name in always or any(getattr(row, name) is not None for row in rows)]


def _cell(row: Row, name: str) -> str:
    if name == "path":
        return row.path or "(whole)"
    return decimal(getattr(row, name), sign="+") if name.endswith("octaves") else cell(getattr(row, name))
