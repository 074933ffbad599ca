"""Parts that meet again: steps of a recurrence, places of an image, blocks of values; as strong and as alike."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax import lax

import qrjax
from qrjax._rules import _control, _steps
from qrjax._signals._lags import correlations

WIDTH, LENGTH, BATCH = 48, 24, 16
# What two samples of places leave open, each right to two percent for a recurrence (`_scores.POINTS`).
CLOSE = 0.04


def parameters(key, *_):
    names = ("w0", "u0", "w1", "u1", "head")
    return {n: jax.random.normal(jax.random.fold_in(key, i), (WIDTH, WIDTH)) for i, n in enumerate(names)}


def cell(p, layer, h, x):
    """A state that forgets slowly."""
    return 0.5 * h + 0.5 * jnp.tanh(x @ p[f"w{layer}"] + h @ p[f"u{layer}"])


def in_one_scan(p, x):
    def step(states, x):
        first = cell(p, 0, states[0], x)
        second = cell(p, 1, states[1], first)
        return (first, second), None

    zero = jnp.zeros((BATCH, WIDTH))
    return lax.scan(step, (zero, zero), x.swapaxes(0, 1))[0][1] @ p["head"]


def in_two_scans(p, x, turned=False):
    x = x.swapaxes(0, 1)
    for layer in (0, 1):
        x = x[::-1] if turned else x
        x = lax.scan(lambda h, x, i=layer: (cell(p, i, h, x),) * 2, jnp.zeros((BATCH, WIDTH)), x, reverse=turned)[1]
        x = x[::-1] if turned else x
    return x[-1] @ p["head"]


def gains(function):
    x = jax.ShapeDtypeStruct((BATCH, LENGTH, WIDTH), jnp.float32)
    report = qrjax.analyze((parameters, function), x)
    return {row.path if row.path else row.weight: row.gain for row in report.weights}


@pytest.mark.parametrize("turned", [pytest.param(False, marks=pytest.mark.slow), True])
def test_two_scans_are_one(turned):
    one, two = gains(in_one_scan), gains(lambda p, x: in_two_scans(p, x, turned))
    assert one.keys() == two.keys()
    assert two == pytest.approx(one, rel=CLOSE)


def test_steps_are_counted_up_to_where_inputs_weaken(monkeypatch):
    """A second scan, backwards: the last that it is given are the first of the first, which are weaker."""
    x, walked = jax.ShapeDtypeStruct((BATCH, LENGTH, WIDTH), jnp.float32), []

    def there_and_back(p, x):
        zero = jnp.zeros((BATCH, WIDTH))
        first = lax.scan(lambda h, x: (cell(p, 0, h, x),) * 2, zero, x.swapaxes(0, 1))[1]
        return lax.scan(lambda h, x: (cell(p, 1, h, x), None), zero, first, reverse=True)[0] @ p["head"]

    walk = _steps.Steps.walk
    monkeypatch.setattr(_steps.Steps, "walk", lambda *given, **named: (walked.append(1), walk(*given, **named))[1])
    ours = [row.gain for row in qrjax.analyze((parameters, there_and_back), x).weights]
    few = len(walked)
    monkeypatch.setattr(_control, "_is_settled", lambda *_: False)  # every step by itself
    wanted = [row.gain for row in qrjax.analyze((parameters, there_and_back), x).weights]
    assert ours == pytest.approx(wanted, rel=CLOSE / 2)
    assert few < 0.7 * (len(walked) - few)


def test_the_last_step_is_the_carry():
    class Last(nn.Module):
        carried: bool

        @nn.compact
        def __call__(self, x):
            carry, steps = nn.RNN(nn.LSTMCell(WIDTH), return_carry=True)(x)
            return nn.Dense(WIDTH)(carry[1] if self.carried else steps[:, -1])

    x = jax.ShapeDtypeStruct((BATCH, LENGTH, WIDTH), jnp.float32)
    ours, wanted = (qrjax.analyze(Last(carried), x).weights[-1].gain for carried in (False, True))
    assert ours == pytest.approx(wanted, rel=CLOSE)


@pytest.mark.parametrize(("near", "average"), [(0.5, 0.1), (0.9, 0.5), (0.3, 0.3), (0.2, 0.0)])
def test_correlations_have_their_mean(near, average):
    found = correlations(near, average, LENGTH)
    apart = np.abs(np.arange(LENGTH)[:, None] - np.arange(LENGTH))
    pairs = found[apart][apart > 0]
    dies_out_sooner = average == 0.0
    assert pairs.mean() == pytest.approx(average, abs=2e-3) or dies_out_sooner
    assert found[1] == pytest.approx(near, abs=1e-3)
    assert (np.diff(found) <= 1e-12).all()


def test_windows_see_the_zeros_of_an_image_where_they_are():
    class Shifted(nn.Module):
        size: int

        @nn.compact
        def __call__(self, x):
            x = jnp.pad(x, ((0, 0), (0, 1), (0, 1), (0, 0)))[:, 1:, 1:]  # the image moved by one place
            x = nn.pool(x, 0.0, jax.lax.add, (1, 1), (2, 2), "VALID")
            return nn.Conv(16, (1, 1))(x)

    for size in (2, 4):
        x = jax.random.normal(jax.random.key(0), (64, size, size, 32))
        variables = qrjax.autoinit(Shifted(size), x)
        row = qrjax.measure(Shifted(size), variables, x).weights[0]
        assert row.measured_second_moment == pytest.approx(1.0, rel=0.1)


def test_sums_over_parts_are_the_sum_over_all():
    """As in sparse attention: blocks of values that are alike, each with its part of one softmax."""

    def attended(p, x, shared, blocks):
        values = x + 2 * shared
        share = jax.nn.softmax(x @ p["key"], -1)
        n = LENGTH // blocks
        parts = [share[..., i * n : (i + 1) * n] @ values[:, i * n : (i + 1) * n] for i in range(blocks)]
        return sum(parts[1:], parts[0]) @ p["head"]

    def drawn(key, *_):
        return {"key": jax.random.normal(key, (WIDTH, LENGTH)), "head": jax.random.normal(key, (WIDTH, WIDTH))}

    given = [jax.ShapeDtypeStruct((BATCH, n, WIDTH), jnp.float32) for n in (LENGTH, 1)]
    whole, split = (
        qrjax.analyze((drawn, lambda p, x, s, b=b: attended(p, x, s, b)), *given).weights[-1] for b in (1, 3)
    )
    assert split.gain == pytest.approx(whole.gain, rel=0.1)
    assert any("parts of one array" in note for note in split.notes)
    assert whole.notes == ()


def test_exponentials_of_short_sums_are_said_to_be_approximate():
    def gated(p, x):
        return (x * jnp.exp(x[:, :4] @ p["gate"])) @ p["head"]

    def drawn(key, *_):
        return {"gate": jax.random.normal(key, (4, WIDTH)), "head": jax.random.normal(key, (WIDTH, WIDTH))}

    row = qrjax.analyze((drawn, gated), jax.ShapeDtypeStruct((BATCH, WIDTH), jnp.float32)).weights[-1]
    assert any("sums of 4 products" in note for note in row.notes)
