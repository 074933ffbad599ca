"""A truth value that chooses between two cases."""

from __future__ import annotations

from typing import Any

import numpy as np

from qrjax._signals import _tables
from qrjax._signals._joint import same, ties
from qrjax._signals._quadrature import NODES, WEIGHTS, Floats, correlation, cross_covariance, hermite_squares, quantiles
from qrjax._signals._signal import Signal, related, relation
from qrjax._signals._tables import Shape


def is_independent_gate(operands: list[Signal]) -> bool:
    """Whether a truth value, independent of both cases, chooses between functions of at most one source."""
    gate, *cases = operands
    others = {case.source for case in cases if case.source is not None}
    return (
        len(cases) == 2
        and gate.source is not None
        and len(others) == 1
        and all(abs(relation(gate.source, other)) < 1e-2 for other in others)
        and bool(((gate.values >= 0) & (gate.values <= 1)).all())
    )


def gated(operands: list[Signal], shape: Shape, dtype: Any) -> Signal:
    """A mixture of the cases, in the gate's exact shares; a step on the grid would round them."""
    gate, off, on = operands
    share = gate.mean
    grid = np.stack([off.values, on.values])
    weights = np.array([[1 - share], [share]]) * WEIGHTS[None, :]
    values = quantiles(grid, weights)
    if np.ptp(values) == 0:
        return Signal.constant(values[0], shape, dtype)
    both = np.clip(gate.moments, 0.0, share)
    means = (1 - share) * off.mean + share * on.mean
    cross = _cross_moments(off, on)
    table = both * on.moments + (1 - 2 * share + both) * off.moments + 2 * (share - both) * cross - means**2
    rho = correlation(hermite_squares(values), table)
    rho[same([o.rho for o in operands if o.source is not None])] = 1.0
    source = next(o.source for o in (off, on) if o.source is not None)
    kin = ties(grid, weights, [(source, np.broadcast_to(NODES, grid.shape))])
    return Signal(shape, np.dtype(dtype), values, related(kin), _tables.settled(rho, shape))


def _cross_moments(a: Signal, b: Signal) -> Floats:
    """E[a b'] of two functions of one source, or of a constant and one."""
    if a.is_constant or b.is_constant:
        return np.full_like(a.rho, a.mean * b.mean)
    return cross_covariance(a.values, b.values, np.minimum(a.rho, b.rho)) + a.mean * b.mean
