"""Scrambles: what they keep (nets, prefixes), what they randomize, and a second linear one."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from qrjax import sobol, splitmix
from qrjax._sequences._scrambles import check_scramble, laine_karras, scrambled_directions, scrambled_points
from qrjax._words._pairs import reverse_bits

SCRAMBLES = [scramble for scramble in sobol.SCRAMBLES if scramble]
LARGEST = 12  # nets of up to 2**12 points
KEYS = 2**15
SMALLEST_P = 1e-6  # about 120 chi-squares: a perfect scramble fails this file with p < 1.2e-4
KEY = jax.random.key(7)


@functools.cache
def compiled(scramble):
    """2**12 points from a traced start in a traced dimension, so that there is one program a scramble."""
    draw = functools.partial(sobol.bits_range, count=2**LARGEST, scramble=scramble, key=KEY)
    return jax.jit(draw)


@functools.cache
def points(dim, scramble, start=0):
    return np.asarray(compiled(scramble)(dim, jnp.uint32(start)))


def uniform(counts):
    return stats.chisquare(counts.ravel()).pvalue > SMALLEST_P


def common(x, y):
    """How many leading bits two words share."""
    return 32 - np.frexp((x ^ y).astype(float))[1]


@pytest.mark.some(2)
@pytest.mark.few("1-owen", "2-linear", "3-*", "50-*", "21201-owen")
@pytest.mark.parametrize("scramble", sobol.SCRAMBLES)
@pytest.mark.parametrize("dim", [1, 2, 3, 50, 21201])
def test_every_prefix_is_stratified(dim, scramble):
    """Of the first 2**k points each interval of length 2**-k holds one, and of any aligned 2**k too."""
    for x in (points(dim, scramble), points(dim, scramble, 3 * 2**LARGEST)):
        for k in range(LARGEST + 1):
            cells = np.sort(x.reshape(-1, 2**k) >> np.uint64(32 - k), axis=1)
            assert (cells == np.arange(2**k)).all(), k


@pytest.mark.parametrize("scramble", sobol.SCRAMBLES)
@pytest.mark.parametrize("count", [2**4, 2**10])
def test_dimensions_1_and_2_are_a_net(count, scramble):
    """Each of the boxes of volume 1 / count, whatever its sides, holds one of `count` points."""
    m = count.bit_length() - 1
    for k in range(m + 1):
        x, y = (points(dim, scramble)[:count].astype(np.uint64) for dim in (1, 2))
        boxes = (x >> np.uint64(32 - k)) << np.uint64(m - k) | y >> np.uint64(32 - (m - k))
        assert (np.bincount(boxes.astype(int), minlength=count) == 1).all(), k


@pytest.mark.parametrize("scramble", SCRAMBLES)
@pytest.mark.parametrize("dim", [1, 4])
def test_the_prefix_tree_is_preserved(dim, scramble):
    # Output bit k depends on the bits above it, and on itself as a bijection.
    i, j = np.random.default_rng(0).integers(0, 2**LARGEST, (2, 50_000))
    plain, found = points(dim, None), points(dim, scramble)
    np.testing.assert_array_equal(common(found[i], found[j]), common(plain[i], plain[j]))


@pytest.mark.parametrize("scramble", SCRAMBLES)
def test_keys_and_dimensions_have_scrambles_of_their_own(scramble):
    # Point 0 is 0 in every dimension, so that the scrambles alone make it differ.
    @jax.jit
    def draw(seed):
        return [sobol.bits(dim, 0, scramble=scramble, key=jax.random.key(seed)) for dim in (1, 2, 3)]

    assert len({0, *(int(x) for seed in range(5) for x in draw(seed))}) == 16


def over_keys(scramble, dim, index):
    """The same points under many keys, shape (keys, points)."""
    seeds = jnp.arange(KEYS, dtype=jnp.uint32)
    draw = functools.partial(sobol.bits, dim, np.array(index), scramble=scramble)
    return np.asarray(jax.jit(jax.vmap(lambda seed: draw(key=jax.random.key(seed))))(seeds))


@pytest.mark.few("owen", "linear")
@pytest.mark.parametrize("scramble", SCRAMBLES)
def test_marginals_are_uniform(scramble):
    for x in over_keys(scramble, 2, [0, 5, 2**32 - 1]).T:
        for byte in np.ascontiguousarray(x).view(np.uint8).reshape(-1, 4).T:
            assert uniform(np.bincount(byte, minlength=256))


@pytest.mark.parametrize("scramble", ["linear", "owen"])
def test_pairs_are_independent_below_their_common_prefix(scramble):
    # In dimension 1 the point 2**k has the bits k and, where k > 0, k - 1, counted from the top.
    x = over_keys(scramble, 1, [0, 1, 2, 4, 32, 1024, 2**16])
    shared = common(x[:, :1], x[:, 1:])
    assert (shared == [0, 0, 1, 4, 9, 15]).all()
    below = (x[:, :1] ^ x[:, 1:]) >> (23 - shared).astype(np.uint32) & 255
    for column in below.T:
        assert uniform(np.bincount(column, minlength=256))


def test_owen_flips_the_top_of_the_tree_independently():
    """The root's flip and its two children's: 2**3 trees, equally likely.

    Deeper the hash does not reach every tree: bit k of its result has only its seed's bits 0..k and
    17..16+k to depend on, and so 32 of the 2**7 trees of three levels. Pairs do not see that.
    """
    seeds = splitmix.output(splitmix.from_int(1), jnp.arange(KEYS, dtype=jnp.uint32)).lo
    inputs = jnp.array([0, 1 << 30, 2 << 30, 3 << 30], jnp.uint32)
    outputs = reverse_bits(laine_karras(reverse_bits(inputs)[:, None], seeds[None]))
    x = np.asarray(outputs) >> 30
    assert uniform(np.bincount(x[0] * 2 + x[2] % 2, minlength=8))


def test_owen_is_the_hash_of_the_reversed_bits():
    plain, seed = points(3, None)[:64], jnp.uint32(0xDEADBEEF)
    expected = reverse_bits(laine_karras(reverse_bits(jnp.asarray(plain)), seed))
    # scrambled_directions has the first reversal in it, as reversal is linear.
    reversed_points = reverse_bits(jnp.asarray(plain))
    np.testing.assert_array_equal(scrambled_points(reversed_points, "owen", seed), expected)
    v = jnp.arange(32, dtype=jnp.uint32)
    np.testing.assert_array_equal(scrambled_directions(v, "owen", splitmix.from_int(0)), reverse_bits(v))


def hash_in_python(x, seed):
    """Laine-Karras with Vegdahl's multipliers, in Python integers."""
    x ^= x * 0x3D20ADEA % 2**32
    x = (x + seed) * (seed >> 16 | 1) % 2**32
    x ^= x * 0x05526C56 % 2**32
    return x ^ x * 0x53A22864 % 2**32


def test_laine_karras_second_implementation():
    x, seed = np.random.default_rng(0).integers(0, 2**32, (2, 200), np.uint32)
    expected = [hash_in_python(a, b) for a, b in zip(x.tolist(), seed.tolist(), strict=True)]
    np.testing.assert_array_equal(laine_karras(jnp.asarray(x), jnp.asarray(seed)), expected)


def linear_in_numpy(x, random):
    """The unit lower triangular matrix over GF(2) with rows from `random`, times the digits of x."""
    digits = x[:, None] >> np.arange(31, -1, -1, dtype=np.uint32) & 1
    matrix = np.tril(random[:, None] >> np.arange(31, -1, -1, dtype=np.uint32) & 1, -1) + np.eye(32, dtype=int)
    product = digits.astype(int) @ matrix.T % 2
    return (product << np.arange(31, -1, -1)).sum(1)


@pytest.mark.parametrize("dim", [1, 9])
def test_linear_second_implementation(dim):
    own = splitmix.absorb(splitmix.from_key(KEY), dim)
    random = np.asarray(splitmix.output(own, jnp.arange(32, dtype=jnp.uint32)).hi)
    shift = int(splitmix.output(own, 32).lo)
    expected = linear_in_numpy(points(dim, None)[:256], random) ^ shift
    np.testing.assert_array_equal(points(dim, "linear")[:256], expected)


def test_shift_is_one_xor():
    moved = points(6, "shift") ^ points(6, None)
    assert (moved == moved[0]).all()


@pytest.mark.parametrize("scramble", ["Owen", "", True, 0, ("owen",)])
def test_unknown_scrambles(scramble):
    with pytest.raises(ValueError, match=r"`scramble` must be one of None, 'shift', 'linear', 'owen', got"):
        check_scramble(scramble)
