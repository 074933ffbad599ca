"""The table of all builders, on which the laws are run, and the digests of what they draw."""

import hashlib
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest
from jax.nn import initializers as jax_initializers

import qrjax

FAMILIES = [f"{name}_{law}" for name in ("glorot", "xavier", "lecun", "he", "kaiming") for law in ("uniform", "normal")]
LAYOUTS = ("sequence", "shuffled", "outputs", "neurons", "points")
SCRAMBLES = (None, "shift", "linear", "owen")
ARGUMENTS = {"variance_scaling": (2.0, "fan_geo_avg", "normal"), "truncated_normal": (0.5,)}
TWINS = ("uniform", "normal", "truncated_normal", "variance_scaling", "orthogonal", "delta_orthogonal", *FAMILIES)
STEMS = (*TWINS, "random_uniform", "random_normal")
# Each distribution from each source, a bound other than 0, and both kinds of orthogonal matrices.
SAMPLE = (
    "he_normal_qr", "truncated_normal_hash", "uniform_qr", "glorot_uniform_hash", "variance_scaling_qr", "normal_hash",
    "random_uniform_qr", "orthogonal_qr", "delta_orthogonal_hash",
)  # fmt: skip


class Member(NamedTuple):
    """A builder with arguments to call it with, and its twin in JAX where there is one."""

    name: str
    builder: Callable[..., Any]
    arguments: tuple[Any, ...]
    twin: Callable[..., Any] | None
    shape: tuple[int, ...]

    @property
    def initializer(self):
        return self.builder(*self.arguments)

    @property
    def orthogonal(self) -> bool:
        return "orthogonal" in self.name


def member(stem: str, source: str) -> Member:
    name = f"{stem}_{source}"
    twin = getattr(jax_initializers, stem, None)
    shape = (3, 3, 8, 12) if "delta" in stem else (48, 40)
    return Member(name, getattr(qrjax, name), ARGUMENTS.get(stem, ()), twin, shape)


MEMBERS = [member(stem, source) for source in ("qr", "hash") for stem in STEMS]
# The second names of the same functions need no second run of the laws.
EXACT = [m for m in MEMBERS if not m.orthogonal and not m.name.startswith(("xavier", "kaiming"))]


def named(members: list[Member], sampled: bool = False) -> dict[str, Any]:
    """Keyword arguments of `pytest.mark.parametrize` for a list of members.

    `sampled`: for laws that compile a lot, builders outside the sample wait for the slow tests.
    """
    marks = [pytest.mark.slow if sampled and m.name not in SAMPLE else () for m in members]
    return {"argvalues": [pytest.param(m, id=m.name, marks=k) for m, k in zip(members, marks, strict=True)]}


def cases() -> dict[str, tuple[Any, tuple[int, ...], str]]:
    """What the committed digests cover: name -> (initializer, shape, dtype)."""
    result = {}
    for m in EXACT:
        dtypes = ["float32", "bfloat16", "float16"]
        if "variance" in m.name or m.name.rsplit("_", 1)[0] in ("normal", *FAMILIES):
            dtypes.append("complex64")
        result |= {f"{m.name} {dtype}": (m.initializer, m.shape, dtype) for dtype in dtypes}
    for layout in LAYOUTS:
        for scramble in SCRAMBLES:
            if scramble is None and layout in ("outputs", "neurons"):
                continue
            for dim in (None, 7):
                init = qrjax.he_normal_qr(layout=layout, scramble=scramble, dim=dim)
                result[f"he_normal_qr {layout} {scramble} {dim}"] = (init, (3, 3, 10, 24), "float32")
    for init, name in ((qrjax.he_normal_qr(), "he_normal_qr"), (qrjax.he_normal_hash(), "he_normal_hash")):
        for shape in ((1, 1), (7, 1), (1, 9), (50, 257), (3, 5, 64), (1000, 96)):
            result[f"{name} {shape}"] = (init, shape, "float32")
    result["truncated_normal_qr -1 2.5"] = (qrjax.truncated_normal_qr(0.5, None, -1.0, 2.5), (40, 30), "float32")
    return result


def digest(array: Any) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()[:16]


def digests(every: int = 1, without: str = "nothing") -> dict[str, str]:
    """The digests of the cases, or of some: every how many-th, and leaving out those with a word in the name."""
    key = jax.random.key(2024)
    chosen = [(name, case) for name, case in list(cases().items())[::every] if without not in name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", qrjax.RankCollapseWarning)
        return {name: digest(init(key, shape, dtype)) for name, (init, shape, dtype) in chosen}
