"""Orthogonal matrices under `vmap`: the same as one by one, and in any number without jaxlib's CPU hanging."""

import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import qrjax

# Several batches in one program, as in a network with a seed axis; this hung in one run of three.
MANY = """
import jax, jax.numpy as jnp, qrjax

init = qrjax.orthogonal_qr()
shapes = [(64, 64), (64, 64), (64, 10), (3, 3, 8, 16)]

@jax.jit
@jax.vmap
def drawn(seed):
    return [init(jax.random.fold_in(jax.random.key(seed), n), shape) for n, shape in enumerate(shapes)]

for first in range(40):
    jax.block_until_ready(drawn(jnp.arange(20) + first))
print("done")
"""


BUILDERS = (qrjax.orthogonal_qr, qrjax.orthogonal_hash, qrjax.delta_orthogonal_qr)


@pytest.mark.parametrize(
    ("builder", "depth"),
    [
        pytest.param(builder, depth, marks=pytest.mark.slow if depth == 2 - i % 2 else ())
        for i, builder in enumerate(BUILDERS)
        for depth in (1, 2)
    ],
)
def test_are_those_of_single_draws(builder, depth):
    init, shape = builder(scale=2.0), (3, 6, 8)
    seeds = jnp.arange(6).reshape((6,) if depth == 1 else (2, 3))
    draw = jax.vmap(lambda seed: init(jax.random.key(seed), shape))
    many = (draw if depth == 1 else jax.vmap(draw))(seeds)
    for seed in range(6):
        one = init(jax.random.key(seed), shape)
        np.testing.assert_allclose(many.reshape(6, *shape)[seed], one, atol=1e-6)


def test_of_parts_that_are_equal_for_all():
    """A key that no `vmap` touches."""
    init = qrjax.orthogonal_qr()
    many = jax.vmap(lambda scale: scale * init(jax.random.key(1), (5, 5)))(jnp.ones(3))
    np.testing.assert_allclose(many[2], init(jax.random.key(1), (5, 5)), atol=1e-6)


@pytest.mark.slow
def test_of_keys_along_an_explicit_axis():
    mesh = jax.make_mesh((1,), ("x",), axis_types=(jax.sharding.AxisType.Explicit,))
    keys = jax.random.split(jax.random.key(0), 2)
    place = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("x"))
    many = jax.vmap(lambda key: qrjax.orthogonal_qr()(key, (5, 5)))(jax.device_put(keys, place))
    assert many.sharding.spec[0] == "x"
    np.testing.assert_allclose(many[1], qrjax.orthogonal_qr()(keys[1], (5, 5)), atol=1e-6)


@pytest.mark.slow
def test_many_do_not_hang():
    for _ in range(3):
        done = subprocess.run([sys.executable, "-c", MANY], capture_output=True, text=True, check=True, timeout=120)
        assert done.stdout == "done\n"


@pytest.mark.parametrize(
    ("platform", "factorized"),
    [("cpu", "tensor<6x4xf32>"), ("cuda", "tensor<3x6x4xf32>"), ("tpu", "tensor<3x6x4xf32>")],
)
def test_are_factorized_together_where_that_is_safe(platform, factorized):
    draw = jax.jit(jax.vmap(lambda seed: qrjax.orthogonal_qr()(jax.random.key(seed), (6, 4))))
    text = jax.export.export(draw, platforms=[platform])(jnp.arange(3)).mlir_module()
    calls = [line for line in text.splitlines() if re.search(r"custom_call @(lapack_sgeqrf|cusolver_geqrf|Qr)", line)]
    assert calls
    assert all(f"({factorized})" in call for call in calls)
