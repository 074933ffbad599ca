"""`rngs`: "params" is the key of the weights, other keys are those of their streams, in Linen and in NNX."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import qrjax

KEY, OTHER = jax.random.key(0), jax.random.key(7)
X = np.random.default_rng(0).standard_normal((8, 16), np.float32)
FAST = {"source": "hash", "distribution": "uniform"}
PAIR = (lambda key, x: {"w": jax.random.normal(key, (x.shape[-1], 4))}, lambda params, x: x @ params["w"])


class Noisy(nn.Module):
    """A buffer from one random stream, dropout from another."""

    @nn.compact
    def __call__(self, x, train=False):
        noise = self.variable("buffers", "noise", lambda: jax.random.normal(self.make_rng("noise"), x.shape[-1:]))
        x = nn.Dropout(0.5, deterministic=not train)(nn.Dense(64)(x + noise.value[None]))
        return nn.Dense(4)(x)


class Dropped(nnx.Module):
    def __init__(self, rngs):
        self.first, self.second = nnx.Linear(16, 64, rngs=rngs), nnx.Linear(64, 4, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x):
        return self.second(self.dropout(self.first(x)))


def weight(module, **options):
    """A weight that autoinit draws, as NumPy's."""
    found = qrjax.autoinit(module, X, **options, **FAST)
    if isinstance(found, nnx.Module):
        return np.asarray(found.first.kernel[...])
    return np.asarray(found["w"] if "w" in found else found["params"]["layers_0"]["kernel"])


MODULES = {"linen": nn.Sequential([nn.Dense(4, use_bias=False)]), "nnx": Dropped(nnx.Rngs(0)), "pair": PAIR}
CARRIERS = {
    "a dict": lambda seed: {"params": jax.random.key(seed)},
    "raw keys": lambda seed: {"params": jax.random.PRNGKey(seed)},
    "a key": lambda seed: jax.random.key(seed),
}


def modules_and_carriers():
    """Each module and each carrier by default, all pairs in the slow part."""
    for i, module in enumerate(MODULES):
        for j, carrier in enumerate(CARRIERS):
            yield pytest.param(module, carrier, marks=[pytest.mark.slow] * ((i - j) % len(MODULES) != 0))


@pytest.mark.few("linen-a dict", "nnx-raw keys", "pair-a key")
@pytest.mark.parametrize(("module", "carrier"), list(modules_and_carriers()))
def test_params_is_the_key_of_the_weights(module, carrier):
    for seed in (0, 1):
        expected = weight(MODULES[module], seed=seed)
        np.testing.assert_array_equal(weight(MODULES[module], rngs=CARRIERS[carrier](seed)), expected)


@pytest.mark.few("<lambda>0-linen", "<lambda>1-nnx", "<lambda>2-pair")
@pytest.mark.parametrize("module", MODULES)
@pytest.mark.parametrize(
    "streams", [lambda s: nnx.Rngs(s), lambda s: nnx.Rngs(params=s), lambda s: nnx.Rngs(5, params=s)]
)
def test_a_loop_over_seeds_of_rngs_compares_different_networks(module, streams):
    found = [weight(MODULES[module], rngs=streams(seed)) for seed in (0, 1, 0)]
    assert not (found[0] == found[1]).any()
    np.testing.assert_array_equal(found[0], found[2])
    # As for any layer of NNX, it is the stream's next key.
    np.testing.assert_array_equal(found[0], weight(MODULES[module], key=streams(0).params()))


def test_rngs_go_on_from_call_to_call():
    rngs, again = nnx.Rngs(0), nnx.Rngs(0)
    first, second = weight(PAIR, rngs=rngs), weight(PAIR, rngs=rngs)
    assert not (first == second).any()
    np.testing.assert_array_equal(first, weight(PAIR, key=again.params()))
    np.testing.assert_array_equal(second, weight(PAIR, key=again.params()))


@pytest.mark.few("True")
@pytest.mark.parametrize("traced", [False, True])
def test_other_keys_reach_their_streams_as_in_init(traced):
    def drawn(params, noise):
        return qrjax.autoinit(Noisy(), X, rngs={"params": params, "noise": noise}, **FAST)

    variables = (jax.jit(drawn) if traced else drawn)(KEY, OTHER)
    own = Noisy().init({"params": KEY, "noise": OTHER}, X)
    np.testing.assert_array_equal(variables["buffers"]["noise"], own["buffers"]["noise"])
    named = qrjax.autoinit(Noisy(), X, key=KEY, rngs=("noise",), **FAST)
    np.testing.assert_array_equal(variables["params"]["Dense_0"]["kernel"], named["params"]["Dense_0"]["kernel"])
    assert not (named["buffers"]["noise"] == own["buffers"]["noise"]).any()


@pytest.mark.parametrize("by", ["autoinit", "init"])
def test_records_know_the_keys(by):
    rngs = {"params": KEY, "noise": OTHER}
    own = FAST if by == "autoinit" else {}
    record = qrjax.record(Noisy(), X, by=by, rngs=rngs, **own)
    made = qrjax.autoinit(Noisy(), X, rngs=rngs, **FAST) if by == "autoinit" else Noisy().init(rngs, X)
    assert jax.tree.all(jax.tree.map(np.array_equal, record.initial(), made))
    loaded = qrjax.Record.from_json(record.to_json())
    found = loaded.with_model(Noisy(), X, rngs={"noise": OTHER}).initial()  # the weights' key is in the record
    assert jax.tree.all(jax.tree.map(np.array_equal, found, made))


def test_one_name_is_a_name():
    found = [
        qrjax.autoinit(Noisy(), X, rngs=rngs, **FAST)["buffers"]["noise"] for rngs in ("noise", ("noise",), {"noise"})
    ]
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])


def test_keys_may_be_mapped_over():
    keys = jax.random.split(KEY, 3)
    many = jax.vmap(lambda key: qrjax.autoinit(PAIR, X, rngs={"params": key}, **FAST)["w"])(keys)
    for key, one in zip(keys, many, strict=True):
        np.testing.assert_array_equal(weight(PAIR, key=key), one)


# -- real runs -------------------------------------------------------------------------------------------------------


def test_a_run_draws_from_the_streams_keys():
    variables = Noisy().init({"params": KEY, "noise": OTHER}, X)
    for rngs in ({"dropout": OTHER}, {"params": OTHER}):
        own = Noisy().apply(variables, X, train=True, rngs=rngs, mutable=["buffers"])[0]
        measured = qrjax.measure(Noisy(), variables, X, train=True, rngs=rngs)
        assert measured.rows[-1].measured_second_moment == pytest.approx(float(jnp.mean(own**2)), rel=1e-5)


def test_a_run_of_nnx_starts_the_streams_that_have_a_key():
    module = Dropped(nnx.Rngs(0, dropout=1))
    for key in (OTHER, jax.random.PRNGKey(4)):
        again = nnx.clone(module)
        nnx.reseed(again, dropout=key)
        measured = qrjax.measure(module, module, X, rngs={"dropout": key})
        assert measured.rows[-1].measured_second_moment == pytest.approx(float(jnp.mean(again(X) ** 2)), rel=1e-5)
    assert int(module.dropout.rngs.count[...]) == 0  # it is not touched


def test_calibration_takes_the_keys_too():
    variables = Noisy().init({"params": KEY, "noise": OTHER}, X)
    rngs = {"dropout": OTHER}
    calibrated = qrjax.calibrate(Noisy(), variables, X, train=True, rngs=rngs)
    own = Noisy().apply(calibrated, X, train=True, rngs=rngs, mutable=["buffers"])[0]
    assert float(jnp.mean(own**2)) == pytest.approx(1.0, rel=1e-3)
