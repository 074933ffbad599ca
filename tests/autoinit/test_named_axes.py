"""Sums and exchanges over named axes: laws against what independent shards measure, and models that need names."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax
from moments import WITHIN, normal, shape_of

import qrjax
from qrjax._autoinit._analyze import model_of
from qrjax._interpreter._gains import Gains
from qrjax._rules._operands import described

KEY = jax.random.key(0)
X = np.random.default_rng(0).standard_normal((32, 16), np.float32)
SHARDS = 4
RING = [(i, (i + 1) % SHARDS) for i in range(SHARDS)]

COLLECTIVES = {
    "psum": lambda x: lax.psum(x, "batch"),
    "pmean": lambda x: lax.pmean(x, "batch"),
    "psum of a constant": lambda x: x * lax.psum(0.5, "batch"),
    "the deviation from the mean": lambda x: x - lax.pmean(x, "batch"),
    "pmax": lambda x: lax.pmax(x, "batch"),
    "pmin of squares": lambda x: lax.pmin(x * x, "batch"),
    "all_gather": lambda x: lax.all_gather(x, "batch", axis=1).sum(1),
    "all_gather, tiled": lambda x: lax.all_gather(x, "batch", axis=1, tiled=True).sum(1),
    "psum_scatter": lambda x: lax.psum_scatter(x, "batch", scatter_dimension=1, tiled=True),
    "psum_scatter, not tiled": lambda x: lax.psum_scatter(x[:, :SHARDS], "batch", scatter_dimension=1),
    "all_to_all": lambda x: lax.all_to_all(x + 1.0, "batch", 1, 0, tiled=True).sum(0),
    "all_to_all, not tiled": lambda x: lax.all_to_all(x[:, :SHARDS], "batch", 1, 0),
    "ppermute": lambda x: x + lax.ppermute(x, "batch", RING),
    "a mean and its square": lambda x: lax.pmean(x.mean(0), "batch") ** 2,
    "axis_index": lambda x: x * lax.axis_index("batch").astype(x.dtype),
    "a norm that stacks": lambda x: deviations(x) * 2.0,
    "a norm that concatenates": lambda x: deviations(x, side_by_side) * 2.0,
    "several arrays": lambda x: sum(lax.psum((x, 2.0 * x), "batch")),
}


def side_by_side(*arrays):
    """The means of arrays, by way of one."""
    together = lax.pmean(jnp.concatenate([a[None] for a in arrays]), "batch")
    return [part[0] for part in jnp.split(together, len(arrays))]


def deviations(x, means=lambda *arrays: lax.pmean(jnp.stack(arrays), "batch")):
    """Mean and mean square sent side by side, as Flax does."""
    mean, square = means((x + 1.0).mean(0), ((x + 1.0) ** 2).mean(0))
    return (x + 1.0 - mean[None]) * lax.rsqrt(square - mean**2)[None]


def law_of(function, law, shards):
    """What the walk predicts."""
    pair = (lambda _key, _x: {}, lambda _params, x: function(x))
    model = model_of(pair, (shape_of(law),), {}, axes={"batch": shards})
    return described(model.walked(Gains(1.0, None), [law])[1][0])


@pytest.mark.some(2)
@pytest.mark.parametrize("name", COLLECTIVES)
def test_collectives_of_independent_shards(name):
    function, draws = COLLECTIVES[name], 400
    law = law_of(function, normal(8, 16), SHARDS)
    drawn = np.random.default_rng(1).standard_normal((draws, SHARDS, 8, 16), np.float32)
    y = np.asarray(jax.jit(jax.vmap(jax.vmap(function, axis_name="batch")))(drawn), np.float64)
    assert law.shape == y.shape[2:]
    assert law.second_moment == pytest.approx(np.square(y).mean(), rel=WITHIN)
    assert abs(law.mean - y.mean()) <= WITHIN * np.sqrt(np.square(y).mean())


@pytest.mark.some(3)
@pytest.mark.parametrize(
    "name", ["psum", "pmean", "pmax", "all_gather", "all_gather, tiled", "psum_scatter", "all_to_all", "axis_index"]
)
def test_one_shard_is_the_program_without_names(name):
    function = COLLECTIVES[name]
    law, x = law_of(function, normal(8, 16), 1), np.random.default_rng(1).standard_normal((512, 8, 16), np.float32)
    y = np.asarray(jax.vmap(jax.vmap(function, axis_name="batch"))(x[:, None]), np.float64)
    assert law.shape == y.shape[2:]
    assert law.second_moment == pytest.approx(np.square(y).mean(), rel=0.02, abs=1e-12)


@pytest.mark.parametrize("name", ["psum", "pmax", "pmin of squares", "a norm that stacks"])
def test_axes_by_their_numbers(name):
    """What vmap makes of a name within the model."""
    function = jax.vmap(COLLECTIVES[name], axis_name="batch")
    law = law_of(function, normal(SHARDS, 8, 6, mean=0.5), 1)
    drawn = 0.5 + np.random.default_rng(1).standard_normal((2000, SHARDS, 8, 6), np.float32)
    measured = np.asarray(jax.jit(jax.vmap(function))(drawn), np.float64)
    assert law.mean == pytest.approx(measured.mean(), abs=0.02 * np.sqrt((measured**2).mean()))
    assert law.second_moment == pytest.approx((measured**2).mean(), rel=0.05)


def test_what_vmap_has_not():
    groups = law_of(lambda x: lax.psum(x, "batch", axis_index_groups=[[0, 1], [2, 3]]), normal(8, 16), SHARDS)
    assert groups.second_moment == pytest.approx(2.0)
    with_a_gap = law_of(lambda x: lax.ppermute(x, "batch", RING[:3]), normal(8, 16), SHARDS)
    assert with_a_gap.second_moment == pytest.approx(0.75, rel=0.01)


def test_a_sum_of_replicated_weights_is_a_multiple_of_them():
    init = (lambda key, x: {"w": jax.random.normal(key, (x.shape[-1], 8))}, None)
    plain = qrjax.analyze((init[0], lambda p, x: x @ p["w"]), X)
    summed = qrjax.analyze((init[0], lambda p, x: x @ lax.psum(p["w"], "model")), X, axes={"model": SHARDS})
    assert summed[0].gain == pytest.approx(plain[0].gain / SHARDS)
    assert summed[0].second_moment == pytest.approx(1.0)


# -- models ----------------------------------------------------------------------------------------------------------


class Block(nn.Module):
    """A residual block of the kind that ImageNet's networks have, with norms over all devices."""

    features: int
    norm: object

    @nn.compact
    def __call__(self, x):
        y = nn.relu(self.norm()(nn.Conv(self.features, (3, 3), (2, 2), use_bias=False)(x)))
        y = self.norm(scale_init=nn.initializers.constant(0.5))(nn.Conv(self.features, (3, 3), use_bias=False)(y))
        shortcut = self.norm(name="norm_proj")(nn.Conv(self.features, (1, 1), (2, 2), use_bias=False)(x))
        return nn.relu(shortcut + y)


class ResNet(nn.Module):
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x, train=True):
        norm = partial(nn.BatchNorm, use_running_average=not train, momentum=0.9, axis_name=self.axis_name)
        x = nn.relu(norm(name="bn_init")(nn.Conv(8, (3, 3), use_bias=False, name="conv_init")(x)))
        x = Block(16, norm)(x)
        return nn.Dense(4)(x.mean((1, 2)))


class NNX(nnx.Module):
    def __init__(self, rngs, axis_name=None):
        self.first = nnx.Linear(16, 32, rngs=rngs)
        self.norm = nnx.BatchNorm(32, axis_name=axis_name, rngs=rngs)
        self.second = nnx.Linear(32, 4, rngs=rngs)

    def __call__(self, x):
        return self.second(nnx.relu(self.norm(3.0 * self.first(x) + 1.0)))


IMAGES = np.random.default_rng(2).standard_normal((8, 8, 8, 3), np.float32)
MODELS = {
    "linen": (ResNet(), ResNet("batch"), IMAGES),
    "nnx": (NNX(nnx.Rngs(0)), NNX(nnx.Rngs(0), "batch"), X),
    "pair": (
        (lambda key, x: {"w": jax.random.normal(key, (x.shape[-1], 4))}, lambda p, x: (x - x.mean()) @ p["w"]),
        (
            lambda key, x: {"w": jax.random.normal(key, (x.shape[-1], 4))},
            lambda p, x: (x - lax.pmean(x.mean(), "batch")) @ p["w"],
        ),
        X,
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_names_that_a_model_needs_are_bound_and_a_finding_says_so(name):
    plain, named, x = MODELS[name]
    expected, found = qrjax.analyze(plain, x), qrjax.analyze(named, x)
    assert [row.gain for row in found.weights] == pytest.approx([row.gain for row in expected.weights], rel=1e-3)
    assert "the named axis 'batch' was taken to have size 1" in found.findings[-1]
    assert "axes={'batch': size}" in found.findings[-1]
    assert not any("named axis" in f for f in expected.findings)
    assert not any("named axis" in f for f in qrjax.analyze(named, x, axes={"batch": 8}).findings)


@pytest.mark.few("LayerNorm")
@pytest.mark.parametrize("norm", [nn.LayerNorm, nn.RMSNorm, partial(nn.GroupNorm, 4)])
def test_norms_over_devices_behind_convolutions(norm):
    class Normed(nn.Module):
        axis_name: str | None

        @nn.compact
        def __call__(self, x):
            x = nn.relu(nn.Conv(16, (3, 3))(2.0 * nn.Conv(16, (3, 3))(x) + 1.0))
            return nn.Dense(4)(nn.relu(norm(axis_name=self.axis_name)(x)))

    named, plain = (qrjax.analyze(Normed(name), IMAGES).weights[-1] for name in ("batch", None))
    assert named.input_second_moment == pytest.approx(plain.input_second_moment, rel=1e-3)


@pytest.mark.few("nnx-axes0", "pair-axes2")
@pytest.mark.parametrize(
    ("name", "axes"),
    [
        ("nnx", {"batch": 3}), ("pair", None), ("pair", {"batch": 3}),
        pytest.param("linen", None, marks=pytest.mark.slow),
        pytest.param("linen", {"batch": 3}, marks=pytest.mark.slow), pytest.param("nnx", None, marks=pytest.mark.slow),
    ],
)  # fmt: skip
def test_models_with_names_are_drawn_measured_and_calibrated(name, axes):
    plain, named, x = MODELS[name]
    variables = qrjax.autoinit(named, x, seed=1, axes=axes)
    if axes is None:  # the same weights as without the names
        assert jax.tree.structure(tree(variables)) == jax.tree.structure(tree(qrjax.autoinit(plain, x, seed=1)))
        record = qrjax.record(named, x, seed=1)
        path = record.paths[-1]
        assert leaf(variables, path) is None or (record.initial(path) == leaf(variables, path)).all()
    found, expected = qrjax.measure(named, variables, x, axes=axes), qrjax.measure(plain, variables, x)
    moments = [row.measured_second_moment for row in expected]
    assert [row.measured_second_moment for row in found] == pytest.approx(moments, rel=1e-4)
    assert ("all 3 shards" in " ".join(found.findings)) == (axes is not None)
    calibrated = qrjax.calibrate(named, variables, x, axes=axes)
    for row in qrjax.measure(plain, calibrated, x).weights:
        assert row.measured_second_moment == pytest.approx(1.0, rel=0.01)


def tree(variables):
    return nnx.split(variables)[1] if isinstance(variables, nnx.Module) else variables


def leaf(variables, path):
    return variables.get(path) if isinstance(variables, dict) else None


class Grouped(nn.Module):
    """A norm over halves of the devices, within a rematerialized block."""

    groups: tuple | None

    @nn.compact
    def __call__(self, x):
        norm = partial(nn.BatchNorm, axis_name="batch" if self.groups else None, axis_index_groups=self.groups)

        @nn.remat
        def block(module, x):
            return norm(use_running_average=False, parent=module)(3.0 * nn.Dense(32, parent=module)(x) + 1.0)

        return nn.Dense(4)(nn.relu(block(self, x)))


@pytest.mark.parametrize("axes", [pytest.param(None, marks=pytest.mark.slow), {"batch": 4}])
def test_groups_of_shards(axes):
    named, plain = Grouped(((0, 1), (2, 3))), Grouped(None)
    variables = qrjax.autoinit(named, X, axes=axes)
    report, expected = qrjax.measure(named, variables, X, axes=axes), qrjax.measure(plain, variables, X)
    moments = [row.measured_second_moment for row in expected]
    assert [row.measured_second_moment for row in report] == pytest.approx(moments, rel=1e-4)
    assert report.findings[-1] == "measured with the same batch in all 2 shards of the named axis 'batch'"
    calibrated = qrjax.calibrate(named, variables, X, axes=axes)
    assert qrjax.measure(plain, calibrated, X).weights[-1].measured_second_moment == pytest.approx(1.0, rel=0.01)


def test_within_an_axis_of_the_caller_its_size_counts():
    def moment(x):
        return jnp.float32(qrjax.analyze(MODELS["pair"][1], x)[0].gain)

    report = qrjax.analyze(MODELS["pair"][1], jax.ShapeDtypeStruct(X.shape, X.dtype), axes={"batch": 3})
    gains = jax.vmap(moment, axis_name="batch")(jnp.stack([X, X, X]))
    np.testing.assert_allclose(gains, report[0].gain, rtol=1e-6)


def test_an_initialization_that_needs_a_name():
    class Scaled(nn.Module):
        @nn.compact
        def __call__(self, x):
            scale = self.param("scale", lambda _: lax.psum(jnp.ones(x.shape[-1:]), "batch"))
            return nn.Dense(4)(x * scale[None])

    assert (qrjax.autoinit(Scaled(), X)["params"]["scale"] == 1.0).all()
    assert (qrjax.autoinit(Scaled(), X, axes={"batch": 3})["params"]["scale"] == 3.0).all()


@pytest.mark.parametrize(
    ("axes", "error", "message"),
    [
        (["batch"], TypeError, r'`axes` must be a dict of sizes by name, got \[\'batch\'\]; as in {"batch": 8}'),
        ({"batch": 8.0}, TypeError, r"`axes` must hold integers, got 8.0 of type float for 'batch'"),
        ({"batch": True}, TypeError, r"`axes` must hold integers, got True of type bool for 'batch'"),
        ({"batch": 0}, ValueError, r"`axes` must hold sizes of at least 1, got 0 for 'batch'"),
    ],
)
def test_sizes_that_are_none(axes, error, message):
    with pytest.raises(error, match=message):
        qrjax.analyze(MODELS["nnx"][1], X, axes=axes)


def test_sizes_may_be_numpys():
    law = qrjax.analyze(MODELS["nnx"][1], X, axes={"batch": np.int64(8)})
    assert law.findings == qrjax.analyze(MODELS["nnx"][1], X, axes={"batch": 8}).findings


def test_a_name_error_of_the_models_own_is_its_own():
    def forward(params, x):
        return x @ params["w"] + missing  # noqa: F821

    with pytest.raises(NameError, match="name 'missing' is not defined"):
        qrjax.analyze((MODELS["pair"][0][0], forward), X)
