"""Draws of one shape and kind are compiled once: outside a program by JAX's cache, inside one as a unit of its own."""

import collections
import subprocess
import sys

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
KEY, INDEX, STATE = jax.random.key(0), jnp.arange(4, dtype=jnp.uint32), qrjax.splitmix.from_int(3)
# Functions of a dimension, of a first point, and of the options `scramble` and `key`.
SAMPLERS = {
    "bits": lambda dim, start, **options: qrjax.sobol.bits(dim, jnp.uint32(start) + INDEX, **options),
    "points": lambda dim, start, **options: qrjax.sobol.points(dim, jnp.uint32(start) + INDEX, **options),
    "bits_range": lambda dim, start, **options: qrjax.sobol.bits_range(dim, start, 300, **options),
    "points_range": lambda dim, start, **options: qrjax.sobol.points_range(dim, start, 300, **options),
    "uniform": lambda dim, start, **options: qrjax.random.uniform((3, 32), dim=dim, skip=start, **options),
    "normal": lambda dim, start, **options: qrjax.random.normal((12,), dim=dim, skip=start, **options),
    "truncated_normal": lambda dim, start, **options: qrjax.random.truncated_normal(
        (3, 32), 0.5, 3.0, dim=dim, skip=start, **options
    ),
}
OTHERS = {
    "uniform, hash": lambda: qrjax.random.uniform((3, 4), source="hash", key=KEY),
    "normal, hash": lambda: qrjax.random.normal((3, 4), source="hash", key=KEY),
    "truncated_normal, hash": lambda: qrjax.random.truncated_normal((3, 4), source="hash", key=KEY),
    "stream": lambda: qrjax.he_normal_qr().stream("a", 3)(KEY, (16, 8)),
    "at": lambda: qrjax.he_normal_qr().at(KEY, (16, 8), (slice(0, 4), INDEX)),
    "at, of points": lambda: qrjax.uniform_qr(layout="points", scramble="linear").at(KEY, (16, 8), 3),
    "at, hash": lambda: qrjax.he_normal_hash(zero_mean=True).stream("a").at(KEY, (16, 8), (0, 0)),
    "orthogonal": lambda: qrjax.orthogonal_qr().stream("a")(KEY, (16, 8)),
    "orthogonal, at": lambda: qrjax.orthogonal_hash().at(KEY, (8, 16), (0, INDEX)),
    "delta orthogonal": lambda: qrjax.delta_orthogonal_qr()(KEY, (3, 3, 4, 8)),
    "delta orthogonal, at": lambda: qrjax.delta_orthogonal_qr().at(KEY, (3, 3, 4, 8), (1, 1)),
    "absorb": lambda: qrjax.splitmix.absorb(STATE, 3, INDEX),
    "absorb_path": lambda: qrjax.splitmix.absorb_path(STATE, ("a", 3)),
    "absorb_sequence": lambda: qrjax.splitmix.absorb_sequence(STATE, [1, 2]),
    "finalize": lambda: qrjax.splitmix.finalize(STATE),
    "from_int": lambda: qrjax.splitmix.from_int(2**40),
    "from_key": lambda: qrjax.splitmix.from_key(KEY),
    "output": lambda: qrjax.splitmix.output(STATE, INDEX),
    "stack": lambda: qrjax.splitmix.stack(STATE),
    "block_key": lambda: jax.random.key_data(qrjax.block_key(KEY, "a", 3)),
    "effective_rank": lambda: qrjax.effective_rank(jnp.eye(4)),
}
UNIT = 'compilation_unit = "qrjax"'
pytestmark = pytest.mark.filterwarnings("ignore::qrjax.RankCollapseWarning")


def layers(init):
    return lambda keys: [init(keys[i], SHAPE) for i in range(LAYERS)]


def keys():
    return jax.random.split(jax.random.key(0), LAYERS)


@pytest.mark.parametrize("platform", ["cpu", "cuda"])
@pytest.mark.parametrize("init", BUILDERS.values(), ids=BUILDERS)
def test_every_draw_of_a_program_is_a_call_of_one_function(init, platform):
    text = jax.jit(layers(init)).trace(keys()).lower(lowering_platforms=(platform,)).as_text()
    assert list(called(text).values()) == [LAYERS]


@pytest.mark.few("default layout", "zero mean")
@pytest.mark.parametrize(
    "init",
    [
        pytest.param(b, marks=pytest.mark.slow if name in ("sequence", "complex") else ())
        for name, b in BUILDERS.items()
    ],
    ids=BUILDERS,
)
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


@pytest.mark.parametrize("platforms", [["tpu"], ["cpu", "tpu", "cuda"]], ids="-".join)
def test_other_platforms_see_plain_calls(platforms):
    exported = jax.export.export(jax.jit(layers(qrjax.he_normal_qr())), platforms=platforms)(keys())
    assert UNIT not in exported.mlir_module()


def test_a_gpu_may_inline_its_calls():
    """One that its compiler may not inline, most versions of it would split into a kernel for each operation."""
    exported = jax.export.export(jax.jit(layers(qrjax.he_normal_qr())), platforms=["cuda"])(keys())
    calls = [line for line in exported.mlir_module().splitlines() if UNIT in line]
    assert len(calls) == LAYERS
    assert not any("inlineable" in line for line in calls)


def called(text):
    """The functions whose calls are units, with the number of calls."""
    lines = [line for line in text.splitlines() if UNIT in line]
    return collections.Counter(line.partition("call @")[2].partition("(")[0] for line in lines)


def test_the_keys_of_layers_are_derived_by_one_function():
    init = qrjax.he_uniform_hash()

    def draw(key):
        return [init(jax.random.fold_in(key, i), SHAPE) for i in range(LAYERS)]

    counts = called(jax.jit(draw).trace(KEY).lower(lowering_platforms=("cpu",)).as_text())
    assert list(counts.values()) == [LAYERS, LAYERS]
    for found, expected in zip(jax.jit(draw)(KEY), draw(KEY), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_what_else_a_key_comes_from_is_inlined():
    """A function of several results, or one whose results are no words of a key, is none of ours."""

    @jax.jit
    def both(key):
        return jax.random.split(key)

    traced = jax.jit(lambda key: qrjax.he_uniform_hash()(both(key)[1], SHAPE)).trace(KEY)
    counts = called(traced.lower(lowering_platforms=("cpu",)).as_text())
    assert list(counts.values()) == [1]


def test_a_program_for_several_devices_sees_plain_calls():
    mesh = jax.sharding.AbstractMesh((8,), ("x",))
    sharding = NamedSharding(mesh, PartitionSpec("x"))
    draw = jax.jit(layers(qrjax.he_normal_qr()), out_shardings=sharding)
    assert UNIT not in draw.trace(keys()).lower(lowering_platforms=("cpu",)).as_text()


def test_draws_outside_a_program_compile_once_a_shape(compilations):
    init = qrjax.glorot_normal_qr(in_axis=0, out_axis=1)
    first = compilations(lambda: init(jax.random.key(0), (12, 20)))
    others = compilations(lambda: [init(jax.random.key(i), (12, 20)) for i in range(1, 5)])
    assert first, "compilations are not counted any more"
    assert not others, f"{others} programs compiled for equal draws from other keys"


# Every sampler with one scramble or another, and every scramble with some.
SCRAMBLED = [
    pytest.param(sample, scramble, id=f"{name} {scramble}", marks=pytest.mark.slow if (i + k) % 4 else ())
    for i, (name, sample) in enumerate(SAMPLERS.items())
    for k, scramble in enumerate(qrjax.sobol.SCRAMBLES)
]


@pytest.mark.turns(3)
@pytest.mark.few("bits None", "points owen", "uniform None", "truncated_normal linear")
@pytest.mark.parametrize(("sample", "scramble"), SCRAMBLED)
def test_samples_outside_a_program_compile_once_for_all_dimensions_starts_and_keys(sample, scramble, compilations):
    def drawn(dim, start, seed):
        return sample(dim, start, scramble=scramble, key=jax.random.key(seed))

    first = [drawn(3, 5, 0), drawn(jnp.int32(3), jnp.uint32(5), 0)]
    np.testing.assert_array_equal(*first)
    more = compilations(lambda: [drawn(3, 5, 0), drawn(8, 77, 1), drawn(jnp.int32(9), jnp.uint32(6), 2)])
    assert not more, f"{more} programs compiled for other dimensions, starts and keys of the same samples"


@pytest.mark.few(
    "normal, hash",
    "stream",
    "at, of points",
    "at, hash",
    "orthogonal, at",
    "delta orthogonal",
    "absorb*",
    "f*",
    "output",
    "stack",
    "block_key",
    "effective_rank",
)
@pytest.mark.parametrize("call", OTHERS.values(), ids=OTHERS)
def test_the_same_call_again_compiles_nothing(call, compilations):
    jax.tree.map(np.testing.assert_array_equal, call(), call())
    assert not (more := compilations(call)), f"{more} programs compiled for a call that was made before"


def test_the_first_points_have_a_program_of_their_own(compilations):
    for skip in (0, 1):
        expected = qrjax.sobol.points(2, skip + np.arange(96))
        for _ in range(2):
            found = qrjax.random.uniform((3, 32), dim=2, skip=skip)
            np.testing.assert_array_equal(found.reshape(-1), expected)
        more = compilations(lambda skip=skip: qrjax.random.uniform((3, 32), dim=7, skip=skip))
        assert not more, f"{more} programs compiled for another dimension, from point {skip} on"


def test_autoinit_shares_what_differs_in_its_gain_only():
    import flax.linen as nn

    layers = [nn.Dense(32) for _ in range(4)]
    network = nn.Sequential([part for layer in layers for part in (layer, nn.tanh)])
    sample = jax.ShapeDtypeStruct((8, 32), jnp.float32)
    _, report = qrjax.autoinit(network, sample, report=True)
    assert len({row.gain for row in report.weights}) > 1
    traced = jax.jit(lambda key: qrjax.autoinit(network, sample, key=key)).trace(jax.random.key(0))
    text = traced.lower(lowering_platforms=("cpu",)).as_text()
    assert list(called(text).values()) == [4]


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


CHECKED = """
import jax, qrjax
from jax.experimental import checkify

for init in (qrjax.orthogonal_qr(), qrjax.he_normal_hash()):
    for errors in (checkify.nan_checks, checkify.all_checks):
        draw = jax.jit(lambda key: init(key, (3, 3, 4, 8)))
        error, weights = checkify.checkify(draw, errors=errors)(jax.random.key(0))
        error.throw()
        assert (weights == init(jax.random.key(0), (3, 3, 4, 8))).all()
print("done")
"""


@pytest.mark.slow
def test_draws_can_be_checked_for_nans():
    """In a process of its own, as the failure would be an abort."""
    done = subprocess.run([sys.executable, "-c", CHECKED], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr[-2000:]
