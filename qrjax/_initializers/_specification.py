"""What a drawn tensor is, resolved: no builder, no fans, nothing that a later version might read differently.

An initialization program carries it as the name of an equation, so that who has the program knows how to draw
any of its weights again without running it; a record keeps it as JSON.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from qrjax._initializers._scaling import Fixed
from qrjax._layouts._coordinates import Shape
from qrjax._layouts._sources import Hash, Roles, Sobol, Source
from qrjax._values._distributions import Distribution, Normal, TruncatedNormal, Uniform

LABEL = "qrjax.initializer "
FACTOR = "qrjax.orthogonal "
KEY = "qrjax.key"

_DISTRIBUTIONS: dict[str, type[Distribution]] = {
    "uniform": Uniform,
    "normal": Normal,
    "truncated_normal": TruncatedNormal,
}
_NAMES = {kind: name for name, kind in _DISTRIBUTIONS.items()}


@dataclasses.dataclass(frozen=True)
class Resolved(Fixed):
    """location + scale * standardized value, with the axes that a layout needs.

    The scale is the declared one: where a zero-mean source sets a weight to 0, it stretches the others itself.
    """

    inputs: tuple[int, ...]
    outputs: tuple[int, ...]

    def roles(self, shape: Shape) -> Roles:
        del shape
        return Roles(self.inputs, self.outputs)

    def location_and_scale(self, shape: Shape, distribution: Distribution, dtype: np.dtype[Any]) -> tuple[float, float]:
        del shape, distribution, dtype  # what they decide was decided
        return self.location, self.scale

    def allows_complex(self, distribution: Distribution) -> bool:
        del distribution
        return True


@dataclasses.dataclass(frozen=True)
class Specification:
    """One tensor of independent or quasirandom weights, but for its key."""

    distribution: Distribution
    scaling: Resolved
    source: Source
    shape: Shape
    dtype: np.dtype[Any]

    @property
    def mean(self) -> float:
        return self.scaling.location + self.scaling.scale * self.distribution.mean

    @property
    def stddev(self) -> float:
        return self.scaling.scale * self.distribution.stddev

    @property
    def zero_sum(self) -> bool:
        """Whether the weights that one output sums over sum to zero."""
        source = self.source
        return source.zero_mean if isinstance(source, Hash) else source.layout == "neurons"

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        s = self.scaling
        return {
            "distribution": law_to_dict(self.distribution),
            "location": s.location,
            "scale": s.scale,
            "inputs": list(s.inputs),
            "outputs": list(s.outputs),
            "source": source_to_dict(self.source),
            "shape": list(self.shape),
            "dtype": self.dtype.name,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Specification:
        """The inverse of `to_dict`."""
        scaling = Resolved(
            float(data["location"]), float(data["scale"]), tuple(map(int, data["inputs"])),
            tuple(map(int, data["outputs"])),
        )  # fmt: skip
        return cls(
            law_from_dict(data["distribution"]),
            scaling,
            source_from_dict(data["source"]),
            tuple(map(int, data["shape"])),
            np.dtype(data["dtype"]),
        )

    @property
    def label(self) -> str:
        return LABEL + json.dumps(self.to_dict())

    @classmethod
    def from_label(cls, label: str) -> Specification:
        return cls.from_dict(json.loads(label.removeprefix(LABEL)))


def law_to_dict(law: Distribution) -> dict[str, Any]:
    """Plain values, for JSON. Without a word on its quantile a law is as it was before there were tables."""
    bounds = {"lower": _plain(law.lower), "upper": _plain(law.upper)} if isinstance(law, TruncatedNormal) else {}
    return {"name": _NAMES[type(law)]} | bounds | ({"quantile": "table"} if law.is_tabled else {})


def law_from_dict(data: Mapping[str, Any]) -> Distribution:
    """The inverse of `law_to_dict`."""
    rest = dict(data)
    kind, quantile = _DISTRIBUTIONS[rest.pop("name")], rest.pop("quantile", None)
    if quantile not in (None, "table"):
        raise ValueError(f"`quantile` must be 'table' or missing, got {quantile!r}")
    law = kind(**{name: float(value) for name, value in rest.items()})  # type: ignore[arg-type]  # bounds alone
    return law if law.is_tabled == (quantile == "table") else dataclasses.replace(law, tabled=quantile == "table")


def source_to_dict(source: Source) -> dict[str, Any]:
    """Plain values, for JSON."""
    if isinstance(source, Hash):
        # What a record without zero-mean weights says must not change: written ones are compared with it.
        return {"name": "hash"} | ({"zero_mean": True} if source.zero_mean else {})
    return {"name": "sobol", "layout": source.layout, "dim": source.dim, "scramble": source.scramble}


def source_from_dict(data: Mapping[str, Any]) -> Source:
    """The inverse of `source_to_dict`."""
    kinds: dict[str, type[Source]] = {"hash": Hash, "sobol": Sobol}
    rest = dict(data)
    return kinds[rest.pop("name")](**rest)


def _plain(bound: float) -> float | str:
    """JSON has no infinity; float("inf") reads this."""
    return bound if np.isfinite(bound) else str(bound)
