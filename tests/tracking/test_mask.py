"""Masks, against a stable sort in NumPy."""

import itertools
import warnings

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st
from tracked import expected, kept, same_leaves, score, trained

import qrjax

CRITERIA = ("change", "relative_change", "movement", "magnitude")
KEY = jax.random.key(4)


def quantized(rng, shape, levels):
    """Few values, so that ties abound; zeros of both signs among them."""
    return (rng.integers(-levels, levels + 1, shape) / 4).astype(np.float32) * rng.choice([1, -1], shape).astype("f4")


def assert_masks(initial, now, criterion, sparsity):
    scores = [score(criterion, initial[k], now[k]) for k in sorted(now)]
    options = {"criterion": criterion, "sparsity": sparsity, "select": "*"}
    warnings.simplefilter("ignore", qrjax.EmptiedWarning)
    found = qrjax.mask(initial, now, **options)
    for path, s in zip(sorted(now), scores, strict=True):
        np.testing.assert_array_equal(found[path], kept([s], sparsity, [now[path]])[0])
    found = qrjax.mask(initial, now, scope="global", **options)
    for path, mask in zip(sorted(now), kept(scores, sparsity, [now[k] for k in sorted(now)]), strict=True):
        np.testing.assert_array_equal(found[path], mask)


# A few shapes, since each compiles.
SHAPES = ((), (9,), (3, 2, 4))


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.sampled_from(SHAPES), min_size=1, max_size=3),
    st.sampled_from(CRITERIA),
    st.one_of(st.sampled_from([0.0, 0.5, 1.0, 0.1]), st.floats(0, 1)),
    st.integers(0, 3),
    st.integers(0, 2**32 - 1),
)
def test_ties_and_counts_are_those_of_a_stable_sort(shapes, criterion, sparsity, levels, seed):
    rng = np.random.default_rng(seed)
    initial, now = ({f"w{i}": quantized(rng, shape, levels) for i, shape in enumerate(shapes)} for _ in range(2))
    assert_masks(initial, now, criterion, sparsity)


CONTINUOUS = [("bfloat16", "relative_change"), ("float32", "movement")]
REST = [case for case in itertools.product(("bfloat16", "float32"), CRITERIA) if case not in CONTINUOUS]


@pytest.mark.few("bfloat16-relative_change")
@pytest.mark.parametrize(
    ("dtype", "criterion"), [*CONTINUOUS, *(pytest.param(*case, marks=pytest.mark.slow) for case in REST)]
)
def test_continuous_weights(criterion, dtype):
    initial = {k: np.asarray(qrjax.normal_hash(1.0)(KEY, (37, n), dtype)) for k, n in (("a", 41), ("b", 5))}
    assert_masks(initial, {k: trained(v, size=1.0) for k, v in initial.items()}, criterion, 0.637)


def test_the_smallest_numbers_are_ranked_too():
    now = np.array([[1e-40, 0, 2e-40], [-1e-45, 1.0, -0.0]], np.float32)
    found = qrjax.mask(None, {"w": now}, criterion="magnitude", sparsity=0.5)["w"]
    assert found.tolist() == [[True, False, True], [False, True, False]]
    found = qrjax.mask({"w": np.zeros_like(now)}, {"w": now}, threshold=0.0)["w"]
    assert found.tolist() == [[True, False, True], [True, True, False]]


@pytest.mark.parametrize("criterion", CRITERIA)
@pytest.mark.parametrize("threshold", [0.0, 0.01, 0.37])
def test_a_threshold_keeps_what_is_larger(criterion, threshold):
    initial = np.asarray(qrjax.normal_hash(0.5)(KEY, (60, 50)))
    now = trained(initial, size=0.3)
    found = qrjax.mask({"w": initial}, {"w": now}, criterion=criterion, threshold=threshold)["w"]
    np.testing.assert_array_equal(found, score(criterion, initial, now).astype(np.float64) > threshold)


@pytest.mark.filterwarnings("ignore::qrjax.EmptiedWarning")
@pytest.mark.few("0.0")
@pytest.mark.parametrize("threshold", [0.0, 0.02, 0.5])
def test_a_threshold_of_change_keeps_what_changes_counts(threshold):
    init = lambda: {"w": qrjax.he_normal_hash()(KEY, (80, 90))}  # noqa: E731
    now = {"w": trained(init()["w"])}
    mask = qrjax.mask(init, now, threshold=threshold)["w"]
    assert int(mask.sum()) == qrjax.changes(init, now, threshold)["w"].changed
    assert int(mask.sum()) == expected(init()["w"], now["w"], threshold)["changed"]


@pytest.mark.parametrize("scope", ["layer", "global"])
def test_nothing_and_everything(scope):
    params = {"w": np.ones((3, 4), np.float32), "v": np.arange(6, dtype=np.float32).reshape(2, 3)}
    for sparsity, value in ((0, True), (1, False), (0.0, True), (np.float32(1), False)):
        found = qrjax.mask(None, params, criterion="magnitude", sparsity=sparsity, scope=scope)
        assert all((np.asarray(mask) == value).all() for mask in found.values())


def test_random_is_fixed_by_key_and_path():
    params = {"a": np.ones((30, 20), np.float32), "b": np.zeros((30, 20), np.float32)}

    def masks(key=None, params=params):
        return qrjax.mask(None, params, criterion="random", sparsity=0.4, key=key)

    first = masks()
    same_leaves(masks(jax.random.key(0)), first)
    same_leaves(masks(params={**params, "c": np.ones((4, 4), np.float32)})["b"], first["b"])
    assert (np.asarray(first["a"]) != np.asarray(first["b"])).any()
    assert (np.asarray(masks(jax.random.key(1))["a"]) != np.asarray(first["a"])).any()
    assert all(int(np.sum(~np.asarray(m))) == 240 for m in first.values())
    whole = np.asarray(qrjax.mask(None, {"a": np.ones((400, 500), np.float32)}, criterion="random", sparsity=0.4)["a"])
    # By rows and columns five standard deviations of a binomial share.
    for axis, n in ((0, 400), (1, 500)):
        assert np.abs(whole.mean(axis) - 0.6).max() < 5 * np.sqrt(0.24 / n)


def names(**options):
    """The paths that may lose weights."""
    params = {
        "Dense_0": {"kernel": (4, 3), "bias": (3,)},
        "layers": {"kernel": (2, 4, 3), "bias": (2, 3), "scale": (2, 3)},
        "norm": {"scale": (3,)},
        "table": {"embedding": (4, 3)},
    }
    params = jax.tree.map(lambda shape: np.ones(shape, np.float32), params, is_leaf=lambda x: isinstance(x, tuple))
    mask = qrjax.mask(None, params, criterion="magnitude", sparsity=1.0, **options)
    assert jax.tree.structure(mask) == jax.tree.structure(params)
    flat = jax.tree_util.tree_flatten_with_path(mask)[0]
    return {"/".join(p.key for p in path) for path, m in flat if not np.asarray(m).any()}


def test_what_is_kept_and_what_is_selected():
    usual = {"Dense_0/kernel", "layers/kernel", "table/embedding"}
    assert names() == usual
    assert names(keep="table/*") == usual - {"table/embedding"}
    assert names(keep=["table/*", "Dense_?/*"]) == {"layers/kernel"}
    assert names(keep=lambda path: path.startswith("layers")) == usual - {"layers/kernel"}
    assert names(select="*/bias") == {"Dense_0/bias", "layers/bias"}
    assert names(select=("*/bias", "*/scale"), keep="norm/*") == {"Dense_0/bias", "layers/bias", "layers/scale"}
    assert names(select=lambda path: "table" in path) == {"table/embedding"}


class Model(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.BatchNorm(use_running_average=True)(nn.Dense(6, kernel_init=qrjax.he_normal_hash())(x))


def test_linen_variables_have_masks_of_their_own_structure():
    variables = jax.jit(Model().init)(KEY, jnp.ones((1, 5)))
    for tree in (variables, variables["params"]):
        mask = qrjax.mask(None, tree, criterion="random", sparsity=0.5)
        assert jax.tree.structure(mask) == jax.tree.structure(tree)
        off = [int(np.sum(~np.asarray(m))) for m in jax.tree.leaves(mask)]
        assert sorted(off) == [0] * (len(off) - 1) + [15]


def test_nnx_modules_have_masks_like_their_states():
    model = nnx.Linear(6, 5, rngs=nnx.Rngs(0))
    mask = qrjax.mask(None, model, criterion="magnitude", sparsity=0.5)
    assert jax.tree.structure(mask) == jax.tree.structure(nnx.state(model))
    same_leaves(qrjax.mask(None, nnx.state(model), criterion="magnitude", sparsity=0.5), mask)
    np.testing.assert_array_equal(mask["kernel"][...], kept([np.abs(model.kernel[...])], 0.5)[0])
    assert np.asarray(mask["bias"][...]).all()


def test_ranking_takes_little_memory():
    from qrjax._tracking import _selection

    for shape in ((2048, 4096), (2**23,), (2**22, 2)):
        bits = jax.ShapeDtypeStruct(shape, jnp.uint32)
        compiled = _selection._rows_below.lower(bits, jax.ShapeDtypeStruct((15,), jnp.uint32)).compile()
        used = compiled.memory_analysis()
        assert used.temp_size_in_bytes + used.output_size_in_bytes <= 1.1 * 2**25
