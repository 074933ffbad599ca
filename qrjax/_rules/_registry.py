"""Rules by primitive, and what a rule is given."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from qrjax._initializers._compilation import COMPILED_ONCE
from qrjax._signals import _complexes, _tables
from qrjax._signals._masks import (
    HIGH,
    KEPT,
    LEVEL,
    compacted,
    gate,
    joint,
    known,
    presence,
    presented,
    resolved,
    unveiled,
    valid,
)
from qrjax._signals._recipe import FIXED, NOISE, STATE, Recipe
from qrjax._signals._signal import Mask, Signal

# Arrays up to this size are computed, not described: masks, positions, rotations.
KNOWN_SIZE = 1 << 18


@dataclasses.dataclass(frozen=True, eq=False)
class Known:
    """An array whose elements are known.

    Attributes:
      array: the elements.
      data: whether the model's input went into it.
      random: whether it was drawn, as a sample of what has no rule.
      state: whether it is a variable that is no parameter, or made of one.
    """

    array: NDArray[Any]
    data: bool = False
    random: bool = False
    state: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.array.shape)

    @functools.cached_property
    def signal(self) -> Signal:
        array = np.ascontiguousarray(self.array)
        return _described(array.tobytes(), array.dtype, self.shape, self.data)


@functools.lru_cache(maxsize=64)
def _described(data: bytes, dtype: np.dtype[Any], shape: tuple[int, ...], is_input: bool) -> Signal:
    """The law of an array: masks and tables of positions come back in every layer."""
    array = np.frombuffer(data, dtype).reshape(shape)
    made = _complexes.known(array) if array.dtype.kind == "c" else known(array)
    return dataclasses.replace(made, recipe=None if is_input else FIXED)


@dataclasses.dataclass(frozen=True)
class Opaque:
    """Random keys and what is made of them before it becomes numbers."""

    shape: tuple[int, ...]


Value: TypeAlias = Signal | Known | Opaque


def recipe_of(value: Value) -> Recipe | None:
    """How a value came about that the model's input has no part in, None for one that it has."""
    if isinstance(value, Known):
        return None if value.data else NOISE if value.random else STATE if value.state else FIXED
    return NOISE if isinstance(value, Opaque) else value.recipe


def derived(
    operands: Sequence[Value], make: Callable[..., Sequence[Any]], number: int = 0, **more: Any
) -> Recipe | None:
    """The recipe of make(*operands)[number]; None if an operand has none."""
    recipes = [recipe_of(operand) for operand in operands]
    if any(recipe is None for recipe in recipes):
        return None
    known = [recipe for recipe in recipes if recipe is not None]
    leaves = {key: law for recipe in known for key, law in recipe.leaves.items()}
    told = {name: any(getattr(r, name) for r in known) for name in ("data", "noise", "state", "summed", "acts")}
    if not leaves:
        return NOISE if told["noise"] else STATE if told["state"] else FIXED
    told |= {name: told[name] or value for name, value in more.items() if name in told}
    return Recipe(leaves, operands, make, number, more.get("note"), **told)


def is_data(value: Value) -> bool:
    """Whether the model's input has a part in it."""
    recipe = recipe_of(value)
    return recipe is None or recipe.data


def tagged(value: Signal) -> Signal:
    """A parameter, or a layer of one, of which all that is made of it knows."""
    assert value.weight is not None
    return dataclasses.replace(value, recipe=Recipe({value.weight.key: value}))


def as_data(value: Value) -> Value:
    """The value as one that the model's input has a part in."""
    if isinstance(value, Known):
        return value if value.data else Known(value.array, data=True)
    if isinstance(value, Opaque) or value.recipe is None:
        return value
    return dataclasses.replace(value, recipe=None, weight=None)


class Context(Protocol):
    """What a rule may ask of the walk."""

    def contract(
        self, equation: Equation, x: Signal, weight: Signal, axes: Sequence[int], fan: float,
        make: Callable[[Signal], Signal],
    ) -> Signal:  # fmt: skip
        """The output of a weight that is summed over `axes`; `make` gives it from the weight's signal."""

    def sizes(self, weight: Signal, x: Signal) -> bool:
        """Whether this is a weight, or made of some, that meets the signal x: then `contract` is to be asked."""

    def embed(self, equation: Equation, weight: Signal, make: Callable[[Signal], Signal]) -> Signal:
        """Rows of a table of weights; `make` gives them from the table's signal."""

    @property
    def twin(self) -> Any:
        """Which kind of pairs the tables are about: None for all, else a key of `Signal.twins`."""

    @property
    def axes(self) -> Mapping[Any, int]:
        """The sizes of named axes that the model binds."""

    def walk(
        self, jaxpr: Any, values: Sequence[Value], step: tuple[str, int, int] | None = None, site: Sequence[int] = ()
    ) -> list[Value]:
        """The outputs of an inner jaxpr; `site` tells apart the several that one equation may have."""

    def note(self, text: str) -> None:
        """Says something about the current equation in the report."""

    def mark(self, name: str, value: Value) -> Value:
        """A value that an adapter gave a name: a module's input or output."""


@dataclasses.dataclass(frozen=True)
class Equation:
    """One equation of a jaxpr.

    Attributes:
      name: the primitive's name.
      params: the primitive's parameters.
      outputs: objects with the shape and dtype of each output.
      evaluate: the primitive on actual arrays.
      context: the walk.
      key: identifies the equation.
    """

    name: str
    params: Mapping[str, Any]
    outputs: Sequence[Any]
    evaluate: Callable[..., list[NDArray[Any]]]
    context: Context
    key: int

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.outputs[0].shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        found: np.dtype[Any] = self.outputs[0].dtype
        return found


Rule: TypeAlias = Callable[..., "Value | Sequence[Value]"]

# Pairs of neighbours along the axes of an image.
NEAR = "near"

# Rules that take Signals; known inputs are described first.
RULES: dict[str, Rule] = {}
# Rules that take whatever there is, for control flow and for structure that keeps arrays known.
STRUCTURAL: dict[str, Rule] = {}
# Rules of users, which come before all others.
CUSTOM: dict[str, Rule] = {}


# What is tried before a rule for arrays: (equation, values) -> the outputs, or None.
FIRST: list[Callable[[Equation, Sequence[Value]], list[Value] | None]] = []

# What moves elements, and takes along which of them are absent.
MOVES = frozenset({
    "transpose", "reshape", "squeeze", "broadcast_in_dim", "stack", "tile", "rev", "slice", "split", "dynamic_slice",
    "dynamic_update_slice", "concatenate", "pad", "gather",
})  # fmt: skip


def signals(*names: str, masked: bool = False) -> Callable[[Rule], Rule]:
    """Registers a rule (equation, *signals) for these primitives; `masked` if it knows of absent elements."""

    def register(rule: Rule) -> Rule:
        RULES.update(dict.fromkeys(names, _first(rule if masked else _of_all(rule))))
        return rule

    return register


def structural(*names: str) -> Callable[[Rule], Rule]:
    """Registers a rule (equation, *values) for these primitives."""

    def register(rule: Rule) -> Rule:
        for name in names:
            moves = name in MOVES
            STRUCTURAL[name] = _first(_moving(rule) if moves else rule) if moves or "scatter" in name else rule
        return rule

    return register


def _first(rule: Rule) -> Rule:
    """The rule, unless what comes before all rules gives an answer."""

    @functools.wraps(rule)
    def call(equation: Equation, *values: Value) -> Any:
        for attempt in FIRST:
            found = attempt(equation, values)
            if found is not None:
                return found if len(found) > 1 else found[0]
        return rule(equation, *values)

    return call


def _of_all(rule: Rule) -> Rule:
    """The rule on signals of all elements, where absent ones are the number that they hold."""

    @functools.wraps(rule)
    def call(equation: Equation, *operands: Signal) -> Any:
        return rule(equation, *map(resolved, operands))

    return call


# -- moves of masked signals --------------------------------------------------------------------------------------


def _moving(rule: Rule) -> Rule:
    """The rule on what is present, and on which elements are."""

    @functools.wraps(rule)
    def call(equation: Equation, *values: Value) -> Any:
        values = tuple(_movable(v) for v in values)
        if _pads_a_mask(equation, values):
            return _padded(equation, described(values[0]), described(values[1]).mean)
        if not any(isinstance(v, Signal) and v.mask is not None for v in values):
            return rule(equation, *values)
        values = tuple(_numbers(v) for v in values)
        bare = [dataclasses.replace(v, mask=None) if isinstance(v, Signal) else v for v in values]
        made = _listed(rule(equation, *bare))
        masks = _moved_masks(rule, equation, values)
        results = [
            presented(dataclasses.replace(r, mask=m)) if isinstance(r, Signal) and m is not None else r
            for r, m in zip(made, masks, strict=True)
        ]
        return results if len(results) > 1 else results[0]

    return call


def _pads_a_mask(equation: Equation, values: Sequence[Value]) -> bool:
    """Whether an array is padded with elements that are absent."""
    if equation.name != "pad" or not isinstance(values[0], Signal) or math.prod(equation.shape) > KEPT:
        return False
    return not LEVEL < described(values[1]).mean < HIGH


def _padded(equation: Equation, x: Signal, number: float) -> Signal:
    """The same elements among absent ones."""

    def placed(present: NDArray[Any]) -> Signal:
        found = equation.evaluate(np.broadcast_to(present, x.shape), np.zeros((), bool))[0]
        return gate(compacted(np.asarray(found)), equation.shape)

    gates = [placed(np.ones(x.shape, bool))]
    for own in () if x.mask is None else x.mask.gates:
        wider = dataclasses.replace(own, shape=equation.shape, rho=_tables.settled(own.rho, equation.shape))
        gates.append(wider if own.array is None else placed(np.asarray(own.array, bool)))
    made = x.fresh(shape=equation.shape, rho=_tables.settled(x.rho, equation.shape))
    return dataclasses.replace(made, mask=joint([Mask(number, tuple(gates), whole=True)]))


def _movable(value: Value) -> Value:
    """The value without what belongs to the places that its elements have."""
    if not isinstance(value, Signal) or (value.shift is None and value.bare is None):
        return value
    return dataclasses.replace(unveiled(value), shift=None)


def _listed(result: Any) -> list[Value]:
    return list(result) if isinstance(result, (list, tuple)) else [result]


def _numbers(value: Value) -> Value:
    """A known array of numbers as a signal, where some of them are absent."""
    if isinstance(value, Known) and value.array.dtype.kind not in "biu" and value.array.ndim:
        return value.signal if value.signal.mask is not None else value
    return value


def _moved_masks(rule: Rule, equation: Equation, values: Sequence[Value]) -> list[Mask | None]:
    """The masks of the outputs."""
    masks = [valid(v) if isinstance(v, Signal) else None for v in values]
    given = [(place, mask) for place, mask in enumerate(masks) if mask is not None]
    if not given:
        return [None] * len(equation.outputs)
    # Each gate by itself where one operand has them; several operands have one gate each.
    layers = [{given[0][0]: g} for g in given[0][1].gates] if len(given) == 1 else [{p: presence(m) for p, m in given}]
    columns = [_moved_gates(rule, equation, values, layer) for layer in layers]
    value, whole = max((mask.value for _, mask in given), key=abs), any(mask.whole for _, mask in given)
    kept = [tuple(g for g in column if not (g.is_constant and g.mean == 1)) for column in zip(*columns, strict=True)]
    return [Mask(value, gates, whole) if gates else None for gates in kept]


def _moved_gates(rule: Rule, equation: Equation, values: Sequence[Value], gates: Mapping[int, Signal]) -> list[Signal]:
    """A gate of each output; what has none is present."""
    first = next(iter(gates.values()))
    if equation.name == "broadcast_in_dim" and first.array is not None:
        shape = [1] * len(equation.shape)
        for axis, place in enumerate(equation.params["broadcast_dimensions"]):
            shape[place] = first.array.shape[axis]
        return [gate(np.asarray(first.array, bool).reshape(shape), equation.shape)]
    small = max(math.prod(o.shape) for o in (*values, *equation.outputs)) <= KEPT
    if small and all(g.array is not None for g in gates.values()):
        arrays = [_truths(v, gates.get(place)) for place, v in enumerate(values)]
        moved = _listed(rule(equation, *arrays))
        if all(isinstance(m, Known) for m in moved):
            return [gate(compacted(np.asarray(m.array, bool)), m.shape) for m in moved if isinstance(m, Known)]
    laws = [gates.get(place) or _present(v) for place, v in enumerate(values)]
    moved = _listed(rule(equation, *(dataclasses.replace(v, array=None) if isinstance(v, Signal) else v for v in laws)))
    return [described(m) for m in moved]


def _truths(value: Value, own: Signal | None) -> Value:
    """Which elements of an operand are present, as an array; indices stay what they are."""
    if own is not None:
        return Known(np.broadcast_to(np.asarray(own.array, bool), own.shape))
    return value if _is_index(value) else Known(np.broadcast_to(np.asarray(True), value.shape))


def _present(value: Value) -> Value:
    """All elements of an operand are present."""
    return value if _is_index(value) else Signal.constant(1.0, value.shape, np.bool_)


def _is_index(value: Value) -> bool:
    dtype = value.array.dtype if isinstance(value, Known) else getattr(value, "dtype", np.dtype(bool))
    return dtype.kind in "iu"


def described(value: Value) -> Signal:
    """The signal of a value that is not a key."""
    if isinstance(value, Known):
        return value.signal
    if isinstance(value, Opaque):
        return Signal.constant(0.0, value.shape, np.uint32)
    return value


@structural("name")
def name(equation: Equation, value: Value) -> Value:
    """A named value is itself; the walk may know the name."""
    return equation.context.mark(equation.params["name"], value)


@structural(COMPILED_ONCE)
def compiled_once(_equation: Equation, value: Value) -> Value:
    """A note to the compiler changes nothing."""
    return value
