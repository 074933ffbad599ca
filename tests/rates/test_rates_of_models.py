"""The zoo and public models that nobody here wrote: the use of each parameter is seen, and has a number."""

import importlib.util
import os

import jax
import numpy as np
import pytest

os.environ.setdefault("KERAS_BACKEND", "jax")
from wild import MODELS
from zoo import ALIKE, NETWORKS

import qrjax
from qrjax._adapters._variables import trained_of

# Parameters that the call does not use: tokens that only training in their own setting puts in, and the standard
# normal law that a flow begins with.
UNUSED = ("masked_spec_embed", "mask_token", "base_dist/")
# Parameters that meet the signal through functions that are not followed by their own size alone.
GUESSED = {"gemma": "norm/weight", "flow_planar": "params"}


def checked(network, optimizer="adam"):
    module, inputs = network.build(), network.inputs(0)
    options = {"rngs": network.rngs or None, **network.kwargs}
    rates, report = qrjax.learning_rates(module, *inputs, optimizer=optimizer, report=True, **options)
    values = [np.asarray(leaf) for leaf in jax.tree.leaves(rates)]
    assert all(v.dtype.kind == "f" and np.isfinite(v).all() and (v > 0).all() for v in values)
    if isinstance(module, tuple):
        shapes = jax.eval_shape(module[0], jax.random.key(0), *inputs)
        assert jax.tree.structure(rates) == jax.tree.structure(trained_of(shapes))
    unseen = [row.weight for row in report if row.rule == "unseen" and not any(u in row.weight for u in UNUSED)]
    assert not unseen
    guessed = {path for f in report.findings if "guessed" in f for path in f.partition(": ")[2].split(", ")}
    allowed = GUESSED.get(network.name)
    assert all(allowed is not None and (allowed in path or path == "...") for path in guessed)


# Those left out have no role of their own.
@pytest.mark.few("functions", "vae", "graph")
@pytest.mark.whole_tables(*ALIKE, "mlp_tanh", "vgg", "resnet_batch", "vit_mean", "rnn", "gru")
@pytest.mark.parametrize("name", NETWORKS)
def test_zoo(name):
    checked(NETWORKS[name])


def test_gradients_of_a_network():
    checked(NETWORKS["functions"], "sgd")


# Of public ones those with roles that nothing else has; the others were looked at once.
PUBLIC = ("gpt2", "t5", "bart", "gemma", "equinox_weight_norm", "equinox_gru", "haiku_transformer", "flow_planar")


@pytest.mark.slow
@pytest.mark.parametrize("name", PUBLIC)
def test_public_models(name):
    if importlib.util.find_spec(MODELS[name].package) is None:
        pytest.skip(f"{MODELS[name].package} is not installed; pip install 'qrjax[wild]' has it")
    # As its authors run it: it promotes as it likes.
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        checked(MODELS[name])
