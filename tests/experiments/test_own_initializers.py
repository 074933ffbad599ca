"""Initializers of a person's own among the sources: peers without code in the package, and the benchmarks' training."""

import importlib.util
import pathlib
import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import peers
import pytest

import qrjax
from qrjax import experiments
from qrjax._experiments._initializers import kernel_inits
from qrjax.experiments import Settings

SMALL = {"model": "mlp1", "units": 8, "epochs": 1, "limit": 96}


def own(name, **options):
    return Settings(initializer=name, source="own", **SMALL | options)


def test_are_what_the_network_draws():
    init, other = kernel_inits("peers:waves", "own", 2, 1)
    assert init is other
    key = jax.random.key(0)
    np.testing.assert_array_equal(init(key, (3, 4)), peers.waves()(key, (3, 4)))


@pytest.mark.slow
def test_are_recorded_by_their_names(tmp_path):
    records = experiments.run(own("peers:waves"), 2, tmp_path / "r", progress=False)
    assert records[0]["settings"]["initializer"] == "peers:waves"
    assert records[0]["settings"]["source"] == "own"
    assert experiments.load_results(tmp_path / "r") == records
    assert experiments.run(own("peers:waves"), 2, tmp_path / "r", progress=False) == records


def test_a_name_within_a_class():
    (init,) = kernel_inits("peers:Builders.normal", "own", 1, 1)
    drawn = init(jax.random.key(0), (50, 50), "float32")
    assert drawn.std() == pytest.approx(0.1, rel=0.05)


WRONG = {
    "no_module_here:f": r"the module 'no_module_here' cannot be imported: ModuleNotFoundError: No module named",
    "peers:wave": r"the module 'peers' has no 'wave'; name a function of it: a factory takes no arguments and returns",
    "peers:NUMBER": r"'NUMBER' of the module 'peers' is 3; a factory takes no arguments and returns an initializer",
    "peers:needs_an_argument": r"needs_an_argument\(\) raised TypeError: .*'scale'; a factory takes no arguments",
    "peers:no_initializer": r"no_initializer\(\) returned 0.5; a factory takes .* returns an initializer, \(key, shape",
    "peers:wrong_shape": r"what wrong_shape\(\) returned gave float32 of shape \(4, 6\) for float32 of shape \(6, 4\)",
    "peers:no_array": r"what no_array\(\) returned gave None for float32",
    "peers:raises": r"what raises\(\) returned raised KeyError: 'scale' for the shape \(6, 4\)",
}


@pytest.mark.parametrize(("name", "said"), WRONG.items(), ids=WRONG)
def test_wrong_ones_are_named_before_anything_is_done(tmp_path, name, said):
    with pytest.raises(ValueError, match=f"`initializer` '{name}': {said}"):
        experiments.run([Settings(**SMALL), own(name)], 1, tmp_path / "r", progress=False)
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize("name", ["peers.py:f", "my-package:f", ":f", "peers:", "a:b:c", "a..b:c", "a:f()"])
def test_names_of_another_form(name):
    if name == "peers.py:f":  # a module `py` of the package `peers`, which is not there
        with pytest.raises(ValueError, match="cannot be imported"):
            kernel_inits(name, "own", 1, 1)
        return
    with pytest.raises(ValueError, match=r"must be a dotted module, a colon and a name in it, got '.*'; for example"):
        own(name)


def test_have_a_source_of_their_own():
    with pytest.raises(ValueError, match="`source` must be 'own' for an initializer of your own, got 'sobol'"):
        Settings(initializer="peers:waves")
    with pytest.raises(
        ValueError, match=r"`source` 'own' is of an `initializer` of your own, such as .*, got 'he_norm"
    ):
        Settings(initializer="he_normal", source="own")


def record(initializer, source, seed, accuracy, units=8):
    settings = {"model": "mlp1", "units": units, "initializer": initializer, "source": source}
    return {"settings": settings, "seed": seed, "scheme": None, "accuracy": [accuracy]}


def test_are_compared_with_the_baseline_of_every_initializer():
    records = [
        record(initializer, source, seed, 0.5 + gain + seed / 100)
        for initializer, source, gain in [
            ("he_normal", "random", 0.0), ("he_normal", "hash", 0.1), ("orthogonal", "random", 0.05),
            ("peers:waves", "own", 0.2), ("peers:other", "own", -0.1),
        ]
        for seed in range(8)
    ]  # fmt: skip
    elsewhere = [record("peers:waves", "own", seed, 0.9, units=16) for seed in range(8)]
    found = experiments.compare(records + elsewhere)
    assert {(one.settings["initializer"], one.source): round(one.difference, 6) for one in found} == {
        ("he_normal", "hash"): 0.1, ("he_normal", "peers:waves"): 0.2, ("he_normal", "peers:other"): -0.1,
        ("orthogonal", "peers:waves"): 0.15, ("orthogonal", "peers:other"): -0.15,
    }  # fmt: skip
    with pytest.raises(ValueError, match="there is peers:waves"):
        experiments.compare(elsewhere)


def test_an_initializer_of_this_package():
    # What a builder returns is drawn from as it is, whatever the source of others.
    (init,) = kernel_inits("qrjax:he_normal_qr", "own", 1, 1)
    assert init == qrjax.he_normal_qr()


def bench(name):
    """A benchmark by its path, since their folder is not imported from."""
    path = pathlib.Path(__file__).parents[1] / "bench" / f"{name}.py"
    found = importlib.util.spec_from_file_location(name, path)
    module = sys.modules[name] = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


@pytest.mark.parametrize("shape", [(5, 3), (3, 1, 2, 4)])
def test_the_sinusoidal_initialization_is_its_formula(shape):
    """Weight by weight, by arXiv 2505.12909; a window's taps follow their channel."""
    *window, _channels, outputs = shape
    inputs = int(np.prod(shape[:-1]))
    found = np.asarray(bench("peer_initializers").sinusoidal()(jax.random.key(0), shape))
    weights = np.empty((outputs, inputs))
    for i in range(outputs):
        for j in range(inputs):
            weights[i, j] = np.sin(2 * np.pi * (i + 1) * j / inputs + 2 * np.pi * (i + 1) / outputs)
    weights *= np.sqrt(2 / (inputs + outputs)) / weights.std(ddof=1)
    for place in np.ndindex(*shape):
        *tap, channel, output = place
        flat = channel * int(np.prod(window)) + int(np.ravel_multi_index(tap, window)) if window else channel
        assert found[place] == pytest.approx(weights[output, flat], abs=1e-6)
    assert found.var(ddof=1) == pytest.approx(2 / (inputs + outputs), rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["adam", "momentum"])
def test_deep_networks_are_trained_as_by_optax_alone(optimizer):
    """`arms.Trainer` takes the steps of the experiments: minibatches, decay and early stopping by a plain loop."""
    arms = bench("arms")
    rate, seed, schedule = 0.2, 5, arms.Schedule(batch=8, steps=10, check=2, patience=1)
    x = np.asarray(jax.random.normal(jax.random.key(0), (96, 4)))
    labels = (x[:, 0] > x[:, 1]).astype(np.int32)
    data = arms.divided(x[:64], labels[:64], x[64:], labels[64:], share=0.25)
    network = nn.Dense(2)
    params = network.init(jax.random.key(1), x)

    def loss(params, inputs, labels):
        return optax.softmax_cross_entropy_with_integer_labels(network.apply(params, inputs), labels).mean()

    def share(params, inputs, labels):
        return float(np.mean(np.argmax(network.apply(params, inputs), -1) == np.asarray(labels)))

    decay = optax.cosine_decay_schedule(rate, schedule.steps)
    steps = optax.adam(decay) if optimizer == "adam" else optax.sgd(decay, momentum=0.9)
    best, lowest, idle, number, now, state = (-1.0, -np.inf), np.inf, 0, 0, params, steps.init(params)
    with jax.numpy_dtype_promotion("standard"):
        found = arms.Trainer(network, data, optimizer, schedule).run(params, jnp.float32(rate), jnp.uint32(seed))
        while number < schedule.steps and idle < schedule.patience:
            for _ in range(schedule.check):
                drawn = jax.random.fold_in(jax.random.key(seed), number)
                rows = jax.random.choice(drawn, 48, (schedule.batch,), replace=False)
                gradient = jax.grad(loss)(now, data.train_inputs[rows], data.train_labels[rows])
                updates, state = steps.update(gradient, state, now)
                now, number = optax.apply_updates(now, updates), number + 1
            right, held = share(now, *data[2:4]), float(loss(now, *data[2:4]))
            idle = 0 if right > best[0] or held < lowest else idle + 1
            lowest = min(lowest, held)
            if (right, -held) > best:
                best, expected = (right, -held), (right, share(now, *data[4:]), number)
    assert (*map(float, found[:2]), int(found.best)) == pytest.approx(expected)
    assert int(found.steps) == number
