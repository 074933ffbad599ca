"""What a step of each kind of optimizer makes of a weight, and the multiplier that makes it a step of one size."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from qrjax._rates._names import OPTIMIZERS, Optimizer
from qrjax._rates._uses import FUNCTION, LOOKUP, PRODUCT, SCALE, SHIFT, Use
from qrjax._terminal._names import choice, listed
from qrjax._terminal._patterns import check_patterns, first_match
from qrjax._terminal._received import received

# How much of a weight's relative change the others get. What moves the outputs of all examples alike overshoots first:
# scales, biases and positions get less. Found by training, with the figures in `notebooks/rates.md`.
SHARE = {PRODUCT: 1.0, FUNCTION: 1.0, LOOKUP: 1.0, SCALE: 1 / 4, SHIFT: 1 / 16}


def multiplier(use: Use, optimizer: Optimizer, shape: tuple[int, ...]) -> float | None:
    """The step of an element, per unit of the optimizer's, that changes the output by its own size at most.

    None where the optimizer never moves it, as no derivative reaches it.

    Args:
      use: how the parameter takes part.
      optimizer: the kind.
      shape: of the parameter, or of one layer of it, as the optimizer sees it.
    """
    wanted, arriving = math.sqrt(use.wanted), math.sqrt(use.input)
    if use.kind == FUNCTION:
        # An elementwise step is to the parameter what it is to the function of it.
        made = math.sqrt(use.output) if use.own and use.output > 0 else 1.0
        share_of_outputs = wanted / made if use.head else 1.0
        wanted, arriving = (use.own or 1 / math.sqrt(use.fan)) * math.sqrt(use.fan) * share_of_outputs, 1.0
    if not arriving > 0:
        return None
    # The changes of branches add up, n times a share of 1 / sqrt(n) each.
    share = SHARE[use.kind] / math.sqrt(use.branches)
    if optimizer == "muon" and orthogonalized(shape):
        return share * wanted / _spectral(use, arriving, shape)
    change = use.fan * arriving
    if optimizer == "sgd":
        if not use.gradient:
            return None
        change *= math.sqrt(use.gradient)
    return share * wanted / change


def orthogonalized(shape: tuple[int, ...]) -> bool:
    """Whether optax's Muon takes such a parameter, by default all matrices, rather than leave it to Adam."""
    return len(shape) == 2


def _spectral(use: Use, arriving: float, shape: tuple[int, ...]) -> float:
    """What a matrix of orthonormal columns or rows, scaled as optax does, changes an output by at most."""
    scale = math.sqrt(max(1.0, shape[1] / shape[0]))
    # Of a table and of what stands beside a signal, a row at a time is met.
    inputs, outputs = (use.fan, math.prod(shape) / use.fan) if use.kind in (PRODUCT, FUNCTION) else (1.0, shape[1])
    return scale * math.sqrt(inputs / outputs) * arriving


def check_optimizer(optimizer: Any) -> Any:
    """One of the names, or a mapping from patterns of paths to them.

    Raises:
      ValueError, TypeError: if it is neither.
    """
    if not isinstance(optimizer, Mapping):
        return choice("optimizer", optimizer, OPTIMIZERS)
    if not optimizer or not all(isinstance(pattern, str) for pattern in optimizer):
        raise TypeError(
            "`optimizer` as a mapping must be from patterns of paths to names, as in {'*/embedding': 'adam', '*': "
            f"'muon'}}, got {received(optimizer)}"
        )
    return {pattern: choice(f"optimizer[{pattern!r}]", name, OPTIMIZERS) for pattern, name in optimizer.items()}


def optimizers_of(optimizer: Any, paths: Sequence[str]) -> Callable[[str], Optimizer]:
    """The kind of optimizer of each parameter.

    Raises:
      ValueError: if a pattern matches no parameter, or a parameter no pattern.
    """
    if isinstance(optimizer, str):
        return lambda _: optimizer  # type: ignore[return-value]
    check_patterns("optimizer", optimizer, paths)
    found = {path: first_match(optimizer, path, None) for path in paths}
    lacking = [path for path, name in found.items() if name is None]
    if lacking:
        raise ValueError(f"`optimizer` has no pattern for {listed(lacking)}; end it with one for the rest, '*': 'adam'")
    return found.__getitem__
