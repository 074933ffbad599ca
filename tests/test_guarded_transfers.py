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
LAYER, X = nn.Dense(4, kernel_init=qrjax.he_normal_hash()), jnp.asarray(np.ones((2, 3), np.float32))
INIT = functools.partial(LAYER.init, KEY, X)
ORTHOGONAL = qrjax.orthogonal_qr()
NET = nn.Sequential([LAYER, nn.gelu, nn.LayerNorm(), nn.Dense(3)])
PAIR = (lambda _key, _x: {"w": jnp.ones((3, 4))}, lambda params, x: x @ params["w"])
LOSS = jax.jit(lambda p: p["kernel"].sum())


class Given:
    """What calls are given, made when the first asks for it."""

    record = functools.cached_property(lambda _: qrjax.record(LAYER, X, by="init", key=KEY))
    params = functools.cached_property(lambda _: INIT()["params"])
    now = functools.cached_property(lambda self: jax.tree.map(lambda w: w + 1, self.params))
    mask = functools.cached_property(lambda self: qrjax.mask(INIT, self.now, sparsity=0.5))
    tolerance = functools.cached_property(lambda _: jnp.float32(3))
    linear = functools.cached_property(lambda _: nnx.Linear(3, 4, rngs=nnx.Rngs(0)))
    drawn = functools.cached_property(lambda _: qrjax.autoinit(NET, X))


given = Given()


def second_moments(report):
    return [[row.second_moment, row.measured_second_moment, row.gradient, row.measured_gradient] for row in report]


CALLS = {
    "orthogonal.at": lambda: ORTHOGONAL.at(KEY, (3, 4), (1, slice(2))),
    "changes": lambda: qrjax.changes(INIT, given.now, 0.1),
    "delta": lambda: qrjax.changes(INIT, given.now).delta("kernel"),
    "mask": lambda: qrjax.mask(INIT, given.now, sparsity=0.5, within=given.mask, at_least=0.1),
    "mask by threshold": lambda: qrjax.mask(None, given.now, criterion="random", threshold=0.5),
    "pattern": lambda: qrjax.mask(given.params, given.now, sparsity="1:2"),
    "filters": lambda: qrjax.mask(None, given.now, criterion="magnitude", sparsity=0.5, whole="filter"),
    "prune": lambda: qrjax.prune(given.now, given.mask),
    "prune to initial": lambda: qrjax.prune(given.now, given.mask, "initial", INIT),
    "max_sparsity": lambda: qrjax.max_sparsity(LOSS, INIT, given.now, given.tolerance, steps=1, progress=False),
    "record.weight": lambda: given.record.weight("kernel", (1, 2)),
    "record.initial": lambda: given.record.initial(),
    "random.normal": lambda: qrjax.random.normal((3,)),
    "random.uniform": lambda: qrjax.random.uniform((3,), key=KEY, source="hash"),
    "sobol.points": lambda: qrjax.sobol.points(3, 5),
    "sobol.bits_range": lambda: qrjax.sobol.bits_range(3, 5, 4),
    "stream": lambda: qrjax.he_normal_hash().stream("a", 1)(KEY, (3, 4)),
    "autoinit": lambda: qrjax.autoinit(NET, X),
    "autoinit of an NNX module": lambda: nnx.state(qrjax.autoinit(given.linear, X)),
    "autoinit of a pair": lambda: qrjax.autoinit(PAIR, X),
    "autoinit, stable": lambda: qrjax.autoinit(NET, X, target="stable", distribution="own"),
    "analyze": lambda: second_moments(qrjax.analyze(NET, X, gradients=True)),
    "measure": lambda: second_moments(qrjax.measure(NET, given.drawn, X, gradients=True)),
    "calibrate": lambda: qrjax.calibrate(NET, given.drawn, X),
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
    CALLS["prune"]()  # so that what it is given is there
    with (
        jax.transfer_guard("disallow_explicit"),
        pytest.raises(jax.errors.JaxRuntimeError, match="Disallowed host-to-device"),
    ):
        CALLS["prune"]()
