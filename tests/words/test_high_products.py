"""The high word of a product: by 64-bit words, by 16-bit halves, and chosen by the platform."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import export
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from qrjax import splitmix
from qrjax._words._pairs import _mulhi_in_64_bits, _mulhi_of_halves, mulhi
from qrjax._words._splitmix import _by_pairs, _chain, _in_64_bits

FORMS = {
    "chosen": mulhi,
    "wide": lambda x, y: _mulhi_in_64_bits(x, y)[0],
    "narrow": lambda x, y: _mulhi_of_halves(x, y)[0],
}
# The halves' sums carry, or nearly, at these.
EDGES = sorted({n % 2**32 for k in (0, 1, 15, 16, 17, 31, 32) for n in (2**k - 1, 2**k, 2**k + 1)})
EDGES += [0xFFFE, 0xFFFEFFFF, 0xFFFF0000, 0xFFFFFFFE, 0xBF58476D]
X, Y = (np.array(side, np.uint32) for side in zip(*itertools.product(EDGES, EDGES), strict=True))
WORDS = st.lists(st.integers(0, 2**32 - 1), min_size=16, max_size=16)


def exact(x, y):
    """In Python's integers."""
    return np.array([int(a) * int(b) >> 32 for a, b in zip(x, y, strict=True)], np.uint32)


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_every_form_on_all_pairs_of_edges(form):
    np.testing.assert_array_equal(jax.jit(form)(X, Y), exact(X, Y))


@pytest.mark.few("chosen", "narrow")
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@given(x=WORDS, y=WORDS)
@settings(deadline=None, derandomize=True, max_examples=50)
def test_every_form_on_random_words(form, x, y):
    x, y = np.array(x, np.uint32), np.array(y, np.uint32)
    np.testing.assert_array_equal(jax.jit(form)(x, y), exact(x, y))


def test_outputs_of_splitmix_are_the_same_in_both_forms():
    counters = np.resize(np.array(EDGES[::-1], np.uint32), X.shape)
    for words in ((counters,), (counters, X)):
        forms = [jax.jit(form)(X, Y, *words) for form in (_chain(len(words)), _in_64_bits, _by_pairs)]
        for found in forms[1:]:
            np.testing.assert_array_equal(np.stack(found), np.stack(forms[0]))


def exported(*platforms):
    return export.export(jax.jit(mulhi), platforms=platforms)(X, Y)


def test_only_where_there_are_wide_words_is_the_product_wide():
    assert "ui64" not in exported("tpu").mlir_module()
    for platform in ("cpu", "cuda", "rocm"):
        assert "ui64" in exported(platform).mlir_module()


def test_a_program_for_several_platforms_runs_without_a_branch():
    program = exported("cpu", "tpu", "cuda")
    np.testing.assert_array_equal(program.call(X, Y), exact(X, Y))
    assert "conditional" not in jax.jit(program.call).lower(X, Y).compile().as_text()


def operations(function):
    """Of the compiled program, with their shapes."""
    text = jax.jit(function).lower(X, Y).compile().as_text()
    return sorted(line.split("(")[0].split(" = ")[1] for line in text.splitlines() if " = " in line)


def test_the_choice_leaves_nothing_in_the_cpus_program():
    assert operations(mulhi) == operations(FORMS["wide"])


@pytest.mark.parametrize(("axes", "out"), [((0, 0), 0), ((None, 0), 0), ((0, None), 0), ((1, None), 1), ((1, 0), 1)])
@pytest.mark.parametrize("scalar", [False, True])
def test_mapped_over_one_operand_or_both(axes, out, scalar):
    grids = [np.arange(24, dtype=np.uint32).reshape(4, 6) * np.uint32(0x0F0F0F0F) + np.uint32(k) for k in (0, 9)]
    slices = []
    for grid, axis in zip(grids, axes, strict=True):
        of_four = grid if axis != 1 else grid.T
        slices.append([np.asarray(of_four[0 if axis is None else i, :3]) for i in range(4)])
    operands = [np.stack(s, axis) if axis is not None else s[0] for s, axis in zip(slices, axes, strict=True)]
    expected = np.stack([exact(a, b) for a, b in zip(*slices, strict=True)])
    if scalar:
        # One word alone beside a mapped vector of words: ranks differ before the batch as after it.
        firsts = [o[0] if k is None else np.take(o, 0, 1 - k) for o, k in zip(operands, axes, strict=True)]
        found = jax.vmap(mulhi, [None if k is None else 0 for k in axes])(*firsts)
        np.testing.assert_array_equal(found, expected[:, 0])
        return
    np.testing.assert_array_equal(jax.vmap(mulhi, axes, out)(*operands), expected if out == 0 else expected.T)


def test_mapped_twice():
    table = jax.vmap(jax.vmap(mulhi, (None, 0)), (0, None))(np.array(EDGES, np.uint32), np.array(EDGES, np.uint32))
    np.testing.assert_array_equal(np.ravel(table), exact(X, Y))


def through_words(s):
    """A slope of 1 and a product of words, which has none."""
    return s + mulhi(jnp.uint32(2**31), jnp.asarray(s * 2).astype(jnp.uint32)).astype(jnp.float32)


@pytest.mark.few("through_words0", "through_words2")
@pytest.mark.parametrize("wrapped", [through_words, jax.jit(through_words), jax.checkpoint(through_words)])
def test_derivatives_pass_by(wrapped):
    assert float(wrapped(5.0)) == 10.0
    assert float(jax.grad(wrapped)(5.0)) == 1.0
    assert float(jax.jvp(wrapped, (5.0,), (1.0,))[1]) == 1.0
    assert float(jax.jit(jax.hessian(wrapped))(5.0)) == 0.0
    np.testing.assert_array_equal(jax.vmap(jax.grad(wrapped))(jnp.arange(3.0)), np.ones(3))


@pytest.mark.parametrize("swapped", [False, True])
def test_the_product_varies_over_a_mesh_where_one_operand_does(swapped):
    mesh = jax.make_mesh((1,), ("x",), axis_types=(AxisType.Auto,))

    def product(own, shared):
        found = mulhi(shared, own) if swapped else mulhi(own, shared)
        assert jax.typeof(found) == jax.typeof(own) != jax.typeof(shared)
        return found

    mapped = jax.jit(jax.shard_map(product, mesh=mesh, in_specs=(P("x"), P()), out_specs=P("x")))
    np.testing.assert_array_equal(mapped(X, Y), exact(X, Y))


@pytest.mark.parametrize("swapped", [False, True])
def test_the_product_is_sharded_where_one_operand_is(swapped):
    mesh = jax.make_mesh((1,), ("x",), axis_types=(AxisType.Explicit,))
    with jax.set_mesh(mesh):
        x = jax.device_put(X, NamedSharding(mesh, P("x")))
        found = jax.jit(lambda a, b: mulhi(b, a) if swapped else mulhi(a, b))(x, jnp.asarray(Y))
    assert found.sharding.spec == P("x")
    np.testing.assert_array_equal(found, exact(X, Y))


def test_without_jit():
    words = jnp.asarray([0, 1, 2**31, 2**32 - 1], jnp.uint32)
    expected = splitmix.output(splitmix.Pair(words, words[::-1]), words)
    with jax.disable_jit():
        found = splitmix.output(splitmix.Pair(words, words[::-1]), words)
        high = mulhi(words, words)
    np.testing.assert_array_equal(found, expected)
    assert [int(w) for w in high] == [int(w) ** 2 >> 32 for w in words]
