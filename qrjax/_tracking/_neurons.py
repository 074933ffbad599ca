"""What belongs together in a weight array: the weights of one neuron, or of one attention head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from qrjax._initializers._arguments import axes, normalized
from qrjax._layouts._coordinates import Shape
from qrjax._records._derived import Offset, Rescaled, Transposed
from qrjax._records._origins import Drawn, Origin
from qrjax._records._regions import groups
from qrjax._terminal._names import meant
from qrjax._terminal._patterns import first_match
from qrjax._tracking._criteria import Weights

InAxis = int | Sequence[int] | Mapping[str, int | Sequence[int]] | None
Whole = Literal["filter", "head"] | int | Sequence[int] | None
# As Flax's attention names its projections; from behind, the axis of each one's kernel that heads lie along.
HEADS = {"query": -2, "key": -2, "value": -2, "out": -3}


class Member(NamedTuple):
    """One variable of a group; `units`: the axes along which its units lie, None where each weight is one."""

    weights: Weights
    units: tuple[int, ...] | None


Group = tuple[Member, ...]


def grouped(found: Sequence[Weights], whole: Whole, in_axis: InAxis) -> list[Group]:
    """What is ranked by itself: a variable's weights, its filters or slices; or the heads of one attention.

    Raises:
      ValueError, TypeError: if `whole` or `in_axis` do not fit.
    """
    if whole is None:
        return [(Member(w, None),) for w in found]
    if whole == "head":
        return _heads(found)
    if whole == "filter":
        return [(Member(w, _others(w.leaf.shape, summed(w, in_axis))),) for w in found]
    if isinstance(whole, str):
        raise ValueError(f"`whole` must be 'filter', 'head' or axes, got {whole!r}{meant(whole, ('filter', 'head'))}")
    given = axes("whole", whole)
    return [(Member(w, tuple(sorted(normalized("whole", given, len(w.leaf.shape))))),) for w in found]


def summed(weights: Weights, in_axis: InAxis = None) -> tuple[int, ...]:
    """The axes that one neuron sums over: as given, as the initializer knew them, or by the name."""
    shape, path = weights.leaf.shape, weights.leaf.path
    if isinstance(in_axis, Mapping):
        in_axis = first_match(in_axis, path, None)
    if in_axis is not None:
        return tuple(sorted(normalized("in_axis", axes("in_axis", in_axis), len(shape))))
    known = None if weights.pair is None else _inputs(weights.pair.origin)
    return _by_name(path, shape) if known is None else known


def _others(shape: Shape, given: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(a for a in range(len(shape)) if a not in given)


def _inputs(origin: Origin) -> tuple[int, ...] | None:
    """What a builder of ours was told; None where values come from elsewhere."""
    if isinstance(origin, (Rescaled, Offset)):
        return _inputs(origin.whole)
    if isinstance(origin, Transposed):
        known = _inputs(origin.whole)
        return None if known is None else tuple(sorted(origin.order[a] for a in known))
    if not isinstance(origin, Drawn):
        return None
    depth, inputs = len(origin.layers), set(origin.drawn.scaling.inputs)
    found: list[int] = []
    for drawn, mine in groups(origin.drawn.shape, origin.shape[depth:]):
        if not inputs.isdisjoint(drawn) and not inputs.issuperset(drawn):
            return None
        found += [depth + a for a in mine if inputs.issuperset(drawn)]
    return tuple(sorted(found)) or None


def _by_name(path: str, shape: Shape) -> tuple[int, ...]:
    """As Flax lays kernels out: the last axis is the output's, but for attention's projections and embeddings."""
    steps, n = path.split("/"), len(shape)
    parent = steps[-2] if len(steps) > 1 else ""
    if steps[-1] == "embedding":
        return (n - 1,)
    if n > 2 and parent in HEADS:
        return (n - 3, n - 2) if parent == "out" else (n - 3,)
    return tuple(range(max(1, n - 1))) if n else ()


def _heads(found: Sequence[Weights]) -> list[Group]:
    """The projections of each attention together, so that a head goes whole or stays."""
    attentions: dict[str, list[Member]] = {}
    for weights in found:
        *above, parent, _ = ["", *weights.leaf.path.split("/")]
        n = len(weights.leaf.shape)
        if parent in HEADS and n > 2:
            layers = range(n - 3)
            member = Member(weights, (*layers, n + HEADS[parent]))
            attentions.setdefault("/".join(above), []).append(member)
    if not attentions:
        raise ValueError(
            "no variable is a projection of an attention with heads, as .../query/kernel of shape (inputs, heads, "
            "features), for `whole` 'head'; give the axis that heads lie along, with `select`, as in whole=1; paths: "
            + ", ".join(w.leaf.path for w in found)
        )
    for members in attentions.values():
        _check_alike(members)
    return [tuple(members) for members in attentions.values()]


def units_of(member: Member) -> Shape:
    """How many units lie along each of their axes."""
    shape = member.weights.leaf.shape
    return shape if member.units is None else tuple(shape[a] for a in member.units)


def _check_alike(members: Sequence[Member]) -> None:
    first, *rest = members
    for other in rest:
        if units_of(other) != units_of(first):
            a, b = (f"{units_of(m)} at {m.weights.leaf.path!r}" for m in (first, other))
            raise ValueError(f"`whole` 'head' needs as many heads in every projection, got {a} and {b}")
