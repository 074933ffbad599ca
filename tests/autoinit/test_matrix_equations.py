"""Programs that solve linear systems, print, or scan by halves: what public models do beside their layers."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import qrjax
from qrjax._interpreter._model import laws_of
from qrjax._rules import _randomness
from qrjax._rules._operands import Opaque

X = jax.random.normal(jax.random.key(0), (256, 16))
EYE = np.eye(16, dtype=np.float32)


def pair(between):
    """A weight, a function of what it makes, and a weight."""

    def init(key, _x):
        keys = jax.random.split(key)
        return {"first": jax.random.normal(keys[0], (16, 16)), "last": jax.random.normal(keys[1], (16, 64))}

    return init, lambda params, x: between(x @ params["first"]) @ params["last"]


def printed(y):
    jax.debug.print("{}", y[0, 0])
    return jnp.tanh(y)


BETWEEN = {
    "a linear system": lambda y: jnp.linalg.solve(4 * EYE, y.T).T,
    "an inverse": lambda y: y @ jnp.linalg.inv(2 * EYE + 0.1),
    "an exponential": lambda y: y @ jax.scipy.linalg.expm(0.1 * (np.tri(16, dtype=np.float32) - np.tri(16).T)),
    "conjugate gradients": lambda y: jax.scipy.sparse.linalg.cg(lambda v: 2 * v + 0.1 * v @ (EYE + 0.1), y)[0],
    "a scan by halves": lambda y: jax.lax.associative_scan(jnp.maximum, y, axis=1),
    "a print": printed,
    "waves of nothing": lambda y: y + jnp.fft.irfft(jnp.fft.rfft(jnp.pad(0 * y, ((0, 0), (0, 16)))))[:, :16],
}


@pytest.mark.some(3)
@pytest.mark.parametrize("name", BETWEEN)
def test_every_reading_of_the_walk(name):
    """The output of four draws is the target within 5 sigma of the luck of 16 inputs that are summed alike."""
    model = pair(BETWEEN[name])
    with jax.numpy_dtype_promotion("standard"):
        moment = jax.jit(lambda variables: jnp.mean(jnp.square(model[1](variables, X))))
        moments = [float(moment(qrjax.autoinit(model, X, seed=seed))) for seed in range(4)]
        assert np.mean(moments) == pytest.approx(1, rel=0.4)
        rows = qrjax.analyze(model, X, gradients=True).weights
        assert all(np.isfinite(row.weight_gradient) and row.weight_gradient > 0 for row in rows)
        assert all(float(rate) > 0 for rate in jax.tree.leaves(qrjax.learning_rates(model, X)))


def with_matrix(between):
    """A function of a matrix of weights and the inputs, and a weight."""

    def init(key, _x):
        keys = jax.random.split(key)
        return {"matrix": jax.random.normal(keys[0], (16, 16)), "last": jax.random.normal(keys[1], (16, 64))}

    return init, lambda params, x: between(params["matrix"], x) @ params["last"]


MATRICES = {
    "solved": lambda w, x: jnp.linalg.solve(EYE + 0.1 * w, x.T).T,
    "inverted": lambda w, x: x @ jnp.linalg.inv(EYE + 0.1 * w),
    "triangular": lambda w, x: jax.scipy.linalg.solve_triangular(jnp.tril(w) / 4 + 3 * EYE, x.T, lower=True).T,
    "a root": lambda w, x: x @ jnp.linalg.cholesky(w @ w.T + EYE),
    "orthogonal": lambda w, x: x @ jnp.linalg.qr(w)[0],
}


@pytest.mark.filterwarnings("ignore::qrjax.UntouchedWarning")
@pytest.mark.some(3)
@pytest.mark.parametrize("name", MATRICES)
def test_matrices_are_more_than_their_elements(name):
    """Which element is where decides: of eight draws the mean is within four times what 1,024 weights make of luck."""
    model = with_matrix(MATRICES[name])
    drawn = [model[1](qrjax.autoinit(model, X, seed=seed), X) for seed in range(8)]
    assert float(jnp.mean(jnp.square(jnp.stack(drawn)))) == pytest.approx(1, rel=0.25)


def test_a_print_changes_no_gradient():
    plain, told = (qrjax.analyze(pair(f), X, gradients=True) for f in (jnp.tanh, printed))
    assert [row.weight_gradient for row in plain.weights] == [row.weight_gradient for row in told.weights]


def test_a_determinant_beside_a_signal_is_no_layer():
    """What is added is as the module draws it, and no look-up in a table; nor is it left without a word."""
    x = jax.random.normal(jax.random.key(0), (64, 16))

    def init(key, *_):
        keys = jax.random.split(key)
        return {"w": jax.random.normal(keys[0], (16, 8)), "m": jax.random.normal(keys[1], (16, 16))}

    report = qrjax.analyze((init, lambda p, x: x @ p["w"] + jnp.linalg.slogdet(p["m"])[1]), x)
    assert [row.weight for row in report.weights] == ["w"]
    assert not any("tied" in finding for finding in report.findings)
    assert any("left as the module draws it: m" in finding for finding in report.findings)


@pytest.mark.slow  # inverses and factorizations are computed on their elements, too
def test_an_exponential_of_weights_has_the_branch_that_its_elements_choose():
    x = jax.random.normal(jax.random.key(0), (64, 16))

    def init(key, *_):
        keys = jax.random.split(key, 2)
        return {n: jax.random.normal(k, (16, 16)) for n, k in zip("mw", keys, strict=True)}

    def apply(p, x):
        return jnp.tanh(x @ jax.scipy.linalg.expm(p["m"])) @ p["w"]

    variables, report = qrjax.autoinit((init, apply), x, report=True)
    # One drawn matrix of 16 rows is a quarter off at times.
    rows = qrjax.measure((init, apply), variables, x)
    for row, predicted in zip(rows, report, strict=True):
        assert row.measured_second_moment == pytest.approx(predicted.second_moment, rel=0.4)


@pytest.mark.parametrize("shape", [(64, 64), (96, 32), (32, 96)])
def test_orthogonal_matrices_of_initializers_are_not_factorized(shape, monkeypatch):
    monkeypatch.setattr(_randomness, "sample", lambda equation, *_: pytest.fail(equation.name))
    program = jax.make_jaxpr(lambda key: nn.initializers.orthogonal()(key, shape))(jax.random.key(0))
    (law,) = laws_of(program, [Opaque(())])
    assert law.mean == pytest.approx(0, abs=1e-3)
    assert law.second_moment == pytest.approx(1 / max(shape), rel=1e-3)
