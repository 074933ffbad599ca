"""Models whose variables exist already: pairs whose init hands out arrays, which are no constants; Python's numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import qrjax

X = jax.random.normal(jax.random.key(1), (32, 64))
STORED = {
    "first": np.random.default_rng(0).standard_normal((64, 48), np.float32),
    "second": np.random.default_rng(1).standard_normal((48, 32), np.float32),
    "bias": np.zeros(48, np.float32),
    "zero": np.zeros((48, 32), np.float32),
}


def apply(params, x):
    hidden = jnp.tanh(x @ params["first"] + params["bias"][None])
    return hidden @ params["second"] + hidden @ params["zero"]


def test_stored_arrays_are_drawn_anew_but_for_those_of_one_number():
    params, report = qrjax.autoinit((lambda _key, _x: STORED, apply), X, report=True)
    assert {row.weight: row.second_moment == 0 for row in report.weights}["zero"]
    assert not np.asarray(params["zero"]).any()
    for name in ("first", "second"):
        assert abs(report.weights[0].second_moment - 1) < 0.01
        assert not np.array_equal(params[name], STORED[name])


def test_beside_what_is_drawn_a_stored_array_is_a_constant():
    def init(key, _x):
        return STORED | {"first": jax.random.normal(key, (64, 48))}

    params = qrjax.autoinit((init, apply), X)
    np.testing.assert_array_equal(params["second"], STORED["second"])


def test_gains_do_not_depend_on_what_is_stored():
    """Two builds of one model store different numbers, and are drawn anew alike."""
    shapes = {"table": (64, 32)} | dict.fromkeys(("query", "key", "value", "out"), (32, 32))

    def attention(p, ids):
        x = p["table"][ids]
        scores = (x @ p["query"]) @ jnp.swapaxes(x @ p["key"], 1, 2) / 8.0
        return jax.nn.softmax(scores) @ (x @ p["value"]) @ p["out"]

    def gains(seed):
        generator = np.random.default_rng(seed)
        stored = {name: jnp.asarray(generator.standard_normal(s, np.float32)) for name, s in shapes.items()}
        ids = np.random.default_rng(0).integers(0, 64, (4, 8), np.int32)
        return [row.gain for row in qrjax.analyze((lambda _key, _x: stored, attention), ids)]

    assert gains(0) == gains(1)


def sines(length=16, width=64):
    waves = np.arange(length)[:, None] / 10_000 ** (np.arange(width // 2) / (width // 2))
    return np.concatenate([np.sin(waves), np.cos(waves)], -1).astype(np.float32)


def test_a_parameter_that_starts_as_a_table_of_sines_is_that_table():
    """Positions that are near have much in common, as a parameter and as a constant of the program."""

    def network(p, x):
        y = x @ p["first"] + p.get("places", sines())[None]
        return (y @ p["value"]).mean(1) @ p["last"]

    def init(key, _x):
        return {n: jax.random.normal(key, (64, 64)) for n in ("first", "value", "last")}

    def init_with_places(key, x):
        return init(key, x) | {"places": jnp.asarray(sines())}

    x = np.random.default_rng(0).standard_normal((8, 16, 64), np.float32)
    gains = [[row.gain for row in qrjax.analyze((make, network), x).weights] for make in (init, init_with_places)]
    assert gains[1] == pytest.approx(gains[0], rel=0.02)
    assert gains[0][2] < 0.5 / 64**0.5 * 16**0.5, "a mean over positions that are alike is no mean of independent ones"


class Counting(nnx.Module):
    """Its variables are a number of Python's and an array."""

    def __init__(self):
        self.count, self.w = nnx.Variable(3), nnx.Param(jnp.asarray(STORED["first"]))

    def __call__(self, x):
        return self.count.get_value() * (x @ self.w)


def test_numbers_of_pythons_may_be_variables():
    module = Counting()
    made, report = qrjax.autoinit(module, X, report=True)
    assert made.count.get_value() == 3
    assert report.weights[0].second_moment == pytest.approx(1)
    (row,) = qrjax.measure(made, made, X).weights
    assert row.measured_second_moment == pytest.approx(1, rel=0.1)
    record = qrjax.Record.from_json(qrjax.record(module, X).to_json())
    np.testing.assert_array_equal(record.initial("count"), 3)
    np.testing.assert_array_equal(record.initial("w"), made.w.get_value())
