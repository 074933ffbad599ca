"""Derivatives about special pairs: of rows that hold one place, as edges that end at one node, or nodes of one graph.

A node's derivative is the sum of those of its edges. Two edges of one node have much more in common than two of all:
what an aggregate hands to both is the same number. So beside each derivative goes one that has the tables of such pairs
alone, for each array of places that the walk has met, through the same adjoints with the forward signals in that case.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qrjax._adjoint._cotangent import Cotangent
from qrjax._adjoint._registry import ADJOINTS
from qrjax._adjoint._selections import by_takings
from qrjax._interpreter._laws import in_case
from qrjax._interpreter._tape import Move
from qrjax._rules._operands import Known
from qrjax._rules._places import UNKNOWN, agreement, induced, kind_of, kinds, pairs_of, places_of
from qrjax._signals._complexes import ComplexSignal
from qrjax._signals._quadrature import Floats
from qrjax._signals._signal import Signal

# By kind of pairs the derivative about them.
Cases = Mapping[Any, Cotangent]
ADDED = frozenset({"scatter-add", "scatter_add", "scatter-sub"})


def in_cases(
    move: Move, given: Sequence[Cotangent], wanted: Sequence[bool], found: Sequence[Cotangent | None],
    cases: Sequence[Cases],
) -> dict[Any, list[Cotangent | None]]:  # fmt: skip
    """By kind of pairs the operands' derivatives about these, beside those that were `found`."""
    name, law, rest = move.equation.name, given[0].law(), [None] * (len(wanted) - 1)
    if name in ADDED:
        handed = handed_out(move, law, cases[0]) if wanted[2] and found[2] and law is not None else {}
        return {kind: [None, None, case] for kind, case in handed.items()}
    if name == "gather":
        return {kind: [case, *rest] for kind, case in added_up(move, found[0], cases[0]).items()}
    if name not in ADJOINTS or any(isinstance(v, ComplexSignal) for v in (*move.met, *move.results)):
        return {}
    own, result = None if move.weight is None else move.weight[0], {}
    for kind in {kind: None for by_kind in cases for kind in by_kind}:
        about = [by_kind.get(kind, g) for by_kind, g in zip(cases, given, strict=True)]
        pulled = ADJOINTS[name](_move_in_case(move, kind), about, [w and i != own for i, w in enumerate(wanted)])
        if pulled is not None:
            result[kind] = pulled
    return result


def cases_of_sum(before: Cases, known: Cotangent | None, more: Cases, derivative: Cotangent) -> Cases:
    """By kind of pairs the sum of what was known of a derivative and of what is added to it."""
    if known is None:
        return more
    return {kind: before.get(kind, known).plus(more.get(kind, derivative)) for kind in {**before, **more}}


def at_one_place(move: Move, cases: Cases) -> Cotangent | None:
    """The derivative by what a gather took, about pairs that were taken from one place."""
    rows = _targets(move) if cases else None
    return None if rows is None else cases.get(kind_of(move.equation.context, rows))


def _move_in_case(move: Move, kind: Any) -> Move:
    """The move with its operands' tables about pairs of this kind, which weights do not have."""
    own, context = None if move.weight is None else move.weight[0], move.equation.context
    met = [v if i == own else in_case(context, v, kind) for i, v in enumerate(move.met)]
    return dataclasses.replace(move, met=met, results=[in_case(context, r, kind) for r in move.results])


def _targets(move: Move) -> NDArray[np.int64] | None:
    """Which row of the whole each row of a gather's result, or of a scatter's updates, belongs to, if known.

    None where these are no rows, such as columns.
    """
    indices, numbers = move.met[1], move.equation.params["dimension_numbers"]
    if not isinstance(indices, Known) or len(indices.shape) != 2 or indices.shape[1] != 1:
        return None
    if move.equation.name == "gather":
        named, gone, window = numbers.start_index_map, numbers.collapsed_slice_dims, numbers.offset_dims
    else:
        named, gone, window = (
            numbers.scatter_dims_to_operand_dims, numbers.inserted_window_dims, numbers.update_window_dims,
        )  # fmt: skip
    if tuple(named) != (0,) or tuple(gone) != (0,) or 0 in window:
        return None
    return indices.array.astype(np.int64).ravel()


def handed_out(move: Move, law: Signal, cases: Cases) -> dict[Any, Cotangent]:
    """Of rows that get what an aggregate of theirs got: by kind of their pairs, those of one aggregate get the same."""
    own, shape, context = _targets(move), tuple(move.met[2].shape), move.equation.context
    if own is None or len(shape) != law.ndim or (own.size and (own.min() < 0 or own.max() >= law.shape[0])):
        return {}
    # Two aggregates are of one group, as two nodes of one graph, or of all. Behind a reshape groups are of other rows.
    known = {kind: places_of(context, kind) for kind in cases}
    groups = {kind: places[own] for kind, places in known.items() if places is not None and len(places) == law.shape[0]}
    for places in groups.values():
        kind_of(context, places)
    same, any_two = (np.asarray(law.moments.take(i, 0)) for i in (0, 1))
    found = {}
    factor, profiles = by_takings(law, own)
    for kind, places in kinds(context, shape[0]):
        share, other = agreement(places, own), any_two
        for group, members in groups.items():
            other = _of_pairs(law, cases[group], agreement(places, members) - share, 1 - share, context, group)
        table = np.stack([same, share * same + (1 - share) * other])
        found[kind] = Cotangent.of_table(shape, factor * table, profiles)
    return found


def _of_pairs(law: Signal, case: Cotangent, inside: float, outside: float, context: Any, group: Any) -> Floats:
    """The moments of two rows of which a share lies in one group, the rest as in all."""
    places, n = places_of(context, group), law.shape[0]
    assert places is not None
    near, whole = case.table.take(1, 0), law.moments.take(1, 0)
    share = pairs_of(places) / max(1.0, n * (n - 1.0))
    far = (whole - share * near) / max(1e-12, 1 - share) if share < 1 else near
    among = min(1.0, inside / outside) if outside > 0 else 0.0
    return np.asarray(among * near + (1 - among) * far)


def added_up(move: Move, found: Cotangent | None, cases: Cases) -> dict[Any, Cotangent]:
    """Of rows that were taken several times: by kind of their pairs, what those of one group get of all takings."""
    own, shape, made = _targets(move), tuple(move.met[0].shape), {}
    if own is None or not found:
        return {}
    for kind, case in cases.items():
        places = places_of(move.equation.context, kind)
        groups = None if places is None or places.size != own.size else induced(own, shape[0], places)
        if groups is None or places is None or case.shape[1:] != shape[1:]:
            continue
        name, members = _group(move.equation.context, groups)
        pairs, taken = pairs_of(members), pairs_of(places) - pairs_of(own)
        if pairs and taken:
            same, other = found.table.take(0, 0), case.table.take(1, 0) * taken / pairs
            made[name] = Cotangent.of_table(shape, np.stack([same, other]))
    return made


def _group(context: Any, groups: NDArray[np.int64]) -> tuple[Any, NDArray[np.int64]]:
    """The kind of these groups: one that the walk has met, if it is one of these where they are known."""
    for kind, members in kinds(context, groups.size):
        if bool(((members == groups) | (groups == UNKNOWN)).all()):
            return kind, members
    return kind_of(context, groups), groups
