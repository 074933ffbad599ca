"""Integrals over the unit cube by scrambled Sobol' nets, with an error estimate from replicates.

    python examples/integrate.py --output integrate.png

A scrambled net is a random set of 2**m points, each of them uniform, so the mean of f over it is an unbiased estimate
of the integral; several scrambles, one for each key, give several independent estimates, whose spread says how large
the error is. `estimate` is all that takes. The table compares it with as many independent points, and with a net that
lacks its first point, which is no net: for smooth functions that one point costs most of what the net gains.
"""

from __future__ import annotations

import argparse
import functools
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import qrjax

Function = Callable[[jax.Array], jax.Array]
Points = Callable[[jax.Array, int, int], jax.Array]


def net(key: jax.Array, count: int, dims: int, first: int = 0) -> jax.Array:
    """The first `count` points, a power of two, of a net scrambled by the key; shape (count, dims)."""

    def coordinate(dim: jax.Array) -> jax.Array:
        return qrjax.sobol.points_range(dim, first, count, scramble="owen", key=key)

    return jax.vmap(coordinate, out_axes=1)(jnp.arange(1, dims + 1))


def without_first(key: jax.Array, count: int, dims: int) -> jax.Array:
    """The points from number 1 on, as one takes them who leaves out the corner of the unscrambled sequence."""
    return net(key, count, dims, first=1)


def independent(key: jax.Array, count: int, dims: int) -> jax.Array:
    """As many points that know nothing of each other."""
    return jax.random.uniform(key, (count, dims))


class Estimate(NamedTuple):
    """An integral, its standard error, and the estimate of each replicate."""

    value: float
    error: float
    replicates: np.ndarray


def estimate(
    f: Function, dims: int, count: int, key: jax.Array, replicates: int = 16, points: Points = net
) -> Estimate:
    """The integral of f, which maps points (count, dims) to values (count,), over the unit cube."""
    sets = replicated(points, jax.random.split(key, replicates), count, dims)
    found = np.asarray(means(f, sets))
    return Estimate(float(found.mean()), float(found.std(ddof=1)) / math.sqrt(replicates), found)


@functools.partial(jax.jit, static_argnums=(0, 2, 3))
def replicated(points: Points, keys: jax.Array, count: int, dims: int) -> jax.Array:
    """A set of points for every key."""
    return jax.vmap(lambda key: points(key, count, dims))(keys)


@functools.partial(jax.jit, static_argnums=0)
def means(f: Function, sets: jax.Array) -> jax.Array:
    """The mean of f over each set."""
    return jax.vmap(lambda u: f(u).mean())(sets)


def smooth(u: jax.Array) -> jax.Array:
    """A product of straight lines, less and less steep."""
    return jnp.prod(1 + (u - 0.5) / jnp.arange(1, u.shape[1] + 1, dtype=u.dtype)[None, :], axis=1)


def kinked(u: jax.Array) -> jax.Array:
    """Sobol's g-function: a kink in the middle of every coordinate."""
    weight = jnp.arange(u.shape[1], dtype=u.dtype)[None, :]
    return jnp.prod((abs(4 * u - 2) + weight) / (1 + weight), axis=1)


def jump(u: jax.Array) -> jax.Array:
    """The half of the cube above its diagonal plane, twice."""
    return jnp.where(u.sum(axis=1) > u.shape[1] / 2, 2.0, 0.0).astype(u.dtype)


FUNCTIONS: dict[str, Function] = {"smooth": smooth, "kinked": kinked, "jump": jump}  # the integral of each is 1
SETS: dict[str, Points] = {"scrambled net": net, "without its first point": without_first, "independent": independent}


def main(argv: Sequence[str] | None = None) -> dict[tuple[str, str], list[Estimate]]:
    """Prints the standard errors and, where asked, draws the errors; returns the estimates by function and set."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dims", type=int, default=6)
    parser.add_argument("--most", type=int, default=12, help="the largest sets have 2**MOST points (default: 12)")
    parser.add_argument("--replicates", type=int, default=16)
    parser.add_argument("--output", type=Path, help="a picture of the smooth function's errors")
    options = parser.parse_args(argv)
    counts = [2**m for m in range(4, options.most + 1, 2)]
    with jax.enable_x64(True):  # the errors of a net soon are what float32 rounds off
        key, found = jax.random.key(0), {}
        for name, f in FUNCTIONS.items():
            print(f"\n{name}: {f.__doc__}\n{'standard error of one set, by points':42}", *(f"{n:9}" for n in counts))
            for kind, points in SETS.items():
                every = [estimate(f, options.dims, n, key, options.replicates, points) for n in counts]
                found[name, kind] = every
                # Of one set; that of the mean over all replicates is less by the root of their number.
                spreads = [e.error * math.sqrt(options.replicates) for e in every]
                print(f"  {kind:40}", *(f"{spread:9.1e}" for spread in spreads))
    best = found["smooth", "scrambled net"][-1]
    print(f"\nsmooth, all replicates of the largest net: {best.value:.9f} +/- {best.error:.1e}; exactly 1")
    if options.output:
        errors = {kind: np.stack([abs(e.replicates - 1) for e in found["smooth", kind]], axis=1) for kind in SETS}
        axes = qrjax.plot.losses(errors, x=counts, xlabel="points", ylabel="error of a replicate", yscale="log")
        axes.set_xscale("log", base=2)
        axes.figure.savefig(options.output, dpi=150)
    return found


if __name__ == "__main__":
    main()
