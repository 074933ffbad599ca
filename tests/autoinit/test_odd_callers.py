"""Modules that nn.jit shares a trace among, empty batches, NaN, what is no array among variables, inputs, outputs."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import qrjax

X = np.random.default_rng(0).standard_normal((8, 6), np.float32)


class Jitted(nn.Module):
    @nn.jit
    @nn.compact
    def __call__(self, x):
        return nn.relu(nn.Dense(6)(x))


class Stack(nn.Module):
    """Layers that nn.jit traces once for all that are alike, and once for all calls."""

    depth: int = 3

    @nn.compact
    def __call__(self, x):
        for _ in range(self.depth):
            x = Jitted()(x)
        return nn.jit(nn.Dense)(3)(x)


@pytest.mark.parametrize(
    "mutable",
    [None, False, *(pytest.param(m, marks=pytest.mark.slow) for m in (True, "a", ["a"], nn.DenyList("params")))],
)
def test_equal_jitted_modules_have_rows_of_their_own(mutable):
    for depth in (3, 3, 4, 1):  # later traces meet what the first left in JAX's tables
        places = [f"Jitted_{i}{name}" for i in range(depth) for name in ("/Dense_0", "")] + ["JitDense_0", ""]
        report = qrjax.analyze(Stack(depth), X, mutable=mutable)
        assert [row.path for row in report] == places
        assert [row.weight for row in report.weights] == [f"{place}/kernel" for place in places[:-1:2]]
        assert [row.module for row in report if row.gain is not None] == ["Dense"] * (depth + 1)
        assert report.weights[-1].gain == pytest.approx(np.sqrt(2 / 6), rel=1e-3)


@dataclasses.dataclass
class Batch:
    x: object


class Wrapped(nn.Module):
    """A module that takes and returns what it is told to."""

    taken: object = staticmethod(lambda x: x)
    returned: object = staticmethod(lambda y: y)

    @nn.compact
    def __call__(self, x):
        return self.returned(nn.Dense(3)(self.taken(x)))


def test_a_batch_of_no_example():
    rows = qrjax.analyze(Wrapped(), X[:0], gradients=True)
    assert rows[0].gain == pytest.approx(np.sqrt(1 / 6))
    assert rows[0].gradient_norm == 0


@pytest.mark.parametrize("function", [lambda w: w, jnp.tril])
def test_a_part_of_a_weight_that_has_no_row(function):
    """Nothing comes in, and nothing goes out."""

    def apply(p, x):
        return x @ p["whole"] + x[:, :0] @ function(p["none"])[:0]

    init = lambda key, _x: {name: jax.random.normal(key, (6, 6)) for name in ("whole", "none")}  # noqa: E731
    report = qrjax.analyze((init, apply), X, select="whole")
    moments = {row.weight: row.second_moment for row in report.weights}
    assert moments == {"whole": pytest.approx(1), "none": 0}


def test_arrays_among_the_inputs_that_jax_does_not_see():
    message = "the call's arguments hold an object of type Batch, whose arrays JAX does not see; register .*dataclass"
    with pytest.raises(TypeError, match=message):
        qrjax.autoinit(Wrapped(taken=lambda batch: batch.x), Batch(X))


def test_arrays_of_a_plain_class_are_settings_and_it_is_said():
    class Plain:
        def __init__(self, scale):
            self.scale = scale

    module = Wrapped(taken=lambda given: given["x"] * given["by"].scale)
    report = qrjax.analyze(module, {"x": X, "by": Plain(np.full((1, 6), 2, np.float32))})
    assert report[0].gain == pytest.approx(qrjax.analyze(Wrapped(), X)[0].gain / 2, rel=1e-3)
    assert any("hold an object of type Plain" in finding for finding in report.findings)
    numbers = qrjax.analyze(module, {"x": X, "by": Plain(np.float32(2))})
    assert not any("Plain" in finding for finding in numbers.findings)


def test_numbers_of_numpy_among_settings():
    module = Wrapped(taken=lambda given: given["x"] * given["scale"].x)
    found = qrjax.analyze(module, {"x": X, "scale": Batch(np.float32(2.0))})
    assert found[0].gain == pytest.approx(qrjax.analyze(Wrapped(), X)[0].gain / 2)


def test_two_weights_of_one_path():
    pair = (
        lambda key, _: {"a/b": jax.random.normal(key, (6, 3)), "a": {"b": jax.random.normal(key, (3, 3))}},
        lambda params, x: x @ params["a/b"] @ params["a"]["b"],
    )
    with pytest.raises(ValueError, match=r"two variables have the path 'a/b', by the keys \('a', 'b'\) and"):
        qrjax.autoinit(pair, X)
    with pytest.raises(ValueError, match="two variables have the path 'a/b'"):
        qrjax.changes(pair[0](jax.random.key(0), X), pair[0](jax.random.key(0), X))


def looped(loop):
    """A weight used in four steps, of which the last two give NaN."""

    def apply(params, x):
        def step(i, x):
            return jnp.where(i > 1, jnp.nan, 1.0) * (x @ params["w"])

        if loop == "while":
            return jax.lax.fori_loop(0, 4, step, x)
        return jax.lax.scan(lambda x, i: (step(i, x), None), x, jnp.arange(4))[0]

    return lambda key, _: {"w": jax.random.normal(key, (6, 6))}, apply


SCANNED = pytest.param(looped("scan"), "", marks=pytest.mark.slow)
LOGARITHM = nn.Sequential([nn.Dense(4), jnp.log, nn.Dense(3)])


@pytest.mark.parametrize(("module", "place"), [(LOGARITHM, "layers_2"), (looped("while"), ""), SCANNED])
def test_what_is_no_number_is_said(module, place):
    variables = (module.init if isinstance(module, nn.Module) else module[0])(jax.random.key(0), X)
    found = qrjax.measure(module, variables, X).findings[0]
    assert found.severity == "error"
    assert found.startswith(f"not a number: {place or 'the whole model'} holds NaN, ")
    with pytest.warns(qrjax.CalibrationWarning, match=r"is not the target 1 but: .* \(NaN\)"):
        qrjax.calibrate(module, variables, X)


def test_no_example_to_measure():
    variables = Wrapped().init(jax.random.key(0), X)
    for reader in (qrjax.measure, qrjax.calibrate):
        with pytest.raises(ValueError, match=r"`sample_input` must hold an example to be measured, .* shape \(0, 6\)"):
            reader(Wrapped(), variables, X[:0])


class Scaled(nnx.Module):
    def __init__(self, scale):
        self.linear, self.scale = nnx.Linear(6, 3, rngs=nnx.Rngs(0)), scale

    def __call__(self, x):
        return self.linear(x)


def test_a_text_in_a_variable():
    with pytest.raises(TypeError, match="must hold arrays in its variables, got 'big' of type str at 'scale'"):
        qrjax.autoinit(Scaled(nnx.Variable("big")), X)


@pytest.mark.parametrize("reader", [lambda v, x: qrjax.measure(nn.Dense(3), v, x)[0].measured_mean,
                                    lambda v, x: qrjax.calibrate(nn.Dense(3), v, x)])  # fmt: skip
def test_what_is_measured_is_not_traced(reader):
    variables = qrjax.autoinit(nn.Dense(3), X)
    for traced in (lambda v: reader(v, X), lambda v: reader(variables, v["params"]["kernel"].T)):
        with pytest.raises(TypeError, match=r"arrays are traced here; call qrjax.measure .* outside of jit"):
            jax.jit(traced)(variables)


def test_sizes_that_are_no_numbers():
    (batch,) = jax.export.symbolic_shape("batch")
    with pytest.raises(TypeError, match=r"must have sizes that are numbers, got the symbolic \(batch, 6\)"):
        qrjax.analyze(nn.Dense(3), jax.ShapeDtypeStruct((batch, 6), jnp.float32))


# -- what a call returns ----------------------------------------------------------------------------------------------


def test_texts_among_what_a_call_returns():
    module = Wrapped(returned=lambda y: {"name": "logits", "y": y, "more": (None, 2.0)})
    variables, report = qrjax.autoinit(module, X, report=True)
    assert report[0].gain == qrjax.analyze(Wrapped(), X)[0].gain
    loss = qrjax.measure(module, variables, X, loss=lambda out: (out["y"] ** 2).sum())
    assert loss[0].measured_gradient > 0


class Law:
    """A distribution, of which JAX knows nothing."""

    def __init__(self, mean, stddev):
        self.mean, self.stddev, self.name = mean, stddev, "law"


class Policy(nn.Module):
    @nn.compact
    def __call__(self, x):
        return Law(nn.Dense(4)(x), jnp.exp(self.param("log", nn.initializers.zeros, (4,)))), "a name"


class NNXPolicy(nnx.Module):
    def __init__(self, rngs):
        self.mean = nnx.Linear(6, 4, rngs=rngs)

    def __call__(self, x):
        return Law(self.mean(x), 1.0)


def test_a_call_may_return_what_is_no_array():
    variables, report = qrjax.autoinit(Policy(), X, head=0.01, report=True)
    assert report[0].second_moment == pytest.approx(0.01)
    (row,) = qrjax.measure(Policy(), variables, X).weights
    assert row.measured_second_moment == pytest.approx(0.01, rel=0.5)
    assert qrjax.analyze(NNXPolicy(nnx.Rngs(0)), X, head=0.01)[0].second_moment == pytest.approx(0.01)


class Within(nn.Module):
    @nn.compact
    def __call__(self, x):
        law, _ = Policy()(x)
        return Law(law, law.stddev)


def test_a_loss_of_what_is_no_array():
    def of_object(found):
        law, name = found
        assert (type(law), law.name, name) == (Law, "law", "a name")
        return jnp.mean(law.mean**2) + jnp.mean(law.stddev)

    def of_arrays(params):
        law = Policy().apply({"params": params}, X)[0]
        return jnp.mean(law.mean**2) + jnp.mean(law.stddev)

    variables = qrjax.autoinit(Policy(), X)
    (row,) = qrjax.measure(Policy(), variables, X, loss=of_object).weights
    gradient = jax.grad(of_arrays)(variables["params"])["Dense_0"]["kernel"]
    assert row.measured_weight_gradient == pytest.approx(float(jnp.mean(gradient**2)), rel=1e-4)
    check = qrjax.coordinate_check(lambda _: Policy(), [8, 16], X, of_object, seeds=1, steps=1)
    np.testing.assert_array_equal(check.losses[0], check.losses[1])
    variables = qrjax.autoinit(Within(), X)
    with pytest.raises(TypeError, match="`loss` gets what the model returns, but no object of type Law can be made"):
        qrjax.measure(Within(), variables, X, loss=lambda law: jnp.mean(law.mean.mean))
