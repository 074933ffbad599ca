"""The states of Python's, NumPy's and Torch's global generators, and of qrjax's own stream of keys."""

from __future__ import annotations

import hashlib
import itertools
import random
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

# What the functions of the two modules are methods of.
PYTHON: random.Random = random.random.__self__  # type: ignore[attr-defined]
NUMPY: np.random.RandomState = np.random.mtrand._rand


class Stream(NamedTuple):
    """qrjax's keys: number i is `block_key(jax.random.key(0), *path, i)`."""

    path: tuple[str | int, ...]
    counter: Iterator[int]


class Generators:
    """One context's generators. Those that hold the singletons' place keep their state there, not here."""

    def __init__(self) -> None:
        self.python = random.Random(0)
        self.numpy = np.random.RandomState(0)
        # A bit generator of the user's own in NumPy's singleton; None where any Mersenne twister will do.
        self.bits: Any = None
        self.torch_seed: int | None = None
        self.torch: tuple[Any, Any] | None = None
        self.keys: Stream | None = None

    @classmethod
    def seeded(cls, seed: int, name: str | int | None) -> Generators:
        """In the state that depends on the seed and the block's name alone; outside of blocks there is no name."""
        made = cls()
        made.python.seed(int.from_bytes(_digest("python", seed, name)))
        made.numpy.seed(np.frombuffer(_digest("numpy", seed, name), np.dtype("<u4")).astype(np.uint32))
        made.torch_seed = int.from_bytes(_digest("torch", seed, name)) >> 193  # 63 bits, which Torch takes
        made.keys = Stream((str(seed),) if name is None else (str(seed), name), itertools.count())
        return made

    def store(self) -> None:
        """Takes over the state that the singletons are in."""
        self.python.setstate(PYTHON.getstate())
        self.bits = np.random.get_bit_generator()  # type: ignore[attr-defined]
        state = NUMPY.get_state(legacy=False)
        if state["bit_generator"] != self.numpy.get_state(legacy=False)["bit_generator"]:
            self.numpy = np.random.RandomState(type(self.bits)())
        self.numpy.set_state(state)
        self.torch = _torch_state()

    def load(self) -> None:
        """Puts the singletons into this state."""
        PYTHON.setstate(self.python.getstate())
        current = np.random.get_bit_generator()  # type: ignore[attr-defined]
        wanted = self.bits or (current if isinstance(current, np.random.MT19937) else np.random.MT19937())
        if wanted is not current:
            np.random.set_bit_generator(wanted)  # type: ignore[attr-defined]
        NUMPY.set_state(self.numpy.get_state(legacy=False))
        if self.torch is not None:
            _set_torch_state(*self.torch)
        elif self.torch_seed is not None:
            _seed_torch(self.torch_seed)

    def adopt(self, other: Generators) -> None:
        """Goes on where `other` is."""
        vars(self).update(vars(other))


def _digest(generator: str, seed: int, name: str | int | None) -> bytes:
    """256 bits for a generator; every part comes after its length, and names after their kind."""
    parts = [generator, str(seed), type(name).__name__, "" if name is None else str(name)]
    return hashlib.sha256(b"".join(b"%d:%b" % (len(part.encode()), part.encode()) for part in parts)).digest()


def _torch() -> Any:
    """Torch if it is imported, and not just being imported."""
    torch = sys.modules.get("torch")
    return torch if hasattr(torch, "get_rng_state") else None


def _cuda(torch: Any) -> Any:
    """Its part for GPUs, if that is in use."""
    cuda = getattr(torch, "cuda", None)
    return cuda if cuda is not None and cuda.is_initialized() else None


def _torch_state() -> tuple[Any, Any] | None:
    torch = _torch()
    if torch is None:
        return None
    cuda = _cuda(torch)
    return torch.get_rng_state(), None if cuda is None else cuda.get_rng_state_all()


def _set_torch_state(cpu: Any, gpus: Any) -> None:
    torch = _torch()
    if torch is not None:
        torch.set_rng_state(cpu)
        if gpus is not None:
            _cuda(torch).set_rng_state_all(gpus)


def _seed_torch(seed: int) -> None:
    torch = _torch()
    if torch is not None:
        torch.manual_seed(seed)
