"""Records of what `autoinit` draws."""

import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from recorded import assert_recorded, assert_same, kinds, reloaded
from zoo import NETWORKS

import qrjax

KEY = jax.random.key(5)
X = np.random.default_rng(0).standard_normal((64, 9), np.float32)


class Small(nn.Module):
    """A table that nothing rescales, and dense layers."""

    dtype: type = jnp.float32

    @nn.compact
    def __call__(self, x):
        x = x + self.param("table", nn.initializers.normal(0.1), (1, 9))
        x = nn.relu(nn.Dense(7, param_dtype=self.dtype)(x))
        return nn.Dense(3, bias_init=nn.initializers.constant(-0.25), param_dtype=self.dtype)(x)


@pytest.mark.turns(3)
@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_zoo(name):
    network = NETWORKS[name]
    module, inputs, options = network.build(), network.inputs(0), {"rngs": network.rngs, **network.kwargs}
    variables = qrjax.autoinit(module, *inputs, key=KEY, **options)
    record = qrjax.record(module, *inputs, key=KEY, **options)
    assert_recorded(record, variables)
    layers = sum(len(e.origin.keys) for e in record.entries if e.origin.kind == "drawn" and e.origin.layers)
    assert len(record.to_json()) < 700 * (len(record) + 1) + 60 * layers


def settings():
    layouts = ("outputs", "shuffled", "neurons", "points", "sequence")
    laws = ("truncated_normal", "normal", "uniform", "orthogonal")
    for law, layout in itertools.product(laws, layouts):
        first = (law, layout) in {("truncated_normal", "neurons"), ("orthogonal", "outputs")}
        marks = () if first else pytest.mark.slow
        yield pytest.param(law, "sobol", layout, marks=marks, id=f"{law} {layout}")
    for law in laws:
        yield pytest.param(law, "hash", "outputs", marks=pytest.mark.slow, id=f"{law} hash")


@pytest.mark.turns(5)
@pytest.mark.few("truncated_normal neurons")
@pytest.mark.filterwarnings("ignore:layout='sequence'")
@pytest.mark.parametrize(("law", "source", "layout"), list(settings()))
def test_every_distribution_source_and_layout(law, source, layout):
    options = {"key": KEY, "distribution": law, "source": source, "layout": layout, "target": 0.7}
    record = qrjax.record(Small(), X, **options)
    assert_recorded(
        record,
        qrjax.autoinit(Small(), X, **options),
        weights=layout != "outputs" or (law, source) == ("normal", "hash"),
    )
    found = kinds(record)
    assert found["Dense_0/kernel"] == ("orthogonal" if law == "orthogonal" else "drawn")
    assert found["table"] == "model"
    assert set(found.values()) == {found["Dense_0/kernel"], "constant", "model"}


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"select": "*_0/kernel"}, marks=pytest.mark.slow),
        {"select": lambda path: path == "Dense_1/kernel", "source": "hash"},
        pytest.param({"input_mean": 0.5, "input_variance": 2.0}, marks=pytest.mark.slow),
        pytest.param({"seed": 12, "key": None}, marks=pytest.mark.slow),
    ],
    ids=["pattern", "function", "moments", "seed"],
)
def test_options(options):
    options = {"key": KEY} | options
    record = qrjax.record(Small(), X, **options)
    assert_recorded(record, qrjax.autoinit(Small(), X, **options))
    assert (kinds(record)["Dense_0/kernel"] == "model") == callable(options.get("select"))


@pytest.mark.parametrize(
    ("dtype", "law"),
    [
        (jnp.bfloat16, "truncated_normal"),
        pytest.param(jnp.float32, "orthogonal", marks=pytest.mark.slow),
        pytest.param(jnp.float32, "truncated_normal", marks=pytest.mark.slow),
        pytest.param(jnp.float16, "truncated_normal", marks=pytest.mark.slow),
        pytest.param(jnp.bfloat16, "orthogonal", marks=pytest.mark.slow),
    ],
)
def test_calibrated(dtype, law):
    options = {"key": KEY, "calibrate": True, "distribution": law, "source": "hash"}
    with jax.numpy_dtype_promotion("standard"):  # modules with narrow weights
        record, variables = qrjax.record(Small(dtype), X, **options), qrjax.autoinit(Small(dtype), X, **options)
    assert_recorded(record, variables, weights=dtype is jnp.float32)
    factors = record.entry("Dense_0/kernel").origin.factors
    assert len(factors) == 2
    assert factors[1] != 1


def test_a_calibrated_narrow_weight_is_rounded_after_each_factor():
    with jax.numpy_dtype_promotion("standard"):
        origin = qrjax.record(Small(jnp.bfloat16), X, key=KEY, calibrate=True).entry("Dense_1/kernel").origin
    drawn, narrow = origin.drawn, np.dtype(jnp.bfloat16)
    unit = qrjax.truncated_normal_qr(1 / 0.87962566103423978)  # a name for the draw; its scale is checked below
    assert drawn.scaling.scale == pytest.approx(1 / 0.87962566103423978)
    value = np.asarray(unit(jnp.asarray(origin.keys), drawn.shape))
    for factor in origin.factors:
        value = (value.astype(np.float32) * factor).astype(narrow)
    once = (np.asarray(unit(jnp.asarray(origin.keys), drawn.shape)) * np.prod(origin.factors)).astype(narrow)
    assert (value != once).any()
    assert_same(origin.array(), jnp.asarray(value))


@pytest.mark.slow
def test_calibrated_layers_of_a_scan_have_factors_of_their_own():
    network = NETWORKS["decoder"]
    module, inputs = network.build(), network.inputs(0)
    options = {"key": KEY, "calibrate": True}
    record = qrjax.record(module, *inputs, **options)
    assert_recorded(record, qrjax.autoinit(module, *inputs, **options), weights=True)
    stacked = [e.origin for e in record.entries if e.origin.kind == "drawn" and e.origin.layers]
    assert stacked
    assert all(factor.shape == origin.layers for origin in stacked for factor in origin.factors)


@pytest.mark.parametrize(
    "key",
    [
        pytest.param(jax.random.PRNGKey(3), marks=pytest.mark.slow, id="raw"),
        pytest.param(jax.random.key(3, impl="rbg"), id="rbg"),
    ],
)
def test_other_kinds_of_keys(key):
    network, options = nn.Sequential([nn.Dense(6), nn.relu, nn.Dense(3)]), {"key": key, "source": "hash"}
    assert_recorded(qrjax.record(network, X, **options), qrjax.autoinit(network, X, **options))


def test_what_needs_the_model_comes_back_with_it():
    options = {"key": KEY, "select": "Dense_0/kernel"}
    variables = qrjax.autoinit(Small(), X, **options)
    loaded = reloaded(qrjax.record(Small(), X, **options))
    own = [path for path, kind in kinds(loaded).items() if kind == "model"]
    assert own == ["Dense_1/kernel", "table"]
    attached = loaded.with_model(Small(), X)
    for path in own:
        assert_same(attached.initial(path), _at(variables["params"], path))
    assert jax.tree.structure(attached.initial()) == jax.tree.structure(variables)
    assert_recorded(attached, variables)


def test_an_nnx_module_keeps_its_own_values():
    def build():
        rngs = nnx.Rngs(7, dropout=1)
        layers = [nnx.Linear(9, 6, rngs=rngs), nnx.BatchNorm(6, rngs=rngs), nnx.Dropout(0.1, rngs=rngs)]
        return nnx.Sequential(*layers, nnx.Embed(90, 6, rngs=rngs).attend)

    module = build()
    record = qrjax.record(module, X, key=KEY)
    variables = qrjax.autoinit(module, X, key=KEY)
    assert isinstance(record.initial(), nnx.Sequential)
    assert_recorded(record, variables)
    assert reloaded(record).with_model(build(), X).initial("layers/1/scale").tolist() == [1] * 6
    np.testing.assert_array_equal(record.initial()(X), variables(X))


def test_weights_need_no_array_and_no_model():
    record = reloaded(qrjax.record(nn.Dense(2**20), jax.ShapeDtypeStruct((1, 2**20), jnp.float32), source="hash"))
    far = record.weight("kernel", (2**20 - 1, [-1, 5]))
    assert far.shape == (2,)
    assert_same(record.weight("kernel", (-1, 5)), far[1])


def _at(tree, path):
    for step in path.split("/"):
        tree = tree[step]
    return tree
