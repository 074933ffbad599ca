"""One's own layer in a network, and how to tell `qrjax` what it does to a signal.

    python examples/own_layer.py

Any operation works without being told: what qrjax has no rule for, it samples, and the report says so. A rule is
exact, costs nothing, and is a few lines. There are two kinds, for a JAX primitive and for a type of module.
"""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.extend.core
import jax.numpy as jnp
import numpy as np
from jax.interpreters import mlir

import qrjax

# 1. A primitive of one's own, as one writes for a kernel in CUDA or Pallas: "bump" is x * exp(-x^2 / 2).


def _bump(x: jax.Array) -> jax.Array:
    return x * jnp.exp(-jnp.square(x) / 2)


bump_p = jax.extend.core.Primitive("bump")
bump_p.def_impl(_bump)
bump_p.def_abstract_eval(lambda x: x)
mlir.register_lowering(bump_p, mlir.lower_fun(_bump, multiple_results=False))


class Network(nn.Module):
    """Layers with the primitive between them, and a module of one's own."""

    depth: int = 4
    width: int = 256

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Features to ten outputs."""
        for _ in range(self.depth):
            x = bump_p.bind(nn.Dense(self.width)(x))
        x = Whiten()(x)
        return nn.Dense(10)(x)


class Whiten(nn.Module):
    """Makes the features of a batch uncorrelated, by a decomposition; there are more rows than features."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """The orthonormal factor, scaled to a second moment of 1."""
        return jnp.linalg.qr(x)[0] * x.shape[0] ** 0.5


def teach() -> None:
    """Registers both rules, for the rest of the process."""

    # 2. A primitive's rule: signals in, signals out. `map` takes any elementwise function of NumPy arrays.
    @qrjax.rule(bump_p)
    def _bumped(x: qrjax.Signal) -> qrjax.Signal:
        return x.map(lambda values: values * np.exp(-(values**2) / 2))

    # 3. A module's rule: whatever goes in, what comes out has the mean 0 and the variance 1, by construction.
    @qrjax.module_rule(Whiten)
    def _whitened(x: qrjax.Signal) -> qrjax.Signal:
        return qrjax.Signal.normal(x.shape)


def show(title: str, network: Network, x: jax.Array) -> qrjax.Report:
    """Initializes, measures on the batch and prints the rows, predicted beside measured."""
    report = qrjax.measure(network, qrjax.autoinit(network, x, seed=0), x)
    print(f"\n{title}\n\n{report}")
    errors = [abs(row.octaves) for row in report if row.octaves is not None]
    print(f"\nThe worst prediction of E[y²] is off by {max(errors):.2f} octaves.")
    return report


def main() -> tuple[qrjax.Report, qrjax.Report]:
    """Prints the report before and after the rules are known."""
    network, x = Network(), jax.random.normal(jax.random.key(0), (512, 64))
    before = show("Without rules: `bump` is sampled, and the notes say so", network, x)
    teach()
    after = show("With rules for `bump` and for `Whiten`", network, x)
    return before, after


if __name__ == "__main__":
    main()
