"""The second moments that weights' outputs are to have, as people say them."""

from __future__ import annotations

import dataclasses
import fnmatch
import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

import jax

from qrjax._activations._target import positive
from qrjax._autoinit._calls import BY_NAME
from qrjax._interpreter._gains import Target
from qrjax._interpreter._model import Model
from qrjax._terminal._names import listed, meant
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
      heads: findings on the weights that make the model's outputs, where they have a second moment of their own.
    """

    target: Target
    given: Any
    chosen: str | None = None
    advises: bool = False
    heads: tuple[str, ...] = ()


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
        check_patterns(target, [leaf.path for leaf in model.leaves if leaf.trained], "parameter")
        return Aim(functools.partial(_first_match, target), target)
    return Aim(functools.partial(_called, target), target) if callable(target) else Aim(target, target)


def check_patterns(target: Any, paths: Iterable[str], what: str) -> None:
    """Nothing, unless it is a mapping of which a pattern matches none of the paths.

    Raises:
      ValueError: if one matches none.
    """
    paths = list(dict.fromkeys(paths))
    for pattern in target if isinstance(target, Mapping) else ():
        if not fnmatch.filter(paths, pattern):
            raise ValueError(
                f"`target` has the pattern {pattern!r}, which matches no {what}; {what}s: {listed(paths)}; a pattern "
                f"may use *, as in '*/kernel'{meant(pattern, paths)}"
            )


def _first_match(target: Mapping[str, float], path: str) -> float:
    return next((value for pattern, value in target.items() if fnmatch.fnmatchcase(path, pattern)), 1.0)


def _called(target: Callable[[str], Any], path: str) -> float:
    return positive(f"target({path!r})", target(path), OF)
