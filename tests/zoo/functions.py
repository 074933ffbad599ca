"""A network without a framework: two functions and a dictionary."""

import jax
import jax.numpy as jnp

from .network import Network, images

WIDTH, DEPTH, CLASSES, PATCH = 128, 3, 10, 4


def init(key, x):
    """Weights of variance 1 / fan_in, by their names."""
    shapes = {"patches": (PATCH, PATCH, x.shape[-1], WIDTH), "head": (WIDTH, CLASSES)}
    for i in range(DEPTH):
        shapes |= {f"{i}/{name}": (WIDTH, WIDTH) for name in ("query", "key", "value", "out")}
        shapes |= {f"{i}/widen": (WIDTH, 4 * WIDTH), f"{i}/narrow": (4 * WIDTH, WIDTH)}
    keys = jax.random.split(key, len(shapes))
    draw = jax.nn.initializers.lecun_normal()
    params = {name: draw(k, shape) for k, (name, shape) in zip(keys, shapes.items(), strict=True)}
    norms = [f"{i}/{name}" for i in range(DEPTH) for name in ("before attention", "before perceptron")]
    return params | {name: {"scale": jnp.ones(WIDTH), "shift": jnp.zeros(WIDTH)} for name in norms}


def layer_norm(params, x):
    centered = x - x.mean(-1, keepdims=True)
    standard = centered / jnp.sqrt((centered**2).mean(-1, keepdims=True) + 1e-6)
    return standard * params["scale"][None, None] + params["shift"][None, None]


def softmax(x):
    powers = jnp.exp(x - jax.lax.stop_gradient(x.max(-1, keepdims=True)))
    return powers / powers.sum(-1, keepdims=True)


def attention(params, i, x):
    """One head, in einsums."""
    query, key, value = (jnp.einsum("btc,cd->btd", x, params[f"{i}/{name}"]) for name in ("query", "key", "value"))
    weights = softmax(jnp.einsum("btd,bsd->bts", query, key) / WIDTH**0.5)
    return jnp.einsum("bts,bsd,de->bte", weights, value, params[f"{i}/out"])


def apply(params, x):
    """Images to logits."""
    numbers = ("NHWC", "HWIO", "NHWC")
    x = jax.lax.conv_general_dilated(x, params["patches"], (PATCH, PATCH), "VALID", dimension_numbers=numbers)
    x = x.reshape(len(x), -1, WIDTH)
    for i in range(DEPTH):
        x = x + attention(params, i, layer_norm(params[f"{i}/before attention"], x))
        y = jnp.maximum(layer_norm(params[f"{i}/before perceptron"], x) @ params[f"{i}/widen"], 0)
        x = x + y @ params[f"{i}/narrow"]
    return x.mean(1) @ params["head"]


# No module tells where a norm, a softmax or a weight is: the equations do. Nothing normalizes the last mean, which
# keeps 1/64 of independent tokens' power and all of what they share.
NETWORKS = [Network("functions", lambda: (init, apply), images)]
