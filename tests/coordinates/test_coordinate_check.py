"""`qrjax.coordinate_check`: what it measures is what training by hand changes; slopes, verdicts and words."""

import functools
import html
import importlib.util
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from flax import nnx
from networks import NETWORKS

import qrjax

INPUTS, WIDTHS, STEPS, SEEDS = 8, (16, 128), 2, 2
X = np.random.default_rng(0).standard_normal((12, INPUTS), np.float32)
Y = np.random.default_rng(1).standard_normal((12, 4), np.float32)


def make(width):
    return nn.Sequential([nn.Dense(width), nn.tanh, nn.Dense(width), nn.tanh, nn.Dense(4)])


def loss(outputs):
    return jnp.mean((outputs - Y) ** 2)


check = functools.partial(qrjax.coordinate_check, make, WIDTHS, X, loss, steps=STEPS, seeds=SEEDS)


@pytest.fixture(scope="module")
def scaled():
    return check()


@pytest.fixture(scope="module")
def plain():
    return check(multipliers=False, rate=2.0**-6)


# -- what is measured --------------------------------------------------------------------------------------------------


def by_hand(width, seed, rate, multipliers):
    """Root mean squares of the changes of a plain perceptron's outputs after each step, by Flax's own means."""
    network = make(width)
    variables = qrjax.autoinit(network, X, seed=seed, head=0.0)
    rates = (
        qrjax.learning_rates(network, X, head=0.0) if multipliers else jax.tree.map(lambda _: 1.0, variables["params"])
    )
    optimizer = optax.chain(optax.scale_by_adam(), qrjax.scale_by_width(rates), optax.scale(-rate))

    def outputs(params):
        kept = network.apply({"params": params}, X, capture_intermediates=True, mutable=["intermediates"])[1]
        return [kept["intermediates"][f"layers_{layer}"]["__call__"][0] for layer in (0, 2, 4)]

    @jax.jit
    def trained(params):
        first, state, found = outputs(params), optimizer.init(params), []
        for _ in range(STEPS):
            gradients = jax.grad(lambda params: loss(network.apply({"params": params}, X)))(params)
            updates, state = optimizer.update(gradients, state, params)
            params = optax.apply_updates(params, updates)
            found.append([jnp.sqrt(jnp.mean((b - a) ** 2)) for a, b in zip(first, outputs(params), strict=True)])
        return found

    with jax.numpy_dtype_promotion("standard"):  # optax's
        return trained(variables["params"])


def of_all(rate, multipliers):
    """(widths, seeds, steps, rows)"""
    return np.array([[by_hand(width, seed, rate, multipliers) for seed in range(SEEDS)] for width in WIDTHS])


def test_changes_and_slopes_are_those_of_training_by_hand(plain):
    expected = of_all(2.0**-6, False)
    rows = [plain[f"layers_{layer}"] for layer in (0, 2, 4)]
    np.testing.assert_allclose([row.changes for row in rows], np.exp2(np.log2(expected[:, :, -1]).mean(1)).T, rtol=1e-4)
    with np.errstate(divide="ignore", invalid="ignore"):  # a head of zeros moves nothing before it in the first step
        slopes = np.diff(np.log2(expected), axis=0)[0] / np.log2(WIDTHS[1] / WIDTHS[0])
    np.testing.assert_allclose([row.steps for row in rows], slopes.mean(0).T, atol=1e-4)
    np.testing.assert_allclose([row.slope for row in rows], slopes[:, -1].mean(0), atol=1e-4)
    np.testing.assert_allclose([row.error for row in rows], slopes[:, -1].std(0, ddof=1) / SEEDS**0.5, atol=1e-4)


def test_multipliers_hold_what_one_rate_does_not(scaled, plain):
    scaled.assert_stable()
    assert {row.verdict for row in scaled} == {"stable"}
    assert plain["layers_2"].slope > 0.5
    with pytest.raises(qrjax.UnhealthyError, match=r"layers_2 .*grows by a slope of") as error:
        plain.assert_stable()
    assert all(finding.severity == "error" for finding in error.value.findings)
    plain.assert_stable(tolerance=2.0)


@pytest.mark.slow
def test_multipliers_are_those_of_learning_rates(scaled):
    expected = of_all(2.0**-6, True)
    rows = [scaled[f"layers_{layer}"] for layer in (0, 2, 4)]
    np.testing.assert_allclose([row.changes for row in rows], np.exp2(np.log2(expected[:, :, -1]).mean(1)).T, rtol=1e-4)


def test_outputs_measure_the_last_weights_steps(scaled):
    larger = check(outputs=16.0)
    ratios = [larger[f"layers_{layer}"].changes[0] / scaled[f"layers_{layer}"].changes[0] for layer in (0, 4)]
    np.testing.assert_allclose(ratios, [1.0, 4.0], rtol=0.1)
    assert larger.settings["outputs"] == 16.0


class Own(nnx.Module):
    def __init__(self, width, rngs):
        self.first = nnx.Linear(INPUTS, width, use_bias=False, rngs=rngs)
        self.last = nnx.Linear(width, 4, use_bias=False, rngs=rngs)

    def __call__(self, x):
        return self.last(jnp.tanh(self.first(x)))


class Linen(nn.Module):
    width: int

    @nn.compact
    def __call__(self, x):
        x = jnp.tanh(nn.Dense(self.width, use_bias=False, name="first")(x))
        return nn.Dense(4, use_bias=False, name="last")(x)


def pair(width):
    def init(key, x):
        del key
        return {"first": jnp.ones((x.shape[1], width)), "last": jnp.ones((width, 4))}

    return init, lambda params, x: jnp.tanh(x @ params["first"]) @ params["last"]


def start(module, seed):
    """Weights of one's own, in each of the three kinds."""
    draws = np.random.default_rng(seed)
    first, last = (jnp.asarray(draws.standard_normal(shape, np.float32) / 4) for shape in ((INPUTS, 16), (16, 4)))
    if isinstance(module, nnx.Module):
        module.first.kernel[...], module.last.kernel[...] = first, last
        return module
    if isinstance(module, nn.Module):
        return {"params": {"first": {"kernel": first}, "last": {"kernel": last}}}
    return {"first": first, "last": last}


@pytest.mark.slow
def test_linen_nnx_and_pairs_are_one():
    found = []
    for kind in (Linen, lambda width: Own(width, nnx.Rngs(0)), pair):
        # One width in the place of two: what is looked at are the changes.
        one = qrjax.coordinate_check(
            lambda _, kind=kind: kind(16), [16, 17], X, loss, steps=2, seeds=1, multipliers=False, weights=start
        )
        found.append([row.changes[0] for row in one if row.operation in ("Dense", "Linear", "product")])
    np.testing.assert_allclose(found[0], found[1], rtol=1e-5)
    np.testing.assert_allclose(found[0], found[2], rtol=1e-5)


def test_functions_of_ones_own_get_what_was_made():
    def weights(make, seed):
        return start(make(jax.random.key(0)), seed)

    def optimizer(make):
        assert isinstance(make(jax.random.key(0)), Own)
        return optax.sgd(0.1)

    found = qrjax.coordinate_check(
        lambda _: lambda key: Own(16, nnx.Rngs(key)), [16, 17], X, loss, steps=1, seeds=1, optimizer=optimizer,
        weights=weights,
    )  # fmt: skip
    assert found[0].slope == 0


def test_rows_that_are_to_be_stable(plain):
    plain.assert_stable(tolerance=9.0, select=lambda path: path == "layers_2")
    for select, error, message in (
        ([], ValueError, "`select` .* matches no row; rows: "),
        (2, TypeError, "`select` must be a pattern, patterns or a function of a path, got 2"),
        ("layer", ValueError, "`select` has the pattern 'layer', which matches no row"),
    ):
        with pytest.raises(error, match=message):
            plain.assert_stable(select=select)


class Looped(nn.Module):
    """Layers under a scan, a dropout, and a layer within a loop of unknown length."""

    width: int

    @nn.compact
    def __call__(self, x):
        x = nn.Dropout(0.5, deterministic=False)(nn.Dense(self.width)(x))
        layers = nn.scan(Step, variable_axes={"params": 0}, split_rngs={"params": True}, length=2)
        x, _ = layers(self.width)(x, None)
        weight = self.param("again", nn.initializers.lecun_normal(), (self.width, self.width))
        x = jax.lax.fori_loop(0, 3, lambda _, x: jnp.tanh(x @ weight), x)
        return nn.Dense(4)(x)


class Step(nn.Module):
    width: int

    @nn.compact
    def __call__(self, x, _):
        return nn.tanh(nn.Dense(self.width)(x)), None


@pytest.mark.slow
def test_scans_loops_and_random_streams():
    found = qrjax.coordinate_check(
        Looped, WIDTHS, X, loss, steps=2, seeds=1, rngs={"dropout": jax.random.key(3)}, tolerance=0.4
    )
    paths = [row.path for row in found if row.operation in ("Dense", "product")]
    assert [path for path in paths if "[" in path] == ["ScanStep_0/Dense_0[0]", "ScanStep_0/Dense_0[1]"]
    assert "" in paths, "the weight of the loop"
    assert all(np.isfinite(row.changes).all() and row.changes[0] > 0 for row in found)


# -- what is asked for -------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_an_optimizer_of_ones_own_and_a_sample_of_the_width():
    found = qrjax.coordinate_check(
        lambda _: nn.Dense(4), [8, 32], lambda width: (np.ones((4, width), np.float32),), lambda y: jnp.mean(y**2),
        optimizer=lambda module: optax.sgd(0.5 / module.features), steps=1, seeds=1, head=None,
    )  # fmt: skip
    # dL/dy is 2 y / 16 in each of four examples alike, and x.x + 1 is width + 1, so dy = rate (width + 1) y / 2.
    np.testing.assert_allclose(np.array(found[0].changes) / found[0].first, [9 * 0.125 / 2, 33 * 0.125 / 2], rtol=1e-3)
    assert found.settings["optimizer"] == "<lambda>"
    assert found.settings["rate"] is None


@pytest.mark.slow
def test_models_that_differ_are_compared_where_they_do_not():
    def deeper(depth):
        return nn.Sequential([layer for _ in range(depth) for layer in (nn.Dense(8), nn.tanh)])

    found = qrjax.coordinate_check(deeper, [1, 2], X, lambda y: jnp.mean(y**2), steps=1, seeds=1, weights="module")
    assert found[0].path == "layers_0"
    assert any("layers_2" in finding and "at 2" in finding for finding in found.findings)
    others = {8: nn.Dense(4), 16: nn.Sequential([nn.Dense(4), nn.tanh])}
    with pytest.raises(ValueError, match="no output in common"):
        qrjax.coordinate_check(others.get, [8, 16], X, loss, steps=1, seeds=1, weights="module")


def test_what_diverges_is_said():
    found = check(optimizer="sgd", multipliers=False, rate=1e30, seeds=1)
    assert {row.verdict for row in found} == {"diverged"}
    assert any(finding.severity == "error" and "not finite" in finding for finding in found.findings)
    with pytest.raises(qrjax.UnhealthyError, match="is diverged"):
        found.assert_stable()


@pytest.mark.slow
def test_nnx_modules_have_one_draw():
    found = qrjax.coordinate_check(
        lambda width: Own(width, nnx.Rngs(0)), WIDTHS, X, loss, steps=1, seeds=3, weights="module", multipliers=False
    )
    assert found.losses.shape == (2, 1, 2)
    assert found[0].error is None
    assert any("one draw" in finding for finding in found.findings)


BAD = [
    ({"widths": [16]}, ValueError, "`widths` must be two positive integers or more, increasing, got \\[16\\]"),
    ({"widths": [16, 8]}, ValueError, "increasing"),
    ({"widths": 16}, TypeError, "`widths` must be a list of integers"),
    ({"steps": 0}, ValueError, "`steps` must be 1 or more, got 0"),
    ({"seeds": 2.0}, TypeError, "`seeds` must be an integer"),
    ({"rate": -1.0}, ValueError, "`rate` must be positive and finite"),
    ({"rate": 1.0, "optimizer": lambda _: optax.sgd(1.0)}, ValueError, "put it in there"),
    ({"optimizer": "adamm"}, ValueError, "did you mean 'adam'"),
    ({"optimizer": lambda _: 3.0}, TypeError, "`optimizer` must return an optax transformation"),
    ({"multipliers": 1}, TypeError, "`multipliers` must be True or False"),
    ({"outputs": 4.0, "multipliers": False}, ValueError, "`outputs` is what multipliers are measured by, got 4.0"),
    ({"branches": 1.0, "multipliers": False, "weights": "module"}, ValueError, "`branches` is for autoinit's weights"),
    ({"branches": 1.0}, ValueError, "`branches` is for what weights add to a residual stream"),
    ({"weights": "own"}, ValueError, "`weights` must be one of"),
    ({"tolerance": 0}, ValueError, "`tolerance` must be a positive slope"),
    ({"make_model": make(8)}, TypeError, "`make_model` must be a function of a width"),
    ({"loss": 1.0}, TypeError, "`loss` must be a function of what the model returns"),
    ({"loss": lambda y: y}, TypeError, "`loss` must return one real number"),
]


@pytest.mark.parametrize(
    ("wrong", "error", "message"), BAD, ids=[f"{next(iter(w))}{i}" for i, (w, _, _) in enumerate(BAD)]
)
def test_what_cannot_be_checked_is_an_error(wrong, error, message):
    given = {"make_model": make, "widths": [4, 8], "sample": X, "loss": loss, "steps": 1, "seeds": 1} | wrong
    with pytest.raises(error, match=message):
        qrjax.coordinate_check(**given)


# -- how it is shown ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [60, 80, 120])
def test_it_prints_as_a_table(plain, width, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(width))
    lines = repr(plain).splitlines()
    assert lines[0].startswith("Coordinate check: adam, one rate, rate 0.0156, 2 steps, 2 seeds")
    assert max(map(len, lines)) <= max(80, width)
    assert "layers_2" in repr(plain)
    assert "grows" in repr(plain)
    assert html.escape("layers_2") in plain._repr_html_()


def test_it_leaves_as_plain_values(plain):
    kept = json.loads(plain.to_json())
    assert kept == json.loads(json.dumps(plain.to_dict()).replace("NaN", "null"))
    assert kept["widths"] == list(WIDTHS)
    assert kept["settings"]["steps"] == STEPS
    assert np.shape(kept["losses"]) == (len(WIDTHS), SEEDS, STEPS + 1)
    assert plain.scalars()["layers_2/slope"] == plain["layers_2"].slope
    assert plain.scalars()["layers_2/change_128"] == plain["layers_2"].changes[1]
    frame = plain.to_pandas()
    assert list(frame["verdict"]) == [row.verdict for row in plain]
    assert plain.steepest.slope == max(frame["slope"])
    with pytest.raises(KeyError, match="no row has the path 'layers_3'"):
        plain["layers_3"]


# -- whole networks ----------------------------------------------------------------------------------------------------

# The others are in `tests/bench/rates.py coordinates`, which takes minutes.
CHECKED = ("cnn", "norm_free", "haiku")


@pytest.mark.slow
@pytest.mark.parametrize("name", CHECKED)
def test_networks_are_stable(name):
    network = NETWORKS[name]
    if network.package and importlib.util.find_spec(network.package) is None:
        pytest.skip(f"{network.package} is not installed; pip install 'qrjax[wild]' has it")
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        found = qrjax.coordinate_check(network.make, [32, 256], network.sample, network.loss, seeds=2)
    found.assert_stable()


@pytest.mark.slow
@pytest.mark.parametrize(("optimizer", "rate"), [("sgd", 1.0), ("muon", 2.0**-6), ("sign", 2.0**-6)])
def test_other_optimizers_are_stable(optimizer, rate):
    network = NETWORKS["mlp"]
    settings = {"optimizer": optimizer, "rate": rate, "seeds": 1}
    qrjax.coordinate_check(network.make, [64, 1024], network.sample, network.loss, **settings).assert_stable()
