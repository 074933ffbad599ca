"""Initializers of a person's own, good ones and wrong ones, as experiments name them."""

import jax
import jax.numpy as jnp

NUMBER = 3


def waves():
    """Rows of sines, the same for every key."""

    def init(_key, shape, dtype="float32"):
        rows, columns = shape
        phase = jnp.outer(jnp.arange(1, rows + 1, dtype=dtype), jnp.arange(1, columns + 1, dtype=dtype))
        return jnp.sin(phase) / jnp.sqrt(jnp.asarray(rows, dtype))

    return init


class Builders:
    """A name within a name."""

    normal = staticmethod(lambda: jax.nn.initializers.normal(0.1))


def needs_an_argument(scale):
    return lambda key, shape, dtype: scale * jax.random.normal(key, shape, dtype)


def no_initializer():
    return 0.5


def wrong_shape():
    return lambda key, shape, dtype: jax.random.normal(key, shape[::-1], dtype)


def no_array():
    return lambda _key, _shape, _dtype: None


def raises():
    def init(_key, _shape, _dtype):
        raise KeyError("scale")

    return init


class Constant:
    """All params of a network at once: each is the sum of the examples."""

    def params(self, network, examples, key):
        drawn = network.init(key, examples)["params"]
        return jax.tree.map(lambda leaf: jnp.full_like(leaf, examples.sum()), drawn)
