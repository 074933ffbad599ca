"""Same bits everywhere: however a draw is compiled, mapped or run; sharded draws have tests of their own."""

import json
import os
import pathlib
import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export
from members import EXACT, MEMBERS, cases, digest, digests, named

HERE = pathlib.Path(__file__).parent
COMMITTED = json.loads((HERE / "digests.json").read_text())
KEY = jax.random.key(11)


# All of them are in the fresh processes below, which are compiled in other ways.
@pytest.mark.parametrize(
    "every", [41, pytest.param(7, marks=pytest.mark.slow), pytest.param(1, marks=pytest.mark.whole_tables)]
)
def test_digests_are_the_committed_ones(every):
    assert set(cases()) == set(COMMITTED)
    found = digests(every)
    assert len(found) == -(-len(COMMITTED) // every)
    assert_committed(found)


def assert_committed(found: dict[str, str]) -> None:
    """Bits are promised for ever, so a change of one is a new version's, with a reason."""
    other = [name for name in found if found[name] != COMMITTED[name]]
    meant = "if that is meant, run tests/recipes/digests.py, and say why in notebooks/changes.md"
    assert not other, f"{len(other)} of {len(found)} draw other bits than those of digests.json: {other}; {meant}"


def run(code: str, flags: str = "", **environment: str) -> str:
    """Runs code in a fresh process with XLA flags, and gives what it prints."""
    path = os.pathsep.join(filter(None, (str(HERE), os.environ.get("PYTHONPATH"))))
    env = os.environ | {"XLA_FLAGS": flags, "PYTHONPATH": path, "JAX_PLATFORMS": "cpu"} | environment
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def printed_digests(
    flags: str, every: int, without: str = "nothing", first: int = 0, **environment: str
) -> dict[str, str]:
    code = f"import json, members; print(json.dumps(members.digests({every}, {without!r}, {first})))"
    return json.loads(run(code, flags, **environment))


# XLA cannot convert to float16 without AVX ("Symbols not found: __truncsfhf2"), whoever asks.
FRESH = [
    ("--xla_cpu_max_isa=SSE4_2", "float16", {}),
    ("--xla_cpu_max_isa=AVX2 --xla_cpu_enable_fast_math=true", "nothing", {}),
    ("--xla_backend_optimization_level=0", "nothing", {"JAX_ENABLE_X64": "1"}),
]


def test_a_sample_of_digests_in_a_fresh_process():
    flags = "--xla_cpu_max_isa=SSE4_2 --xla_cpu_enable_fast_math=true"
    found = printed_digests(flags, 23, "float16", JAX_ENABLE_X64="1")
    assert len(found) >= 6
    assert_committed(found)


@pytest.mark.slow
@pytest.mark.parametrize("turn", range(len(FRESH)))
def test_a_third_of_all_digests_in_a_fresh_process(turn):
    flags, without, environment = FRESH[turn]
    names = list(cases())[turn :: len(FRESH)]
    expected = {name: COMMITTED[name] for name in names if without not in name}
    assert printed_digests(flags, len(FRESH), without, turn, **environment) == expected


@jax.jit
def scaled(weights):
    return weights * 0.37


@pytest.mark.turns(3)
@pytest.mark.few("he_normal_qr", "normal_hash", "random_uniform_hash zero_mean")
@pytest.mark.parametrize("m", **named(EXACT, sampled=True))
def test_eager_jitted_inside_a_larger_function_mapped_and_raw(m):
    init = m.initializer
    eager = np.asarray(init(KEY, m.shape))

    @jax.jit
    def larger(key, x):
        weights = init(key, m.shape)
        return weights, (weights * 0.37 + 1.5).sum(), x @ weights

    inside, *_ = larger(KEY, jnp.ones((3, m.shape[0])))
    np.testing.assert_array_equal(inside, eager, "inside a larger program, against eager")
    # Not even the caller's own arithmetic depends on the compiler joining it with ours.
    jitted = jax.jit(lambda key: scaled(init(key, m.shape)))(KEY)
    np.testing.assert_array_equal(jitted, scaled(eager), "multiplied by the caller within jit, against eager")
    keys = jnp.stack([KEY, jax.random.key(1)])
    mapped = jax.vmap(lambda key: init(key, m.shape))(keys)[0]
    np.testing.assert_array_equal(mapped, eager, "under vmap, against eager")
    np.testing.assert_array_equal(init(jax.random.key_data(KEY), m.shape), eager, "by a raw key, against a typed one")


@pytest.mark.turns(3)
@pytest.mark.parametrize("m", **named(EXACT, sampled=True))
def test_the_only_float_operations_are_one_conversion_and_one_exact_product(m):
    jaxpr = jax.make_jaxpr(lambda key: m.initializer(key, m.shape))(KEY)
    floats = [
        e for e in equations(jaxpr.jaxpr) if e.primitive.name not in ("jit", "pjit") and any(map(is_float, e.outvars))
    ]
    # "name" and "compiled_once" are the identity, with a label and with a note to the compiler.
    kinds = [e.primitive.name for e in floats if e.primitive.name not in ("broadcast_in_dim", "name", "compiled_once")]
    assert kinds == ["convert_element_type", "mul"], "more float operations may be joined, or done in another order"
    constant = floats[1].invars[1].val
    assert np.frexp(np.float32(constant))[0] == 0.5, f"{constant} is no power of two, so multiplying by it rounds"


def is_float(variable) -> bool:
    return jnp.issubdtype(variable.aval.dtype, jnp.floating)


def equations(jaxpr):
    for equation in jaxpr.eqns:
        yield equation
        for inner in jax.tree.leaves(list(equation.params.values()), is_leaf=lambda x: hasattr(x, "jaxpr")):
            if hasattr(inner, "jaxpr"):
                yield from equations(inner.jaxpr)


@pytest.mark.turns(3)
@pytest.mark.few("he_normal_qr", "normal_hash", "random_uniform_hash zero_mean")
@pytest.mark.parametrize("m", **named(EXACT, sampled=True))
def test_temporaries_are_below_five_percent_of_a_large_tensor(m):
    compiled = jax.jit(lambda key: m.initializer(key, (4096, 4096))).lower(KEY).compile()
    assert_little_memory(compiled)


@pytest.mark.few("shuffled", "points")
@pytest.mark.parametrize("layout", ["sequence", "shuffled", "neurons", "points"])
def test_temporaries_of_every_layout(layout):
    import qrjax

    init = qrjax.uniform_qr(layout=layout, dim=2)
    with pytest.warns(qrjax.RankCollapseWarning) if layout == "sequence" else _nothing():
        compiled = jax.jit(lambda key: init(key, (4096, 4096))).lower(KEY).compile()
    assert_little_memory(compiled)


def assert_little_memory(compiled: jax.stages.Compiled) -> None:
    memory = compiled.memory_analysis()
    share = memory.temp_size_in_bytes / memory.output_size_in_bytes
    assert share <= 0.05, f"temporaries take {share:.1%} of the tensor: look in compiled.as_text() for what is kept"


def _nothing():
    import contextlib

    return contextlib.nullcontext()


@pytest.mark.turns(9)
@pytest.mark.few(
    "uniform_qr-tpu",
    "he_normal_qr-cuda",
    "normal_hash-tpu",
    "orthogonal_qr-cuda",
    "delta_orthogonal_hash-tpu",
)
@pytest.mark.parametrize("platform", ["cpu", "cuda", "tpu"])
@pytest.mark.parametrize(
    "m", **named([m for m in MEMBERS if not m.name.startswith(("xavier", "kaiming"))], sampled=True)
)
def test_every_builder_lowers_for_every_platform(m, platform):
    text = export.export(jax.jit(lambda key: m.initializer(key, m.shape)), platforms=[platform])(
        jax.random.key_data(KEY)
    ).mlir_module()
    if not m.orthogonal:
        wrong = [line.strip() for line in text.splitlines() if "f64" in line or "stablehlo.sort" in line]
        assert not wrong, f"float64 or a sort in the program for {platform}: {wrong[:3]}"


def test_digest_tells_bits_apart():
    assert digest(np.float32(1.0)) != digest(np.nextafter(np.float32(1.0), np.float32(2.0)))
