"""Multipliers between two widths beside the maximal update's published rules, parameter by parameter.

A second implementation of Yang et al. 2022, arXiv 2203.03466, table 3: a parameter is known by which of its axes grow
with the width. And of the spectral condition of Yang, Simon and Bernstein 2023, arXiv 2310.17813, condition 1.
"""

import functools
import math

import jax
import numpy as np
import pytest
from networks import CNN, IMAGES, MLP, SEQUENCES, VECTORS, Transformer

import qrjax

NETWORKS = {
    "mlp": (MLP, VECTORS),
    "cnn": (CNN, IMAGES),
    "transformer": (Transformer, SEQUENCES),
    "norm_free": (functools.partial(Transformer, norms=False), SEQUENCES),
}
NARROW, WIDE = 64, 256


def published(narrow, wide, optimizer):
    """The ratio of the learning rates of two widths for a parameter of these shapes (table 3).

    The last axis of a kernel is its outputs, the one before its inputs; a vector has outputs alone.
    """
    growth = WIDE / NARROW
    outputs = wide[-1] > narrow[-1]
    inputs = len(wide) > 1 and wide[-2] > narrow[-2]
    if optimizer == "adam":
        return 1 / growth if inputs else 1.0
    return {(False, True): growth, (True, True): 1.0, (True, False): 1 / growth, (False, False): 1.0}[inputs, outputs]


def both(name, optimizer):
    """For each parameter its shapes at two widths, and the ratio of the multipliers."""
    make, sample = NETWORKS[name]
    found = []
    for width in (NARROW, WIDE):
        shapes = jax.eval_shape(make(width).init, jax.random.key(0), sample)["params"]
        rates = qrjax.learning_rates(make(width), sample, optimizer=optimizer, head=0.0)
        flat = jax.tree_util.tree_leaves_with_path(shapes)
        found.append({jax.tree_util.keystr(path): leaf.shape for path, leaf in flat})
        found.append(dict(zip(found[-1], jax.tree.leaves(rates), strict=True)))
    narrow, small, wide, large = found
    return {path: (narrow[path], wide[path], large[path] / small[path]) for path in narrow}


@pytest.mark.few("mlp")
@pytest.mark.parametrize("name", NETWORKS)
def test_adams_ratios_are_the_published_ones(name):
    for path, (narrow, wide, ratio) in both(name, "adam").items():
        assert ratio == pytest.approx(published(narrow, wide, "adam"), rel=0.02), path


@pytest.mark.slow
def test_those_of_gradient_descent_are_the_published_ones():
    for path, (narrow, wide, ratio) in both("mlp", "sgd").items():
        assert ratio == pytest.approx(published(narrow, wide, "sgd"), rel=0.1), path


@pytest.mark.parametrize("width", [NARROW, WIDE])
def test_aligned_steps_have_the_norm_of_the_spectral_condition(width):
    network = MLP(width)
    rates, report = qrjax.learning_rates(network, VECTORS, head=0.0, report=True)
    for row in report:
        if row.rule != "product":
            continue
        layer, name = row.weight.split("/")
        inputs, outputs = row.fan, row.shape[-1]
        # Every element moves by as much, all in the direction of one input.
        step = rates[layer][name] * np.ones((int(inputs), outputs))
        # A step of 1 changes a vector of norm root(fan E x^2) into one of root(outputs E y^2).
        arriving, made = (math.sqrt(moment) for moment in (row.input_second_moment, row.second_moment or 1.0))
        norm = np.linalg.norm(step, 2)
        assert norm == pytest.approx(math.sqrt(outputs / inputs) * made / arriving, rel=0.01), row.path
