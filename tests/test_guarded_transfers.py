"""Under a guard against transfers: what a function's arguments ask for passes, and only that."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import qrjax

KEY = jax.random.key(2)
LAYER, X = nn.Dense(4, kernel_init=qrjax.he_normal_hash()), jnp.ones((2, 3))
INIT = functools.partial(LAYER.init, KEY, X)
RECORD = qrjax.record(LAYER, X, by="init", key=KEY)
PARAMS = INIT()["params"]
NOW = jax.tree.map(lambda w: w + 1, PARAMS)
MASK = qrjax.mask(INIT, NOW, sparsity=0.5)
ORTHOGONAL = qrjax.orthogonal_qr()
TOLERANCE = jnp.float32(3)
NET = nn.Sequential([LAYER, nn.gelu, nn.LayerNorm(), nn.Dense(3)])
LINEAR = nnx.Linear(3, 4, rngs=nnx.Rngs(0))
PAIR = (lambda _key, _x: {"w": jnp.ones((3, 4))}, lambda params, x: x @ params["w"])
DRAWN = qrjax.autoinit(NET, X)
LOSS = jax.jit(lambda p: p["kernel"].sum())


def second_moments(report):
    return [[row.second_moment, row.measured_second_moment, row.gradient, row.measured_gradient] for row in report]


CALLS = {
    "orthogonal.at": lambda: ORTHOGONAL.at(KEY, (3, 4), (1, slice(2))),
    "changes": lambda: qrjax.changes(INIT, NOW, 0.1),
    "delta": lambda: qrjax.changes(INIT, NOW).delta("kernel"),
    "mask": lambda: qrjax.mask(INIT, NOW, sparsity=0.5, within=MASK, at_least=0.1),
    "mask by threshold": lambda: qrjax.mask(None, NOW, criterion="random", threshold=0.5),
    "pattern": lambda: qrjax.mask(PARAMS, NOW, sparsity="1:2"),
    "filters": lambda: qrjax.mask(None, NOW, criterion="magnitude", sparsity=0.5, whole="filter"),
    "prune": lambda: qrjax.prune(NOW, MASK),
    "prune to initial": lambda: qrjax.prune(NOW, MASK, "initial", INIT),
    "max_sparsity": lambda: qrjax.max_sparsity(LOSS, INIT, NOW, TOLERANCE, steps=1, progress=False),
    "record.weight": lambda: RECORD.weight("kernel", (1, 2)),
    "record.initial": lambda: RECORD.initial(),
    "random.normal": lambda: qrjax.random.normal((3,)),
    "random.uniform": lambda: qrjax.random.uniform((3,), key=KEY, source="hash"),
    "sobol.points": lambda: qrjax.sobol.points(3, 5),
    "sobol.bits_range": lambda: qrjax.sobol.bits_range(3, 5, 4),
    "stream": lambda: qrjax.he_normal_hash().stream("a", 1)(KEY, (3, 4)),
    "autoinit": lambda: qrjax.autoinit(NET, X),
    "autoinit of an NNX module": lambda: nnx.state(qrjax.autoinit(LINEAR, X)),
    "autoinit of a pair": lambda: qrjax.autoinit(PAIR, X),
    "autoinit, stable": lambda: qrjax.autoinit(NET, X, target="stable", distribution="own"),
    "analyze": lambda: second_moments(qrjax.analyze(NET, X, gradients=True)),
    "measure": lambda: second_moments(qrjax.measure(NET, DRAWN, X, gradients=True)),
    "calibrate": lambda: qrjax.calibrate(NET, DRAWN, X),
    "record": lambda: qrjax.record(NET, X).initial(),
    "block_key": lambda: jax.random.key_data(qrjax.block_key(KEY, "a", 3)),
}


@pytest.mark.some(2)
@pytest.mark.parametrize("name", CALLS)
def test_transfers_that_are_asked_for(name):
    expected = CALLS[name]()
    with jax.transfer_guard("disallow"):
        found = CALLS[name]()
        with pytest.raises(jax.errors.JaxRuntimeError, match="Disallowed host-to-device"):
            jnp.arange(3) + 1
    if isinstance(found, qrjax.Changes):
        assert found.to_json() == expected.to_json()
    else:
        assert jax.tree.structure(found) == jax.tree.structure(expected)
        assert all(np.array_equal(a, b) for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True))


def test_what_forbids_all_transfers_holds():
    with (
        jax.transfer_guard("disallow_explicit"),
        pytest.raises(jax.errors.JaxRuntimeError, match="Disallowed host-to-device"),
    ):
        CALLS["prune"]()
