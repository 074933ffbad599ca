"""Layers that lay axes together and take them apart behind it see what they would see with the axes apart."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pairs import pair

import qrjax

B, L, D = 8, 16, 32
WEIGHTS = {"a": (D, D), "b": (D, D), "c": (D, D), "d": (D, D), "e": (D, D)}
X = np.random.default_rng(0).standard_normal((B, L, D), np.float32)


@pytest.fixture(autouse=True)
def _broadcasts():
    with jax.numpy_rank_promotion("allow"):
        yield


def alike(x, axes):
    """Elements that have much in common along some axes."""
    return x + 2 * x.mean(axes, keepdims=True)


def examples_and_tokens(p, x, merge):
    y = alike(x @ p["a"], 1)
    y = jnp.tanh(y.reshape(B * L, D) @ p["b"]) @ p["c"] if merge else jnp.tanh(y @ p["b"]) @ p["c"]
    return y.reshape(B, L, D).mean(1) @ p["d"]


def steps_and_examples(p, x, merge):
    y = alike(x @ p["a"], 1).swapaxes(0, 1)
    y = jnp.tanh(y.reshape(L * B, D) @ p["b"]) @ p["c"] if merge else jnp.tanh(y @ p["b"]) @ p["c"]
    return y.reshape(L, B, D).mean(0) @ p["d"]


def windows(p, x, merge):
    """Windows of an image, put back into it for a layer."""
    y = alike((x @ p["a"]).reshape(B, 2, 2, 2, 2, D).transpose(0, 1, 3, 2, 4, 5), (3, 4))
    if merge:
        y = y.transpose(0, 1, 3, 2, 4, 5).reshape(B, 4, 4, D)
    y = jnp.tanh(y @ p["b"]) @ p["c"]
    if merge:
        y = y.reshape(B, 2, 2, 2, 2, D).transpose(0, 1, 3, 2, 4, 5)
    return y.mean((3, 4)) @ p["d"]


def repeated_heads(p, x, merge):
    """Each head of keys serves several of queries."""
    y = alike((x @ p["a"]).reshape(B, L, 4, 1, 8), 1)
    y = jnp.broadcast_to(y, (B, L, 4, 2, 8))
    y = jnp.tanh(y.reshape(B, L, 8, 8)).reshape(y.shape) if merge else jnp.tanh(y)
    return y.mean(3).reshape(B, L, D) @ p["d"]


def zeros_between(p, x, merge):
    """An image made larger with zeros between its pixels and a blur, as StyleGAN2 and NCSN++ do."""
    y = alike(x @ p["a"], 1)
    if merge:
        y = jnp.pad(y[:, :, None], ((0, 0), (0, 0), (0, 1), (0, 0))).reshape(B, 2 * L, D)
    else:
        y = jax.lax.pad(y, jnp.zeros((), y.dtype), ((0, 0, 0), (0, 1, 1), (0, 0, 0)))
    blur = jnp.tile(jnp.array([1.0, 3.0, 3.0, 1.0], y.dtype)[:, None, None] / 4, (1, 1, D))
    y = jax.lax.conv_general_dilated(y, blur, (1,), "SAME", None, None, ("NHC", "HIO", "NHC"), D)
    return y @ p["d"]


@pytest.mark.parametrize("function", [examples_and_tokens, steps_and_examples, windows, repeated_heads, zeros_between])
def test_gains_do_not_depend_on_how_axes_are_laid(function):
    apart, merged = (qrjax.analyze(pair(lambda p, x, m=m: function(p, x, m), **WEIGHTS), X) for m in (False, True))
    assert [row.gain for row in merged.weights] == pytest.approx([row.gain for row in apart.weights], rel=0.01)


def grouped(p, x, what=jnp):
    """Two layers of attention to everything whose heads are groups of tokens, as nothing transposes them."""
    for first, last in ("ab", "cd"):
        heads = (x @ p[first]).reshape(B, 4, L, D // 4)
        shared = what.broadcast_to(heads.mean(2, keepdims=True), heads.shape).reshape(B, L, D)
        x = x + shared @ p[last]
    return shared @ p["e"]


def test_heads_that_are_laid_out_without_a_transposition():
    report = qrjax.analyze(pair(grouped, **WEIGHTS), X)
    gains = dict(zip(WEIGHTS, [row.gain for row in report.weights], strict=True))
    generator = np.random.default_rng(1)
    found = []
    for _ in range(64):
        weights = {name: gains[name] * generator.standard_normal((D, D)) for name in WEIGHTS}
        found.append(np.square(grouped(weights, generator.standard_normal((B, L, D)), np)).mean())
    # 64 draws, each of a second moment that wanders by about a third.
    assert np.mean(found) == pytest.approx(1, abs=4 * np.std(found) / 8)
    assert np.std(found) < 0.4
