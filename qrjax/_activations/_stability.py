"""What many layers with one activation do to a gradient, to an error of the scale, and to two inputs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from qrjax._activations._function import Activation, Floats
from qrjax._activations._target import positive
from qrjax._terminal._received import received

TARGETS = tuple(2.0**k for k in range(-10, 5))
# Distances between two inputs, 1 minus their correlation: below NEAR the map is known from its slope and from how it
# leaves that, above it is computed at these; between them it is read off.
NEAR = 1e-3
CLOSER = np.geomspace(1e-9, NEAR, 24, endpoint=False)
FARTHER = np.concatenate([np.geomspace(NEAR, 0.25, 20), np.linspace(0.25, 2.0, 22)[1:]])
DISTANCES = np.concatenate([CLOSER, FARTHER])
# The nodes of what two inputs share, close enough for a kink between the two, and of what they do not.
SHARED, OWN = np.linspace(-7.5, 7.5, 1201), np.linspace(-7.5, 7.5, 61)
# After so many layers what two inputs have become is what they stay.
FOREVER = 20_000


@dataclasses.dataclass(frozen=True, eq=False)
class Stability:
    """Layers of weights and one activation, each output of one second moment, by that second moment.

    Attributes:
      name: that of the activation.
      targets: second moments of the layers' outputs, the activation's inputs.
      gain: `qrjax.gain` at each.
      gradient: the factor by which a gradient's second moment grows from a layer to the one before it.
      scale: the factor by which a small relative error of an output's second moment grows from a layer to the next:
        below 1 the second moment returns to the target by itself, above 1 it leaves it.
      limit: the correlation that two different inputs end with: 1 where they merge.
      distance: for each target, the map of 1 minus the correlation of two inputs through one layer, at `DISTANCES`.
    """

    name: str
    targets: Floats
    gain: Floats
    gradient: Floats
    scale: Floats
    limit: Floats
    distance: Floats

    def correlation(self, layers: int, start: float = 0.0) -> Floats:
        """The correlation of two inputs after some layers, at each target.

        Args:
          layers: how many; 0 or more.
          start: the inputs' own correlation, from -1 to 1.

        Returns:
          An array of the shape of `targets`.

        Raises:
          TypeError: if `layers` is no integer.
          ValueError: if `layers` is negative or `start` no correlation.

        Example:
          >>> import jax, qrjax
          >>> relu = qrjax.stability(jax.nn.relu, targets=[1.0])
          >>> [round(float(relu.correlation(layers)[0]), 2) for layers in (0, 1, 10, 100)]
          [0.0, 0.32, 0.9, 1.0]
        """
        if isinstance(layers, bool) or not isinstance(layers, (int, np.integer)):
            raise TypeError(f"`layers` must be an integer, got {received(layers)}")
        if layers < 0:
            raise ValueError(f"`layers` must be 0 or more, got {layers!r}")
        if not -1.0 <= start <= 1.0:
            raise ValueError(f"`start` is a correlation, from -1 to 1, got {start!r}")
        return 1.0 - _mapped(self.distance, np.full(self.targets.shape, 1.0 - start), layers)

    def __repr__(self) -> str:
        lines = ["target   gain  gradient  scale  limit"]
        columns = zip(self.targets, self.gain, self.gradient, self.scale, self.limit, strict=True)
        lines += [f"2^{np.log2(t):<+5.3g}{g:7.3f}{x:10.4f}{s:z7.3f}{c:z7.3f}" for t, g, x, s, c in columns]
        return f"Stability of {self.name}: a layer's factors\n" + "\n".join(lines)


def stability(activation: Callable[[Any], Any], *, targets: Iterable[float] = TARGETS) -> Stability:
    """Whether a signal, its gradient and the difference between two inputs survive many layers of an activation.

    For plain layers, weights behind the activation at `qrjax.gain`, without biases, in the limit of wide layers. A
    gradient's second moment is multiplied by `gradient` in each layer: 1.1778 for tanh at a second moment of 1, which
    is 24 octaves in 100 layers, and 1.0003 at 2^-6. Where `scale` is above 1, as for gelu and swish, a layer's second
    moment runs away from its target. And two inputs whose correlation tends to 1 become one.

    Args:
      activation: as in `qrjax.gain`.
      targets: second moments of the layers' outputs; positive.

    Returns:
      A `qrjax.Stability`, which prints itself as a table; `qrjax.plot.stability` draws it.

    Raises:
      TypeError, ValueError: as `qrjax.gain`.

    Example:
      >>> import jax, qrjax
      >>> found = qrjax.stability(jax.numpy.tanh, targets=[1.0, 2.0**-6])
      >>> [round(100 * float(x), 1) for x in jax.numpy.log2(found.gradient)]
      [23.6, 0.0]

    Reference:
      Poole et al., Exponential expressivity in deep neural networks through transient chaos, NeurIPS 2016, arXiv
      1606.05340, equations 3 to 5; Schoenholz et al., Deep information propagation, ICLR 2017, arXiv 1611.01232.
    """
    function = Activation(activation)
    sizes = np.array([positive("targets", target) for target in targets])
    if not sizes.size:
        raise ValueError("`targets` must hold one second moment or more, got none")
    found = np.stack([function.expectations(q, _moments) for q in sizes], 1)
    moment, slopes, answer = found
    if not (moment > 0).all() or not np.isfinite(found).all():
        at = sizes[~((moment > 0) & np.isfinite(found).all(0))][0]
        raise ValueError(
            f"`activation` {function.name} has a second moment of zero or infinity for inputs of second moment {at:g}; "
            "leave that out of `targets`"
        )
    gradient = sizes * slopes / moment
    distance = np.stack([_distances(function, q, m, x) for q, m, x in zip(sizes, moment, gradient, strict=True)])
    limit = 1.0 - _mapped(distance, np.ones(sizes.shape), FOREVER)
    gains = np.sqrt(sizes / moment)
    return Stability(function.name, sizes, gains, gradient, answer / moment, limit, distance)


def _moments(value: Floats, slope: Floats, x: Floats) -> Floats:
    # By integration by parts, E[f f' x] = q E[f'^2 + f f''], so that no second derivative is needed.
    return np.stack([value**2, slope**2, value * slope * x])


def _distances(function: Activation, target: float, moment: float, slope: float) -> Floats:
    """1 minus the correlation of two inputs behind a layer, by that before it.

    From their difference itself, as 1 minus a correlation near 1 would have lost its digits.
    """
    shared, own = (np.exp(-(nodes**2) / 2) for nodes in (SHARED, OWN))
    found = []
    for distance in FARTHER:
        middle, half = np.sqrt(1 - distance / 2) * SHARED[:, None], np.sqrt(distance / 2) * OWN
        first, second = (function(np.sqrt(target) * (middle + sign * half))[0] for sign in (1, -1))
        found.append(shared @ (first - second) ** 2 @ own / (2 * moment * shared.sum() * own.sum()))
    far = np.array(found)
    return np.concatenate([_closer(far, slope), far])


def _closer(far: Floats, slope: float) -> Floats:
    """The map for inputs so near that kinks between the two are rare: the slope less a power of the distance.

    Of a function with steps the map itself is a power there.
    """
    ratios = far[:4:3] / FARTHER[:4:3]
    near, gaps = np.log(CLOSER / FARTHER[0]), slope - ratios
    step = np.log(FARTHER[3] / FARTHER[0])
    if slope <= 0 or not 0.5 < ratios[0] / slope < 1.5:
        power = np.log(ratios[1] / ratios[0]) / step
        return np.asarray(CLOSER * ratios[0] * np.exp(power * near))
    even = gaps[0] * gaps[1] <= 0 or abs(gaps[0]) < 1e-9
    power = 1.0 if even else np.clip(np.log(gaps[1] / gaps[0]) / step, 0.25, 2.0)
    return np.asarray(CLOSER * (slope - gaps[0] * np.exp(power * near)))


def _mapped(table: Floats, distance: Floats, layers: int) -> Floats:
    """What distances have become after some layers; between the table's nodes they are powers."""
    nodes, values = np.log(DISTANCES), np.log(np.maximum(table, 1e-300))
    log = np.log(np.maximum(distance, 1e-300))
    for _ in range(layers):
        before = log
        log = np.array([_read(x, nodes, row) for x, row in zip(log, values, strict=True)])
        if np.abs(log - before).max() < 1e-13:
            break
    return np.exp(log)


def _read(x: float, nodes: Floats, row: Floats) -> float:
    # Below the table, two inputs come together or apart at the rate of its first node.
    return float(x + row[0] - nodes[0] if x < nodes[0] else np.interp(x, nodes, row))
