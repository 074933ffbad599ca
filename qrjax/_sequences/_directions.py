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

from qrjax._sequences._names import DIMENSIONS as DIMENSIONS
from qrjax._words._pairs import mulhi, where, word, xor_all

SHA256 = "014b902f2d2ca13e9ad73516f633a135f24b3d28afdf67fcaeb637a482dc729d"
BITS = 32
LARGEST_DEGREE = 18
# Dimensions with a polynomial of degree 13 or less. They need four words each, so a table from which
# a key chooses a dimension inside an executable takes 17,776 bytes; the full table takes 508,824.
COMPACT_DIMENSIONS = 1_111
COMPACT_WORDS = 4


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
        raise TypeError(f"`dim` must be an integer, got {dim!r} of type {type(dim).__name__}") from None
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
    row = (dim.astype(jnp.uint32) - 1) % DIMENSIONS
    return expand(jnp.asarray(packed_directions())[row])


def compact_directions(fraction: Array) -> Array:
    """The direction numbers of one of the first 1,111 dimensions, chosen by a uniform uint32 word."""
    table = jnp.asarray(packed_directions()[:COMPACT_DIMENSIONS, :COMPACT_WORDS])
    row = mulhi(fraction, word(COMPACT_DIMENSIONS))
    return expand(jnp.pad(table[row], (0, 6 - COMPACT_WORDS)))


def directions_at(offset: Array, first: int, count: int) -> Array:
    """Direction numbers of the dimensions `first + offset`, wrapping beyond 21,201; shape (32, *offset.shape).

    The executable holds 24 bytes for each of the `count` dimensions that can occur, and computes the
    128 bytes of those that do.
    """
    used = min(count, DIMENSIONS)
    rows = packed_directions().take(range(first - 1, first - 1 + used), axis=0, mode="wrap")
    expand_all = expand
    for _ in range(offset.ndim):
        expand_all = jax.vmap(expand_all, out_axes=1)
    # Each vmap puts its axis at 1, so the innermost, which is the last axis, has to stay last.
    return expand_all(jnp.asarray(rows)[offset % used])


@functools.lru_cache(maxsize=256)
def static_directions(dim: int) -> np.ndarray:
    """`expand` on the host."""
    row = [int(w) for w in packed_directions()[dim - 1]]
    polynomial, packed = row[0], sum(w << 32 * i for i, w in enumerate(row[1:]))
    degree = polynomial.bit_length() - 1
    v: list[int] = []
    for k in range(BITS):
        if k < degree or degree == 0:
            bits = packed >> k * (k - 1) // 2 & (1 << k) - 1 if degree else 0
            v.append((2 * bits + 1) << (31 - k))
            continue
        value = v[k - degree] >> degree
        for i in range(1, degree + 1):
            value ^= v[k - i] * (polynomial >> (degree - i) & 1)
        v.append(value)
    return np.array(v, np.uint32)


def expand(row: Array) -> Array:
    """The 32 direction numbers from a packed row of six words, by Joe and Kuo's recurrence.

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

    k = jnp.arange(BITS, dtype=jnp.uint32)
    return lax.scan(step, jnp.zeros_like(coefficients), (k, _initial_numbers(row)))[1]


def _initial_numbers(row: Array) -> Array:
    """m_1..m_32 as packed; those beyond the degree are meaningless, except that dimension 1 has ones."""
    k = np.arange(BITS) * (np.arange(BITS) < LARGEST_DEGREE)
    at, shift = np.divmod(k * (k - 1) // 2, 32)
    low = row[1 + at] >> shift.astype(np.uint32)
    high = row[np.minimum(2 + at, 5)] << (-shift % 32).astype(np.uint32)
    straddles = (shift + k > 32).astype(np.uint32)
    return 2 * ((low | high * straddles) & (2**k - 1).astype(np.uint32)) + 1
