"""Large tensors that a CPU draws by blocks: the same bits, little memory, and one loop that nobody else sees."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

import qrjax
from qrjax._initializers._blocks import COUNT, SMALLEST, blocks_of

KEY = jax.random.key(8)
# Cut evenly and not, along the first axis and a later one; a vector.
SHAPES = [(1024, 1024), (1009, 1040), (3, 3, 300, 389), (SMALLEST + 5,)]
LAYOUTS = ("outputs", "neurons", "shuffled", "points")
CASES = [(LAYOUTS[(i + k) % 4], shape) for k in range(2) for i, shape in enumerate(SHAPES)]


def blocks(init, shape, dtype="float32"):
    return blocks_of(None, init, shape, np.dtype(dtype))


@pytest.mark.few("outputs-shape0", "points-shape3")
@pytest.mark.parametrize(
    ("layout", "shape"), [pytest.param(*case, marks=pytest.mark.slow if i > 3 else ()) for i, case in enumerate(CASES)]
)
def test_bits_and_memory(layout, shape):
    init = qrjax.normal_qr(layout=layout)
    assert blocks(init, shape)
    program = jax.jit(init, static_argnums=1).lower(KEY, shape).compile()
    assert program.memory_analysis().temp_size_in_bytes <= 0.05 * 4 * np.prod(shape)
    found = np.asarray(program(KEY))
    some = tuple(np.random.default_rng(1).integers(0, n, 5000) for n in shape)
    ends = tuple(np.array([0, n - 1]) for n in shape)
    for index in (some, ends):
        np.testing.assert_array_equal(found[index], init.at(KEY, shape, index))


def test_several_keys_in_turn():
    init, shape = qrjax.he_normal_qr(), (1024, 1024)
    keys = jax.random.split(KEY, 4).reshape(2, 2)
    found = jax.jit(jax.vmap(jax.vmap(lambda key: init(key, shape))))(keys)
    assert "while" in jax.jit(jax.vmap(lambda key: init(key, shape))).lower(keys[0]).as_text()
    np.testing.assert_array_equal(found[1, 0], init(keys[1, 0], shape))


def test_others_see_no_loop():
    draw = jax.jit(lambda key: qrjax.he_normal_qr()(key, (1024, 1024)))
    assert "while" in draw.lower(KEY).as_text()
    for platforms in (["cuda"], ["tpu"], ["cpu", "cuda"]):
        text = export.export(draw, platforms=platforms)(KEY).mlir_module()
        assert "while" not in text
    mesh = jax.make_mesh((1,), ("x",), axis_types=(jax.sharding.AxisType.Explicit,))
    with jax.set_mesh(mesh):
        assert "while" not in draw.lower(KEY).as_text()


@pytest.mark.parametrize(
    ("init", "shape", "dtype"),
    [
        (qrjax.he_normal_hash(), (1024, 1024), "float32"),
        (qrjax.he_uniform_qr(), (1024, 1024), "float32"),
        (qrjax.truncated_normal_qr(0.5, lower=-1.0, upper=2.5), (1024, 1024), "float32"),
        (qrjax.he_normal_qr(layout="sequence"), (1024, 1024), "float32"),
        (qrjax.he_normal_qr(), (1024, 1023), "float32"),
        (qrjax.he_normal_qr(), (1024, 1024), "complex64"),
        (qrjax.he_normal_qr(), (COUNT - 1, 2**20), "float32"),
    ],
)
def test_what_is_cheap_or_small_or_short_is_drawn_at_once(init, shape, dtype):
    assert blocks(init, shape, dtype) is None


@pytest.mark.slow
def test_without_programs():
    init = qrjax.he_normal_qr(layout="points")
    with jax.disable_jit():
        found = init(KEY, (1024, 1024), jnp.bfloat16)
    np.testing.assert_array_equal(found[-3:], init.at(KEY, (1024, 1024), slice(-3, None), jnp.bfloat16))
