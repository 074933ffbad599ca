"""An entry of the zoo, and the batches that its networks are run on."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True)
class Network:
    """A real architecture with a real batch, as a test meets it.

    build: makes a `flax.linen.Module`, an `nnx.Module` or a pair `init(key, *inputs)`, `apply(params, *inputs)`.
    inputs: from a seed to the positional arguments of the call.
    kwargs: the keyword arguments of the call.
    rngs: the streams other than `params` that the call draws from.
    """

    name: str
    build: Callable[[], Any]
    inputs: Callable[[int], tuple[Any, ...]]
    kwargs: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    rngs: tuple[str, ...] = ()


def images(seed: int, batch: int = 8, size: int = 32) -> tuple[np.ndarray]:
    """Standard normal noise in three channels."""
    return (np.random.default_rng(seed).standard_normal((batch, size, size, 3), np.float32),)


def photographs(seed: int, batch: int = 8, size: int = 32) -> tuple[np.ndarray]:
    """Blocks of colour and a little noise, in 0 to 255: far from standardized, correlated in space."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (batch, size // 4, size // 4, 3)).repeat(4, axis=1).repeat(4, axis=2)
    return (np.clip(coarse + rng.normal(0, 16, coarse.shape), 0, 255).astype(np.float32),)


@functools.cache
def _digits() -> np.ndarray:
    from sklearn.datasets import load_digits  # takes a second, in every process that only collects tests

    pixels = load_digits().images.astype(np.float32)
    return (pixels - pixels.mean()) / pixels.std()


def digits(seed: int, batch: int = 32) -> tuple[np.ndarray]:
    """Real 8 x 8 digits, standardized by one mean and one deviation for all pixels."""
    rows = np.random.default_rng(seed).choice(len(_digits()), batch, replace=False)
    return (_digits()[rows][..., None],)


def tokens(seed: int, batch: int = 8, length: int = 64, vocabulary: int = 512) -> tuple[np.ndarray]:
    """Uniform token ids."""
    return (np.random.default_rng(seed).integers(0, vocabulary, (batch, length), np.int32),)
