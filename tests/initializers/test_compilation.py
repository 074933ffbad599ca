"""Draws of one shape and kind are compiled once: outside a program by JAX's cache, inside one as a unit of its own."""

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

import qrjax

BUILDERS = {
    "default layout": qrjax.he_normal_qr(),
    "hash": qrjax.he_uniform_hash(),
    "sequence": qrjax.uniform_qr(layout="sequence"),
    "complex": qrjax.he_normal_hash(dtype="complex64"),
    "zero mean": qrjax.he_normal_hash(zero_mean=True),
}
LAYERS, SHAPE = 6, (24, 16)
UNIT = 'compilation_unit = "qrjax"'
pytestmark = pytest.mark.filterwarnings("ignore::qrjax.RankCollapseWarning")


def layers(init):
    return lambda keys: [init(keys[i], SHAPE) for i in range(LAYERS)]


def keys():
    return jax.random.split(jax.random.key(0), LAYERS)


@pytest.mark.parametrize("init", BUILDERS.values(), ids=BUILDERS)
def test_every_draw_of_a_program_is_a_call_of_one_function(init):
    text = jax.jit(layers(init)).lower(keys()).as_text()
    calls = [line for line in text.splitlines() if UNIT in line]
    assert len(calls) == LAYERS
    assert len({line.partition("call @")[2].partition("(")[0] for line in calls}) == 1


@pytest.mark.parametrize("init", BUILDERS.values(), ids=BUILDERS)
def test_the_weights_are_those_drawn_one_by_one(init):
    alone = [np.asarray(init(key, SHAPE)) for key in keys()]
    np.testing.assert_array_equal(jax.jit(layers(init))(keys()), alone)
    np.testing.assert_array_equal(jax.jit(jax.vmap(lambda key: init(key, SHAPE)))(keys()), alone)
    _, scanned = jax.jit(lambda k: jax.lax.scan(lambda carry, key: (carry, init(key, SHAPE)), 0, k))(keys())
    np.testing.assert_array_equal(scanned, alone)


def test_the_other_results_of_the_compiler_stay_small():
    draw = jax.jit(lambda k: [qrjax.he_normal_qr()(k[i], (512, 512)) for i in range(LAYERS)])
    memory = draw.lower(keys()).compile().memory_analysis()
    assert memory.temp_size_in_bytes < 0.02 * memory.output_size_in_bytes


@pytest.mark.parametrize("platforms", [["tpu"], ["cuda"], ["cpu", "tpu", "cuda"]], ids="-".join)
def test_other_platforms_see_plain_calls(platforms):
    exported = jax.export.export(jax.jit(layers(qrjax.he_normal_qr())), platforms=platforms)(keys())
    assert UNIT not in exported.mlir_module()


def test_a_program_for_several_devices_sees_plain_calls():
    mesh = jax.sharding.AbstractMesh((8,), ("x",))
    sharding = NamedSharding(mesh, PartitionSpec("x"))
    draw = jax.jit(layers(qrjax.he_normal_qr()), out_shardings=sharding)
    assert UNIT not in draw.trace(keys()).lower(lowering_platforms=("cpu",)).as_text()


def test_draws_outside_a_program_compile_once_a_shape(compilations):
    init = qrjax.glorot_normal_qr(in_axis=0, out_axis=1)
    first = compilations(lambda: init(jax.random.key(0), (12, 20)))
    others = compilations(lambda: [init(jax.random.key(i), (12, 20)) for i in range(1, 5)])
    assert first
    assert not others


def test_autoinit_shares_what_differs_in_its_gain_only():
    import flax.linen as nn

    layers = [nn.Dense(32) for _ in range(4)]
    network = nn.Sequential([part for layer in layers for part in (layer, nn.tanh)])
    sample = jax.ShapeDtypeStruct((8, 32), jnp.float32)
    _, report = qrjax.autoinit(network, sample, report=True)
    assert len({row.gain for row in report.weights}) > 1
    text = jax.jit(lambda key: qrjax.autoinit(network, sample, key=key)).lower(jax.random.key(0)).as_text()
    calls = [line for line in text.splitlines() if UNIT in line]
    assert len(calls) == 4
    assert len({line.partition("call @")[2].partition("(")[0] for line in calls}) == 1


@pytest.fixture
def compilations():
    """How often XLA compiles while a function runs, by JAX's own account."""
    counted = []

    def listen(event, duration, **_):
        del duration
        if event == "/jax/core/compile/backend_compile_duration":
            counted.append(event)

    def count(function):
        counted.clear()
        jax.block_until_ready(function())
        return len(counted)

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield count
    jax.monitoring.unregister_event_duration_listener(listen)
