"""Inputs of which not all is known: integers, images in bytes, masks, times; what is guessed is a finding."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import qrjax

BYTES = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3), np.uint8)
SHAPE = jax.ShapeDtypeStruct(BYTES.shape, jnp.uint8)


class Images(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.Conv(16, (3, 3))(x.astype(jnp.float32) / 255.0)
        return nn.Dense(4)(nn.relu(x).mean((1, 2)))


class Ids(nn.Module):
    @nn.compact
    def __call__(self, ids):
        return nn.Dense(4)(nn.Embed(64, 16)(ids))


def guesses(report):
    return [finding for finding in report.findings if "only the shape is known" in finding]


def test_bytes_by_shape_alone_are_pixels():
    report = qrjax.analyze(Images(), SHAPE)
    real = qrjax.analyze(Images(), BYTES)
    assert report.weights[0].gain == pytest.approx(real.weights[0].gain, rel=0.01)
    assert guesses(report) == [
        "of an input of dtype uint8 and shape (4, 16, 16, 3) only the shape is known: taken for pixels from 0 to 255, "
        "each as likely; pass real ones, or input_mean= and input_variance="
    ]
    assert guesses(real) == []
    variables = qrjax.autoinit(Images(), SHAPE)
    row = qrjax.measure(Images(), variables, BYTES).weights[0]
    assert row.measured_second_moment == pytest.approx(1.0, rel=0.3)


@pytest.mark.parametrize("array", [SHAPE, BYTES])
def test_given_moments_count_for_bytes(array):
    report = qrjax.analyze(Images(), array, input_mean=51.0, input_variance=2601.0)
    assert report.weights[0].input_second_moment == pytest.approx(0.08, rel=1e-4)
    assert guesses(report) == []


@pytest.mark.parametrize("dtype", [jnp.uint8, jnp.int8, jnp.int16, jnp.int32, jnp.uint32])
def test_given_moments_count_for_integers_without_real_numbers(dtype):
    class Counts(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.Dense(4)(x.astype(jnp.float32))

    shape = jax.ShapeDtypeStruct((8, 16), dtype)
    report = qrjax.analyze(Counts(), shape, input_mean=3.0, input_variance=4.0)
    assert report[0].input_second_moment == pytest.approx(13.0, rel=1e-4)
    assert report.findings == ()
    assert qrjax.analyze(Counts(), shape, input_mean=100.0)[0].input_mean == pytest.approx(100.0)


@pytest.mark.parametrize("dtype", [jnp.int32, jnp.uint8])
def test_given_moments_leave_ids_beside_real_numbers_alone(dtype):
    class Both(nn.Module):
        @nn.compact
        def __call__(self, x, labels):
            return nn.Dense(4)(x) + nn.Dense(4)(jax.nn.one_hot(labels, 16))

    shapes = jax.ShapeDtypeStruct((8, 16), jnp.float32), jax.ShapeDtypeStruct((8,), dtype)
    report, plain = (qrjax.analyze(Both(), *shapes, input_mean=mean) for mean in (2.0, None))
    assert report["Dense_0"].input_second_moment == pytest.approx(5.0)
    assert report["Dense_1"].input_second_moment == plain["Dense_1"].input_second_moment
    assert len(guesses(report)) == 1


@pytest.mark.parametrize("classes", [16, 300])
def test_a_one_hot_code_of_unknown_ids_has_one_element_in_each_row(classes):
    def by_classes(p, ids):
        return jax.nn.one_hot(ids, classes) @ p["w"]

    pair = (lambda key, _: {"w": jax.random.normal(key, (classes, 8))}, by_classes)
    report = qrjax.analyze(pair, jax.ShapeDtypeStruct((4, 6), jnp.int32))
    assert report[0].input_second_moment == pytest.approx(1 / classes, rel=0.03)
    assert report[0].gain == pytest.approx(1.0, rel=0.02)
    assert report.findings == tuple(guesses(report))


@pytest.mark.parametrize(
    ("shape", "dtype", "guess"),
    [
        ((2, 12), jnp.int32, "taken for ids from 0 to 15, each as likely"),
        ((2, 12), jnp.uint8, "taken for ids from 0 to 15, each as likely"),
        ((2, 12), jnp.bool_, "taken as true in half of its places"),
        ((12,), jnp.float32, "taken as normal with mean 0 and variance 1; pass real data"),
        ((), jnp.bfloat16, "taken as normal with mean 0 and variance 1; pass real data"),
        ((2, 12), jnp.float32, None),
    ],
)
def test_what_is_guessed_is_said(shape, dtype, guess):
    pair = (lambda _key, x, _y: {"w": jnp.ones((x.shape[-1], 4))}, lambda params, x, _y: x @ params["w"])
    x, y = jax.ShapeDtypeStruct((8, 16), jnp.float32), jax.ShapeDtypeStruct(shape, dtype)
    found = guesses(qrjax.analyze(pair, x, y))
    assert len(found) == (guess is not None)
    assert guess is None or guess in found[0]
    traced = []
    jax.jit(lambda y: traced.append(guesses(qrjax.analyze(pair, x, y))))(jnp.zeros(shape, dtype))
    assert traced == [found]
    assert guesses(qrjax.analyze(pair, x, np.ones(shape, dtype))) == []


def test_autoinit_reports_its_guesses():
    _, report = qrjax.autoinit(Ids(), jax.ShapeDtypeStruct((2, 12), jnp.int32), report=True)
    assert len(guesses(report)) == 1
    _, report = qrjax.autoinit(Ids(), np.arange(24, dtype=np.int32).reshape(2, 12), report=True)
    assert guesses(report) == []


PAIR = (lambda _key, x, _y: {"w": jnp.ones((x.shape[-1], 4))}, lambda params, x, y: (x * y) @ params["w"])
PLAIN = (lambda _key, x: {"w": jnp.ones((x.shape[-1], 4))}, lambda params, x: x.astype(jnp.float32) @ params["w"])
DUMMY, WORD = "one number everywhere, so its shape alone counts", "one number everywhere, and was taken at its word"


@pytest.mark.parametrize("fill", [0, 1])
@pytest.mark.parametrize(
    ("shape", "dtype", "pair"),
    [
        ((8, 16), jnp.float32, PLAIN),
        ((16,), jnp.bfloat16, PLAIN),
        ((2, 4, 4, 3), jnp.uint8, PLAIN),
        ((2, 12), jnp.int32, Ids()),
    ],
)
def test_a_dummy_is_taken_for_its_shape(fill, shape, dtype, pair):
    dummy, bare = (qrjax.analyze(pair, x) for x in (jnp.full(shape, fill, dtype), jax.ShapeDtypeStruct(shape, dtype)))
    rows = [[(row.gain, row.mean, row.second_moment, row.correlation) for row in report] for report in (dummy, bare)]
    assert rows[0] == rows[1]
    assert sum(DUMMY in finding for finding in dummy.findings) == 1
    assert not any(DUMMY in finding for finding in bare.findings)
    given = qrjax.analyze(pair, jnp.full(shape, fill, dtype), input_mean=2.0, input_variance=3.0)
    assert not any(DUMMY in finding for finding in given.findings)


def test_a_complex_dummy_has_independent_parts():
    pair = (lambda key, z: {"w": jax.random.normal(key, (z.shape[-1], 4), z.dtype)}, lambda params, z: z @ params["w"])
    for z in (jax.ShapeDtypeStruct((8, 16), jnp.complex64), jnp.zeros((8, 16), jnp.complex64)):
        row = qrjax.analyze(pair, z)[0]
        assert (row.input_second_moment, row.input_mean) == pytest.approx((1.0, 0.0))
        assert row.gain == pytest.approx(0.25)
        told = qrjax.analyze(pair, z, input_mean=1.0, input_variance=4.0)[0]
        assert told.input_second_moment == pytest.approx(5.0)
        assert told.gain == pytest.approx(0.25 / 5**0.5)
    data = 3 * jax.random.normal(jax.random.key(0), (64, 16), jnp.complex64)
    assert qrjax.analyze(pair, data, input_mean=0.0)[0].input_second_moment == pytest.approx(9, rel=0.1)


def test_a_dummy_is_told_from_data():
    x, one, zero = np.arange(16, dtype=np.float32).reshape(2, 8), np.ones((2, 8), np.float32), jnp.zeros((2, 8))
    assert not any("one number" in f for mask in (one, zero) for f in qrjax.analyze(PAIR, x, mask).findings)
    assert any(WORD in f for f in qrjax.analyze(PAIR, one, one).findings)  # either may be a mask
    added = (PAIR[0], lambda params, x, h: (x + h) @ params["w"])
    report = qrjax.analyze(added, zero, zero)  # both cannot be meant
    assert report[0].input_second_moment == pytest.approx(2.0)
    assert sum(DUMMY in finding for finding in report.findings) == 2
