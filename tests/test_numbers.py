"""A number is a number: Python's, NumPy's of any width, or an array of no axes, wherever one is asked for."""

import math
from decimal import Decimal
from fractions import Fraction

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import qrjax
from qrjax._words._numbers import real_number, whole_number

KEY = jax.random.key(0)
PARAMS = {"w": jnp.arange(12.0).reshape(3, 4) / 8}
LAYER, X = nn.Dense(3), jnp.ones((2, 4))


def masked(**options):
    return qrjax.mask(None, PARAMS, criterion="magnitude", **options)["w"]


def searched(**options):
    own = {"tolerance": 0.5, "steps": 2} | options
    found = qrjax.max_sparsity(lambda p: p["w"].sum(), None, PARAMS, criterion="magnitude", progress=False, **own)
    return found.mask["w"]


def normed(**options):
    transform = qrjax.centered_unit_norm(**options)
    return transform.update(PARAMS, transform.init(PARAMS), PARAMS)[0]["w"]


def weights(builder, shape=(4, 4), **options):
    return getattr(qrjax, builder)(**options)(KEY, shape)


def settings(**options):
    return tuple(vars(qrjax.experiments.Settings(model="mlp1", **options)).values())


def scheme(**options):
    return tuple(vars(qrjax.experiments.Scheme(**options)).values())


RECORDS = [
    {"settings": {"model": "mlp1", "source": s}, "seed": i, "scheme": None, "accuracy": [0.5, 0.75 + i / 100]}
    for s in ("random", "hash")
    for i in range(3)
]
# What is asked for a number, by that number's name, and a value of 32 bits.
REAL = {
    "mask threshold": (lambda v: masked(threshold=v), 0.5),
    "mask sparsity": (lambda v: masked(sparsity=v), 0.25),
    "mask at_least": (lambda v: masked(sparsity=0.75, at_least=v), 0.5),
    "changes threshold": (lambda v: qrjax.changes(PARAMS, {"w": PARAMS["w"] * 2}, v).total.changed, 0.5),
    "max_sparsity tolerance": (lambda v: searched(tolerance=v), 0.5),
    "autoinit target": (lambda v: qrjax.autoinit(LAYER, X, target=v)["params"]["kernel"], 2.0),
    "analyze target": (lambda v: qrjax.analyze(LAYER, X, target=v)[0].gain, 2.0),
    "analyze input_mean": (lambda v: qrjax.analyze(LAYER, X, input_mean=v, input_variance=1.0)[0].gain, 0.5),
    "analyze input_variance": (lambda v: qrjax.analyze(LAYER, X, input_variance=v)[0].gain, 0.5),
    "calibrate target": (lambda v: qrjax.calibrate(LAYER, LAYER.init(KEY, X), X, target=v)["params"]["kernel"], 2.0),
    "centered_unit_norm eps": (lambda v: normed(eps=v), 0.5),
    "gain target": (lambda v: qrjax.gain(jax.nn.gelu, target=v), 2.0),
    "stability targets": (lambda v: qrjax.stability(jax.nn.relu, targets=[v]).gain, 2.0),
    "Signal.normal": (lambda v: qrjax.Signal.normal((2,), mean=v, variance=v).second_moment, 0.5),
    "variance_scaling scale": (lambda v: qrjax.variance_scaling_hash(v, "fan_in", "normal")(KEY, (4, 4)), 2.0),
    "uniform scale": (lambda v: weights("uniform_qr", scale=v), 0.5),
    "normal stddev": (lambda v: weights("normal_hash", stddev=v), 0.5),
    "truncated_normal lower": (lambda v: weights("truncated_normal_hash", lower=v), -1.0),
    "random_uniform minval": (lambda v: weights("random_uniform_hash", minval=v, maxval=1.0), -1.0),
    "random_normal mean": (lambda v: weights("random_normal_hash", mean=v), 0.5),
    "orthogonal scale": (lambda v: weights("orthogonal_qr", scale=v), 2.0),
    "random.uniform maxval": (lambda v: qrjax.random.uniform((3,), maxval=v), 2.0),
    "random.normal mean": (lambda v: qrjax.random.normal((3,), mean=v), 2.0),
    "random.truncated_normal upper": (lambda v: qrjax.random.truncated_normal((3,), upper=v), 1.0),
    "Settings learning_rate": (lambda v: settings(learning_rate=v), 0.125),
    "compare target": (lambda v: qrjax.experiments.compare(RECORDS, target=v)[0].target, 0.75),
}
WHOLE = {
    "max_sparsity steps": (lambda v: searched(steps=v), 3),
    "mask whole": (lambda v: masked(sparsity=0.5, whole=v), 1),
    "mask in_axis": (lambda v: masked(sparsity="1:2", in_axis=v), 1),
    "autoinit seed": (lambda v: qrjax.autoinit(LAYER, X, seed=v)["params"]["kernel"], 3),
    "record seed": (lambda v: qrjax.record(LAYER, X, seed=v).to_json(), 3),
    "autoinit axes": (lambda v: qrjax.autoinit(LAYER, X, axes={"batch": v})["params"]["kernel"], 3),
    "centered_unit_norm axis": (lambda v: normed(axis=v), 0),
    "set_seed": (lambda v: (qrjax.set_seed(v), jax.random.key_data(qrjax.next_key()))[1], 3),
    "block_key path": (lambda v: jax.random.key_data(qrjax.block_key(KEY, "a", v)), 3),
    "stream path": (lambda v: qrjax.he_normal_hash().stream("a", v)(KEY, (4, 4)), 3),
    "shape": (lambda v: weights("he_normal_hash", shape=(v, 4)), 3),
    "at index": (lambda v: qrjax.he_normal_hash().at(KEY, (8, 4), (v, 1)), 3),
    "column_axis": (lambda v: weights("orthogonal_qr", column_axis=v), 0),
    "in_axis": (lambda v: weights("he_normal_hash", in_axis=v), 1),
    "dim": (lambda v: weights("uniform_qr", layout="sequence", dim=v), 3),
    "sobol.points dim": (lambda v: qrjax.sobol.points(v, 5), 3),
    "sobol.points index": (lambda v: qrjax.sobol.points(2, v), 3),
    "sobol.points_range count": (lambda v: qrjax.sobol.points_range(2, 0, v), 3),
    "sobol.points_range start": (lambda v: qrjax.sobol.points_range(2, v, 4), 3),
    "random.uniform dim": (lambda v: qrjax.random.uniform((3,), dim=v), 3),
    "random.uniform skip": (lambda v: qrjax.random.uniform((3,), skip=v), 3),
    "splitmix.from_int": (lambda v: qrjax.splitmix.from_int(v), 3),
    "sweep seeds": (lambda v: qrjax.sweep(lambda seed: {"n": seed}, v, progress=False)["n"], 3),
    "sweep chunk": (lambda v: qrjax.sweep(lambda seed: {"n": seed}, 3, chunk=v, progress=False)["n"], 2),
    "Settings epochs": (lambda v: settings(epochs=v), 3),
    "Settings filters": (lambda v: settings(filters=(v, v)), 3),
    "Settings limit": (lambda v: settings(limit=v), 3),
    "Scheme count": (lambda v: scheme(count=v), 3),
    "plot.density bins": (lambda v: len(_density(v).patches), 7),
}


def _density(bins):
    plt = pytest.importorskip("matplotlib.pyplot")
    figure, ax = plt.subplots()
    qrjax.plot.density(qrjax.he_normal_hash(), KEY, (16, 8), bins=bins, ax=ax)
    plt.close(figure)
    return ax


NO_NUMBERS = ("1.0", b"1", True, np.True_, jnp.bool_(True), [1.0], np.ones(1), 1j, np.complex64(1), None, KEY)


def test_what_is_no_number():
    for value in NO_NUMBERS:
        with pytest.raises(TypeError):
            real_number(value)
        with pytest.raises(TypeError):
            whole_number(value)
    for value in (2.0, np.float32(2), jnp.float32(2)):
        assert real_number(value) == 2
        with pytest.raises(TypeError):
            whole_number(value)
    assert real_number(Fraction(1, 4)) == real_number(Decimal("0.25")) == 0.25
    assert real_number(-(10**400)) == -math.inf
    for read in (real_number, whole_number):
        with pytest.raises(TypeError):
            jax.jit(read)(1)


def same(found, expected):
    a, b = (jax.tree.leaves(tree) for tree in (found, expected))
    return len(a) == len(b) and all(
        x == y if isinstance(x, str) else np.array_equal(np.asarray(x), np.asarray(y))
        for x, y in zip(a, b, strict=True)
    )


def check(call, value, *kinds):
    expected = call(value)
    for kind in kinds:
        assert same(call(kind(value)), expected), kind


@pytest.mark.some(3)
@pytest.mark.filterwarnings("ignore::qrjax.RankCollapseWarning")
@pytest.mark.parametrize("name", REAL)
def test_real_numbers(name):
    whole = (np.int64, jnp.int32) if REAL[name][1] == int(REAL[name][1]) else ()
    check(*REAL[name], np.float32, np.float64, np.float16, np.array, jnp.float32, jnp.bfloat16, *whole)


@pytest.mark.some(4)
@pytest.mark.filterwarnings("ignore::qrjax.RankCollapseWarning")
@pytest.mark.parametrize("name", WHOLE)
def test_whole_numbers(name):
    check(*WHOLE[name], np.int64, np.int32, np.uint8, np.array, jnp.int32, jnp.uint32)
