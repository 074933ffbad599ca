"""Initializers of others, each by its published definition, and what makes all weights of a network at once, for
`qrjax train --initializer`.

cd tests/bench && qrjax train --source random --initializer lecun_normal,peer_initializers:sinusoidal
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import qrjax


def sinusoidal() -> Any:
    """Sines of another whole frequency for every output, and no randomness: the same for every key.

    With n inputs (of a convolution: of its whole window) and m outputs, weight (i, j) of output i and input j is
    a sin(k x_j + p) with k = 2 pi (i + 1), x_j = j / n and p = 2 pi (i + 1) / m, and `a` gives all of them Glorot's
    variance 2 / (m + n). A convolution's inputs are numbered channels first, as in the authors' framework.

    Reference:
      Fernandez-Hernandez, Mestre, Dolz, Duato and Quintana-Orti 2025, arXiv 2505.12909, section 2.
    """

    def init(_key: Any, shape: Any, dtype: Any = "float32") -> jax.Array:
        *window, channels, outputs = shape
        inputs = math.prod(window) * channels
        number = np.arange(1, outputs + 1)[:, None]
        waves = np.sin(2 * np.pi * number * (np.arange(inputs) / inputs + 1 / outputs))
        weights = waves * math.sqrt(2 / (inputs + outputs) / waves.var(ddof=1))
        # Outputs, channels, window: to the window, channels, outputs.
        return jnp.asarray(np.moveaxis(weights.reshape(outputs, channels, *window), (0, 1), (-1, -2)), dtype)

    return init


class AnyInit:
    """The package's analytic scales, with a normal draw of its own for every seed.

    Reference:
      The package `anyinit` 0.4, https://github.com/jmiravet/AnyInit.
    """

    def params(self, network: Any, examples: Any, key: Any) -> Any:
        import anyinit

        drawn = network.init(key, examples[:1])
        seed = int(jax.random.key_data(key)[-1])
        found, _ = anyinit.initialize_params(network, drawn, examples.shape, seed=seed)
        return found["params"]


class Branches:
    """`qrjax.autoinit` with residual branches that together add to the stream what it begins with."""

    def params(self, network: Any, examples: Any, key: Any) -> Any:
        return qrjax.autoinit(network, examples, key=key, branches=1)["params"]
