"""Parameters that met a signal and were left as the module draws them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from qrjax._interpreter._finding import INFO, WARNING, Finding

if TYPE_CHECKING:
    from qrjax._interpreter._walk import Walk

# What is added to a signal, or stands beside it, has no scale that the signal's would depend on.
BESIDE = frozenset({"add", "sub", "add_any", "concatenate", "stack", "select_n", "dynamic_update_slice", "scatter"})
SHOWN = 8


class UntouchedWarning(UserWarning):
    """Weights that `qrjax.autoinit` could not size, and left as the module draws them."""


def untouched(walk: Walk) -> dict[str, str]:
    """For the parameters that were left although they met a signal: how."""
    decided = {path for path, _ in walk.gains.variances}
    found = {path: f"meets a signal by {name}" for (path, _), (name, _) in walk.met.items()}
    found |= {path: reason for (path, _), reason in walk.left.items()}
    chosen = walk.gains.selected or (lambda _: False)
    return {path: how for path, how in found.items() if path not in decided and chosen(path)}


def unsized(walk: Walk) -> dict[str, str]:
    """Those of them that are weights: no vectors, such as decays, and nothing whose scale is the author's to decide."""
    met = {path: found for (path, _), found in walk.met.items()}
    return {path: how for path, how in untouched(walk).items() if path not in met or _is_weight(*met[path])}


def _is_weight(name: str, shape: tuple[int, ...]) -> bool:
    return name not in BESIDE and sum(n > 1 for n in shape) > 1


def sentences(found: Mapping[str, str]) -> Iterable[str]:
    """What to say of them, by how they met."""
    return (_sentence(how, paths) for how, paths in _ways(found).items())


def remarks(walk: Walk) -> Iterator[Finding]:
    """The findings on them; of weights they are warnings."""
    serious = unsized(walk)
    for how, paths in _ways(untouched(walk)).items():
        yield Finding(_sentence(how, paths), INFO if serious.keys().isdisjoint(paths) else WARNING)


def _ways(found: Mapping[str, str]) -> dict[str, list[str]]:
    ways: dict[str, list[str]] = {}
    for path, how in found.items():
        ways.setdefault(how, []).append(path)
    return ways


def _sentence(how: str, paths: list[str]) -> str:
    names = ", ".join(paths[:SHOWN]) + (f" and {len(paths) - SHOWN} more" if len(paths) > SHOWN else "")
    return f"left as the module draws {'it' if len(paths) == 1 else 'them'}: {names} ({how})"
