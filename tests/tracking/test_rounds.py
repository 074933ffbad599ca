"""Pruning in rounds: what is gone stays gone, and no variable is emptied without a word."""

import warnings

import jax
import jax.numpy as jnp
import pytest
from tracked import same_leaves, trained

import qrjax

KEY = jax.random.key(6)
SHAPE = (32, 64)


def make():
    return {"w": qrjax.he_normal_hash()(KEY, SHAPE)}


def retrained(params, mask, seed):
    """As under qrjax.keep_pruned: all that is left moves."""
    moved = trained(params["w"], seed=seed, share=1.0, size=0.05)
    return {"w": jnp.where(mask["w"], moved, params["w"])}


@pytest.mark.some(4)
@pytest.mark.parametrize("criterion", ["change", "relative_change", "movement", "magnitude", "random"])
@pytest.mark.parametrize("given", [False, True], ids=["zeros", "within"])
def test_what_is_gone_stays_gone(criterion, given):
    mask = {"w": jnp.ones(SHAPE, bool)}
    params = {"w": jnp.asarray(trained(make()["w"], share=1.0))}
    for round_, share in enumerate((0.5, 0.75, 0.875)):
        options = {"within": mask} if given else {}
        new = qrjax.mask(make, params, criterion=criterion, sparsity=share, key=jax.random.key(round_), **options)
        assert int(jnp.sum(new["w"])) == round((1 - share) * 2048)
        assert not bool(jnp.any(new["w"] & ~mask["w"]))
        mask = new
        params = retrained(qrjax.prune(params, mask), mask, round_)


@pytest.mark.parametrize("criterion", ["movement", "magnitude"])
def test_what_was_rewound_is_gone_by_the_earlier_mask_alone(criterion):
    params = {"w": jnp.asarray(trained(make()["w"], share=1.0))}
    first = qrjax.mask(make, params, criterion=criterion, sparsity=0.5)
    # What is left shrinks, so that now the others, back where they began, look better.
    params = qrjax.prune({"w": 0.1 * params["w"]}, first, "initial", make)
    second = qrjax.mask(make, params, criterion=criterion, sparsity=0.75, within=first)
    assert int(jnp.sum(second["w"])) == 512
    assert not bool(jnp.any(second["w"] & ~first["w"]))
    without = qrjax.mask(make, params, criterion=criterion, sparsity=0.75)
    assert bool(jnp.any(without["w"] & ~first["w"]))


def test_an_earlier_mask_holds_whatever_is_asked_for():
    params = {"v": jnp.arange(1.0, 7.0).reshape(2, 3), "w": jnp.arange(1.0, 7.0).reshape(2, 3), "bias": jnp.ones(2)}
    earlier = {"v": params["v"] > 2, "w": params["w"] < 5, "bias": jnp.array([True, False])}

    def found(**options):
        return qrjax.mask(None, params, criterion="magnitude", within=earlier, **options)

    same_leaves(found(sparsity=0.0), earlier)  # less than is gone already
    same_leaves(found(threshold=0.0), earlier)
    same_leaves(found(sparsity=0.5, select="v"), earlier | {"v": params["v"] > 3})  # the others as they were
    same_leaves(found(sparsity=0.5), earlier | {"v": params["v"] > 3, "w": (params["w"] > 1) & (params["w"] < 5)})
    # Of all twelve, four are gone, and the smallest two of the others are 1 and 2 of "w".
    same_leaves(found(sparsity=0.5, scope="global"), earlier | {"w": (params["w"] > 2) & (params["w"] < 5)})


def test_zeros_go_before_all_others_but_after_what_is_gone():
    w = jnp.array([[0.0, -1.0, 0.0, 2.0]])
    begin = {"w": jnp.array([[4.0, -0.5, 0.5, 1.0]])}
    for criterion in ("change", "relative_change", "movement", "magnitude"):
        mask = qrjax.mask(begin, {"w": w}, criterion=criterion, sparsity=0.5)
        assert mask["w"].tolist() == [[False, True, False, True]], criterion
        assert qrjax.mask(begin, {"w": w}, criterion=criterion, threshold=0.0)["w"].tolist()[0][::2] == [False, False]
    within = {"w": jnp.array([[True, False, True, True]])}
    mask = qrjax.mask(begin, {"w": w}, criterion="change", sparsity=0.25, within=within)
    assert mask["w"].tolist() == [[True, False, True, True]]


def test_layers_that_begin_at_zero_are_pruned_at_random():
    mask = qrjax.mask(None, {"w": jnp.zeros((40, 50))}, criterion="random", sparsity=0.5)["w"]
    assert int(mask.sum()) == 1000
    # In the first half by address it is a hypergeometric count: five standard deviations of 500 +- 11.2.
    assert abs(int(mask[:20].sum()) - 500) < 56


SMALL = {"a": jnp.linspace(0.01, 0.1, 20).reshape(4, 5), "b": jnp.linspace(1.0, 2.0, 60).reshape(6, 10)}


def test_a_floor_for_every_variable():
    def left(**options):
        mask = qrjax.mask(None, SMALL, criterion="magnitude", **options)
        return [int(mask[name].sum()) for name in ("a", "b")], mask

    assert left(sparsity=0.5, scope="global", at_least=0.1)[0] == [2, 38]
    counts, mask = left(sparsity=0.5, scope="global", at_least=1e-9)
    assert counts == [1, 39]
    assert mask["a"].reshape(-1)[-1]  # the largest of its own
    assert not mask["b"].reshape(-1)[:21].any()  # the others make up for it, the smallest first
    assert left(sparsity=1.0, scope="global", at_least=0.1)[0] == [2, 6]
    assert left(sparsity=0.95, at_least=0.1)[0] == [2, 6]
    assert left(threshold=0.5, at_least=0.1)[0] == [2, 60]
    within = {"a": SMALL["a"] < 0.02, "b": SMALL["b"] > 0}
    counts, mask = left(sparsity=0.5, scope="global", at_least=0.1, within=within)
    assert counts[0] == 2  # two are left of it, and stay
    assert not bool(jnp.any(mask["a"] & ~within["a"]))


@pytest.mark.parametrize("options", [{"sparsity": 0.5, "scope": "global"}, {"threshold": 0.5}])
def test_an_emptied_variable_is_said(options):
    with pytest.warns(qrjax.EmptiedWarning, match=r"leaves no weight of a, so nothing passes there; at_least=0\.01"):
        mask = qrjax.mask(None, SMALL, criterion="magnitude", **options)
    assert not mask["a"].any()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        qrjax.mask(None, SMALL, criterion="magnitude", **options, keep="a")
        qrjax.mask(None, SMALL, criterion="magnitude", **options, within=mask)  # said before
        qrjax.mask(None, SMALL, criterion="magnitude", sparsity=1)  # asked for


def test_the_largest_sparsity_says_what_it_empties_once():
    def loss(params):
        return float(jnp.sum(params["b"] == 0))

    options = {"criterion": "magnitude", "scope": "global", "progress": False}
    with pytest.warns(qrjax.EmptiedWarning) as said:
        found = qrjax.max_sparsity(loss, None, SMALL, 10.0, **options)
    assert len(said) == 1
    assert int(found.mask["b"].sum()) == 50
    found = qrjax.max_sparsity(loss, None, SMALL, 10.0, at_least=0.1, **options)
    assert [int(found.mask[name].sum()) for name in ("a", "b")] == [2, 50]


def test_the_names_of_before_are_the_same_functions():
    assert qrjax.awakened is qrjax.mask
    assert qrjax.pruned is qrjax.keep_pruned
