"""What the package must find, once more: plain NumPy in float64, sharing no code with it."""

import math
import os
import pathlib
import subprocess
import sys
import textwrap
from typing import Any

import effort
import jax
import numpy as np

HERE = pathlib.Path(__file__).parent
EXACT = ("weights", "changed", "sleeping", "not_finite", "sign_flips")
ROUNDED = ("mean_change", "max_change", "rms_change", "cosine")


def wide(array: Any) -> np.ndarray:
    """Exactly the same numbers, with room."""
    array = np.asarray(array)
    return array.astype(np.complex128 if array.dtype.kind == "c" else np.float64)


def expected(initial: Any, now: Any, threshold: float = 0.0) -> dict[str, Any]:
    """The figures of one variable, or of several raveled one after the other."""
    before, after = wide(initial).ravel(), wide(now).ravel()
    finite = np.isfinite(before) & np.isfinite(after)
    a, b = before[finite], after[finite]
    moved = np.abs(b - a)
    changed = int(np.sum(moved > threshold))
    product, norm = (
        np.sum(np.real(a * np.conj(b))),
        math.sqrt(np.sum(np.abs(a) ** 2)) * math.sqrt(np.sum(np.abs(b) ** 2)),
    )
    opposite = np.real(a * np.conj(b)) < 0 if a.dtype.kind == "c" else np.sign(a) * np.sign(b) < 0
    return {
        "weights": before.size,
        "changed": changed,
        "sleeping": a.size - changed,
        "not_finite": before.size - a.size,
        "mean_change": moved.mean() if a.size else 0.0,
        "max_change": moved.max(initial=0.0),
        "rms_change": math.sqrt(np.mean(moved**2)) if a.size else 0.0,
        "cosine": product / norm if norm else None,
        "sign_flips": int(np.sum(opposite)),
    }


def assert_figures(row: Any, initial: Any, now: Any, threshold: float = 0.0, rtol: float = 2e-5) -> None:
    """Counts are equal; what is summed in float32 is near, with thousands of numbers added to one."""
    want = expected(initial, now, threshold)
    counted, by_numpy = ({name: get(name) for name in EXACT} for get in (lambda n: getattr(row, n), want.__getitem__))
    assert counted == by_numpy, "counts of `changes`, against NumPy's of the stored arrays"
    for name in ROUNDED:
        found = getattr(row, name)
        if want[name] is None:
            assert found is None, name
        else:
            np.testing.assert_allclose(found, want[name], rtol=rtol, atol=1e-6 if name == "cosine" else 0, err_msg=name)


def trained(initial: Any, seed: int = 0, share: float = 0.4, size: float = 0.02) -> np.ndarray:
    """Weights of which a share moved, in their own dtype."""
    rng = np.random.default_rng(seed)
    array = np.asarray(initial)
    step = rng.normal(0, size, array.shape) * (rng.random(array.shape) < share)
    return (wide(array) + step).astype(array.dtype)


def kept(scores: list[np.ndarray], sparsity: float, alive: list[np.ndarray] | None = None) -> list[np.ndarray]:
    """Of all scores together, which stay: floor(sparsity * n + 1/2) go, the lowest, and of equal ones the last.

    What is not `alive` goes before the rest, and what of it is below zero counts as zero.
    """
    flat = np.concatenate([np.ravel(s) for s in scores])
    lives = np.ones(flat.size, bool) if alive is None else np.concatenate([np.ravel(a) for a in alive]) != 0
    flat = np.where(lives, flat, np.maximum(flat, 0))
    # Sorted from the end, so that a stable sort puts the last of equal ones first.
    order = (flat.size - 1 - np.lexsort((flat[::-1], lives[::-1])))[: math.floor(sparsity * flat.size + 0.5)]
    mask = np.ones(flat.size, bool)
    mask[order] = False
    cuts = np.cumsum([s.size for s in scores])[:-1]
    return [m.reshape(s.shape) for m, s in zip(np.split(mask, cuts), scores, strict=True)]


def score(criterion: str, initial: Any, now: Any) -> np.ndarray:
    """A criterion in float32 arithmetic, as it is defined."""
    a, b = (np.asarray(x).astype(np.float32) for x in (initial, now))
    distance = np.abs(b - a)
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = np.where(distance == 0, np.float32(0), distance / np.abs(a))
    return {
        "change": distance,
        "relative_change": relative,
        "movement": np.abs(b) - np.abs(a),
        "magnitude": np.abs(b),
    }[criterion]


def run(code: str, devices: int = 1, **environment: str) -> str:
    """Runs code in a fresh process and gives what it prints."""
    flags = f"--xla_force_host_platform_device_count={devices} {effort.flags()}"
    own = {
        **effort.of_another_process(),
        "XLA_FLAGS": flags,
        "PYTHONPATH": os.pathsep.join(map(str, (HERE, HERE.parent))),
        "JAX_PLATFORMS": "cpu",
    }
    env = os.environ | own | environment
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def same_leaves(found: Any, expected: Any) -> None:
    """The same structure, dtypes and bits."""
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for (path, a), b in zip(jax.tree_util.tree_leaves_with_path(found), jax.tree.leaves(expected), strict=True):
        name = jax.tree_util.keystr(path)
        assert (a.dtype, a.shape) == (b.dtype, b.shape), name
        same = np.asarray(a).tobytes() == np.asarray(b).tobytes()
        assert same, f"bits of {name} differ; found {a}, expected {b}"
