"""The process's seed, and qrjax's own stream of keys."""

from __future__ import annotations

import operator
from typing import Any

import jax
from jax import Array

from qrjax._blocks._frames import ROOT, STAGE, current
from qrjax._blocks._generators import Generators
from qrjax._terminal._received import received
from qrjax._words._block_key import block_key

_seed: int | None = None


def seed() -> int | None:
    """What `set_seed` set last in this process."""
    return _seed


def set_seed(seed: int) -> None:
    """Seeds the process: Python's `random`, NumPy's global generator, Torch's if imported, and `qrjax.next_key`.

    It is also what the states inside of `qrjax.block` depend on from now on, in all threads. Each generator gets a
    seed of its own, derived from `seed` by SHA-256, so `set_seed(42)` is not `random.seed(42)`. Initial weights of
    models do not depend on it: they come from the key given to `init` or to `nnx.Rngs`.

    Args:
      seed: any integer.

    Raises:
      TypeError: if `seed` is not an integer.
      RuntimeError: inside of a block, whose state it would contradict.

    Example:
      >>> import random, qrjax
      >>> qrjax.set_seed(42)
      >>> first = random.random()
      >>> qrjax.set_seed(42)
      >>> random.random() == first
      True
    """
    global _seed
    number = _checked(seed)
    if current() is not ROOT:
        raise RuntimeError(
            f"`set_seed` must be called outside of blocks, got set_seed({number}) inside of one; call it before, or "
            "random.seed and numpy.random.seed for the state inside of the block alone"
        )
    generators = Generators.seeded(number, None)
    with STAGE.lock:
        _seed = number
        STAGE.seed(generators)


def _checked(seed: Any) -> int:
    try:
        if isinstance(seed, bool):
            raise TypeError
        return operator.index(seed)
    except TypeError:
        raise TypeError(f"`seed` must be an integer, got {received(seed)}; for instance qrjax.set_seed(42)") from None


def next_key() -> Array:
    """The next key of qrjax's own stream: of the innermost block around the call, or outside of blocks the process's.

    It belongs outside of `jax.jit`: in a traced function it gives one key for all calls of the compiled program.

    Returns:
      A typed JAX key: `block_key(jax.random.key(0), str(seed), name, i)` for call i, counted from 0 at each entry
      of the block `name`, and `block_key(jax.random.key(0), str(seed), i)` outside of blocks.

    Raises:
      RuntimeError: before `set_seed`.

    Example:
      >>> import jax, qrjax
      >>> qrjax.set_seed(42)
      >>> with qrjax.block("noise"):
      ...     key = qrjax.next_key()
      >>> key == qrjax.block_key(jax.random.key(0), "42", "noise", 0)
      Array(True, dtype=bool)
    """
    keys = current().generators.keys
    if keys is None:
        raise RuntimeError("`next_key` needs a seed, and there is none yet; call qrjax.set_seed(42) first")
    return block_key(jax.random.key(0), *keys.path, next(keys.counter))
