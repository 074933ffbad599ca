"""Sixty-four networks at once: is what you saw the initializer, or the luck of one seed?

    python examples/many_seeds.py --seeds 64

Trains a small network on a spiral for every seed side by side (`qrjax.sweep` puts the seeds under `vmap`), from
pseudorandom and from quasirandom weights, and prints how much the final loss varies from seed to seed. Finished chunks
are kept in a file: kill it, start it again, and it goes on.
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Sequence
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

import qrjax

INITIALIZERS = {"pseudorandom": jax.nn.initializers.he_normal(), "quasirandom": qrjax.he_normal_qr()}
POINTS, TURNS = 512, 1.5


def spiral() -> tuple[jax.Array, jax.Array]:
    """Two arms of points in the plane, and which arm each is on."""
    rng = np.random.default_rng(0)
    radius = rng.uniform(0.1, 1, POINTS)
    arm = rng.integers(0, 2, POINTS)
    angle = 2 * np.pi * TURNS * radius + np.pi * arm
    points = np.stack([radius * np.cos(angle), radius * np.sin(angle)], -1)
    return jnp.asarray(points, jnp.float32), jnp.asarray(arm)


def train(seed: jax.Array, points: jax.Array, arm: jax.Array, *, initializer: str, steps: int) -> dict[str, jax.Array]:
    """One seed: a pure function, so that `vmap` can run many."""
    dense = functools.partial(nn.Dense, kernel_init=INITIALIZERS[initializer])
    network = nn.Sequential([dense(32), nn.relu, dense(32), nn.relu, dense(1)])
    optimizer = optax.adam(3e-3)
    params = network.init(jax.random.key(seed), points)

    def loss(params):
        return optax.sigmoid_binary_cross_entropy(network.apply(params, points)[:, 0], arm).mean()

    def step(state, _):
        params, moments = state
        value, gradients = jax.value_and_grad(loss)(params)
        updates, moments = optimizer.update(gradients, moments)
        return (optax.apply_updates(params, updates), moments), value

    _, losses = jax.lax.scan(step, (params, optimizer.init(params)), None, length=steps)
    return {"loss": losses}


def main(argv: Sequence[str] | None = None) -> dict[str, qrjax.Sweep]:
    """Runs both sweeps, prints them; returns them by name."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=64)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--folder", type=Path, help="where finished chunks are kept; none by default")
    options = parser.parse_args(argv)
    found = {}
    for name in INITIALIZERS:
        one = functools.partial(train, initializer=name, steps=options.steps)
        file = None if options.folder is None else options.folder / f"{name}.jsonl"
        found[name] = qrjax.sweep(one, options.seeds, *spiral(), file=file, settings={"initializer": name})
        print(f"{name}:\n{found[name]}\n")
    return found


if __name__ == "__main__":
    main()
