"""The matrix that options describe: its builder, JAX's twin, what the builder declares, and what was drawn."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any, NamedTuple

import click

import qrjax

if TYPE_CHECKING:
    import jax
    import numpy as np

MODES = ("he", "xavier", "lecun")
SECOND_NAMES = ("kaiming", "glorot")  # as the builders have them
DISTRIBUTIONS = ("normal", "uniform")
SOURCES = ("sobol", "hash")
DTYPES = ("float32", "bfloat16", "float16", "float64")
DEFAULT_LAYOUT = "outputs"  # the builders'
LARGEST = 2**26
# Rows x columns x the smaller of the two, in singular values found within a few seconds.
LARGEST_DECOMPOSITION = 2**34


class Figures(NamedTuple):
    """Of the weights drawn, or their targets; a rank of None is of a matrix too large to decompose."""

    mean: float
    standard_deviation: float
    smallest: float
    largest: float
    effective_rank: float | None


@dataclasses.dataclass(frozen=True)
class Matrix:
    """Everything that decides the bits of a matrix of weights."""

    seed: int
    shape: tuple[int, int]
    mode: str
    distribution: str
    source: str
    layout: str
    dtype: str
    orthogonal: bool = False

    @property
    def name(self) -> str:
        return "orthogonal" if self.orthogonal else f"{self.mode}_{self.distribution}"

    @property
    def builder(self) -> Any:
        if self.source == "hash":
            return getattr(qrjax, f"{self.name}_hash")()
        return getattr(qrjax, f"{self.name}_qr")(layout=self.layout)

    @property
    def theirs(self) -> Any:
        """The initializer of jax.nn.initializers that the builder replaces."""
        import jax

        return getattr(jax.nn.initializers, self.name)()

    @property
    def key(self) -> jax.Array:
        import jax

        return jax.random.key(self.seed)

    def draw(self) -> jax.Array:
        return self.builder(self.key, self.shape, self.dtype)

    def draw_theirs(self) -> np.ndarray[Any, Any]:
        import numpy as np

        # JAX factorizes no matrices of half precision.
        half = self.orthogonal and self.dtype in ("bfloat16", "float16")
        return np.asarray(self.theirs(self.key, self.shape, "float32" if half else self.dtype).astype(self.dtype))

    def drawn(self) -> np.ndarray[Any, Any]:
        import numpy as np

        return np.asarray(self.draw())

    @property
    def options(self) -> list[str]:
        """The command line that draws this matrix."""
        rows, columns = self.shape
        given = {"seed": self.seed, "rows": rows, "columns": columns, "source": self.source, "dtype": self.dtype}
        given |= {} if self.orthogonal else {"mode": self.mode, "distribution": self.distribution}
        given |= {"layout": self.layout} if self.source == "sobol" else {}
        words = [word for name, value in given.items() for word in (f"--{name}", str(value))]
        return words + ["--orthogonal"] * self.orthogonal


def check_size(shape: tuple[int, int], dtype: str) -> None:
    """Refuses what a small machine's memory may not hold, with all that is made of it."""
    import jax.numpy as jnp

    count = math.prod(shape)
    if count > LARGEST:
        size = count * jnp.dtype(dtype).itemsize
        raise click.UsageError(
            f"`--rows` {shape[0]} and `--columns` {shape[1]} make {size:,} bytes of {dtype}; this command draws up "
            f"to {LARGEST:,} weights. In Python init.at(key, shape, index) gives any part of a larger matrix"
        )


def figures(weights: np.ndarray[Any, Any]) -> Figures:
    wide = weights.astype("float64")
    return Figures(float(wide.mean()), float(wide.std()), float(wide.min()), float(wide.max()), rank(wide))


def rank(weights: np.ndarray[Any, Any]) -> float | None:
    work = weights.size * min(weights.shape)
    return qrjax.effective_rank(weights) if work <= LARGEST_DECOMPOSITION else None


def declared(matrix: Matrix, theirs: np.ndarray[Any, Any]) -> Figures:
    """What the builder promises; for the effective rank, that of JAX's weights or of orthonormal columns."""
    if matrix.orthogonal:
        return Figures(0.0, 1 / math.sqrt(max(matrix.shape)), -1.0, 1.0, float(min(matrix.shape)))
    specification = matrix.builder.specification(matrix.shape, theirs.dtype)
    # All these laws are symmetric.
    bound = specification.scaling.scale * specification.distribution.bounds[1]
    return Figures(0.0, specification.stddev, -bound, bound, rank(theirs.astype("float64")))
