"""Statistics of SplitMix64 along every direction in which weights are addressed.

The first output of many close states is not SplitMix64's usual use, so that PractRand's verdict on
one long stream says nothing about coordinates, paths or keys.

Tolerances. Nothing here is random: a test passes always or never. Taken as random, a normal statistic
fails beyond 6 sigma (p = 2.0e-9) and a chi-square below p = 1e-6. There are about 2e4 of the former
(three avalanches with 64 x 64 cells, two with 32 x 64, 8 streams with 64 bits and 12 correlations each)
and under 100 of the latter, so that a perfect generator would fail this file with p < 1.4e-4.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from qrjax import splitmix

pytestmark = pytest.mark.slow

COUNT, WIDTH = 2**20, 2**10
SIGMAS, SMALLEST_P = 6, 1e-6
LAGS = (1, 2, 3, 7, 64, 1024)
SEED = 0x0123456789ABCDEF
AVALANCHE_COUNT = 2**13


def hash_paths(numbers):
    """`absorb_path` of ("layer", n) for a vector of n, which `absorb_path` itself takes one by one."""
    layer = [0, 5, int.from_bytes(b"laye", "little"), ord("r")]
    state = splitmix.absorb_sequence(splitmix.absorb(splitmix.from_int(SEED), 2), layer)
    return splitmix.absorb_sequence(state, [1, numbers])


def hash_coordinates(i, j):
    return splitmix.absorb(splitmix.from_int(SEED), i, j)


def hash_keys(numbers):
    return jax.vmap(lambda n: splitmix.from_key(jax.random.key(n)))(numbers)


def integers(pair):
    """A pair of vectors as uint64, on the host."""
    hi, lo = (np.asarray(w, np.uint64) for w in pair)
    return hi << np.uint64(32) | lo


N = np.arange(COUNT, dtype=np.uint32)
ROW, COLUMN = np.divmod(N, np.uint32(WIDTH))
STREAMS = {
    "counters": lambda: splitmix.output(splitmix.from_int(SEED), N),
    "seeds": lambda: splitmix.output(splitmix.Pair(jnp.zeros_like(N), jnp.asarray(N)), 0),
    "row": lambda: hash_coordinates(3, N),
    "column": lambda: hash_coordinates(N, 3),
    "raster": lambda: hash_coordinates(ROW, COLUMN),
    "transposed": lambda: hash_coordinates(COLUMN, ROW),
    "paths": lambda: hash_paths(N),
    "keys": lambda: hash_keys(N),
}


@functools.cache
def stream(name):
    return integers(STREAMS[name]())


def bits_of(x):
    """The 64 bits of each uint64 as a last axis of 0s and 1s."""
    return np.unpackbits(x.view(np.uint8).reshape(*x.shape, 8), axis=-1)


def words_of(name):
    """The high and the low words of a stream."""
    x = stream(name)
    return x >> np.uint64(32), x & np.uint64(0xFFFFFFFF)


each_stream = pytest.mark.parametrize("name", STREAMS)


def test_the_path_stream_is_absorb_path():
    expected = [splitmix.absorb_path(splitmix.from_int(SEED), ("layer", n)) for n in range(5)]
    np.testing.assert_array_equal(
        stream("paths")[:5], np.concatenate([integers((x.hi[None], x.lo[None])) for x in expected])
    )


@each_stream
def test_no_repeats(name):
    # 2**20 values of 64 bits: one pair meets by chance with probability 2**-25.
    assert np.unique(stream(name)).size == COUNT


@each_stream
def test_bytes_are_uniform(name):
    for position in stream(name).view(np.uint8).reshape(-1, 8).T:
        assert stats.chisquare(np.bincount(position, minlength=256)).pvalue > SMALLEST_P


@each_stream
def test_every_bit_is_balanced_and_its_runs_too(name):
    bits = bits_of(stream(name))
    # Ones are Binomial(n, 1/2), and so are the changes between neighbours, which are the runs less one.
    for events in (bits, bits[1:] ^ bits[:-1]):
        z = (events.sum(0, dtype=np.int64) - len(events) / 2) / np.sqrt(len(events) / 4)
        assert np.abs(z).max() < SIGMAS


@each_stream
def test_lagged_correlations(name):
    for words in words_of(name):
        u = words / 2**32 - 0.5
        for lag in LAGS:
            z = 12 * (u[lag:] * u[:-lag]).sum() / np.sqrt(COUNT - lag)  # the variance of a uniform is 1/12
            assert abs(z) < SIGMAS, lag


@each_stream
def test_birthday_spacings(name):
    """Marsaglia and Tsang 2002: 2**12 birthdays in a year of 2**32 days.

    The number of spacings that repeat an earlier one is Poisson, lambda = m**3 / 4 n = 4; here in 256
    blocks of the high words and 256 of the low ones.
    """
    blocks = np.sort(np.concatenate([w.reshape(-1, 2**12) for w in words_of(name)]), axis=1)
    spacings = np.sort(np.diff(blocks, axis=1, prepend=0), axis=1)
    repeats = (np.diff(spacings, axis=1) == 0).sum(1)
    cells = np.bincount(np.clip(repeats, 1, 8), minlength=9)[1:]  # at most 1, 2, ..., 7, at least 8
    law = stats.poisson(4)
    expected = [law.cdf(1), *law.pmf(range(2, 8)), law.sf(7)]
    assert stats.chisquare(cells, np.array(expected) * len(blocks)).pvalue > SMALLEST_P


def split(x):
    return splitmix.Pair(jnp.asarray(x >> np.uint64(32), jnp.uint32), jnp.asarray(x & np.uint64(2**32 - 1), jnp.uint32))


# What is flipped: name -> (its bits, the hash as a function of uint64 inputs).
AVALANCHES = {
    "seed": (64, lambda x: splitmix.output(split(x), 0)),
    "counter": (32, lambda x: splitmix.output(splitmix.from_int(SEED), split(x).lo)),
    "coordinates": (64, lambda x: hash_coordinates(*split(x))),
    "path": (32, lambda x: hash_paths(split(x).lo)),
    "key": (64, lambda x: jax.vmap(splitmix.from_key)(splitmix.stack(split(x)))),
}


@pytest.mark.parametrize("name", AVALANCHES)
def test_avalanche(name):
    """A flipped input bit flips every output bit with probability 1/2, and 32 of the 64 on average."""
    size, hashed = AVALANCHES[name]
    inputs = np.random.default_rng(0).integers(0, 2**64, AVALANCHE_COUNT, np.uint64)
    outputs = integers(hashed(inputs))
    for bit in range(size):
        flips = bits_of(outputs ^ integers(hashed(inputs ^ np.uint64(1 << bit))))
        cells = (flips.mean(0) - 0.5) / np.sqrt(0.25 / AVALANCHE_COUNT)
        assert np.abs(cells).max() < SIGMAS, bit
        # A sum of 64 fair bits has the standard deviation 4.
        assert abs(flips.sum(1).mean() - 32) < SIGMAS * 4 / np.sqrt(AVALANCHE_COUNT), bit
