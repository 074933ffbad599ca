"""Whether a matrix comes out the same, bit for bit, when it is drawn in other ways."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from typing import Any, NamedTuple

import numpy as np

from qrjax._cli._failure import Failure
from qrjax._cli._weights import Matrix

# Weights drawn alone; more would prove no more.
SINGLE = 1000


class Attempt(NamedTuple):
    """One way to draw, how many of the weights were drawn so, and how many of them had the same bits."""

    how: str
    weights: int
    equal: int


def attempts(matrix: Matrix, drawn: np.ndarray[Any, Any]) -> list[Attempt]:
    import jax

    with jax.disable_jit():
        eager = matrix.draw()
    jitted = jax.jit(lambda key: matrix.builder(key, matrix.shape, matrix.dtype))(matrix.key)
    return [
        _compared("operation by operation, jax.disable_jit()", eager, drawn),
        _compared("inside jax.jit, with a traced key", jitted, drawn),
        _alone(matrix, drawn),
        _elsewhere(matrix, drawn),
    ]


def digest(weights: np.ndarray[Any, Any]) -> str:
    return hashlib.sha256(_bytes(weights).data).hexdigest()


def _alone(matrix: Matrix, drawn: np.ndarray[Any, Any]) -> Attempt:
    random = np.random.default_rng(matrix.seed)
    index = tuple(random.integers(0, n, min(SINGLE, drawn.size)) for n in matrix.shape)
    return _compared(
        "one by one, init.at(key, shape, index)",
        matrix.builder.at(matrix.key, matrix.shape, index, matrix.dtype),
        drawn[index],
    )


def _elsewhere(matrix: Matrix, drawn: np.ndarray[Any, Any]) -> Attempt:
    """By this command in a process of its own, which tells the digest of what it drew."""
    command = [sys.executable, "-m", "qrjax", "matrix", *matrix.options, "--json"]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    if finished.returncode:
        raise Failure(f"the fresh process of --test-repro failed: {finished.stderr.strip() or finished.returncode}")
    equal = json.loads(finished.stdout)["sha256"] == digest(drawn)
    return Attempt("in a fresh process", drawn.size, drawn.size * equal)


def _compared(how: str, again: Any, drawn: np.ndarray[Any, Any]) -> Attempt:
    size = drawn.dtype.itemsize
    same = (_bytes(np.asarray(again)) == _bytes(drawn)).reshape(-1, size).all(axis=1)
    return Attempt(how, drawn.size, int(same.sum()))


def _bytes(weights: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.ascontiguousarray(weights).reshape(-1).view(np.uint8)
