"""Sharded arrays: the same figures, masks and weights, where they lie; and how much memory all this takes."""

import pathlib

import pytest
from tracked import run

SHARDED = """
    import itertools, functools
    import jax, jax.numpy as jnp, numpy as np, qrjax
    from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
    from tracked import EXACT, ROUNDED, same_leaves, trained
    jax.config.update("jax_numpy_dtype_promotion", "strict")
    jax.config.update("jax_numpy_rank_promotion", "raise")
    assert jax.device_count() == 8
    mesh = jax.make_mesh((4, 2), ("x", "y"), axis_types=(AxisType.Auto,) * 2)
    keys = jax.random.split(jax.random.key(3), 5)

    layer = lambda key: qrjax.uniform_qr()(key, (8, 16))
    every = {
        "one axis": lambda: qrjax.he_normal_qr()(keys[0], (64, 32), jnp.bfloat16),
        "two axes": lambda: qrjax.he_normal_hash()(keys[1], (40, 96)),
        "together": lambda: jnp.full((24, 2), 0.5),
        "partly": lambda: jax.nn.initializers.he_normal()(keys[2], (40, 72)),
        "replicated": lambda: qrjax.orthogonal_qr()(keys[3], (16, 32)),
        "stacked": lambda: jax.vmap(layer)(jax.random.split(keys[4], 4)),
    }

    def make():
        return {path: draw() for path, draw in every.items() if path in PATHS or not PATHS}

    specs = {
        "one axis": P(None, "x"), "two axes": P("x", "y"), "together": P(("x", "y")), "partly": P("y", None),
        "replicated": P(), "stacked": P("x", None, "y"),
    }
    begin = make()
    now = jax.tree.map(lambda w: jnp.asarray(trained(w, seed=w.size)), begin)
    spread = lambda tree: {k: jax.device_put(v, NamedSharding(mesh, specs[k])) for k, v in tree.items()}
    sharded = spread(now)
    alone = jax.device_put(now, jax.devices()[3])
    record = qrjax.record(lambda key: make(), key=keys[0], by="init")
    criteria = ("change", "relative_change", "movement", "magnitude", "random")
    cases = list(zip(criteria, itertools.cycle(("layer", "global"))))[CASES]
    masks = [qrjax.mask(make, now, criterion=c, sparsity=0.37, scope=s) for c, s in cases]
    pruned = [qrjax.prune(now, masks[0], to, make) for to in ("zero", "initial")]
    expected = qrjax.changes(make, now, 0.001)
    forms = {"function": make, "record": record, "variables": begin, "sharded variables": spread(begin)}
    forms = {name: form for name, form in forms.items() if name in FORMS or not FORMS}
    for (name, form), params in itertools.product(forms.items(), (sharded, alone)[: len(forms)]):
        found = qrjax.changes(form, params, 0.001)
        for a, b in zip((*found, found.total), (*expected, expected.total)):
            assert all(getattr(a, n) == getattr(b, n) for n in EXACT), (name, a, b)
            np.testing.assert_allclose(*[[getattr(r, n) for n in ROUNDED] for r in (a, b)], rtol=1e-5)
        assert qrjax.changes(form, spread(begin)).total.changed == 0
        again = [qrjax.mask(form, params, criterion=c, sparsity=0.37, scope=s) for c, s in cases]
        again_pruned = [qrjax.prune(params, again[0], to, form) for to in ("zero", "initial")]
        for a, b in zip((*again, *again_pruned), (*masks, *pruned)):
            same_leaves(a, b)
            if params is sharded:
                for path, leaf in a.items():
                    assert leaf.sharding.is_equivalent_to(params[path].sharding, leaf.ndim), (name, path)
    print("ok")
"""


# Every way to lie in parts, and with one of them every form of the initial weights.
@pytest.mark.slow
@pytest.mark.parametrize(("paths", "forms", "cases"), [([], ["record"], "3:4"), (["partly"], [], "::4")])
def test_sharded_params_have_the_same_figures_and_masks_and_stay_sharded(paths, forms, cases):
    code = SHARDED.replace("PATHS", repr(paths)).replace("FORMS", repr(forms)).replace("CASES", cases)
    assert run(code, devices=8) == "ok\n"


EXPLICIT = """
    import jax, jax.numpy as jnp, numpy as np, qrjax
    from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
    from tracked import trained
    mesh = jax.make_mesh((4, 2), ("x", "y"), axis_types=(AxisType.Explicit,) * 2)
    make = lambda: {"w": qrjax.he_normal_hash()(jax.random.key(3), (64, 96))}
    now = {"w": jnp.asarray(trained(make()["w"]))}
    spread = {"w": jax.device_put(now["w"], NamedSharding(mesh, P("x", "y")))}
    assert qrjax.changes(make, spread).total.changed == qrjax.changes(make, now).total.changed
    cases = (
        {"sparsity": 0.3}, {"threshold": 0.01}, {"sparsity": 0.3, "criterion": "random"}, {"sparsity": "2:4"},
        {"sparsity": 0.5, "whole": "filter"}, {"sparsity": 0.9, "scope": "global", "at_least": 0.2},
    )
    for options in cases:
        expected = qrjax.mask(make, now, **options)
        for run in (lambda f: f, jax.jit):
            mask = run(lambda p: qrjax.mask(make, p, **options))(spread)
            assert mask["w"].sharding.spec == P("x", "y")
            assert np.array_equal(mask["w"], expected["w"])
            for to in ("zero", "initial"):
                new = run(lambda p, m: qrjax.prune(p, m, to, make))(spread, mask)
                assert new["w"].sharding.spec == P("x", "y")
                assert np.array_equal(new["w"], qrjax.prune(now, expected, to, make)["w"])
    print("ok")
"""


@pytest.mark.slow
def test_explicit_meshes():
    assert run(EXPLICIT, devices=8) == "ok\n"


MEMORY = """
    import pathlib
    import jax, jax.numpy as jnp, qrjax

    def status(name):
        lines = pathlib.Path("/proc/self/status").read_text().splitlines()
        return 1024 * int(next(line for line in lines if line.startswith(name)).split()[1])

    n, key = 2**14, jax.random.key(0)
    init = getattr(qrjax, BUILDER)()
    make = lambda: {"w": init(key, (n, n))}
    # Libraries are not counted, so another leaf is first; the compiler is, at some 10 to 30 MB.
    qrjax.changes(lambda: {"w": init(key, (512, 512))}, {"w": jnp.zeros((512, 512))})
    params = {"w": jax.block_until_ready(jnp.full((n, n), 0.25))}
    pathlib.Path("/proc/self/clear_refs").write_text("5")
    before = status("VmHWM")
    assert qrjax.changes(make, params).total.changed == n * n
    print(100 * (status("VmHWM") - before) / (4 * n * n))
"""


@pytest.mark.slow
@pytest.mark.skipif(not pathlib.Path("/proc/self/clear_refs").exists(), reason="peak memory is read from /proc")
@pytest.mark.parametrize("builder", ["uniform_hash", "he_normal_qr"])
def test_a_large_leaf_takes_less_than_a_tenth_of_its_memory_more(builder):
    optimized = {"XLA_FLAGS": "", "JAX_DISABLE_MOST_OPTIMIZATIONS": "0"}
    percent = float(run(MEMORY.replace("BUILDER", repr(builder)), **optimized))
    assert 0 <= percent < 10
