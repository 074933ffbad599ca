"""A builder uses its key up, as JAX's own do: seen where JAX is asked to look, and costing nothing elsewhere."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.errors import KeyReuseError
from jax.experimental.key_reuse._core import KeyReuseSignature, Sink, function_type_signature

import qrjax

SHAPE = (4, 4)
# JAX's own is the first: what is a law for it, is one for ours.
INITIALIZERS = [
    jax.nn.initializers.he_normal(), qrjax.he_normal_qr(), qrjax.orthogonal_qr(), qrjax.he_uniform_hash(zero_mean=True),
]  # fmt: skip
each = pytest.mark.parametrize("init", INITIALIZERS, ids=["jax", "sobol", "orthogonal", "zero mean"])


@pytest.fixture
def checked():
    with jax.debug_key_reuse(True):
        yield


@pytest.mark.some(5)
@each
@pytest.mark.usefixtures("checked")
@pytest.mark.parametrize("way", ["eager", "jit", "vmap"])
def test_a_second_draw_is_refused(init, way):
    draw = {
        "eager": lambda key: init(key, SHAPE),
        "jit": jax.jit(lambda key: init(key, SHAPE)),
        "vmap": jax.vmap(lambda key: init(key, SHAPE)),
    }[way]
    key = jax.random.key(3)
    key = jax.random.split(key, 2) if way == "vmap" else key
    draw(key)
    with pytest.raises(KeyReuseError, match="Previously-consumed key"):
        draw(key)
    with pytest.raises(KeyReuseError, match="Previously-consumed key"):
        jax.vmap(jax.random.bits)(key) if way == "vmap" else jax.random.bits(key)


@each
@pytest.mark.usefixtures("checked")
def test_programs_that_draw_twice_are_refused(init):
    key = jax.random.key(3)
    with pytest.raises(KeyReuseError, match="already consumed"):
        jax.jit(lambda key: init(key, SHAPE) + init(key, SHAPE))(key)
    with pytest.raises(KeyReuseError, match="scan body function leads to key reuse"):
        jax.lax.scan(lambda c, _: (c, init(key, SHAPE)), 0, None, length=2)


@each
def test_the_signature_of_a_program_says_so(init):
    assert function_type_signature(lambda key: init(key, SHAPE), jax.random.key(3)) == KeyReuseSignature(Sink(0))


@pytest.mark.usefixtures("checked")
def test_what_only_leads_to_a_draw_uses_no_key_up():
    """Weights by index, streams and block keys, and the scrambles of several dimensions."""
    init, key = qrjax.he_normal_hash(), jax.random.key(3)
    whole = init(key, SHAPE)
    assert whole[1, 2] == init.at(key, SHAPE, (1, 2)) == init.at(key, SHAPE, (1, 2))
    root = jax.random.key(4)
    for name in ("query", "key"):
        np.testing.assert_array_equal(init.stream(name)(root, SHAPE), init(qrjax.block_key(root, name), SHAPE))
    for dim in (1, 2):
        qrjax.sobol.points_range(dim, 0, 4, scramble="owen", key=root)
        qrjax.random.uniform(4, dim=dim, scramble="owen", key=root)


@pytest.mark.usefixtures("checked")
def test_hash_draws_use_a_key_up_where_they_name_no_place_in_its_stream():
    key = jax.random.key(5)
    first, second = (qrjax.random.normal(4, source="hash", key=key, skip=skip) for skip in (0, 4))
    assert (first != second).all()
    qrjax.random.normal(4, source="hash", key=key)
    with pytest.raises(KeyReuseError, match="Previously-consumed key"):
        qrjax.random.uniform(4, source="hash", key=key)


@pytest.mark.usefixtures("checked")
def test_models_are_initialized_as_ever():
    class Network(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.Dense(3, kernel_init=qrjax.orthogonal_hash())(nn.Dense(4, kernel_init=qrjax.he_normal_qr())(x))

    x, key = jnp.ones((1, 5)), jax.random.key(3)
    found = Network().init(key, x)
    with jax.debug_key_reuse(False):
        expected = Network().init(key, x)
    jax.tree.map(np.testing.assert_array_equal, found, expected)
    qrjax.autoinit(Network(), x, seed=1)
    jax.tree.map(np.testing.assert_array_equal, qrjax.record(Network(), x, by="init", key=key).initial(), expected)


@pytest.mark.parametrize("init", INITIALIZERS[1:3], ids=["sobol", "orthogonal"])
def test_the_lowered_program_is_that_of_the_keys_words(init):
    key = jax.random.key(3)
    typed, words = (
        jax.jit(lambda key, read=read: init(read(key), SHAPE)).lower(key).as_text()
        for read in (lambda k: k, jax.random.key_data)
    )
    assert typed == words


def test_keys_may_be_differentiated_past():
    init, key = qrjax.he_normal_qr(), jax.random.key(3)
    nothing = np.zeros((), jax.dtypes.float0)
    _, slope = jax.jvp(lambda key, x: (x * init(key, SHAPE)).sum(), (key, 1.0), (nothing, 1.0))
    assert slope == pytest.approx(float(init(key, SHAPE).sum()), rel=1e-5)
