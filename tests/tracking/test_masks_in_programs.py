"""Masks and pruned params inside jit, vmap and shard_map: those of outside, bit for bit."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tracked import run, same_leaves, trained

import qrjax

KEY = jax.random.key(3)


def make(key=KEY):
    keys = jax.random.split(key, 3)
    return {
        "ours": qrjax.he_normal_hash()(keys[0], (9, 12)),
        "whole": qrjax.orthogonal_qr()(keys[1], (12, 9)),
        "theirs": jax.nn.initializers.he_normal()(keys[2], (9, 12)),
        "bias": jnp.zeros(12),
    }


def moved(params, seed=0):
    return jax.tree.map(lambda w: jnp.asarray(trained(w, seed=seed + w.size)), params)


@functools.cache
def after():
    return moved(make())


CASES = {
    "change": {"sparsity": 0.37},
    "global": {"criterion": "relative_change", "sparsity": 0.6, "scope": "global", "at_least": 0.1},
    "movement": {"criterion": "movement", "threshold": 0.01},
    "pattern": {"criterion": "magnitude", "sparsity": "1:3"},
    "filters": {"criterion": "random", "sparsity": 0.5, "whole": "filter"},
}


@pytest.mark.few("global", "pattern")
@pytest.mark.parametrize("name", CASES)
def test_jitted_masks_are_those_of_outside(name):
    ask = functools.partial(qrjax.mask, make, **CASES[name])
    within = jax.tree.map(lambda w: w != 0.5, after()) | {"ours": after()["ours"] < 0.3}
    same_leaves(jax.jit(lambda p, m: ask(p, within=m))(after(), within), ask(after(), within=within))


@pytest.mark.parametrize("form", ["function", "record", "variables"])
def test_jitted_params_go_back_to_the_initial_bits(form):
    forms = {"function": make, "record": qrjax.record(lambda key: make(), key=KEY, by="init"), "variables": make()}  # noqa: ARG005
    mask = qrjax.mask(None, after(), criterion="random", sparsity=0.5, select="*")
    rewound = jax.jit(lambda p, m: qrjax.prune(p, m, "initial", forms[form]))(after(), mask)
    same_leaves(rewound, jax.tree.map(jnp.where, mask, after(), make()))


def test_sparsities_and_thresholds_of_the_step():
    @jax.jit
    def masks(params, sparsity, threshold):
        return qrjax.mask(None, params, criterion="magnitude", sparsity=sparsity), qrjax.mask(
            None, params, criterion="magnitude", threshold=threshold
        )

    for sparsity, threshold in ((0.0, 0.0), (0.5, 0.1), (0.97, 0.3)):
        found = masks(after(), sparsity, threshold)
        same_leaves(found[0], qrjax.mask(None, after(), criterion="magnitude", sparsity=sparsity))
        same_leaves(found[1], qrjax.mask(None, after(), criterion="magnitude", threshold=threshold))
    assert masks._cache_size() == 1


def test_seeds_side_by_side():
    def own(key):
        return {"w": qrjax.he_normal_hash()(key, (9, 12))}

    def one(key):
        now = jax.tree.map(lambda w: w + jnp.where(w > 0.1, w, 0), own(key))
        mask = qrjax.mask(functools.partial(own, key), now, sparsity=0.6)
        return now, mask, qrjax.prune(now, mask, "initial", functools.partial(own, key))

    keys = jax.random.split(KEY, 2)
    found = jax.jit(jax.vmap(one))(keys)
    for i, key in enumerate(keys):
        now, mask, back = jax.tree.map(lambda x, i=i: x[i], found)
        same_leaves(mask, qrjax.mask(own(key), now, sparsity=0.6))
        same_leaves(back, jax.tree.map(jnp.where, mask, now, own(key)))


def test_params_that_are_constants_of_the_program():
    def own(key=KEY):
        return {"w": qrjax.he_normal_hash()(key, (9, 12))}

    now = moved(own())
    for params in (now, jax.tree.map(np.asarray, now)):

        def run(key, params=params):
            mask = qrjax.mask(functools.partial(own, key), params, sparsity=0.5)
            return mask, qrjax.mask(own, params, sparsity=0.5), qrjax.prune(params, mask, "initial", own)

        same_leaves(jax.jit(run)(KEY), jax.tree.map(jnp.asarray, run(KEY)))
    assert jax.jit(lambda x: x * qrjax.changes(own, now)["w"].changed)(1) == qrjax.changes(own, now)["w"].changed
    with pytest.raises(TypeError, match=r"qrjax\.changes gives Python's numbers, so call it outside of jit"):
        jax.jit(lambda key: qrjax.changes(functools.partial(own, key), now).total.changed)(KEY)


@pytest.mark.parametrize("name", ["changes", "max_sparsity"])
def test_what_gives_numbers_says_outside(name):
    calls = {
        "changes": lambda p: qrjax.changes(make, p),
        "max_sparsity": lambda p: qrjax.max_sparsity(lambda _: 0.0, make, p, 0.1, progress=False),
    }
    for transform in (jax.jit, jax.vmap):
        params = after() if transform is jax.jit else jax.tree.map(lambda w: w[None], after())
        with pytest.raises(TypeError, match=rf"qrjax\.{name} gives Python's numbers, so call it outside of jit and v"):
            transform(calls[name])(params)


def test_more_than_32_bits_count_is_said():
    large = {"w": jax.ShapeDtypeStruct((2**16, 2**15), jnp.float32)}
    with pytest.raises(
        ValueError, match=r"inside a program at most 2\*\*31 - 1 weights can be ranked .*got 2147483648"
    ):
        jax.eval_shape(lambda p: qrjax.mask(None, p, criterion="magnitude", sparsity=0.5), large)


SHARDS = """
    import jax, jax.numpy as jnp, numpy as np, qrjax
    from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
    jax.config.update("jax_numpy_dtype_promotion", "strict")
    mesh = jax.make_mesh((4,), ("x",), axis_types=(AxisType.Auto,))
    w = qrjax.he_normal_hash()(jax.random.key(1), (8, 16))
    ask = lambda p: qrjax.mask(None, p, criterion="magnitude", sparsity=0.25)
    spread = jax.device_put({"w": w}, NamedSharding(mesh, P("x")))
    assert (jax.jit(ask)(spread)["w"] == ask({"w": w})["w"]).all()
    shards = jax.jit(jax.shard_map(ask, mesh=mesh, in_specs=P("x"), out_specs=P("x")))(spread)["w"]
    change = lambda p, begin: qrjax.mask(begin, p, sparsity="2:4", in_axis=1)
    begin = {"w": jnp.where(w > 0, w, -w) * 0.5}
    both = jax.jit(jax.shard_map(change, mesh=mesh, in_specs=P("x"), out_specs=P("x")))(spread, begin)["w"]
    for i in range(4):  # each ranks its own
        own = slice(2 * i, 2 * i + 2)
        assert (np.asarray(shards)[own] == np.asarray(ask({"w": w[own]})["w"])).all()
    assert (both == change({"w": w}, begin)["w"]).all()
    print("ok")
"""


def test_shards():
    assert run(SHARDS, devices=4) == "ok\n"
