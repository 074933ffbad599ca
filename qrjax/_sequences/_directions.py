"""Direction numbers of the Sobol' sequence in up to 21,201 dimensions.

Data: `joe_kuo_d6.npy`, 21,201 rows of six uint32 words, 508,952 bytes.
  source  S. Joe and F. Y. Kuo 2008, "Constructing Sobol sequences with better two-dimensional
          projections", SIAM J. Sci. Comput. 30, 2635-2654; their file new-joe-kuo-6.21201, criterion
          D(6), BSD licence (see LICENSE)
  recipe  tests/recipes/pack_directions.py, which also describes the packing
  sha256  below; checked whenever the file is read
"""

from __future__ import annotations

import functools
import hashlib
import io
import operator
from importlib import resources
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.sharding import PartitionSpec

from qrjax._sequences._names import DIMENSIONS as DIMENSIONS
from qrjax._terminal._received import received
from qrjax._words._meshes import explicit_axes
from qrjax._words._pairs import mulhi, where, word, xor_all

SHA256 = "014b902f2d2ca13e9ad73516f633a135f24b3d28afdf67fcaeb637a482dc729d"
BITS = 32
LARGEST_DEGREE = 18
LARGEST_PACKED = 16  # digits, of which two numbers or more have room in a word
# Of which a key chooses one inside an executable: those with a polynomial of degree 13 or less. A program holds their
# numbers, and derives none: 75,548 bytes for all 32 digits, where the recurrence is a loop of 32 steps on every device.
COMPACT_DIMENSIONS = 1_111


@functools.cache
def packed_directions() -> np.ndarray:
    """The packed table, shape (21201, 6), read on first use."""
    data = resources.files("qrjax._sequences").joinpath("joe_kuo_d6.npy").read_bytes()
    found = hashlib.sha256(data).hexdigest()
    if found != SHA256:
        raise RuntimeError(
            f"the direction numbers in joe_kuo_d6.npy are damaged (SHA-256 {found}, expected {SHA256}); reinstall qrjax"
        )
    table = np.load(io.BytesIO(data))
    table.flags.writeable = False
    return table


def check_dim(dim: Any) -> Any:
    """A static dimension in range as an `int`; a traced one, an integer scalar, unchanged.

    Raises:
      TypeError: if `dim` is not an integer.
      ValueError: if a static `dim` is outside [1, 21201].
    """
    if isinstance(dim, jax.core.Tracer):
        if dim.shape == () and jnp.issubdtype(dim.dtype, jnp.integer):
            return dim
        raise TypeError(f"`dim` must be an integer scalar, got a traced {dim.dtype} of shape {dim.shape}")
    try:
        value = operator.index(dim)
    except TypeError:
        raise TypeError(f"`dim` must be an integer, got {received(dim)}") from None
    if not 1 <= value <= DIMENSIONS or isinstance(dim, bool):
        raise ValueError(f"`dim` must be in [1, {DIMENSIONS}], got {dim}; dimensions count from 1")
    return value


def directions(dim: Any) -> Array:
    """The 32 direction numbers of one dimension, uint32, most significant bit first.

    A static dimension costs 32 constants. A traced one is looked up in the packed table, a constant
    of 508,824 bytes in the executable, and wraps beyond 21,201.
    """
    if isinstance(dim, int):
        return jnp.asarray(static_directions(dim))
    return expand(_looked_up(packed_directions(), (dim.astype(jnp.uint32) - 1) % DIMENSIONS))


def compact_directions(fraction: Array, digits: int = BITS) -> Array:
    """The first direction numbers of one of the first 1,111 dimensions, chosen by a uniform uint32 word.

    The executable holds them all, packed: of 25 digits, enough for 2**24 points, 48,884 bytes.
    """
    row = _looked_up(_longer_rows(1, COMPACT_DIMENSIONS, digits), mulhi(fraction, word(COMPACT_DIMENSIONS)))
    numbers = _initial_numbers(row, digits, digits)
    return numbers << (31 - _counted(digits, 0))


def directions_at(offset: Array, first: int, count: int, digits: int) -> Array:
    """The first direction numbers of the dimensions `first + offset`, wrapping beyond 21,201; (digits, *offset.shape).

    Points whose index has so many binary digits need no more of them. The executable holds at most 24 bytes for each
    of the `count` dimensions that can occur, and computes the 4 bytes a digit of those that do.
    """
    used = min(count, DIMENSIONS)
    if digits <= LARGEST_DEGREE:
        # The recurrence is run here: to that length its numbers pack as densely as the initial ones, and need no scan.
        rows = _looked_up(_longer_rows(first, used, digits), offset % used)
        return _initial_numbers(jnp.moveaxis(rows, -1, 0), digits, digits) << (31 - _counted(digits, offset.ndim))
    expand_all = functools.partial(expand, digits=digits)
    for _ in range(offset.ndim):
        expand_all = jax.vmap(expand_all, out_axes=1)
    # Each vmap puts its axis at 1, so the innermost, which is the last axis, has to stay last.
    return expand_all(_looked_up(_rows(first, used), offset % used))


def packed_numbers_at(offset: Array, first: int, count: int, digits: int, is_reversed: bool) -> list[Array]:
    """The same as words that hold as many of the numbers as fit, the first of them lowest; each of `offset.shape`.

    The first so many numbers are 0 behind their first so many digits, so that only those are there; `is_reversed`: the
    first of them lowest. `digits` is at most `LARGEST_PACKED`.
    """
    used = min(count, DIMENSIONS)
    rows = _looked_up(_packed_rows(first, used, digits, is_reversed), offset % used)
    return [lax.index_in_dim(rows, k, axis=rows.ndim - 1, keepdims=False) for k in range(rows.shape[-1])]


def _looked_up(table: np.ndarray, rows: Array) -> Array:
    """`table[rows]`, where each row lies with its number."""
    kind = jax.typeof(rows)
    explicit = explicit_axes(kind)
    if not explicit:
        return jnp.asarray(table)[rows]
    # Numbers that a vmap lays out over devices JAX looks up only where it is left to decide where the rows lie.
    place = PartitionSpec(*kind.sharding.spec, *[None] * (table.ndim - 1))
    return jax.sharding.auto_axes(lambda n: jnp.asarray(table)[n], axes=explicit, out_sharding=place)(rows)


def _rows(first: int, count: int) -> np.ndarray:
    return packed_directions().take(range(first - 1, first - 1 + count), axis=0, mode="wrap")


@functools.lru_cache(maxsize=64)
def _longer_rows(first: int, count: int, digits: int) -> np.ndarray:
    """Rows packed like the table's with `digits` numbers in each, whatever its degree, and no polynomial."""
    words = np.zeros((digits * (digits - 1) // 2 // 32 + 2, count), np.uint64)
    for k, number in enumerate(_numbers(_rows(first, count), digits)):
        at, shift = divmod(k * (k - 1) // 2, 32)
        bits = number.astype(np.uint64) >> np.uint64(1) << np.uint64(shift)
        words[at : at + 2] |= bits & np.uint64(2**32 - 1), bits >> np.uint64(32)
    return np.insert(words[:-1], 0, 0, axis=0).T.astype(np.uint32)


@functools.lru_cache(maxsize=64)
def _packed_rows(first: int, count: int, digits: int, is_reversed: bool) -> np.ndarray:
    """A row of words for each dimension, see `packed_numbers_at`."""
    each = BITS // digits
    words = np.zeros((-(-digits // each), count), np.uint32)
    for k, number in enumerate(_numbers(_rows(first, count), digits)):
        narrow = number << np.uint32(digits - 1 - k)
        if is_reversed:
            narrow = sum((narrow >> np.uint32(digits - 1 - b) & 1) << np.uint32(b) for b in range(digits))
        words[k // each] |= narrow << np.uint32(digits * (k % each))
    return words.T.copy()


@functools.lru_cache(maxsize=256)
def static_directions(dim: int) -> np.ndarray:
    """`expand` on the host."""
    return _numbers(_rows(dim, 1), BITS)[:, 0] << (31 - _counted(BITS, 0))


def _numbers(rows: np.ndarray, digits: int) -> np.ndarray:
    """m_1, m_2, ... of each packed row, shape (digits, rows): the direction numbers v_k = m_k 2**-k as integers."""
    degrees = np.frexp(rows[:, 0].astype(np.float64))[1] - 1
    found = _initial_numbers(rows.T, digits)
    for degree in np.unique(degrees[degrees > 0]):
        own = np.flatnonzero(degrees == degree)
        numbers, polynomial = list(found[:, own]), rows[own, 0]
        for k in range(degree, digits):
            numbers[k] = numbers[k - degree]
            for i in range(1, degree + 1):
                numbers[k] = numbers[k] ^ (numbers[k - i] << np.uint32(i)) * (polynomial >> np.uint32(degree - i) & 1)
        found[:, own] = numbers
    return found


def _counted(digits: int, rank: int) -> np.ndarray:
    """0, 1, ... along the first of 1 + `rank` axes."""
    return np.arange(digits, dtype=np.uint32).reshape(-1, *[1] * rank)


def expand(row: Array, digits: int = BITS) -> Array:
    """The first of the 32 direction numbers from a packed row of six words, by Joe and Kuo's recurrence.

    v_k = a_1 v_{k-1} ^ ... ^ a_s v_{k-s} ^ (v_{k-s} >> s), a_s = 1, as a scan that carries the last
    18 numbers, because the degree s differs from row to row.
    """
    polynomial = row[0]
    degree = 31 - lax.clz(polynomial)
    lag = jnp.arange(1, LARGEST_DEGREE + 1, dtype=jnp.uint32)
    coefficients = where(lag <= degree, polynomial >> where(lag <= degree, degree - lag, word(0)) & 1, word(0))
    oldest = lag == degree

    def step(recent: Array, inputs: tuple[Array, Array]) -> tuple[Array, Array]:
        k, initial = inputs
        recurrence = xor_all(recent * coefficients) ^ (xor_all(where(oldest, recent, word(0))) >> degree)
        value = where((k < degree) | (degree == 0), initial << (31 - k), recurrence)
        return jnp.concatenate([value[None], recent[:-1]]), value

    k = jnp.arange(digits, dtype=jnp.uint32)
    return lax.scan(step, jnp.zeros_like(coefficients), (k, _initial_numbers(row, digits)))[1]


def _initial_numbers(row: Any, digits: int, packed: int = LARGEST_DEGREE) -> Any:
    """m_1, m_2, ... along the first axis, as packed along the first axis of `row`, of NumPy or of JAX.

    Those beyond the degree are meaningless, except that dimension 1 has ones; so are those beyond the `packed`.
    """
    k = _counted(digits, row.ndim - 1) * (_counted(digits, row.ndim - 1) < packed)
    at, shift = np.divmod(k * (k - (k > 0)) // 2, np.uint32(32))
    low = row[1 + at.ravel()] >> shift
    high = row[np.minimum(2 + at.ravel(), row.shape[0] - 1)] << (32 - shift) % 32
    straddles = (shift + k > 32).astype(np.uint32)
    return 2 * ((low | high * straddles) & (np.uint32(1) << k) - 1) + 1
