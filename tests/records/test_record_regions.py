"""Shards from a record: what a device holds of a variable, drawn without the rest and without a list of its weights."""

import functools
import tracemalloc

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from recorded import assert_same, reloaded

import qrjax
from qrjax._layouts._coordinates import box_of, from_index
from qrjax._records._regions import multiplied

KEY = jax.random.key(5)


def drawn():
    """One tensor; several layers of a key each; one that was reshaped; one that is empty."""
    layer = qrjax.uniform_hash()
    return {
        "one": qrjax.he_normal_qr()(KEY, (12, 10)),
        "layers": jax.vmap(lambda key: layer(key, (4, 6)))(jax.random.split(KEY, 3)),
        "reshaped": qrjax.normal_hash(1.0)(KEY, (6, 20)).reshape(6, 4, 5),
        "empty": qrjax.normal_hash(1.0)(KEY, (3, 0)),
    }


@pytest.fixture(scope="module")
def record():
    return reloaded(qrjax.record(lambda _: drawn(), key=KEY, by="init"))


@pytest.mark.some(2)
@pytest.mark.few("one-index0", "one-index3", "layers-index7", "reshaped-index10", "empty-index11")
@pytest.mark.parametrize(
    ("path", "index"),
    [
        ("one", (slice(3, 9), slice(5, 10))),
        ("one", (slice(-4, None), slice(None))),
        ("one", (2, slice(0, 7))),
        ("one", (slice(8, 20), -1)),
        ("one", (slice(5, 5), 3)),
        ("one", slice(9, 4)),
        ("layers", (slice(1, 3), slice(2, 4), slice(None))),
        ("layers", (slice(2, 3), ..., slice(0, 2))),
        ("layers", (1, slice(0, 3), 5)),
        ("layers", (slice(2, 2),)),
        ("reshaped", (slice(2, 5), slice(1, 3), slice(0, 4))),
        ("empty", (slice(1, 3), slice(None))),
    ],
)
def test_boxes_are_parts_of_the_whole(record, path, index):
    whole = drawn()[path]
    assert_same(record.weight(path, index), whole[index])
    # As single weights too, which is another program.
    lists = tuple(np.asarray(c) for c in from_index(index, whole.shape)[0])
    assert_same(record.weight(path, lists), whole[index])


@pytest.mark.parametrize(
    ("index", "expected"),
    [
        ((slice(1, 3), 4), ((1, 4), (2, 1), (2,))),
        (np.int64(-1), ((5, 0), (1, 7), (7,))),
        ((..., slice(2, 99)), ((0, 2), (6, 5), (6, 5))),
        ((slice(None, None, 2),), None),
        ((slice(None, None, -1),), None),
        (([1, 2],), None),
        (np.zeros((6, 7), bool), None),
    ],
)
def test_which_indices_are_boxes(index, expected):
    assert box_of(index, (6, 7)) == expected


def test_a_box_outside_is_an_error(record):
    with pytest.raises(IndexError, match="12 is outside axis 0 of size 12"):
        record.weight("one", (12, slice(0, 3)))


@pytest.mark.parametrize("source", ["hash", pytest.param("sobol", marks=pytest.mark.slow)])
def test_a_shard_of_a_layer_that_fits_nowhere(source):
    import flax.linen as nn

    n = 2**20
    record = qrjax.record(nn.Dense(n), jax.ShapeDtypeStruct((1, n), jnp.float32), source=source)
    assert record.entry("kernel").leaf.shape == (n, n)  # four terabytes
    rows, columns = (n - 1024, n), (2**19, 2**19 + 512)
    asked = (slice(*rows), slice(*columns))
    record.weight("kernel", asked)  # compiled
    tracemalloc.start()
    try:
        shard = record.weight("kernel", asked)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert shard.nbytes == 4 * 1024 * 512
    assert peak < shard.nbytes / 20  # NumPy's memory; the coordinates of every weight would be twice the shard
    some = (np.arange(*rows, 100), columns[0] + 7)
    np.testing.assert_array_equal(shard[::100, 7], record.weight("kernel", some))


def test_a_sharded_array_is_made_by_weight(record):
    sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    made = jax.make_array_from_callback((3, 4, 6), sharding, functools.partial(record.weight, "layers"))
    assert_same(made, drawn()["layers"])


def test_a_compiler_may_not_keep_the_digits_that_a_narrow_type_drops():
    """Few do, so the bits do not show it: a barrier stands behind each rounding."""
    value, factors = jnp.ones((3, 4), jnp.bfloat16), [np.float32(1.25), np.float32(0.7)]
    program = jax.make_jaxpr(lambda value: multiplied(value, factors, jnp.bfloat16))(value).jaxpr.eqns
    rounded = [e.outvars[0] for e in program if str(e.params.get("new_dtype")) == "bfloat16"]
    kept = [e.invars[0] for e in program if e.primitive.name == "optimization_barrier"]
    assert len(rounded) == len(factors)
    assert kept == rounded, f"roundings {rounded}, of which only {kept} have an optimization_barrier behind them"
