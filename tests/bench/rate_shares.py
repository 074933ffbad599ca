"""How much of a weight's relative change scales, biases and positions are to get, and how large a head is to begin.

    python tests/bench/rate_shares.py [--seeds 2] [--markdown] [--centred] [--only "MLP*"]

Digits, Adam, 60 steps of 256 examples; the loss over all training examples afterwards, for rates a factor of two apart.
The first rows are Flax's own initialization with one rate for all. `qrjax._rates._optimizers.SHARE` is set by these.
"""

import argparse
import fnmatch

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from rate_training import MLP, loss_of
from sklearn.datasets import load_digits

import qrjax
from qrjax._rates._optimizers import SHARE

STEPS, BATCH, TRAIN = 60, 256, 1500
# Powers of two.
OWN_RATES, RATES = range(-11, -3), range(-5, 3)


class Transformer(nn.Module):
    width: int

    @nn.compact
    def __call__(self, x):
        x = nn.Dense(self.width)(x.reshape(-1, 8, 8))
        x = x + self.param("positions", nn.initializers.normal(0.02), (8, self.width))
        for _ in range(2):
            x = x + nn.MultiHeadDotProductAttention(4)(nn.LayerNorm()(x))
            x = x + nn.Dense(self.width)(nn.gelu(nn.Dense(4 * self.width)(nn.LayerNorm()(x))))
        return nn.Dense(10)(nn.LayerNorm()(x).mean(1))


def digits(centred=False):
    data = load_digits()
    pixels = (data.data - data.data.mean(0 if centred else None)) / data.data.std()
    return jnp.asarray(pixels[:TRAIN], jnp.float32), jnp.asarray(data.target[:TRAIN])


def trained(network, x, labels):
    """(params, multipliers, rate, seed) -> the loss after training."""

    def loss(params, rows):
        return loss_of(network.apply({"params": params}, x[rows]), labels[rows])

    @jax.jit
    def run(params, multipliers, rate, seed):
        optimizer = optax.scale_by_adam()

        def step(state, key):
            params, adam = state
            gradient = jax.grad(loss)(params, jax.random.randint(key, (BATCH,), 0, TRAIN))
            updates, adam = optimizer.update(gradient, adam)
            return (jax.tree.map(lambda w, u, m: w - rate * m * u, params, updates, multipliers), adam), None

        keys = jax.random.split(jax.random.key(seed), STEPS)
        (params, _), _ = jax.lax.scan(step, (params, optimizer.init(params)), keys)
        return loss(params, jnp.arange(TRAIN))

    return run


def shared(rates, report, shares):
    """The multipliers with other shares than those that they were made with, by patterns of paths."""
    rules = {row.weight: row.rule for row in report}

    def share(path, rate):
        name = "/".join(step.key for step in path)
        given = next((value for pattern, value in shares.items() if fnmatch.fnmatch(name, pattern)), None)
        return rate if given is None else rate * given / SHARE[rules[name]]

    return jax.tree_util.tree_map_with_path(share, rates)


def losses(network, data, seeds, shares, head):
    """For each rate the mean over the seeds; `shares` None for Flax's own with one rate."""
    x, labels = data
    run = trained(network, x, labels)
    found = []
    for seed in range(seeds):
        if shares is None:
            params = network.init(jax.random.key(seed), x[:1])["params"]
            multipliers, grid = jax.tree.map(lambda _: 1.0, params), OWN_RATES
        else:
            params = qrjax.autoinit(network, x[:BATCH], seed=seed, head=head)["params"]
            rates, report = qrjax.learning_rates(network, x[:BATCH], head=head, report=True)
            multipliers, grid = shared(rates, report, shares), RATES
        found.append([float(run(params, multipliers, 2.0**rate, seed)) for rate in grid])
    finite = np.where(np.isfinite(found), found, np.inf)
    return grid, finite.mean(0)


def cases():
    """(name, network, shares, head)."""
    for share in (1.0, 0.25, 1 / 64):
        yield f"MLP, width 256, biases {share:g}", MLP(256), {"*/bias": share}, 0.0
    yield "transformer, width 32, Flax's default", Transformer(32), None, None
    yield "transformer, width 32, head 0", Transformer(32), {}, 0.0
    for pattern, name, values in (
        ("positions", "positions", (1.0, 0.25, 1 / 64)),
        ("*/scale", "scales", (1.0, 1 / 16)),
        ("*/bias", "biases", (1.0, 0.25, 1 / 64)),
    ):
        for value in values:
            yield f"transformer, width 32, {name} {value:g}", Transformer(32), {pattern: value}, 0.0
    for width, heads in ((64, (0.0, 0.01, 1.0)), (256, (0.0, 0.01, 1.0)), (1024, (0.0,))):
        yield f"MLP, width {width}, Flax's default", MLP(width), None, None
        for head in heads:
            yield f"MLP, width {width}, head {head:g}", MLP(width), {}, head


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--markdown", action="store_true", help="the table of the book")
    parser.add_argument("--centred", action="store_true", help="subtract each pixel's own mean, not that of all")
    parser.add_argument("--only", default="*", help="a pattern of the names of networks")
    options = parser.parse_args()
    data = digits(options.centred)
    if options.markdown:
        print("| network | best rate | loss | a quarter of it | half | twice |\n|---|---|---|---|---|---|", flush=True)
    for name, network, shares, head in cases():
        if not fnmatch.fnmatch(name, options.only):
            continue
        grid, found = losses(network, data, options.seeds, shares, head)
        best = int(np.argmin(found))
        near = [f"{found[i]:.3f}" if 0 <= i < len(found) else "" for i in (best - 2, best - 1, best + 1)]
        cells = [name, f"2^{grid[best]}", f"{found[best]:.4f}", *near]
        print(f"| {' | '.join(cells)} |" if options.markdown else "  ".join(cells), flush=True)


if __name__ == "__main__":
    main()
