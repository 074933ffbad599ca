"""N:M patterns, whole filters and whole heads, against loops in NumPy."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from tracked import kept, same_leaves, score, trained

import qrjax

KEY = jax.random.key(9)
RNG = np.random.default_rng(5)


def weights(*shape):
    """With ties."""
    return (RNG.integers(1, 9, shape) * RNG.choice([-1, 1], shape) / 8).astype(np.float32)


def most_of(scores, axes, most, of):
    """Neuron by neuron, row by row: the largest `most` of every `of`, of equal ones the first."""
    moved = np.moveaxis(scores, axes, range(len(axes)))
    flat = moved.reshape(int(np.prod(moved.shape[: len(axes)])), -1)
    mask = np.zeros(flat.shape, bool)
    for neuron in range(flat.shape[1]):
        for start in range(0, len(flat), of):
            row = flat[start : start + of, neuron]
            mask[start + np.argsort(-row, kind="stable")[:most], neuron] = True
    return np.moveaxis(mask.reshape(moved.shape), range(len(axes)), axes)


@pytest.mark.parametrize("pattern", ["2:4", "1:4", "3:8", "4:4", "1:1"])
def test_patterns_along_a_dense_kernel(pattern):
    most, of = map(int, pattern.split(":"))
    w = weights(16, 6)
    mask = np.asarray(qrjax.mask(None, {"kernel": w}, criterion="magnitude", sparsity=pattern)["kernel"])
    np.testing.assert_array_equal(mask, most_of(np.abs(w), (0,), most, of))
    np.testing.assert_array_equal(mask.reshape(16 // of, of, 6).sum(1), most)


@pytest.mark.some(4)
@pytest.mark.parametrize(
    ("path", "shape", "axes"),
    [
        ("conv/kernel", (3, 3, 8, 5), (0, 1, 2)),
        ("first/kernel", (3, 3, 3, 5), (0, 1, 2)),  # 27 = 6 * 4 + 3
        ("attention/query/kernel", (8, 2, 3), (0,)),
        ("attention/out/kernel", (2, 4, 5), (0, 1)),
        ("layers/attention/value/kernel", (3, 8, 2, 3), (1,)),
        ("table/embedding", (5, 8), (1,)),
    ],
)
def test_patterns_lie_along_what_a_neuron_sums_over(path, shape, axes):
    w = weights(*shape)
    nested = w
    for step in reversed(path.split("/")):
        nested = {step: nested}
    mask = jax.tree.leaves(qrjax.mask(None, nested, criterion="magnitude", sparsity="2:4"))[0]
    np.testing.assert_array_equal(mask, most_of(np.abs(w), axes, 2, 4))


def test_axes_that_are_given():
    w = weights(4, 8, 6)
    for in_axis in (1, (1,), -2, {"b": 0, "a": 1}):
        mask = qrjax.mask(None, {"a": w}, criterion="magnitude", sparsity="2:4", in_axis=in_axis)["a"]
        np.testing.assert_array_equal(mask, most_of(np.abs(w), (1,), 2, 4))
        mask = qrjax.mask(None, {"a": w}, criterion="magnitude", sparsity=0.5, whole="filter", in_axis=in_axis)["a"]
        assert (np.asarray(mask).all(1) | ~np.asarray(mask).any(1)).all()
        assert np.asarray(mask).any(1).sum() == 12


class Attending(nn.Module):
    builder: object

    @nn.compact
    def __call__(self, x):
        names = {"kernel_init": self.builder, "out_kernel_init": self.builder}
        return nn.Dense(5, kernel_init=self.builder)(nn.MultiHeadDotProductAttention(4, qkv_features=12, **names)(x))


def test_axes_that_the_initializer_knew():
    def init():
        return {"mine": qrjax.he_normal_hash(in_axis=-1, out_axis=-2)(KEY, (6, 8))}

    now = {"mine": jnp.asarray(trained(init()["mine"], share=1.0))}
    mask = qrjax.mask(init, now, sparsity="2:4")["mine"]
    np.testing.assert_array_equal(mask, most_of(score("change", init()["mine"], now["mine"]), (1,), 2, 4))
    # Flax draws attention's kernels as matrices; layers of a vmap lie in front.
    layers = jax.vmap(lambda key: Attending(qrjax.he_normal_hash()).init(key, jnp.ones((1, 3, 8)))["params"])
    begin = jax.jit(layers)(jax.random.split(KEY, 2))
    from qrjax._tracking._neurons import summed
    from qrjax._tracking._prunable import prunable

    found = prunable(lambda: layers(jax.random.split(KEY, 2)), begin, "change", None, None, {})
    expected = {"query": (1,), "key": (1,), "value": (1,), "out": (1, 2), "Dense_0": (1,)}
    assert {w.leaf.path.split("/")[-2]: summed(w) for w in found} == expected


@pytest.mark.parametrize("criterion", ["change", "relative_change", "movement", "magnitude"])
def test_whole_filters_by_the_mean_of_their_weights(criterion):
    begin = {"a": weights(3, 3, 4, 6), "b": weights(5, 8)}
    now = {k: trained(v, share=1.0) for k, v in begin.items()}
    means = {k: score(criterion, begin[k], now[k]).reshape(-1, now[k].shape[-1]).mean(0) for k in begin}
    found = qrjax.mask(begin, now, criterion=criterion, sparsity=0.5, whole="filter")
    for k, mean in means.items():
        np.testing.assert_array_equal(found[k], np.broadcast_to(kept([mean], 0.5)[0], now[k].shape))
    found = qrjax.mask(begin, now, criterion=criterion, sparsity=0.5, whole="filter", scope="global")
    for (k, _), units in zip(means.items(), kept(list(means.values()), 0.5), strict=True):
        np.testing.assert_array_equal(found[k], np.broadcast_to(units, now[k].shape))
    found = qrjax.mask(begin, now, criterion=criterion, threshold=0.02, whole="filter", at_least=0.1)
    for k, mean in means.items():
        np.testing.assert_array_equal(found[k], np.broadcast_to((mean > 0.02) | (mean == mean.max()), now[k].shape))


def test_filters_in_rounds():
    begin, mask = {"w": weights(7, 8)}, None
    params = {"w": trained(begin["w"], share=1.0)}
    for left in (6, 4, 2):
        new = qrjax.mask(begin, params, sparsity=1 - left / 8, whole="filter")
        assert int(new["w"][0].sum()) == left
        assert mask is None or not bool(jnp.any(new["w"] & ~mask["w"]))
        mask, params = new, qrjax.prune(params, new)


@pytest.mark.few("nnx")
@pytest.mark.parametrize("framework", ["linen", "nnx"])
def test_whole_heads_of_an_attention(framework):
    if framework == "linen":
        model = nn.MultiHeadDotProductAttention(4, qkv_features=12)
        params = {
            "attention": jax.jit(model.init)(KEY, jnp.ones((1, 3, 8)))["params"],
            "head": {"kernel": weights(8, 3)},
        }
    else:
        params = nnx.Dict(
            attention=nnx.MultiHeadAttention(4, 8, 12, rngs=nnx.Rngs(0), decode=False),
            head=nnx.Linear(8, 3, rngs=nnx.Rngs(1)),
        )
        params = nnx.to_pure_dict(nnx.state(params, nnx.Param))
    own = params["attention"]
    total = sum(np.abs(own[n]["kernel"]).sum((0, 2)) for n in ("query", "key", "value"))
    total = total + np.abs(own["out"]["kernel"]).sum((1, 2))
    mask = qrjax.mask(None, params, criterion="magnitude", sparsity=0.5, whole="head")
    heads = total >= np.sort(total)[2]
    for name in ("query", "key", "value"):
        np.testing.assert_array_equal(
            mask["attention"][name]["kernel"], np.broadcast_to(heads[None, :, None], (8, 4, 3))
        )
    np.testing.assert_array_equal(mask["attention"]["out"]["kernel"], np.broadcast_to(heads[:, None, None], (4, 3, 8)))
    assert bool(mask["head"]["kernel"].all())
    # The attention without these heads gives what the pruned one gives.
    pruned = qrjax.prune(params, mask)["attention"]
    x = jax.random.normal(KEY, (2, 3, 8))
    if framework == "linen":
        smaller = {
            n: {"kernel": v["kernel"][:, heads], "bias": v["bias"][heads]} for n, v in pruned.items() if n != "out"
        }
        smaller["out"] = {"kernel": pruned["out"]["kernel"][heads], "bias": pruned["out"]["bias"]}
        small = nn.MultiHeadDotProductAttention(2, qkv_features=6)
        np.testing.assert_allclose(
            small.apply({"params": smaller}, x), model.apply({"params": pruned}, x), rtol=1e-5, atol=1e-6
        )


def test_slices_along_any_axes():
    w = weights(4, 3, 5)
    mask = np.asarray(qrjax.mask(None, {"w": w}, criterion="magnitude", sparsity=0.5, whole=(2, 0))["w"])
    units = kept([np.abs(w).mean(1, dtype=np.float32)], 0.5)[0]
    np.testing.assert_array_equal(mask, np.broadcast_to(units[:, None], w.shape))


@pytest.mark.some(2)
@pytest.mark.parametrize("dtype", [np.float64, jnp.bfloat16, np.complex64])
def test_any_kind_of_numbers(dtype):
    begin, now = ({"w": weights(8, 6).astype(dtype)} for _ in range(2))
    for options, left in (
        ({"sparsity": "2:4"}, 24),
        ({"sparsity": 0.5, "whole": "filter"}, 24),
        ({"sparsity": 0.75}, 12),
    ):
        mask = qrjax.mask(begin, now, **options)
        assert int(mask["w"].sum()) == left
        same_leaves(qrjax.mask(begin, qrjax.prune(now, mask), within=mask, **options), mask)


@pytest.mark.some(2)
@pytest.mark.parametrize("shape", [(), (5,), (0, 5), (3, 0, 2)])
def test_shapes_that_are_hardly_kernels(shape):
    params = {"w": jnp.ones(shape)}

    def masks(params):
        ask = functools.partial(qrjax.mask, None, params, criterion="magnitude", select="*")
        return (
            ask(sparsity=0.4),
            ask(sparsity="2:4"),
            ask(sparsity=0.4, whole="filter"),
            ask(sparsity=0.4, at_least=0.1),
        )

    same_leaves(jax.jit(masks)(params), masks(params))
    assert [int(m["w"].sum()) for m in masks(params)] == ([3, 3, 5, 3] if shape == (5,) else [np.size(params["w"])] * 4)


def test_heads_that_differ_in_number():
    tree = {"query": {"kernel": weights(8, 4, 3)}, "key": {"kernel": weights(8, 2, 3)}}
    with pytest.raises(ValueError, match=r"needs as many heads in every projection, got \(2,\) at 'key/kernel' and"):
        qrjax.mask(None, tree, criterion="magnitude", sparsity=0.5, whole="head")
    one = qrjax.mask(None, tree, criterion="magnitude", sparsity=0.5, whole="head", select="query/*")
    assert np.asarray(one["query"]["kernel"]).any((0, 2)).sum() == 2
    same_leaves(one["key"], {"kernel": np.ones((8, 2, 3), bool)})
