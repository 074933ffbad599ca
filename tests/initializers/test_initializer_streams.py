"""Streams: one key, and for every name weights of its own."""

import doctest
import inspect

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import plain
import pytest
from members import MEMBERS, SECOND_NAMES, named

import qrjax
from qrjax._initializers._initializer import _fill
from qrjax._initializers._streams import Streams

KEY = jax.random.key(23)
PATHS = [("query",), ("key",), (0,), (2**32 - 1,), ("decoder", 3, "värde"), ("",), ("a\0",), ("a",), ("abcd", "e")]
NAMES = ("query", "key", "value")


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("kind", ["threefry2x32", "rbg"])
def test_a_stream_draws_from_the_key_that_plain_python_makes(path, kind):
    init, key = qrjax.lecun_uniform_hash(), jax.random.key(5, impl=kind)
    words = plain.stream([int(word) for word in jax.random.key_data(key)], path)
    expected = init(jnp.array(words, jnp.uint32), (6, 5))
    np.testing.assert_array_equal(init.stream(*path)(key, (6, 5)), expected)
    np.testing.assert_array_equal(init(qrjax.block_key(key, *path), (6, 5)), expected)


@pytest.mark.turns(3)
@pytest.mark.some(2)
@pytest.mark.few("he_normal_qr", "random_uniform_hash zero_mean", "orthogonal_qr")
@pytest.mark.parametrize("m", **named([m for m in MEMBERS if m.stem not in SECOND_NAMES], sampled=True))
def test_streams_of_every_builder(m):
    init = m.initializer
    query = init.stream("query")
    drawn = [np.asarray(each(KEY, m.shape)) for each in (init, query, init.stream("key"))]
    alike = [(a == b)[a != 0].mean() for a, b in ((drawn[0], drawn[1]), (drawn[1], drawn[2]))]
    assert max(alike) < 0.01
    index = (2, slice(1, 9, 3))
    np.testing.assert_array_equal(query.at(KEY, m.shape, index), drawn[1][index])
    np.testing.assert_array_equal(query(jax.random.key_data(KEY), m.shape), drawn[1])
    assert query == m.initializer.stream("query")
    assert len({init, query, init.stream("key"), m.initializer.stream("query")}) == 3
    if not m.orthogonal:  # whose factorization may round otherwise when it is compiled into something else
        keys = jnp.stack([KEY, jax.random.key(1)])
        np.testing.assert_array_equal(jax.jit(jax.vmap(lambda key: query(key, m.shape)))(keys)[0], drawn[1])


def test_orthogonal_streams_are_orthogonal_and_distinct():
    for init, shape in ((qrjax.orthogonal_hash(2.0), (24, 24)), (qrjax.delta_orthogonal_hash(2.0), (3, 24, 24))):
        query, key, value = (np.asarray(init.stream(name)(KEY, shape)).reshape(-1, 24, 24)[-2:][0] for name in NAMES)
        for matrix in (query, key, value):
            np.testing.assert_allclose(matrix.T @ matrix, 4 * np.eye(24), atol=1e-5)
        # The trace of a product of two independent orthogonal matrices has the variance 1: 5 sigma.
        for a, b in ((query, key), (query, value), (key, value)):
            assert abs(np.trace(a.T @ b) / 4) < 5


def test_paths_join_and_an_empty_one_changes_nothing():
    init = qrjax.he_normal_qr(dtype="bfloat16")
    assert init.stream("decoder").stream(3, "query") == init.stream("decoder", np.int64(3), "query")
    assert init.stream() == init
    assert repr(init.stream("decoder").stream(3)) == "he_normal_qr(dtype='bfloat16').stream('decoder', 3)"
    assert init.stream("ab", "c") != init.stream("a", "bc")
    assert len({float(init.stream(*path)(KEY, (8, 8))[0, 0]) for path in PATHS}) >= len(PATHS) - 1  # bfloat16 is short


def test_streams_are_uncorrelated_with_each_other():
    init = qrjax.random_normal_hash(0.0, 1.0)
    drawn = [np.asarray(each(KEY, (300, 300))).ravel() for each in (init, *map(init.stream, NAMES))]
    correlation = np.corrcoef(drawn) - np.eye(4)
    assert np.abs(correlation).max() < 4 / 300  # 4 sigma


def test_all_streams_share_one_compiled_program():
    init = qrjax.glorot_normal_hash()
    init.stream("query")(KEY, (11, 13))
    before = _fill._cache_size()
    for path in (("value",), ("key", 7), ()):
        init.stream(*path)(KEY, (11, 13))
    assert _fill._cache_size() == before


def test_a_program_names_an_ordinary_key_and_stays_short():
    def fills(jaxpr):
        return [e for e in jaxpr.jaxpr.eqns if e.params.get("name") == "_fill"]

    init = qrjax.glorot_normal_hash()
    plainly = jax.make_jaxpr(lambda key: init(key, (11, 13)))(KEY)
    streamed = jax.make_jaxpr(lambda key: init.stream("decoder", "query", 3)(key, (11, 13)))(KEY)
    assert str(fills(plainly)[0].params["jaxpr"]) == str(fills(streamed)[0].params["jaxpr"])
    shorter = jax.make_jaxpr(lambda key: init.stream("decoder")(key, (11, 13)))(KEY)
    assert len(str(streamed).splitlines()) == len(str(shorter).splitlines())


class Attention(nn.Module):
    kernel_init: qrjax.Initializer

    @nn.compact
    def __call__(self, x):
        width = x.shape[-1]
        # One key for all three, as where the kernels are parts of one parameter's initializer.
        projection = self.param("qkv", self.packed, (3, width, width))
        query, key, value = (x @ part for part in projection)
        weights = nn.softmax(query @ jnp.swapaxes(key, -1, -2) / jnp.sqrt(jnp.float32(width)))
        return nn.Dense(width, kernel_init=self.kernel_init.stream("out"), name="out")(weights @ value)

    def packed(self, key, shape):
        return jnp.stack([self.kernel_init.stream(name)(key, shape[1:]) for name in NAMES])


@pytest.mark.few("init1")
@pytest.mark.parametrize("init", [qrjax.lecun_normal_hash(zero_mean=True), qrjax.orthogonal_hash()])
def test_the_matrices_of_an_attention(init):
    x = jax.random.normal(KEY, (4, 16))
    params = jax.jit(Attention(init).init)(KEY, x)["params"]
    query, key, value = np.asarray(params["qkv"])
    for a, b in ((query, key), (query, value), (key, value)):
        assert np.abs(a - b).min() > 0
        assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 4 / 16  # 4 sigma
    assert Attention(init) == Attention(init)
    assert params["out"]["kernel"].shape == (16, 16)


def test_a_linen_layer_and_flaxs_attention_take_a_stream():
    init, x = qrjax.he_normal_hash(), jnp.ones((2, 8))
    layers = {name: nn.Dense(8, kernel_init=init.stream(name)).init(KEY, x)["params"]["kernel"] for name in NAMES}
    assert len({float(kernel[0, 0]) for kernel in layers.values()}) == 3
    attention = nn.MultiHeadDotProductAttention(num_heads=2, kernel_init=init.stream("attention"))
    kernels = attention.init(KEY, jnp.ones((1, 3, 8)))["params"]
    assert len({float(kernels[name]["kernel"].ravel()[0]) for name in NAMES}) == 3


REFUSED = [
    ((("decoder", 3),), TypeError, r"`path` must be a string or an integer, got \('decoder', 3\)"),
    ((1.5,), TypeError, "`path` must be a string or an integer, got 1.5 of type float"),
    (("decoder", -1), ValueError, r"`path` must be in \[0, 2\*\*32\) if an integer, got -1"),
    ((2**32,), ValueError, r"`path` must be in \[0, 2\*\*32\) if an integer, got 4294967296"),
]


@pytest.mark.parametrize("init", [qrjax.he_normal_qr(), qrjax.orthogonal_hash()])
@pytest.mark.parametrize(("path", "kind", "message"), REFUSED)
def test_stream_refuses(init, path, kind, message):
    with pytest.raises(kind, match=message):
        init.stream(*path)


def test_the_docstring_runs():
    for test in doctest.DocTestFinder(recurse=False).find(Streams.stream, "stream", module=False):
        assert doctest.DocTestRunner().run(test).failed == 0
    assert "Raises:" in inspect.getdoc(Streams.stream)
