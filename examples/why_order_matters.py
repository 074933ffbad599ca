"""The same Sobol' values in another order: why the order of a quasirandom tensor decides whether it can train.

    python examples/why_order_matters.py --output order.png

Fills a matrix from every layout, prints its effective rank (how many directions carry its weights) and how much of the
signal is left behind twenty ReLU layers of such matrices, and draws the singular values.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import qrjax

LAYOUTS = ("outputs", "shuffled", "neurons", "points", "sequence")
DEPTH = 20


def matrices(width: int, key: jax.Array) -> dict[str, jax.Array]:
    """One of each layout, and independent draws beside them, all with He's variance."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", qrjax.RankCollapseWarning)  # that is what we came to see
        drawn = {layout: qrjax.he_uniform_qr(layout=layout)(key, (width, width)) for layout in LAYOUTS}
    return {"independent": jax.nn.initializers.he_uniform()(key, (width, width)), **drawn}


def left(layout: str, width: int, seeds: int) -> float:
    """The log of the output's second moment over the input's, median over seeds."""
    x = jax.random.normal(jax.random.key(1), (256, width))
    found = []
    for seed in range(seeds):
        y = x
        for key in jax.random.split(jax.random.key(seed), DEPTH):
            y = jax.nn.relu(y @ matrices(width, key)[layout])
        found.append(float(jnp.log((y**2).mean() / (jax.nn.relu(x) ** 2).mean())))
    return float(np.median(found))


def main(argv: Sequence[str] | None = None) -> dict[str, tuple[float, float]]:
    """Prints the table, draws the picture; returns effective rank and signal by layout."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--output", type=Path, default=Path("why_order_matters.png"))
    options = parser.parse_args(argv)
    drawn = matrices(options.width, jax.random.key(0))
    found = {
        layout: (qrjax.effective_rank(matrix), left(layout, options.width, options.seeds))
        for layout, matrix in drawn.items()
    }
    print(f"layout        effective rank   log of the signal left behind {DEPTH} ReLU layers")
    for layout, (rank, signal) in found.items():
        print(f"{layout:12}  {rank:14.1f}   {signal:+.2f}")
    qrjax.plot.spectrum(drawn).figure.savefig(options.output, dpi=150)
    return found


if __name__ == "__main__":
    main()
