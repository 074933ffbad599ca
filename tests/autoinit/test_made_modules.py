"""A function of a key in the place of an NNX module: what it makes is sized without being drawn first."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import qrjax

KEY = jax.random.key(3)
X = jnp.linspace(-1.0, 2.0, 4 * 6 * 8).reshape(4, 6, 8)


class Normed(nnx.Module):
    """A state, a scale, a random stream, and what is made by hand."""

    def __init__(self, rngs):
        self.first = nnx.Linear(8, 16, rngs=rngs)
        self.norm = nnx.BatchNorm(16, use_running_average=False, rngs=rngs)
        self.drop = nnx.Dropout(0.1, rngs=rngs)
        self.shift = nnx.Param(jnp.arange(16.0))
        self.last = nnx.Linear(16, 4, rngs=rngs)

    def __call__(self, x, scale=1.0):
        return self.last(self.drop(nnx.relu(self.norm(self.first(x)) + self.shift[None, None]))) * scale


def normed(key):
    return Normed(nnx.Rngs(key))


def recurrent(key):
    rngs = nnx.Rngs(key)
    return nnx.RNN(nnx.LSTMCell(8, 16, rngs=rngs), rngs=rngs)


def attention(key):
    return nnx.MultiHeadAttention(2, 8, decode=False, rngs=nnx.Rngs(key))


MAKERS = {make.__name__: make for make in (normed, recurrent, attention)}


def numbers(variables):
    state = variables if isinstance(variables, nnx.State) else nnx.state(variables)
    values = {path: v.get_value() for path, v in nnx.to_flat_state(state)}
    return {p: jax.random.key_data(v) if jnp.issubdtype(v.dtype, jax.dtypes.prng_key) else v for p, v in values.items()}


def assert_equal(found, expected):
    found, expected = numbers(found), numbers(expected)
    assert found.keys() == expected.keys()
    for path, value in expected.items():
        np.testing.assert_array_equal(found[path], value, err_msg=str(path))


@pytest.mark.few("normed", "attention")
@pytest.mark.parametrize("name", MAKERS)
def test_variables_are_those_of_the_module_that_it_makes(name):
    assert_equal(qrjax.autoinit(MAKERS[name], X, key=KEY), qrjax.autoinit(MAKERS[name](KEY), X, key=KEY))


def test_keys_of_another_kind():
    class Drawn(nnx.Module):
        def __init__(self, key):
            self.first = nnx.Linear(8, 4, rngs=nnx.Rngs(key))
            self.shift = nnx.Param(jax.random.normal(key, (4,)))

        def __call__(self, x):
            return self.first(x) + self.shift[None, None]

    def drawn(key):
        return Drawn(key)

    key = jax.random.key(1, impl="rbg")
    assert_equal(qrjax.autoinit(drawn, X, key=key), qrjax.autoinit(Drawn(key), X, key=key))


def test_nothing_of_the_models_size_is_drawn():
    class Vast(nnx.Module):
        def __init__(self, rngs):
            self.table = nnx.Linear(8, 2**36, use_bias=False, rngs=rngs)

        def __call__(self, x):
            return self.table(x)

    (row, *_) = qrjax.analyze(lambda key: Vast(nnx.Rngs(key)), jax.ShapeDtypeStruct((2, 8), jnp.float32))
    assert row.gain == pytest.approx(8**-0.5, rel=1e-6)
    rates = qrjax.learning_rates(lambda key: Vast(nnx.Rngs(key)), jax.ShapeDtypeStruct((2, 8), jnp.float32))
    assert len(jax.tree.leaves(rates)) == 1


def test_within_programs_and_over_many_seeds():
    alone = nnx.state(qrjax.autoinit(normed, X, seed=1))
    assert_equal(jax.jit(lambda seed: nnx.state(qrjax.autoinit(normed, X, seed=seed)))(1), alone)
    many = jax.vmap(lambda seed: nnx.state(qrjax.autoinit(normed, X, seed=seed), nnx.Param))(jnp.arange(2))
    np.testing.assert_array_equal(many["first"]["kernel"].get_value()[1], alone["first"]["kernel"].get_value())


def test_readings_and_records_take_it_too():
    made = qrjax.autoinit(normed, X, key=KEY)
    measured = qrjax.measure(normed, nnx.state(made), X)
    assert [row.path for row in measured] == [row.path for row in qrjax.analyze(normed, X)]
    assert_equal(qrjax.calibrate(normed, made, X), qrjax.calibrate(made, made, X))
    record = qrjax.record(normed, X, key=KEY)
    assert record.weight("last/kernel", (3, 2)) == made.last.kernel[3, 2]
    own = qrjax.record(normed, X, by="init", key=KEY)
    np.testing.assert_array_equal(own.initial("shift"), jnp.arange(16.0))


def test_what_the_call_lacks_is_seen_before_anything_else():
    with pytest.raises(TypeError, match=r"neither this function nor the module's call has an argument `scal`.*scale"):
        qrjax.autoinit(normed, X, scal=2.0)


def test_a_function_that_makes_no_module():
    with pytest.raises(TypeError, match=r"must make a flax.nnx.Module of a key, got 3 of type int.*pass the pair"):
        qrjax.autoinit(lambda _: 3, X)
    with pytest.raises(TypeError, match=r"of a function f\(params, x\), pass \(init, f\)"):
        qrjax.autoinit(lambda _, x: x, X)
