"""What `changes` finds, against NumPy in float64."""

import functools
import itertools
import json
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tracked import EXACT, ROUNDED, assert_figures, expected, trained

import qrjax
from qrjax._records._origins import Built
from qrjax._tracking._chunks import LARGEST, batches, boxes

KEY = jax.random.key(17)
BUILDERS = {"hash": qrjax.normal_hash(0.3), "qr": qrjax.uniform_qr(0.4)}
SHAPES = [(), (0, 3), (2, 2**18 + 5)]
MORE = [(7919,), (3, 3, 64, 65), (70001, 3), (2, 2**19 + 5), (1,), (2**20 + 3,), (5, 1, 7), (300, 5, 401)]
SLOW = [*itertools.product(["hash"], MORE), *itertools.product(["qr"], SHAPES + MORE)]


def drawn(init, shape, dtype):
    return lambda: {"w": init(KEY, shape, dtype)}


@pytest.mark.turns(3)
@pytest.mark.few("hash-shape2", "hash-shape1")
@pytest.mark.parametrize(
    ("builder", "shape"),
    [*itertools.product(["hash"], SHAPES), *(pytest.param(*case, marks=pytest.mark.slow) for case in SLOW)],
)
def test_every_shape(builder, shape):
    make = drawn(BUILDERS[builder], shape, "float32")
    initial = np.asarray(make()["w"])
    now = trained(initial)
    for form in (make, {"w": initial}, {"w": jnp.asarray(initial)}):
        found = qrjax.changes(form, {"w": now})
        assert_figures(found["w"], initial, now)
        assert found["w"].shape == shape
    assert_figures(qrjax.changes(make, {"w": jnp.asarray(now)}).total, initial, now)
    untouched = qrjax.changes(make, {"w": jnp.asarray(initial)})["w"]
    assert (untouched.changed, untouched.max_change, untouched.sleeping) == (0, 0.0, initial.size)


SLOW_DTYPES = [("bfloat16", 0.0), ("bfloat16", 0.0123), ("float16", 0.0), ("complex64", 0.0)]


@pytest.mark.few("complex64-0.0123")
@pytest.mark.parametrize(
    ("dtype", "threshold"),
    [
        ("float16", 0.0123),
        ("complex64", 0.0123),
        *(pytest.param(*case, marks=pytest.mark.slow) for case in SLOW_DTYPES),
    ],
)
def test_every_dtype(dtype, threshold):
    init = qrjax.glorot_uniform_hash(in_axis=0, out_axis=1)
    make = drawn(init, (37, 1001), dtype)
    initial = np.asarray(make()["w"])
    now = trained(initial)
    if dtype == "complex64":
        now = now * np.exp(1j * np.random.default_rng(1).uniform(0, 4, now.shape) * (now != initial)).astype(dtype)
    for form in (make, {"w": initial}):
        assert_figures(qrjax.changes(form, {"w": jnp.asarray(now)}, threshold)["w"], initial, now, threshold)
    assert qrjax.changes(make, {"w": jnp.asarray(initial)}).total.changed == 0


@pytest.mark.parametrize(
    "dtype", ["float64", *(pytest.param(d, marks=pytest.mark.slow) for d in ("complex128", "float32"))]
)
def test_in_64_bit_mode(dtype):
    def make():
        return {"w": qrjax.glorot_uniform_hash()(KEY, (64, 129), dtype)}

    with jax.enable_x64(True):
        initial = np.asarray(make()["w"])
        assert initial.dtype == dtype
        now = trained(initial, size=1e-9)
        for threshold in (0.0,) if dtype == "float32" else (0.0, 1e-9):
            found = qrjax.changes(make, {"w": jnp.asarray(now)}, threshold)["w"]
            assert_figures(found, initial, now, threshold, rtol=1e-9 if dtype != "float32" else 2e-5)
        assert qrjax.changes(make, {"w": jnp.asarray(initial)}).total.changed == 0


def test_numpy_float64_is_compared_as_such_where_jax_has_none():
    initial = np.random.default_rng(0).normal(size=(40, 50))
    now = trained(initial, size=1e-12)
    found = qrjax.changes({"w": initial}, {"w": now})["w"]
    assert_figures(found, initial, now, rtol=1e-9)
    assert found.changed > 500


FLOATS = st.one_of(
    st.floats(width=32),
    st.sampled_from([0.0, -0.0, 1.0, -1.0, 1e-45, -1e-40, 1.2e-38, 1e25, -3e38, 3e38, float("nan"), float("inf")]),
)


@settings(max_examples=60, deadline=None)
@given(
    hnp.arrays(np.float32, st.sampled_from([(), (1,), (5,), (2, 3), (2, 2, 3)]), elements=FLOATS),
    st.data(),
)
def test_any_numbers_at_all(initial, data):
    mask = data.draw(hnp.arrays(bool, initial.shape))
    now = np.where(mask, data.draw(hnp.arrays(np.float32, initial.shape, elements=FLOATS)), initial)
    row = qrjax.changes({"w": initial}, {"w": now})["w"]
    want = expected(initial, now)
    assert {name: getattr(row, name) for name in EXACT} == {name: want[name] for name in EXACT}
    figures = [getattr(row, name) for name in ROUNDED]
    assert all(figure is None or math.isfinite(figure) for figure in figures)
    json.loads(qrjax.changes({"w": initial}, {"w": now}).to_json())
    normal = np.abs(np.where(np.isfinite(initial) & np.isfinite(now), [initial, now], 0)).astype(np.float64)
    moved = np.abs(normal[1] - normal[0])
    # Below the normal numbers hardware counts as zero, and a row of great and small ones as its great ones.
    for values in (normal, moved):
        if ((values > 0) & ((values < 1e-30) | (values > 1e30))).any():
            return
    assert_figures(row, initial, now)


@pytest.mark.parametrize("size", [1e-31, 1e-25, 1e-12, 1.0, 1e12, 1e18, 1e25, 1e38])
@pytest.mark.parametrize("relative", [1.0, 1e-3])
def test_weights_of_any_size(size, relative):
    initial = (np.random.default_rng(0).uniform(-1, 1, (33, 40)) * size).astype(np.float32)
    now = trained(initial, size=relative * size / 2)
    assert np.isfinite(now).all()
    assert_figures(qrjax.changes({"w": initial}, {"w": now})["w"], initial, now)


def test_small_changes_of_large_weights_and_large_ones_of_small():
    initial = np.array([1.0, 0.0, 0.0, 1e20], np.float32)
    now = np.array([1.0, 1e-25, -2e-25, 1e20], np.float32)
    assert_figures(qrjax.changes({"w": initial}, {"w": now})["w"], initial, now)
    assert_figures(qrjax.changes({"w": now[1:3]}, {"w": initial[:2]})["w"], now[1:3], initial[:2])


def test_zeros_and_the_smallest_numbers():
    initial = np.array([0.0, -0.0, 0.0, 1e-45, 1e-40, -1e-40, 1e-40], np.float32)
    now = np.array([-0.0, 0.0, 1e-45, 0.0, 2e-40, 1e-40, 1e-40], np.float32)
    for dtype, before, after in ((np.float32, initial, now), *_narrow()):
        row = qrjax.changes({"w": before}, {"w": after})["w"]
        assert (row.changed, row.sleeping, row.sign_flips) == (4, 3, 1), dtype


def _narrow():
    for dtype, smallest in ((np.float16, 6e-8), (jnp.bfloat16, 1e-40)):
        initial = np.array([0, -0.0, 0, smallest, smallest, -smallest, smallest]).astype(dtype)
        now = np.array([-0.0, 0, smallest, 0, 2 * smallest, smallest, smallest]).astype(dtype)
        yield dtype, initial, now


def test_not_finite_weights_are_counted_and_left_out():
    initial = np.asarray(BUILDERS["hash"](KEY, (40, 50)))
    now = trained(initial)
    now[3, :7], now[4, 1], now[5, 2] = np.nan, np.inf, -np.inf
    found = qrjax.changes(drawn(BUILDERS["hash"], (40, 50), "float32"), {"w": now})
    assert_figures(found["w"], initial, now)
    assert found.total.not_finite == 9
    assert "NaN or inf" in str(found)
    assert json.loads(found.to_json())["rows"][0]["not_finite"] == 9
    every = qrjax.changes({"w": initial}, {"w": np.full_like(initial, np.nan)}).total
    assert (every.not_finite, every.changed, every.sleeping, every.mean_change, every.cosine) == (2000, 0, 0, 0.0, None)
    initial = initial.copy()
    initial[0, 0] = np.nan
    assert_figures(qrjax.changes({"w": initial}, {"w": now}).total, initial, now)


@pytest.mark.parametrize("threshold", [0.01, 0.1, 1 / 3, 1e-30, 1e38, 1e39, math.inf])
def test_a_threshold_is_exceeded_exactly(threshold):
    near = np.float32(min(threshold, 3e38))
    now = np.array([near, np.nextafter(near, np.float32(0)), np.nextafter(near, np.float32(np.inf))])
    row = qrjax.changes({"w": np.zeros_like(now)}, {"w": now}, threshold)["w"]
    assert row.changed == int(np.sum(now.astype(np.float64) > threshold))


def slope(key, shape, dtype):
    del key
    return jnp.linspace(-1, 1, *shape, dtype=dtype)


class Net(nn.Module):
    """Everything that an origin can be: drawn, stored, constant, orthogonal, JAX's own, and not trained."""

    @nn.compact
    def __call__(self, x):
        x = nn.Dense(12, kernel_init=qrjax.he_normal_hash())(x)
        x = nn.BatchNorm(use_running_average=True)(x)
        x = nn.Dense(12, kernel_init=qrjax.orthogonal_qr(), bias_init=nn.initializers.constant(-0.5))(x)
        x = nn.Dense(12, bias_init=slope)(x)
        return nn.Dense(5, kernel_init=qrjax.glorot_uniform_qr(), param_dtype=jnp.bfloat16, dtype=jnp.float32)(x)


class Stack(nn.Module):
    """Layers by a scan: their weights have an axis in front."""

    @nn.compact
    def __call__(self, x):
        body = nn.scan(Layer, variable_axes={"params": 0}, split_rngs={"params": True}, length=3)
        return body()(x, None)[0]


class Layer(nn.Module):
    @nn.compact
    def __call__(self, x, _):
        return nn.Dense(9, kernel_init=qrjax.he_normal_qr(), bias_init=qrjax.normal_hash(0.1))(x), None


def moved_by_hand(tree):
    return jax.tree.map(lambda x: jnp.asarray(trained(x, seed=x.size)), tree)


@pytest.mark.parametrize(
    ("module", "width"),
    [pytest.param(Net(), 12, id="net"), pytest.param(Stack(), 9, marks=pytest.mark.slow, id="scan")],
)
def test_linen_by_function_by_record_and_by_variables(module, width):
    x = jnp.ones((1, width))
    variables = module.init(KEY, x)
    now = {**variables, "params": moved_by_hand(variables["params"])}
    record = qrjax.record(module, x, by="init", key=KEY)
    pairs = list(zip(*map(jax.tree.leaves, (variables["params"], now["params"])), strict=True))
    both = [np.concatenate([np.ravel(p[i]).astype(np.float32) for p in pairs]) for i in (0, 1)]
    init = functools.partial(module.init, KEY, x)
    for form, params in ((init, now["params"]), (record, now), (record, now["params"]), (variables, now)):
        found = qrjax.changes(form, params)
        for row, (before, after) in zip(found, pairs, strict=True):
            assert_figures(row, before, after)
        assert_figures(found.total, *both)
    assert qrjax.changes(record, variables).total.changed == 0
    assert qrjax.changes(variables["params"], now["params"]).to_json() == qrjax.changes(variables, now).to_json()


def test_autoinit_and_its_record_in_low_precision():
    module, x = nn.Dense(65, dtype=jnp.float32, param_dtype=jnp.bfloat16), jnp.ones((8, 33))
    variables = qrjax.autoinit(module, x, seed=3)
    record = qrjax.record(module, x, seed=3)
    assert qrjax.changes(record, variables).total.changed == 0
    now = moved_by_hand(variables["params"])
    assert_figures(qrjax.changes(record, now)["kernel"], variables["params"]["kernel"], now["kernel"])


class Nnx(nnx.Module):
    def __init__(self, rngs):
        layers = [nnx.Linear(6, 6, kernel_init=qrjax.he_normal_hash(), rngs=rngs) for _ in range(12)]
        self.layers = nnx.List(layers)
        self.norm, self.drop = nnx.BatchNorm(6, rngs=rngs), nnx.Dropout(0.1, rngs=rngs)


def test_nnx_modules_states_and_functions():
    def make():
        return Nnx(nnx.Rngs(5))

    initial, now = make(), make()
    now.layers[10].kernel[...] = jnp.asarray(trained(now.layers[10].kernel[...]))
    for form in (make, initial, nnx.state(initial)):
        for params in (now, nnx.state(now)):
            found = qrjax.changes(form, params)
            assert len(found) == 26  # the statistics and the streams of random numbers are not trained
            assert [row.path for row in found if row.changed] == ["layers/10/kernel"]
            assert_figures(found["layers/10/kernel"], initial.layers[10].kernel[...], now.layers[10].kernel[...])


def test_other_trees_and_integer_leaves():
    initial = {"a": [np.zeros(3, np.float32), np.arange(4)], "b": (np.ones((2, 2), np.float32),)}
    now = {"a": [np.ones(3, np.float32), np.arange(4) + 1], "b": (np.ones((2, 2), np.float32),)}
    found = qrjax.changes(initial, now)
    assert [(row.path, row.changed) for row in found] == [("a/0", 3), ("b/0", 0)]
    assert qrjax.changes({}, {}).total.weights == 0


def test_a_sequence_with_paths():
    found = qrjax.changes({"a": np.zeros(4, np.float32), "b": np.zeros(2, np.float32)}, _ab())
    assert [row.path for row in found] == ["a", "b"]
    assert (len(found), found[1], found["b"], found[-1], found[:1]) == (2, *[found.rows[1]] * 3, found.rows[:1])
    with pytest.raises(KeyError, match="no variable has the path 'c'; paths: a, b"):
        found["c"]
    with pytest.raises(IndexError, match="range"):
        found[2]
    assert repr(found).startswith("Changes: 3 of 6 weights in 2 variables\n\nvariable ")
    np.testing.assert_array_equal(found.delta("a"), [1, 0, 0, -3])
    assert (found["a"].changed_percent, found["a"].sleeping_percent) == (50.0, 50.0)


def _ab():
    return {"a": np.array([1, 0, 0, -3], np.float32), "b": np.array([0, 5], np.float32)}


def test_the_table():
    found = qrjax.changes({"a": np.zeros(4, np.float32), "b": np.ones(2, np.float32)}, _ab(), 0.5)
    lines = str(found).splitlines()
    heads = ["variable", "weights", "changed", "sleeping", "mean |Δ|", "rms |Δ|", "max |Δ|", "cosine", "sign flips"]
    assert [cell.strip() for cell in lines[0].split("  ") if cell.strip()] == heads
    assert "NaN" not in lines[0]
    assert lines[1].split() == ["a", "4", "50.0", "%", "50.0", "%", "1", "1.58", "3", "-", "0"]
    assert next(line for line in lines if line.startswith("total")).split()[:3] == ["total", "6", "66.7"]
    assert lines[-1] == "changed: moved by more than 0.5"


def test_a_wide_table_is_not_cut():
    path, n = "decoder/" * 12 + "kernel", 1_234_567
    rows = str(qrjax.changes({path: np.zeros(n, np.float32)}, {path: np.full(n, -1e-20, np.float32)})).splitlines()
    assert all(text in rows[1] for text in (path, "1,234,567", "100.0 %", "1e-20"))
    small = str(qrjax.changes({"w": np.zeros((3, 3), np.float32)}, {"w": np.ones((3, 3), np.float32)}))
    assert max(map(len, small.splitlines())) <= 120


def test_json_says_everything_and_nothing_that_json_is_not():
    found = qrjax.changes({"a": np.zeros(4, np.float32), "b": np.ones(2, np.float32)}, _ab(), 0.25)
    data = json.loads(found.to_json(indent=1), parse_constant=lambda name: pytest.fail(name))
    assert set(data) == {"threshold", "total", "rows"}
    assert data["threshold"] == 0.25
    assert data["rows"] == [row.to_dict() for row in found]
    assert data["total"] == found.total.to_dict()
    assert data["rows"][0] == {
        "path": "a", "shape": [4], "weights": 4, "changed": 2, "sleeping": 2, "not_finite": 0, "mean_change": 1.0,
        "max_change": 3.0, "rms_change": pytest.approx(math.sqrt(2.5)), "cosine": None, "sign_flips": 0,
        "changed_percent": 50.0, "sleeping_percent": 50.0,
    }  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, 9), max_size=4).map(tuple), st.integers(1, 40), st.data())
def test_boxes_cover_every_element_once(shape, largest, data):
    depth = data.draw(st.integers(0, len(shape)))
    seen = np.zeros(shape, int)
    for starts, extent in boxes(shape, depth, largest):
        assert math.prod(extent) <= largest
        assert extent[:depth] == (1,) * depth
        seen[tuple(slice(s, s + n) for s, n in zip(starts, extent, strict=True))] += 1
    assert (seen == 1).all()
    grouped = [(start, extent) for extent, starts in batches(shape, depth, largest) for start in starts]
    assert sorted(grouped) == sorted(boxes(shape, depth, largest))


def test_large_leaves_take_several_boxes():
    assert len(list(boxes((2, 2**19 + 5), 0, LARGEST["cpu"]))) > 4


def test_builders_that_are_not_ours_are_run_outside_of_programs(monkeypatch):
    """JAX's own, compiled into something else, give other bits on some machines, and unchanged weights would differ."""
    network, traced, run = nn.Dense(8), [], Built.array

    def noted(self):
        values = run(self)
        traced.append(isinstance(values, jax.core.Tracer))
        return values

    monkeypatch.setattr(Built, "array", noted)
    params = jax.jit(network.init)(KEY, jnp.ones((2, 16)))
    record = qrjax.record(network, jnp.ones((2, 16)), key=KEY, by="init")
    assert qrjax.changes(record, params).total.changed == 0
    qrjax.prune(params, qrjax.awakened(record, params, sparsity=0.5), "initial", record)
    assert traced
    assert not any(traced), f"of {len(traced)} times that a builder was run, {sum(traced)} were within a traced program"
