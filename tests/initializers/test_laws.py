"""Laws that every builder keeps, run over the table of all builders."""

import functools
import inspect
import math
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.nn import initializers as jax_initializers
from members import EXACT, LAYOUTS, MEMBERS, named
from wrongs import wrong

import qrjax

KEY = jax.random.key(5)
LOW_PRECISION = ("bfloat16", "float16")


def test_second_names_are_the_same_functions():
    for ours, other in (("glorot", "xavier"), ("he", "kaiming")):
        for end in ("uniform_qr", "normal_qr", "uniform_hash", "normal_hash"):
            assert getattr(qrjax, f"{ours}_{end}") is getattr(qrjax, f"{other}_{end}")


def test_every_public_builder_is_in_the_table():
    public = {name for name in qrjax.__all__ if name.endswith(("_qr", "_hash"))}
    assert public == {m.builder_name for m in MEMBERS}


@pytest.mark.parametrize("m", **named([m for m in MEMBERS if m.twin]))
def test_signature_is_jaxs_then_keyword_only_extras(m):
    ours, theirs = (list(inspect.signature(f).parameters.values()) for f in (m.builder, m.twin))
    assert [(p.name, p.kind) for p in ours[: len(theirs)]] == [(p.name, p.kind) for p in theirs]
    assert [p.default for p in ours[: len(theirs)]] == [p.default for p in theirs]
    assert all(p.kind is inspect.Parameter.KEYWORD_ONLY for p in ours[len(theirs) :])


@pytest.mark.parametrize("m", **named(MEMBERS))
def test_closure_signature_is_jaxs(m):
    ours = inspect.signature(m.initializer).parameters.values()
    theirs = inspect.signature(jax_initializers.he_normal()).parameters.values()
    assert [(p.name, p.kind, p.default) for p in ours] == [(p.name, p.kind, p.default) for p in theirs]


@pytest.mark.parametrize("m", **named(MEMBERS))
def test_equal_when_configured_equally_and_repr_rebuilds_it(m):
    init, twin, other = m.initializer, m.initializer, m.build(dtype="bfloat16")
    assert init == twin
    assert hash(init) == hash(twin)
    assert init != other
    for each in (init, other, init.stream("decoder", 3).stream("query")):
        assert eval(repr(each), vars(qrjax).copy()) == each


@pytest.mark.turns(3)
@pytest.mark.parametrize("m", **named(MEMBERS, sampled=True))
def test_shape_dtype_and_protocol(m):
    weights = m.initializer(KEY, m.shape, jnp.bfloat16)
    assert (weights.shape, weights.dtype) == (m.shape, jnp.bfloat16)
    assert isinstance(m.initializer, jax_initializers.Initializer)


@pytest.mark.turns(3)
@pytest.mark.few(
    "he_normal_qr",
    "normal_hash",
    "random_uniform_hash zero_mean",
    "orthogonal_qr",
    "delta_orthogonal_hash",
)
@pytest.mark.parametrize("m", **named([*EXACT, *(m for m in MEMBERS if m.orthogonal)], sampled=True))
def test_at_is_the_whole_tensors_entry(m):
    init = m.initializer
    whole = np.asarray(init(KEY, m.shape))
    picks = [(2, 1), (-1, slice(3, 30, 4)), (np.array([[1, 2], [0, 2]]), Ellipsis)]
    for index in picks:
        np.testing.assert_array_equal(np.asarray(init.at(KEY, m.shape, index)), whole[index], err_msg=str(index))


def test_at_takes_a_traced_index_and_clips_it():
    init = qrjax.he_normal_qr()
    whole = np.asarray(init(KEY, (48, 40)))
    rows = jnp.array([0, -1, 47, 99])
    picked = jax.jit(lambda rows: init.at(KEY, (48, 40), (rows, 3)))(rows)
    np.testing.assert_array_equal(picked, whole[[0, -1, 47, 47], 3])


@pytest.mark.few("eager-int8", "eager-uint16", "jitted-uint8", "jitted-int8")
@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "int32", "uint32"])
@pytest.mark.parametrize("jitted", [False, True], ids=["eager", "jitted"])
def test_at_takes_indices_of_dtypes_that_do_not_reach_the_axiss_end(dtype, jitted):
    init, size = qrjax.he_normal_hash(), 70_000
    rows = jnp.arange(size, dtype=jnp.uint32)
    whole = np.asarray(init.at(KEY, (size, 8), (rows, 3)))
    reach = np.iinfo(dtype)
    index = np.array([0, 1, min(reach.max, size - 1), max(reach.min, -size), -1 % (reach.max + 1)], dtype)
    index = np.append(index, np.array([-3], "int8").astype(dtype)) if reach.min else index
    index = index[np.abs(index.astype(np.int64)) < size]

    def pick(index):
        return init.at(KEY, (size, 8), (index, 3))

    found = (jax.jit(pick) if jitted else pick)(jnp.asarray(index))
    np.testing.assert_array_equal(found, whole[index], f"weights at {index} of {size}, by an index of {dtype}")


def test_at_takes_masks_of_several_axes_and_lists():
    shape = (4, 5, 6)
    rng = np.random.default_rng(0)
    indices = [
        rng.random(shape) < 0.5, (rng.random((4, 5)) < 0.5, 2), (1, rng.random((5, 6)) < 0.5),
        (..., rng.random(6) < 0.5), [0, 3], ([1, 2], slice(None), [0, 5]), [True, False, True, False],
    ]  # fmt: skip
    # The second takes its weights from the whole matrix, by the same indices.
    for init, some in ((qrjax.he_normal_hash(), indices), (qrjax.orthogonal_qr(), indices[1::5])):
        whole = np.asarray(init(KEY, shape))
        for index in some:
            np.testing.assert_array_equal(init.at(KEY, shape, index), whole[index])


@pytest.mark.few("shuffled", "neurons", "points")
@pytest.mark.parametrize("layout", LAYOUTS)
def test_at_agrees_in_every_layout_and_role(layout):
    shape = (2, 3, 3, 8, 48)
    init = qrjax.he_normal_qr(in_axis=-2, out_axis=-1, batch_axis=0, layout=layout)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", qrjax.RankCollapseWarning)
        whole = np.asarray(init(KEY, shape))
    index = (1, slice(None), 2, [0, 5, 7], slice(1, None, 7))
    np.testing.assert_array_equal(np.asarray(init.at(KEY, shape, index)), whole[index])


@pytest.mark.turns(3)
@pytest.mark.few("bfloat16-he_normal_qr", "bfloat16-glorot_uniform_hash", "bfloat16-random_uniform_hash zero_mean")
@pytest.mark.parametrize("m", **named(EXACT, sampled=True))
@pytest.mark.parametrize("dtype", ["bfloat16", pytest.param("float16", marks=pytest.mark.slow)])
def test_low_precision_is_the_float32_draw_rounded_inside_the_bounds(m, dtype):
    init = m.initializer
    wide, narrow = (np.asarray(init(KEY, (64, 48), t)).astype(np.float64) for t in ("float32", dtype))
    rounded = np.asarray(jnp.asarray(wide, "float32").astype(dtype)).astype(np.float64)
    location, scale = init.scaling.location_and_scale((64, 48), init.distribution, jnp.dtype(dtype))
    lower, upper = (location + scale * bound for bound in init.distribution.bounds)
    assert not wrong((narrow > lower) & (narrow < upper), weight=narrow, lower=lower, upper=upper)
    # Values that round to a bound, itself rounded, move to the next one inside.
    low, high = (float(np.asarray(bound).astype(jnp.dtype(dtype))) for bound in (lower, upper))
    inside = (rounded > low) & (rounded < high)
    assert inside.mean() > 0.98, f"only {inside.mean():.1%} of the weights round to a value inside of the bounds"
    np.testing.assert_array_equal(narrow[inside], rounded[inside], f"{dtype} drawn, against float32 drawn and rounded")


HALVED = ["uniform_qr", "random_uniform_qr", "uniform_hash", "truncated_normal_qr", "normal_hash"]


@pytest.mark.few("random_uniform_qr-float16", "uniform_hash-bfloat16", "normal_hash-bfloat16")
@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        pytest.param(name, dtype, marks=pytest.mark.slow if (i + k) % 2 else ())
        for i, name in enumerate(HALVED)
        for k, dtype in enumerate(LOW_PRECISION)
    ],
)
def test_no_zero_one_infinity_or_excess_among_a_million_half_precision_draws(name, dtype):
    init = getattr(qrjax, name)(**({"scale": 1.0} if name.startswith("uniform") else {}))
    weights = np.asarray(init(KEY, (1000, 1000), dtype)).astype(np.float64)
    location, scale = init.scaling.location_and_scale((1000, 1000), init.distribution, jnp.dtype(dtype))
    lower, upper = (location + scale * bound for bound in init.distribution.bounds)
    assert not wrong(
        (weights > lower) & (weights < upper), weight=weights, lower=lower, upper=upper
    )  # no infinity, too
    if name.startswith("uniform"):
        assert not wrong((weights != 0) & (weights != 1), weight=weights)


def outcome(init, shape, run=lambda init, *arguments: init(*arguments)):
    """The shape of what an initializer returns, or the type of error that it raises."""
    try:
        return run(functools.partial(init, shape=shape), KEY).shape
    except (ValueError, ZeroDivisionError) as error:
        return type(error)


@pytest.mark.turns(9)
@pytest.mark.parametrize("m", **named([m for m in MEMBERS if m.twin], sampled=True))
@pytest.mark.parametrize("shape", [(), (5,), (0,), (0, 5), (5, 0), (3, 0, 5), (1, 1), (2, 3, 4)])
def test_degenerate_shapes_behave_as_in_jax(m, shape):
    if "delta" in m.name and shape == (2, 3, 4):
        shape = (3, 4, 4)
    if m.zero_mean and shape in ((), (5,), (1, 1)):  # a weight that is alone cannot have a zero mean
        assert outcome(m.initializer, shape) is ValueError
        return
    # JAX's draw is not compiled; JAX 0.10 divides by the fans of a tensor without weights, 0.11 returns it.
    theirs = outcome(m.twin(*m.arguments), shape, jax.eval_shape)
    assert outcome(m.initializer, shape) == (shape if theirs is ZeroDivisionError else theirs)


SHAPES = [
    ((1000, 1000), (-2, -1)),
    ((3, 3, 250, 444), (-2, -1)),
    ((500, 2000), (-1, -2)),
    ((20, 50, 1000), (0, (1, 2))),
]


MODES = ("fan_in", "fan_out", "fan_avg", "fan_geo_avg")
LAWS = ("truncated_normal", "normal", "uniform")
# Every mode with every law and every shape once; the full product adds time, not information.
VARIANCES = [
    pytest.param(mode, LAWS[(i + k) % 3], *SHAPES[(i + k) % 4], marks=pytest.mark.slow if k else ())
    for i, mode in enumerate(MODES)
    for k in range(4)
]


@pytest.mark.turns(3)
@pytest.mark.few(
    "qr-fan_in-truncated*shape0*",
    "qr-fan_avg-uniform-shape8*",
    "hash-fan_out-normal-shape4*",
    "hash-fan_geo_avg-truncated*shape12*",
)
@pytest.mark.parametrize(("mode", "law", "shape", "axes"), VARIANCES)
@pytest.mark.parametrize("source", ["qr", "hash"])
def test_declared_variance_within_half_a_percent(mode, law, shape, axes, source):
    build = getattr(qrjax, f"variance_scaling_{source}")
    init = build(2.0, mode, law, *axes)
    out = math.prod(shape[a] for a in np.atleast_1d(axes[1]))
    inside = math.prod(shape[a] for a in np.atleast_1d(axes[0]))
    field = math.prod(shape) / out / inside
    n = {
        "fan_in": inside * field,
        "fan_out": out * field,
        "fan_avg": (inside + out) * field / 2,
        "fan_geo_avg": math.sqrt(inside * out) * field,
    }[mode]
    # 10**6 i.i.d. normal draws have a relative standard error of the variance of 0.14 %: 0.5 % is 3.5 sigma.
    variance = np.asarray(init(KEY, shape), np.float64).var()
    assert variance == pytest.approx(2.0 / n, rel=5e-3), f"a variance of scale / {mode} = 2 / {n:g} is declared"


@pytest.mark.few("qr-normal", "hash-uniform")
@pytest.mark.parametrize("law", ["truncated_normal", "normal", "uniform"])
@pytest.mark.parametrize("source", ["qr", "hash"])
def test_declared_variance_of_complex_weights(law, source):
    init = getattr(qrjax, f"variance_scaling_{source}")(1.0, "fan_in", law)
    weights = np.asarray(init(KEY, (1000, 1000), jnp.complex64), np.complex128) * math.sqrt(1000)
    assert (np.abs(weights) ** 2).mean() == pytest.approx(1.0, rel=5e-3)
    assert abs(weights.mean()) < 4e-3  # 4 sigma
    assert abs((weights**2).mean()) < 6e-3  # circular: 4 sigma for the normal law


@pytest.mark.few("shuffled", "outputs", "points")
@pytest.mark.parametrize("layout", LAYOUTS)
def test_groups_too_short_to_stratify_keep_the_declared_variance(layout):
    init = qrjax.he_normal_qr(layout=layout)
    weights = np.asarray(jax.jit(jax.vmap(lambda key: init(key, (20, 1))))(jax.random.split(KEY, 20_000)), np.float64)
    # 400,000 weights; those of one tensor may depend on each other, so count 20,000 draws: 4 sigma.
    assert weights.var() == pytest.approx(2 / 20, rel=4 * math.sqrt(1.4 / 20_000))
    assert abs(weights.mean()) < 4 * math.sqrt(0.1 / 20_000)


@pytest.mark.few("float32-orthogonal_qr", "complex64-delta_orthogonal_hash", "bfloat16-orthogonal_qr")
@pytest.mark.parametrize("m", **named([m for m in MEMBERS if m.orthogonal], sampled=True))
@pytest.mark.parametrize("dtype", ["float32", "complex64", "bfloat16"])
def test_orthogonal_weights_are_orthonormal(m, dtype):
    weights = np.asarray(m.initializer(KEY, m.shape, dtype).astype(jnp.complex64))
    matrix = weights[1, 1] if "delta" in m.name else weights.reshape(-1, m.shape[-1])
    gram = matrix.conj().T @ matrix if matrix.shape[0] >= matrix.shape[1] else matrix @ matrix.conj().T
    np.testing.assert_allclose(gram, np.eye(len(gram)), atol=0.02 if dtype == "bfloat16" else 1e-5)
    if "delta" in m.name:
        assert np.count_nonzero(np.abs(weights).sum(axis=(2, 3))) == 1


@pytest.mark.few("outputs", "points")
@pytest.mark.parametrize("layout", LAYOUTS)
def test_hash_values_do_not_depend_on_the_shape_and_layouts_differ(layout):
    small, large = (np.asarray(qrjax.normal_hash(1.0)(KEY, shape)) for shape in ((7, 5), (70, 50)))
    np.testing.assert_array_equal(small, large[:7, :5])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", qrjax.RankCollapseWarning)
        assert (np.asarray(qrjax.normal_qr(1.0, layout=layout)(KEY, (70, 50))) != large).mean() > 0.99
