"""How many independent numbers set rows of features apart: tokens of a sequence, places of an image.

With the covariance C of the features over rows, the participation ratio r = tr(C)^2 / tr(C^2). Two rows that have
nothing in common have a scalar product of mean square 1/r relative to their own lengths, and so have all contractions
of them: a weight's outputs hold no more numbers than its inputs did, however many they are.
"""

from __future__ import annotations

import math

import numpy as np

from qrjax._signals._quadrature import ORDERS, Floats, covariance
from qrjax._signals._signal import Signal, Source
from qrjax._signals._source import Rows
from qrjax._signals._tables import Shape

ORDER = np.arange(1.0, ORDERS + 1)
# Relations are followed so far back.
BACK = 12


def effective_rank(x: Signal, features: float) -> float:
    """The participation ratio of an array's rows, of so many features each.

    What a function makes of the rows' deviations keeps their scalar products as far as it is linear in them, about what
    the rows have in common; for the rest the features count as independent numbers.
    """
    own = 1 / max(1.0, features)
    if x.source is None:
        return 1 / own
    common = min(0.999, _in_common(x.rho, x.shape))
    slope = float(x.squares * ORDER @ common ** (ORDER - 1))
    apart = x.variance - float(covariance(x.squares, np.array([common]))[0])
    linear = min(1.0, slope * (1 - common) / apart) if apart > 0 else 1.0
    return 1 / (linear**2 * _inverse(x.source, own, BACK)[0] + (1 - linear**2) * own)


def behind_weight(rank: float, outputs: float) -> float:
    """That of a weight's outputs: with so many of them scalar products are known to one part in their number."""
    return 1 / (1 / rank + 1 / max(1.0, outputs))


def rows_of(made: Signal, rank: float, outputs: float) -> Rows:
    """What sets the rows of a weight's outputs apart, for rows of inputs of this rank."""
    return Rows(behind_weight(rank, outputs), 1 - _in_common(made.rho, made.shape))


def _in_common(rho: Floats, shape: Shape) -> float:
    """The correlation of what is most alike along an axis: tokens of one text, places of one image."""
    ones = (tuple(int(a == axis) for a in range(len(shape))) for axis, n in enumerate(shape) if n > 1)
    return max((float(rho[one]) for one in ones), default=0.0)


def _inverse(source: Source, own: float, back: int) -> tuple[float, float]:
    """1 / r of an array of normal scores, by what it is the sum of, and how much of it sets rows apart.

    Products of the same two rows go the same way in all summands, but for what each weight's few outputs added to them.
    """
    if source.rows is not None:
        return 1 / source.rows.rank, source.rows.apart
    if source.laid is not None and back:
        # Arrays beside each other, as a token of a class before all others.
        beside = zip(source.laid.shares, source.laid.parts, strict=True)
        sides = [(share, *_inverse(of, own, back - 1)) for share, (_, of) in beside if of is not None]
        total = sum(share for share, _, _ in sides)
        if total > 0:
            inverse, apart = (sum(side[0] * side[i] for side in sides) / total for i in (1, 2))
            return inverse, apart
    kin = source.parents() if back else {}
    parts = [(older, r * r, *_inverse(older, own, back - 1)) for older, r in kin.items()]
    rest = max(0.0, 1 - sum(share for _, share, _, _ in parts))
    whole = rest + sum(share * apart for _, share, _, apart in parts)
    if whole < 1e-12:  # all rows are one
        return own, 0.0
    roots, few = rest * math.sqrt(own), 0.0
    for older, share, inverse, apart in parts:
        alike = inverse if older.born is None else min(inverse, 1 / older.born.rank)
        roots += share * apart * math.sqrt(alike)
        few += (share * apart) ** 2 * (inverse - alike)
    return (roots**2 + few) / whole**2, min(1.0, whole)
