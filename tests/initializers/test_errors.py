"""Bad input: the error names the argument, the value and the remedy, where the mistake was made."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import qrjax

KEY = jax.random.key(0)
BUILDERS = [
    (lambda: qrjax.he_normal_qr(dim=0), ValueError, r"`dim` must be in \[1, 21201\], got 0"),
    (lambda: qrjax.he_normal_qr(dim=21_202), ValueError, r"`dim` must be in \[1, 21201\], got 21202"),
    (lambda: qrjax.he_normal_qr(dim=1.5), TypeError, "`dim` must be an integer, got 1.5"),
    (lambda: qrjax.he_normal_qr(layout="rows"), ValueError, "`layout` must be one of 'sequence'.*got 'rows'"),
    (lambda: qrjax.he_normal_qr(scramble="faure"), ValueError, "`scramble` must be one of None.*got 'faure'"),
    (lambda: qrjax.he_normal_qr(scramble=None), ValueError, "`scramble` must not be None for layout='outputs'"),
    (lambda: qrjax.variance_scaling_qr(1.0, "fan", "normal"), ValueError, "`mode` must be one of 'fan_in'.*got 'fan'"),
    (
        lambda: qrjax.variance_scaling_hash(1.0, "fan_in", "cauchy"),
        ValueError,
        "`distribution` must be one of.*'cauchy'",
    ),
    (lambda: qrjax.variance_scaling_qr(0.0, "fan_in", "normal"), ValueError, "`scale` must be positive, got 0.0"),
    (lambda: qrjax.variance_scaling_qr(-1, "fan_in", "normal"), ValueError, "`scale` must be positive, got -1"),
    (lambda: qrjax.uniform_qr(math.nan), ValueError, "`scale` must be finite, got nan"),
    (lambda: qrjax.normal_hash("big"), TypeError, "`stddev` must be a real number, got 'big'"),
    (
        lambda: qrjax.truncated_normal_qr(1.0, None, 2.0, 2.0),
        ValueError,
        "`lower` must be less than `upper`, got lower=2.0",
    ),
    (lambda: qrjax.truncated_normal_qr(1.0, None, math.nan), ValueError, "`lower` must not be NaN"),
    (lambda: qrjax.truncated_normal_hash(1.0, None, 8.0, 9.0), ValueError, r"probability of at least 2\*\*-30"),
    (lambda: qrjax.random_uniform_qr(1.0, -1.0), ValueError, "`minval` must be less than `maxval`"),
    (lambda: qrjax.he_normal_qr(dtype="int32"), ValueError, "`dtype` must be a floating.*got int32"),
    (lambda: qrjax.he_normal_qr(dtype="floaty"), ValueError, "`dtype` must be a floating.*got 'floaty'"),
    (lambda: qrjax.he_normal_qr(in_axis=1.0), TypeError, "`in_axis` must be an axis or a sequence of axes"),
    (lambda: qrjax.orthogonal_qr(column_axis=(0, 1)), TypeError, "`column_axis` must be one axis"),
]


@pytest.mark.parametrize(("build", "kind", "message"), BUILDERS)
def test_builders_refuse(build, kind, message):
    with pytest.raises(kind, match=message):
        build()


INITIALIZERS = [
    ((KEY, (5,)), ValueError, "Can't compute input and output sizes of a 1-dimensional weights tensor"),
    ((KEY, (5, -1)), ValueError, r"`shape` must hold dimensions in \[0, 2\*\*31\), got -1 at axis 1"),
    ((KEY, (2**31, 4)), ValueError, r"`shape` must hold dimensions in \[0, 2\*\*31\), got 2147483648"),
    ((KEY, 5), ValueError, "Can't compute input and output sizes of a 1-dimensional weights tensor"),  # as JAX
    ((KEY, 5.0), TypeError, "`shape` must be an integer or a sequence of integers, got 5.0"),
    ((KEY, (2.0, 3)), TypeError, "`shape` must be an integer or a sequence of integers"),
    ((0, (4, 4)), TypeError, r"`key` must be a JAX key, got 0 of type int; make one with jax.random.key\(0\)"),
    ((np.zeros(2), (4, 4)), TypeError, "`key` must be a JAX key, got an array of float64"),
    ((np.zeros(3, np.uint32), (4, 4)), TypeError, r"`key` must be a JAX key, got an array of uint32 of shape \(3,\)"),
    ((jax.random.split(KEY, 3), (4, 4)), TypeError, "`key` must be a single key.*map over the keys with jax.vmap"),
    ((KEY, (4, 4), "int8"), ValueError, "`dtype` must be a floating.*got int8"),
    ((KEY, (4, 4), None, "x"), TypeError, "`out_sharding` must be a NamedSharding"),
    ((KEY, (4, 4), None, jax.sharding.PartitionSpec("x")), ValueError, "needs a mesh"),
]


@pytest.mark.parametrize("init", [qrjax.he_normal_qr(), qrjax.he_normal_hash()])
@pytest.mark.parametrize(("arguments", "kind", "message"), INITIALIZERS)
def test_initializers_refuse(init, arguments, kind, message):
    with pytest.raises(kind, match=message):
        init(*arguments)


@pytest.mark.skipif(np.dtype(np.longdouble).itemsize == 8, reason="a long double is a double here")
@pytest.mark.parametrize("dtype", [np.longdouble, np.clongdouble])
def test_dtypes_that_are_longer_than_jaxs(dtype):
    for make in (lambda: qrjax.he_normal_hash(dtype=dtype), lambda: qrjax.orthogonal_qr()(KEY, (4, 4), dtype)):
        with pytest.raises(ValueError, match=r"`dtype` must be a floating.*; JAX has none so long"):
            make()


@pytest.mark.parametrize("init", [qrjax.he_normal_qr(), qrjax.lecun_uniform_hash(), qrjax.orthogonal_qr()])
@pytest.mark.parametrize(
    ("index", "kind", "message"),
    [
        ((4, 0), IndexError, "`index` 4 is outside axis 0 of size 4"),
        ((0, -6), IndexError, "`index` -6 is outside axis 1 of size 5"),
        ((0, np.array([1, 7])), IndexError, "`index` 7 is outside axis 1 of size 5"),
        ((0, 0, 0), IndexError, r"`index` must have at most 2 parts for shape \(4, 5\), got 3"),
        ((..., ...), IndexError, "at most one Ellipsis"),
        ((1.5, 0), TypeError, "`index` must hold integers, slices, an Ellipsis or integer arrays, got 1.5"),
        ((None, 0), TypeError, "`index` must hold integers"),
        (True, TypeError, "`index` must not hold a single truth value, got True"),
        ((0, np.array(True)), TypeError, "`index` must not hold a single truth value"),
        (np.ones(3, bool), IndexError, r"a boolean array of shape \(3,\) where axes from 0 on have \(4,\)"),
        ((0, [True] * 6), IndexError, r"a boolean array of shape \(6,\) where axes from 1 on have \(5,\)"),
        (np.ones((2, 3), bool), IndexError, r"a boolean array of shape \(2, 3\) where axes from 0 on have \(4, 5\)"),
        ((0, np.ones((5, 1), bool)), IndexError, "must have at most 2 parts"),
    ],
)
def test_at_refuses(init, index, kind, message):
    with pytest.raises(kind, match=message):
        init.at(KEY, (4, 5), index)


@pytest.mark.parametrize(
    ("init", "shape", "message"),
    [
        (qrjax.orthogonal_qr(), (5,), "must have at least 2 dimensions"),
        (qrjax.orthogonal_hash(column_axis=3), (5, 5), "`column_axis` 3 is outside a shape of 2 dimensions"),
        (qrjax.delta_orthogonal_qr(column_axis=2), (3, 4, 8), "`column_axis` 2 is outside a matrix of 2 dimensions"),
        (qrjax.delta_orthogonal_qr(), (5, 5), "must have 3, 4 or 5 dimensions"),
        (qrjax.delta_orthogonal_hash(), (3, 8, 4), "at least as many outputs as inputs"),
        (qrjax.he_normal_qr(out_axis=4), (3, 8, 4), "`out_axis` 4 is outside a shape of 3 dimensions"),
    ],
)
def test_shapes_that_do_not_fit(init, shape, message):
    with pytest.raises(ValueError, match=message):
        init(KEY, shape)


def test_symbolic_shapes():
    (rows,) = jax.export.symbolic_shape("rows")
    with pytest.raises(TypeError, match=r"`shape` must be static, got the symbolic \(rows, 3\)"):
        qrjax.he_normal_qr()(KEY, (rows, 3))


def test_traced_settings_are_refused_with_the_remedy():
    with pytest.raises(TypeError, match=r"`scale` must be static, got a traced value.*multiply the result"):
        jax.jit(lambda scale: qrjax.uniform_qr(scale)(KEY, (4, 4)))(1.0)
    with pytest.raises(TypeError, match="`dim` of an initializer must be static"):
        jax.jit(lambda dim: qrjax.he_normal_qr(dim=dim)(KEY, (4, 4)))(1)
    with pytest.raises(TypeError, match="must not hold a traced boolean array"):
        jax.jit(lambda mask: qrjax.he_normal_qr().at(KEY, (4, 4), mask))(jnp.ones(4, bool))


def test_complex_weights_only_where_jax_has_them():
    for init in (qrjax.uniform_qr(), qrjax.truncated_normal_hash(), qrjax.random_normal_qr(0.5)):
        with pytest.raises(ValueError, match=r"`dtype` must be a floating .*got complex64"):
            init(KEY, (4, 4), "complex64")
