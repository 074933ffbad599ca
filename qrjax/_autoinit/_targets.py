"""The second moments that weights' outputs are to have, as people say them."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, Literal

import jax

from qrjax._activations._target import positive
from qrjax._autoinit._calls import BY_NAME
from qrjax._interpreter._gains import Named, Target
from qrjax._interpreter._model import Model
from qrjax._terminal._names import meant
from qrjax._terminal._patterns import check_patterns, first_match
from qrjax._terminal._received import received

STABLE = "stable"
OF = "weights' outputs"
Aimed = float | Mapping[str, float] | Callable[[str], float] | Literal["stable"]


@dataclasses.dataclass(frozen=True, eq=False)
class Aim:
    """The second moments of weights' outputs.

    Attributes:
      target: the number, or a function of a weight's path.
      given: what a report calls it: what a user gave, or what was chosen.
      chosen: a sentence on how it was chosen; None where a user gave it.
      advises: whether a finding may advise orthogonal weights.
      said: findings on weights that have a second moment of their own: heads, the last ones of branches.
    """

    target: Target
    given: Any
    chosen: str | None = None
    advises: bool = False
    said: tuple[str, ...] = ()


def check_target(target: Any) -> Any:
    """A positive finite number, a mapping from patterns to such, a function, or "stable".

    Raises:
      TypeError, ValueError: if it is none of these.
    """
    if isinstance(target, jax.core.Tracer):
        raise TypeError(
            "`target` must be a number, the second moment of weights' outputs, got a traced value; the walk needs its "
            "size: pass a number, or multiply the result"
        )
    if isinstance(target, str):
        if target != STABLE:
            raise ValueError(
                f"`target` must be a number, {STABLE!r}, a mapping from patterns of paths to numbers or a function of "
                f"a path, got {target!r}{meant(target, [STABLE])}"
            )
        return target
    if isinstance(target, Mapping):
        if not target or not all(isinstance(pattern, str) for pattern in target):
            raise TypeError(
                "`target` as a mapping must be from patterns of paths to numbers, as in {'*/kernel': 0.25}, got "
                f"{received(target)}"
            )
        return {pattern: positive(f"target[{pattern!r}]", value, OF) for pattern, value in target.items()}
    return target if callable(target) else positive("target", target, OF, f"; {BY_NAME.format('target')}")


def aim_at(target: Any, model: Model) -> Aim:
    """What a checked target other than "stable" is for a model.

    Raises:
      ValueError: if a pattern matches no parameter.
    """
    if isinstance(target, Mapping):
        check_patterns("target", target, [leaf.path for leaf in model.leaves if leaf.trained])
        # A pattern for all says no more than a number does.
        values = {pattern: value if set(pattern) <= {"*"} else Named(value) for pattern, value in target.items()}
        return Aim(functools.partial(first_match, values, default=1.0), target)
    return Aim(functools.partial(_called, target), target) if callable(target) else Aim(target, target)


def _called(target: Callable[[str], Any], path: str) -> float:
    return Named(positive(f"target({path!r})", target(path), OF))
