"""SplitMix64: published outputs, a second implementation, absorbing, and keys."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qrjax import splitmix

WORD, PAIR = 2**32, 2**64
GAMMA = 0x9E3779B97F4A7C15
STAGES = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, 1))  # shift, then multiplier
WORDS, PAIRS = st.integers(0, WORD - 1), st.integers(0, PAIR - 1)
COUNTERS = st.sampled_from([0, 1, 2**31, WORD - 2, WORD - 1]) | WORDS
COMPONENTS = st.integers(0, WORD - 1) | st.text(max_size=9)
exact = settings(deadline=None, derandomize=True, max_examples=100)

# Seed 0: the first outputs of Vigna's splitmix64.c; seed 1234567: the list in Rosetta Code's task
# "Pseudo-random numbers/Splitmix64".
KNOWN = {
    0: (0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F),
    1234567: (
        6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431, 16408922859458223821,
    ),
}  # fmt: skip
# Paths that a careless encoding confuses: by joining, by padding, by printing, by their lengths.
CONFUSABLE = [
    (), ("",), ("", ""), ("ab", "c"), ("a", "bc"), ("abc",), ("a", "b", "c"), ("c", "ab"), ("1",), (1,), (0,), ("0",),
    (0, 0), (1, 0), (0, 1), ("\0",), ("\0\0",), ("a\0",), ("a",), ("a", ""), ("", "a"), ("a/b",), ("a", "/", "b"),
    ("é",), ("e\u0301",), ("日本",), ("日", "本"), ("😀",), ("abcd",), ("abcd", ""), ("abcd\0",), ("abcde",),
    (WORD - 1,), ("a", 1), ("a1",), (1, "a"), (ord("a"),), (1, 97),
]  # fmt: skip


def reference(seed, counter):
    """Output `counter` of SplitMix64, in Python integers."""
    z = (seed + GAMMA * (counter + 1)) % PAIR
    for shift, multiplier in STAGES:
        z = (z ^ z >> shift) * multiplier % PAIR
    return z


def unfinalize(z):
    """The inverse of `finalize`: inverse multipliers, and the xorshifts undone from the top."""
    for shift, multiplier in reversed(STAGES):
        z = z * pow(multiplier, -1, PAIR) % PAIR
        z ^= z >> shift ^ z >> 2 * shift  # x ^ x >> s has the inverse x ^ x >> s ^ x >> 2 s for 3 s >= 64
    return z


def integer(pair):
    return int(pair.hi) << 32 | int(pair.lo)


def path_state(*path):
    return integer(splitmix.absorb_path(splitmix.from_int(0), path))


@pytest.mark.parametrize("seed", KNOWN)
def test_known_answers(seed):
    hi, lo = splitmix.output(splitmix.from_int(seed), jnp.arange(len(KNOWN[seed]), dtype=jnp.uint32))
    assert [int(h) << 32 | int(w) for h, w in zip(hi, lo, strict=True)] == list(KNOWN[seed])


@given(seed=PAIRS, counter=COUNTERS)
@exact
def test_second_implementation(seed, counter):
    assert integer(splitmix.output(splitmix.from_int(seed), counter)) == reference(seed, counter)


@given(z=PAIRS)
@exact
def test_finalizer_has_an_inverse(z):
    assert unfinalize(integer(splitmix.finalize(splitmix.from_int(z)))) == z


def test_finalizer_alone_keeps_zero():
    # Why `output` adds the gamma before the first output.
    assert integer(splitmix.finalize(splitmix.from_int(0))) == 0


@given(seed=PAIRS, words=st.lists(WORDS, max_size=4))
@settings(exact, max_examples=30)
def test_absorb_is_a_chain_of_outputs(seed, words):
    expected = seed
    for w in words:
        expected = reference(expected, w)
    state = splitmix.from_int(seed)
    assert integer(splitmix.absorb(state, *words)) == expected
    assert integer(splitmix.absorb_sequence(state, words)) == integer(splitmix.absorb(state, len(words), *words))


def test_absorb_broadcasts():
    state = splitmix.absorb(splitmix.from_int(7), np.arange(3)[:, None], np.arange(4)[None, :])
    assert state.hi.shape == state.lo.shape == (3, 4)
    for i, j in itertools.product(range(3), range(4)):
        assert int(state.hi[i, j]) == reference(reference(7, i), j) >> 32


def test_confusable_paths_differ():
    states = [path_state(*path) for path in CONFUSABLE]
    assert len(set(states)) == len(set(CONFUSABLE)) == len(CONFUSABLE)


@given(paths=st.lists(st.lists(COMPONENTS, max_size=3).map(tuple), max_size=4))
@settings(exact, max_examples=25)
def test_absorb_path_is_injective(paths):
    # The 64-bit states of four paths meet by chance once in 2**61 examples; a collision is structural.
    assert len({path_state(*path) for path in paths}) == len(set(paths))


def test_absorb_path_encoding():
    """The encoding is part of the bits: path length; kind, byte count, bytes; kind, integer."""
    words = [2, 4, 0, 5, int.from_bytes(b"laye", "little"), ord("r"), 2, 1, 7]
    assert path_state("layer", 7) == integer(splitmix.absorb(splitmix.from_int(0), *words))


@pytest.mark.parametrize("integer_like", [np.int64(7), np.uint8(7), jnp.array(7)])
def test_absorb_path_takes_any_integer(integer_like):
    assert path_state("layer", integer_like) == path_state("layer", 7)


@pytest.mark.parametrize(
    ("path", "error", "message"),
    [
        ("kernel", TypeError, r"`path` must be a sequence of components, got the string 'kernel'; write \('kernel',\)"),
        (("a", 1.0), TypeError, r"`path` must hold strings and integers, got 1.0 of type float"),
        ((None,), TypeError, r"`path` must hold strings and integers, got None of type NoneType"),
        ((b"a",), TypeError, r"`path` must hold strings and integers, got b'a' of type bytes"),
        ((("a",),), TypeError, r"`path` must hold strings and integers, got \('a',\)"),
        ((-1,), ValueError, r"`path` must hold integers in \[0, 2\*\*32\), got -1"),
        ((WORD,), ValueError, r"`path` must hold integers in \[0, 2\*\*32\), got 4294967296; use its string"),
    ],
)
def test_absorb_path_refuses(path, error, message):
    with pytest.raises(error, match=message):
        splitmix.absorb_path(splitmix.from_int(0), path)


@pytest.mark.parametrize("seed", [1.0, "1", None])
def test_from_int_refuses(seed):
    with pytest.raises(TypeError, match=r"`seed` must be an integer, got .* of type"):
        splitmix.from_int(seed)


@given(seed=st.integers(-(2**70), 2**70))
@exact
def test_from_int_wraps(seed):
    assert integer(splitmix.from_int(seed)) == seed % PAIR


def test_stack():
    words = splitmix.stack(splitmix.Pair(jnp.uint32(1), jnp.arange(3, dtype=jnp.uint32)))
    np.testing.assert_array_equal(words, [[1, 0], [1, 1], [1, 2]])


@pytest.mark.few("threefry2x32", "rbg")
@pytest.mark.parametrize("impl", ["threefry2x32", "rbg", "unsafe_rbg"])
def test_typed_and_raw_keys_agree(impl):
    key = jax.random.fold_in(jax.random.key(1, impl=impl), 5)
    raw = jax.random.key_data(key)
    expected = integer(splitmix.from_key(key))
    first, second, *others = map(int, raw)
    state = first << 32 | second
    for w in (len(raw), *others):
        state = reference(state, w)
    assert expected == state
    for same in (raw, np.asarray(raw)):
        assert integer(splitmix.from_key(same)) == expected
    assert integer(jax.jit(splitmix.from_key)(key)) == expected


def test_keys_of_two_and_of_four_words_differ():
    # A threefry key is a prefix of this rbg key.
    two, four = np.array([1, 2], np.uint32), np.array([1, 2, 0, 0], np.uint32)
    assert integer(splitmix.from_key(two)) != integer(splitmix.from_key(four))


def test_keys_under_vmap():
    keys = jax.random.split(jax.random.key(0), 5)
    for batch in (keys, jax.random.key_data(keys)):
        states = jax.vmap(splitmix.from_key)(batch)
        for key, hi, lo in zip(keys, *states, strict=True):
            assert splitmix.from_key(key) == (hi, lo)


@pytest.mark.parametrize(
    ("key", "message"),
    [
        (0.5, r"`key` must be a JAX key, got 0.5 of type float; make one with jax.random.key\(0\)"),
        (0, r"`key` must be a JAX key, got 0 of type int"),
        ("key", r"`key` must be a JAX key, got 'key' of type str"),
        (None, r"`key` must be a JAX key, got None of type NoneType"),
        ([0, 1], r"`key` must be a JAX key, got \[0, 1\]; make one with jax"),
        (np.zeros(2, np.float32), r"`key` must be a JAX key, got an array of float32 of shape \(2,\)"),
        (np.zeros(2, np.int32), r"`key` must be a JAX key, got an array of int32 of shape \(2,\)"),
        (np.zeros(3, np.uint32), r"`key` must be a JAX key, got an array of uint32 of shape \(3,\)"),
        (np.uint32(0), r"`key` must be a JAX key, got an array of uint32 of shape \(\)"),
        (np.zeros((1, 1, 2), np.uint32), r"`key` must be a JAX key, got an array of uint32 of shape \(1, 1, 2\)"),
        (np.zeros((5, 2), np.uint32), r"`key` must be a single key, got an array of keys of shape \(5, 2\); map over"),
    ],
)  # fmt: skip
def test_what_is_not_a_key(key, message):
    with pytest.raises(TypeError, match=message):
        splitmix.from_key(key)


def test_an_array_of_typed_keys_is_not_a_key():
    with pytest.raises(TypeError, match=r"`key` must be a single key, got an array of keys of shape \(3,\); map over"):
        splitmix.from_key(jax.random.split(jax.random.key(0), 3))


def test_same_bits_in_every_mode():
    def everything(key, counter):
        return splitmix.stack(splitmix.output(splitmix.absorb_path(splitmix.from_key(key), ("a", 1)), counter))

    key, counter = jax.random.key(3), jnp.arange(WORD - 5, WORD, dtype=jnp.uint32)
    expected = everything(key, counter)
    assert expected.dtype == jnp.uint32
    np.testing.assert_array_equal(jax.jit(everything)(key, counter), expected)
    np.testing.assert_array_equal(jax.vmap(everything, (None, 0))(key, counter), expected)
    with jax.enable_x64(True):
        wide = everything(jax.random.key(3), np.arange(WORD - 5, WORD))
    assert wide.dtype == jnp.uint32
    np.testing.assert_array_equal(wide, expected)
