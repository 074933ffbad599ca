"""Predictions that nobody should believe: no gain follows one, and the report says so."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import qrjax

X = jax.random.normal(jax.random.key(0), (64, 16))


def init(key, *_):
    sizes = {"a": (16, 16), "b": (16, 16), "c": (16, 16), "d": (16, 8)}
    return {n: jax.random.normal(jax.random.fold_in(key, i), s) / 4 for i, (n, s) in enumerate(sizes.items())}


def overflown(p, x):
    """Numbers that no network has, of which the last weight would have to be 0."""
    return (jnp.exp(20 * (x @ p["a"])) ** 2) @ p["d"]


def findings(report, word):
    return [finding for finding in report.findings if word in finding]


def test_a_prediction_that_overflowed_sizes_nothing_and_is_a_finding():
    with pytest.warns(qrjax.UntouchedWarning, match="d \\(the prediction of its input is not credible\\)"):
        variables, report = qrjax.autoinit((init, overflown), X, report=True)
    assert jnp.std(variables["d"]) == pytest.approx(1 / 4, rel=0.15)
    assert findings(report, "not credible")[0].severity == "warning"
    assert np.isfinite([row.second_moment for row in report]).all()


def test_sums_of_numbers_whose_squares_float32_lacks_are_a_finding_and_no_warning_of_numpys():
    summed = lambda p, x: (1e20 * jnp.tanh(x @ p["a"]) + 2e20 * jnp.tanh(x @ p["b"])) @ p["d"]  # noqa: E731
    assert findings(qrjax.analyze((init, summed), X), "not credible")


def test_a_strong_input_is_sized_and_said():
    report = qrjax.analyze((init, lambda p, x: (1e8 * jnp.tanh(x @ p["a"])) @ p["d"]), X)
    assert report[-1].second_moment == pytest.approx(1, rel=0.01)
    assert findings(report, "a strong input")
    assert not findings(qrjax.analyze((init, lambda p, x: jnp.tanh(x @ p["a"]) @ p["d"]), X), "a strong input")


@pytest.mark.parametrize("summed", [jnp.cumsum, lambda y, axis: jax.lax.associative_scan(jnp.add, y, axis=axis)])
@pytest.mark.parametrize("axis", [0, 1])
def test_running_sums_over_the_outputs_of_a_weight_are_said(summed, axis):
    report = qrjax.analyze((init, lambda p, x: summed(x @ p["a"], axis=axis) @ p["d"]), X)
    assert bool(findings(report, "over a weight's own outputs")) == (axis == 1)


@pytest.mark.parametrize("axis", [0, 1])
def test_even_shares_of_the_outputs_of_a_weight_are_said(axis):
    """Channels that attend to each other."""

    def apply(p, x):
        y = x @ p["a"]
        over = jax.nn.softmax(0.01 * (y.T @ y if axis == 1 else y @ y.T))
        return (y @ over if axis == 1 else over @ y) @ p["d"]

    assert bool(findings(qrjax.analyze((init, apply), X), "over a weight's own outputs")) == (axis == 1)


@pytest.mark.parametrize(("power", "is_rare"), [(1, False), (3, False), (9, True)])
def test_an_input_whose_second_moment_is_that_of_rare_elements_is_said(power, is_rare):
    """The fourth moment of z^9 is 187,000 times the square of its second, that of z^3 46 times."""
    row = qrjax.analyze((init, lambda p, x: ((x @ p["a"]) ** power) @ p["d"]), X)[1]
    assert any("a few large elements" in note for note in row.notes) == is_rare
