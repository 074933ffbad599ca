"""Programs traced on scalars and written for arrays, against JAX's own lowering of the same functions."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export, lax
from jax.sharding import AxisType

from qrjax import uniform_hash, uniform_qr
from qrjax._words import _scalars
from qrjax._words._pairs import where, word
from qrjax._words._pointwise import OneByOne, pointwise

WORDS = np.array([0, 1, 2, 31, 2**16, 2**31 - 1, 2**31, 2**32 - 2, 2**32 - 1], np.uint32)
PAIRS = [np.asarray(x) for x in zip(*itertools.product(WORDS, WORDS), strict=True)]
U64 = np.uint64


def every_operation(x, y):
    low, high = lax.min(x, y), lax.max(x, y)
    signed = lax.abs(x.astype(jnp.int32)), -y.astype(jnp.int32)
    flags = [f(x, y) for f in (lax.eq, lax.ne, lax.lt, lax.le, lax.gt, lax.ge)]
    flags += [lax.lt(*signed), lax.ge(*signed), lax.bitwise_not(flags[0]), flags[1] & flags[2] | flags[3] ^ flags[4]]
    numbers = [x + y, x - y, x * y, lax.div(x, y | 1), lax.rem(x, y | 1), x ^ ~y, x << (y & 31), x >> (y & 31)]
    numbers += [lax.clz(x), lax.population_count(y), low, high, *(s.astype(jnp.uint32) for s in signed)]
    total = word(0x9E3779B9)
    for k, one in enumerate([*numbers, *(f.astype(jnp.uint32) for f in flags), where(flags[2], x, high)]):
        total = total * word(2 * k + 3) ^ one
    return [total]


def halves_of_a_product(x, y):
    with jax.enable_x64(True):
        product = x.astype(U64) * y.astype(U64) + U64(2**63 + 5)
        return [(product >> U64(32)).astype(jnp.uint32), product.astype(jnp.uint32)]


FUNCTIONS = {"operations": (every_operation, 1), "64 bits": (halves_of_a_product, 2)}


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("shape", [(81,), (9, 1, 9), ()])
def test_a_program_of_scalars_is_jaxs_own(name, shape):
    function, results = FUNCTIONS[name]
    primitive = pointwise(f"tested {name}", results, function)
    operands = [x.reshape(shape) if shape else x[80] for x in PAIRS]
    for found, expected in zip(jax.jit(primitive)(*operands), jax.jit(function)(*operands), strict=True):
        np.testing.assert_array_equal(found, expected, strict=True)


def test_each_operation_is_written_down():
    program = _scalars.traced(every_operation, 2)
    assert _scalars.is_plain(program, lambda _: False)
    used = {e.primitive.name for e in program.jaxpr.eqns}
    assert set(_scalars.OPERATIONS) - used == {"broadcast_in_dim"}


@pytest.mark.parametrize(
    "function",
    [lambda x: [(x.astype(jnp.float32) * 2).astype(jnp.uint32)], lambda x: [x.astype(bool).astype(jnp.uint32) + x],
     lambda x: [lax.select_n(lax.convert_element_type(x & 1, jnp.int32), x, x + 7)],
     lambda x: [jnp.stack([x, x + 1]).sum(dtype=jnp.uint32)]],
    ids=["floats", "truth", "numbered", "arrays"],
)  # fmt: skip
def test_what_is_not_known_is_left_to_jax(function):
    assert not _scalars.is_plain(_scalars.traced(function, 1), lambda _: False)
    primitive = pointwise("tested otherwise", 1, OneByOne(function).function, cpu=OneByOne(function))
    (found,) = jax.jit(primitive)(WORDS)
    np.testing.assert_array_equal(found, [function(x)[0] for x in jnp.asarray(WORDS)], strict=True)


def test_a_function_is_traced_once_for_all_shapes():
    seen = []

    def function(x, y):
        seen.append(x.shape)
        return [x * y + 1]

    primitive = pointwise("tested once", 1, function)
    for n in (3, 4, 5):
        jax.jit(primitive).lower(jnp.ones((n, 2), jnp.uint32), word(3))
    assert seen == [()]


def product_of_64_bits(x, y):
    with jax.enable_x64(True):
        return [x.astype(U64) * y.astype(U64)]


def test_a_word_of_64_bits_is_two():
    mapped = OneByOne(product_of_64_bits, is_wide=True)
    primitive = pointwise("tested wide", 2, halves_of_a_product, cpu=mapped)
    expected = PAIRS[0].astype(U64) * PAIRS[1].astype(U64)
    high, low = jax.jit(primitive)(*PAIRS)
    np.testing.assert_array_equal(high, (expected >> U64(32)).astype(np.uint32))
    np.testing.assert_array_equal(low, expected.astype(np.uint32))


@pytest.mark.parametrize("platforms", [["cpu"], ["cpu", "tpu"]])
def test_shapes_that_are_not_known_yet(platforms):
    primitive = pointwise("tested later", 1, every_operation, tpu=every_operation)
    shape = export.symbolic_shape("n")
    operands = [jax.ShapeDtypeStruct(shape, jnp.uint32)] * 2
    program = export.export(jax.jit(primitive), platforms=platforms)(*operands)
    np.testing.assert_array_equal(program.call(*PAIRS)[0], every_operation(*map(jnp.asarray, PAIRS))[0])


def test_a_map_of_a_shape_that_is_not_known_yet():
    def product(x, y):
        high, low = halves_of_a_product(x, y)
        return [high ^ low]

    mapped = OneByOne(product_of_64_bits, is_wide=True)
    wide = pointwise("tested wide later", 2, halves_of_a_product, cpu=mapped, cuda=mapped)
    narrow = pointwise("tested map later", 1, product, cpu=OneByOne(product), cuda=OneByOne(product))
    operands = [jax.ShapeDtypeStruct(export.symbolic_shape("n"), jnp.uint32)] * 2
    for primitive, form in ((wide, halves_of_a_product), (narrow, product)):
        program = export.export(jax.jit(primitive), platforms=["cpu", "cuda", "tpu"])(*operands)
        np.testing.assert_array_equal(program.call(*PAIRS), form(*map(jnp.asarray, PAIRS)))


@pytest.mark.parametrize("source", [uniform_qr(), uniform_hash()], ids=["qr", "hash"])
def test_draws_of_as_many_keys_as_come(source):
    keys = jax.random.key_data(jax.random.split(jax.random.key(3), 2))
    draws = jax.jit(jax.vmap(lambda words: source(jax.random.wrap_key_data(words), (3, 2))))
    unknown = jax.ShapeDtypeStruct(export.symbolic_shape("n, 2"), jnp.uint32)
    program = export.export(draws, platforms=["cpu", "cuda", "tpu"])(unknown)
    np.testing.assert_array_equal(program.call(keys), draws(keys))


def test_on_a_mesh_with_explicit_axes():
    mesh = jax.make_mesh((1,), ("x",), axis_types=(AxisType.Explicit,))
    primitive = pointwise("tested on a mesh", 1, every_operation)
    with jax.set_mesh(mesh):
        operands = [jax.device_put(x, jax.P("x")) for x in PAIRS]
        (found,) = jax.jit(primitive)(*operands)
    np.testing.assert_array_equal(found, every_operation(*map(jnp.asarray, PAIRS))[0])
