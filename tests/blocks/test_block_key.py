"""block_key: known answers from a second implementation, the same bits everywhere, paths that cannot meet."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import qrjax

MASK = 2**64 - 1
# Any Unicode but lone surrogates: empty, with zero bytes, combining, right-to-left, beyond the basic plane.
NAMES = st.one_of(st.text(max_size=12), st.integers(0, 2**32 - 1))
PATHS = st.lists(NAMES, min_size=1, max_size=4).map(tuple)


def output(state, counter):
    """SplitMix64 in Python's integers (Steele, Lea, Flood 2014, figure 17)."""
    z = (state + 0x9E3779B97F4A7C15 * (counter + 1)) & MASK
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & MASK
    z = (z ^ z >> 27) * 0x94D049BB133111EB & MASK
    return z ^ z >> 31


def words_of(part):
    if isinstance(part, int):
        return [1, part]
    data = part.encode()
    data_words = np.frombuffer(data + b"\0" * (-len(data) % 4), "<u4").tolist()
    return [0, len(data), *data_words]


def expected(key_words, path):
    state = key_words[0] << 32 | key_words[1]
    stream = [len(key_words), *key_words[2:], len(path)]
    for part in path:
        stream += [len(words_of(part)), *words_of(part)]
    for word in stream:
        state = output(state, word)
    pairs = [divmod(output(state, i), 2**32) for i in range(len(key_words) // 2)]
    return [half for pair in pairs for half in pair]


def data(key):
    return jax.random.key_data(key).tolist()


def test_the_second_implementation_is_splitmix():
    # From seed 0, as published with Vigna's C code.
    assert [output(0, i) for i in range(3)] == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        (("encoder", 3), [1229023743, 1565625432]),
        ((64,), [1684166304, 2010157889]),
        (("64",), [1503591835, 3680193492]),
    ],
)
def test_known_answers(path, answer):
    assert data(qrjax.block_key(jax.random.key(0), *path)) == answer == expected([0, 0], path)


@settings(max_examples=60, deadline=None)
@given(PATHS, st.lists(st.integers(0, 2**32 - 1), min_size=2, max_size=2))
def test_any_path_is_the_second_implementation(path, words):
    key = jax.random.wrap_key_data(jnp.array(words, jnp.uint32))
    assert data(qrjax.block_key(key, *path)) == expected(words, path)


@settings(max_examples=60, deadline=None)
@given(PATHS, PATHS)
def test_paths_differ_where_they_differ(one, two):
    key = jax.random.key(1)
    found = [data(qrjax.block_key(key, *path)) for path in (one, two)]
    same = one == two and [type(p) for p in one] == [type(p) for p in two]
    assert (found[0] == found[1]) == same


def test_components_have_their_lengths_before_them():
    paths = [
        ("ab", "c"),
        ("a", "bc"),
        ("abc",),
        ("a", "b", "c"),
        ("1",),
        (1,),
        (1, 1),
        ("",),
        ("", ""),
        ("a\0",),
        ("a",),
    ]
    key = jax.random.key(0)
    assert len({tuple(data(qrjax.block_key(key, *path))) for path in paths}) == len(paths)
    assert data(qrjax.block_key(qrjax.block_key(key, "a"), "b")) != data(qrjax.block_key(key, "a", "b"))


@pytest.mark.parametrize("impl", ["threefry2x32", "rbg", "unsafe_rbg"])
def test_the_same_kind_of_key_comes_back(impl):
    key, raw = jax.random.key(7, impl=impl), jax.random.PRNGKey(7, impl=impl)
    typed, words = qrjax.block_key(key, "a", 1), qrjax.block_key(raw, "a", 1)
    assert typed.dtype == key.dtype
    assert (words.dtype, words.shape) == (raw.dtype, raw.shape)
    assert data(typed) == words.tolist() == expected(raw.tolist(), ("a", 1))
    jax.random.normal(typed, (2,))


@pytest.mark.parametrize("path", [("a", 1), ("a long name " * 40, 2**32 - 1)])
def test_eager_jit_and_vmap_have_the_same_bits(path):
    eager = [data(qrjax.block_key(jax.random.key(seed), *path)) for seed in range(3)]

    def derive(seed):
        return jax.random.key_data(qrjax.block_key(jax.random.key(seed), *path))

    assert [jax.jit(derive)(seed).tolist() for seed in range(3)] == eager
    assert jax.vmap(derive)(jnp.arange(3)).tolist() == eager
    with jax.enable_x64(True):
        assert [derive(seed).tolist() for seed in range(3)] == eager


def test_numpy_integers_and_strings_are_integers_and_strings():
    key = jax.random.key(0)
    assert data(qrjax.block_key(key, np.int64(5), np.str_("a"))) == data(qrjax.block_key(key, 5, "a"))


@pytest.mark.parametrize(
    ("path", "error", "message"),
    [
        ((), ValueError, "`path` must have one component or more, got none"),
        ((-1,), ValueError, r"`path` must be in \[0, 2\*\*32\) if an integer, got -1; use the string '-1'"),
        ((2**32,), ValueError, "got 4294967296; use the string '4294967296'"),
        (("a", True), TypeError, "`path` must be a string or an integer, got True; use 'True'"),
        ((1.0,), TypeError, "`path` must be a string or an integer, got 1.0 of type float"),
        ((("a", "b"),), TypeError, "`path` must be a string or an integer, got \\("),
        (("\ud800",), ValueError, "`path` must have a UTF-8 form if a string, got '.ud800' with a lone surrogate"),
    ],
)
def test_bad_paths(path, error, message):
    with pytest.raises(error, match=message):
        qrjax.block_key(jax.random.key(0), *path)


def test_bad_keys():
    with pytest.raises(TypeError, match="`key` must be a JAX key, got 3"):
        qrjax.block_key(3, "a")
    with pytest.raises(TypeError, match="`key` must be a single key"):
        qrjax.block_key(jax.random.split(jax.random.key(0)), "a")
