"""Which random word a weight gets: a point of a Sobol' sequence, by layout, or a hash of its address.

`Sobol` and `Hash` are the two sources. Both map (state, shape, coordinates) to uint32 words, element
by element, in integers; neither knows what the words become.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from qrjax._layouts._coordinates import Coordinates, Shape, linear_index, size
from qrjax._layouts._names import LAYOUTS as LAYOUTS
from qrjax._layouts._names import Layout as Layout
from qrjax._sequences import _directions as table
from qrjax._sequences import _hadamard
from qrjax._sequences._permutations import permute
from qrjax._sequences._scrambles import (
    Scramble,
    check_scramble,
    owen_scrambled,
    scrambled_directions,
    scrambled_points,
)
from qrjax._sequences._sobol import gray, packed_points, point_bits, raster_bits
from qrjax._terminal._names import choice
from qrjax._words._pairs import Pair, materialized, packed, reverse_bits, word
from qrjax._words._splitmix import absorb, output

LARGEST_SEQUENCE = 2**32

# What is drawn from a tensor's state, kept apart by the first word absorbed.
WORDS, MATRIX, GROUPS, HASH, PAIRS, ORDER = range(6)
SHARED = 2**32 - 1  # no group's number; for what the groups of a batch have in common


class Roles(NamedTuple):
    """The axes of a weight tensor: which span its inputs, which its outputs; the rest are batches."""

    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


class Antithetic(NamedTuple):
    """The members of pairs w, -w.

    Attributes:
      coordinates: of the pair that a weight belongs to; what is drawn is drawn there.
      negated: whether the weight is the pair's second member.
      alone: whether it has no partner and is 0; None where all have one.
      stretch: what the others' scale is multiplied by, for the zeros.
    """

    coordinates: Coordinates
    negated: Array
    alone: Array | None
    stretch: float


def spread(words: Array, groups: Sequence[Array]) -> Array:
    """The words of a key, once for every group of weights that these coordinates tell apart.

    What is hashed of a key alone is a kernel of its own on a card, and takes its compiler as long as many others; so
    each group hashes it anew, with all else that is the group's.
    """
    extent = jnp.broadcast_shapes(*(c.shape for c in groups))
    return jnp.broadcast_to(words.reshape(words.shape[0], *[1] * len(extent)), (words.shape[0], *extent))


@dataclasses.dataclass(frozen=True)
class Hash:
    """Every weight is the SplitMix64 hash of its coordinates; the shape has no influence.

    Attributes:
      zero_mean: weights of one filter, those that one output sums over, come in random pairs w, -w.
        Then the number of inputs has an influence, as it decides who is whose partner.
    """

    zero_mean: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.zero_mean, bool):
            raise TypeError(f"`zero_mean` must be True or False, got {self.zero_mean!r}")

    def antithetic(self, state: Pair, shape: Shape, coordinates: Coordinates, roles: Roles) -> Antithetic | None:
        if not self.zero_mean:
            return None
        n = size(shape, roles.inputs)
        filters = [c for axis, c in enumerate(coordinates) if axis not in roles.inputs]
        order = absorb(state, ORDER, len(filters), *filters)
        # Three rounds make some partners half again as likely as others; five leave a tenth.
        keys = [*output(order, 0), *output(order, 1), output(order, 2).hi]
        if filters:
            keys = materialized(*keys)
        position = permute(linear_index(coordinates, shape, roles.inputs), n, keys)
        alone = position == word(n - 1) if n % 2 else None
        stretch = math.sqrt(n / (n - 1)) if n % 2 else 1.0
        return Antithetic((*filters, position >> 1), position & 1 == 1, alone, stretch)

    def groups(self, coordinates: Coordinates, roles: Roles) -> Sequence[Array]:
        """The coordinates that tell groups apart, each with a state of its own: rows."""
        del roles
        return () if self.zero_mean else coordinates[:-1]  # filters have other groups

    def words(self, state: Pair, shape: Shape, coordinates: Coordinates, roles: Roles, whole: bool) -> Array:
        del shape, roles, whole
        row = absorb(state, PAIRS if self.zero_mean else HASH, len(coordinates), *coordinates[:-1])
        if not coordinates:
            return output(row, 0).hi
        if len(coordinates) > 1:
            row = Pair(*materialized(*row))
        return output(row, coordinates[-1]).hi

    @property
    def exact(self) -> bool:
        return False

    def check_shape(self, shape: Shape, roles: Roles) -> None:
        n = size(shape, roles.inputs)
        if not self.zero_mean or 0 in shape or 2 <= n <= LARGEST_SEQUENCE:
            return  # each axis is below 2**32, and coordinates are absorbed one by one
        raise ValueError(
            f"`zero_mean` needs from 2 to 2**32 inputs of every output, got {n} for shape {shape} with inputs on "
            f"axes {roles.inputs}; use an initializer without zero_mean here"
        )


@dataclasses.dataclass(frozen=True)
class Sobol:
    """Weights are points of a Sobol' sequence, assigned to coordinates by a layout.

    Attributes:
      layout: what is stratified. "sequence": the flat tensor, in the sequence's order; "shuffled": the
        flat tensor, in random order; "outputs": for every input, its weights to all outputs;
        "neurons": every output's weights from all inputs; "points": output j is point j of a sequence
        with one dimension an input.
      dim: the (first) dimension; None lets the key choose for "sequence" and is 1 elsewhere.
      scramble: None, "shift", "linear" or "owen".
    """

    layout: Layout
    dim: int | None
    scramble: Scramble

    def __post_init__(self) -> None:
        choice("layout", self.layout, LAYOUTS)
        check_scramble(self.scramble)
        if self.dim is not None:
            if isinstance(self.dim, jax.core.Tracer):
                raise TypeError("`dim` of an initializer must be static; leave it None to let the key choose")
            object.__setattr__(self, "dim", table.check_dim(self.dim))
        if self.scramble is None and self.layout in ("outputs", "neurons"):
            raise ValueError(
                f"`scramble` must not be None for layout={self.layout!r}: every group would hold the same values; "
                "use 'owen', or layout='sequence' for the plain points"
            )

    @property
    def exact(self) -> bool:
        """Whether words are plain Sobol' points, whose value is word / 2**32 and not half a step more."""
        return self.scramble is None

    @property
    def _skip(self) -> int:
        # The paper skips the first point, which is the corner 0 of every dimension. Scrambled it is as
        # good as any, and a run of points from the first on is evenly spread for every length.
        return int(self.scramble is None)

    def check_shape(self, shape: Shape, roles: Roles) -> None:
        flat = self.layout in ("sequence", "shuffled")
        counts = {"weights": range(len(shape))} if flat else {"inputs": roles.inputs, "outputs": roles.outputs}
        for what, axes in counts.items():
            count = size(shape, axes)
            if count + self._skip > LARGEST_SEQUENCE:
                raise ValueError(
                    f"layout={self.layout!r} addresses at most 2**32 {what}, and shape {shape} has {count}; use "
                    f"{'layout=' + repr('outputs') + ' or ' if flat else ''}a _hash builder, which has no such limit"
                )

    def antithetic(self, state: Pair, shape: Shape, coordinates: Coordinates, roles: Roles) -> None:
        del state, shape, coordinates, roles  # layout="neurons" is the balance that points have to offer

    def groups(self, coordinates: Coordinates, roles: Roles) -> Sequence[Array]:
        """The coordinates that tell groups apart, each with a state of its own; none where the tensor is one."""
        members = {"outputs": roles.outputs, "neurons": roles.inputs}.get(self.layout)
        if members is None or self.scramble == "linear":  # whose matrix all groups share
            return ()
        return [c for axis, c in enumerate(coordinates) if axis not in members]

    def words(self, state: Pair, shape: Shape, coordinates: Coordinates, roles: Roles, whole: bool) -> Array:
        if self.layout == "sequence":
            return self._sequence(state, shape, coordinates, whole)
        if self.layout == "points":
            return self._points(state, shape, coordinates, roles)
        if self.layout == "outputs" and _hadamard.applies(size(shape, roles.outputs)):
            return self._orthogonal_outputs(state, shape, coordinates, roles)
        rank = range(len(shape))
        members = {"shuffled": tuple(rank), "outputs": roles.outputs, "neurons": roles.inputs}[self.layout]
        groups = [coordinates[axis] for axis in rank if axis not in members]
        return self._stratified(state, size(shape, members), linear_index(coordinates, shape, members), groups)

    def _stratified(self, state: Pair, n: int, index: Array, groups: list[Array]) -> Array:
        """Each group of n weights gets the first n points, in an order and with a scramble of its own."""
        group = absorb(state, GROUPS, *groups)
        seed, *keys = (*output(group, 0), *output(group, 1)) if n > 1 else (output(group, 0).hi,)
        if n > 1:
            if groups:
                seed, *keys = materialized(seed, *keys)
            index = permute(index, n, keys)
        return self._point(state, index + word(self._skip), seed, n - 1 + self._skip)

    def _orthogonal_outputs(self, state: Pair, shape: Shape, coordinates: Coordinates, roles: Roles) -> Array:
        """`_stratified` over the outputs, with orders whose signs are orthogonal from input to input."""
        n = size(shape, roles.outputs)
        batches = [coordinates[k] for k in range(len(shape)) if k not in roles.inputs + roles.outputs]
        inputs = linear_index(coordinates, shape, roles.inputs)
        group = absorb(state, GROUPS, *batches, inputs)
        number_of_block = _hadamard.block_of(inputs, size(shape, roles.inputs), n)
        block = absorb(state, GROUPS, *batches, SHARED, number_of_block)
        number = _hadamard.walsh_number(inputs, number_of_block, n, block)
        seed, bits = output(group, 0).hi, _hadamard.exponent(n)
        # Of the block's words only the low bits matter, so that the row's table is a third narrower: a device with
        # few columns of every row has little else.
        first, second, seed, *narrow = materialized(*group, seed, *packed((number, *block), bits))
        columns = linear_index(coordinates, shape, roles.outputs)
        index = _hadamard.hadamard_order(columns, n, _hadamard.Keys((first, second), narrow))
        return self._point(state, index + word(self._skip), seed, n - 1 + self._skip)

    def _sequence(self, state: Pair, shape: Shape, coordinates: Coordinates, whole: bool) -> Array:
        choice, seed = output(absorb(state, WORDS), 0)
        largest = size(shape, range(len(shape))) - 1 + self._skip
        digits = min(largest.bit_length() + 1, table.BITS)
        directions = table.compact_directions(choice, digits) if self.dim is None else table.directions(self.dim)
        directions = scrambled_directions(directions, self.scramble, absorb(state, MATRIX))
        bits = flat_points(directions, shape, coordinates, self._skip, whole)
        return scrambled_points(bits, self.scramble, seed)

    def _points(self, state: Pair, shape: Shape, coordinates: Coordinates, roles: Roles) -> Array:
        """Output j is point j; input i is dimension dim + i, wrapping, with a scramble of its own."""
        batches = [coordinates[k] for k in range(len(shape)) if k not in roles.inputs + roles.outputs]
        inputs = linear_index(coordinates, shape, roles.inputs)
        index = linear_index(coordinates, shape, roles.outputs) + word(self._skip)
        own = absorb(state, GROUPS, *batches, inputs)
        largest = size(shape, roles.outputs) - 1 + self._skip
        digits = max(largest.bit_length(), 1)
        first, count, seed = self.dim or 1, size(shape, roles.inputs), output(own, WORDS).hi
        # What belongs to an input is evaluated once: a device would make it anew for every output.
        if self.scramble == "linear" or digits > table.LARGEST_PACKED:
            directions = table.directions_at(inputs, first, count, digits)
            directions = scrambled_directions(directions, self.scramble, absorb(own, MATRIX))
            directions, seed = materialized(directions, seed)
            return scrambled_points(point_bits(directions, index, largest), self.scramble, seed)
        words = table.packed_numbers_at(inputs, first, count, digits, is_reversed=self.scramble == "owen")
        *words, seed = materialized(*words, seed)
        bits = packed_points(words, index, digits)
        return scrambled_points(bits if self.scramble == "owen" else bits << 32 - digits, self.scramble, seed)

    def _point(self, state: Pair, index: Array, seed: Array, largest: int) -> Array:
        """Point `index` of the dimension, scrambled by `seed`."""
        if self.dim in (None, 1) and self.scramble != "linear":
            # Dimension 1 is the radical inverse: its reversed bits are the index's Gray code.
            if self.scramble == "owen":
                return owen_scrambled(gray(index), seed)
            return scrambled_points(reverse_bits(gray(index)), self.scramble, seed)
        directions = scrambled_directions(table.directions(self.dim or 1), self.scramble, absorb(state, MATRIX))
        return scrambled_points(point_bits(directions, index, largest), self.scramble, seed)


Source = Sobol | Hash


def flat_points(directions: Array, shape: Shape, coordinates: Coordinates, start: int | Array, whole: bool) -> Array:
    """Points start, start + 1, ... in row-major order at the coordinates; `whole`: these are all."""
    rank = len(shape)
    if whole and rank > 1:
        rows = linear_index(coordinates, shape, range(rank - 1))
        return raster_bits(directions, rows, coordinates[-1], shape, start)
    # A vector too, each point by itself: as a raster it would be reshaped, which takes devices to talk to each other.
    count = size(shape, range(rank))
    largest = min(count + start, LARGEST_SEQUENCE - 1) if isinstance(start, int) else LARGEST_SEQUENCE - 1
    return point_bits(directions, linear_index(coordinates, shape, range(rank)) + word(start), largest)


def default_roles(rank: int) -> Roles:
    """For a tensor without declared axes: the last axis is the output, the others are inputs."""
    return Roles(tuple(range(rank - 1)), tuple(range(rank))[-1:])


def collapses(source: Any, shape: Shape) -> bool:
    """Whether a layout makes a matrix of `shape` numerically low in rank.

    Row by row from one dimension, x(i w + j) is close to x(i w) ^ x(j) wherever the width w has a
    factor of two, and no better than a lattice where it is odd.
    """
    if not isinstance(source, Sobol) or source.layout != "sequence" or len(shape) < 2:
        return False
    rows, width = int(np.prod(shape[:-1], dtype=object)), shape[-1]
    return min(rows, width) >= SMALLEST_COLLAPSE


SMALLEST_COLLAPSE = 8
