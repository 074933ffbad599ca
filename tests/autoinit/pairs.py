"""Models of two functions, for the tables of tests in this folder."""

import jax


def pair(function, **shapes):
    """A pair (init, apply) with independent normal weights of these shapes, of variance 1 / fan-in."""

    def init(key, *_):
        keys = {name: jax.random.fold_in(key, i) for i, name in enumerate(shapes)}
        return {name: jax.random.normal(keys[name], shape) / shape[-2] ** 0.5 for name, shape in shapes.items()}

    return init, function
