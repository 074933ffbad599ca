"""NNX: layers made with an Rngs inside of a block depend on its key, the block and their order there."""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st

import qrjax

INITIALIZERS = {
    "default": None,
    "orthogonal": nnx.initializers.orthogonal(),
    "he_normal_qr": qrjax.he_normal_qr(),
    "glorot_uniform_hash": qrjax.glorot_uniform_hash(),
}


FAST = ("he_normal_qr", "glorot_uniform_hash")


def bits(tree):
    """A model's or a part's arrays that are no counters, by path."""
    state = nnx.state(tree, nnx.Param)
    flat, _ = jax.tree_util.tree_flatten_with_path(state)
    return {jax.tree_util.keystr(path): np.asarray(leaf).tobytes() for path, leaf in flat}


class TwoBlocks(nnx.Module):
    """The network of the issue: convolutions, then a classifier that has one as well."""

    def __init__(self, depth, rngs, kernel_init=None, blocks=True, swapped=False):
        options = {} if kernel_init is None else {"kernel_init": kernel_init}
        context = (lambda name: qrjax.block(name, rngs=rngs)) if blocks else (lambda _: contextlib.nullcontext())

        def features():
            with context("features"):
                self.features = nnx.List(
                    [nnx.Conv(3 if i == 0 else 4, 4, (3, 3), rngs=rngs, **options) for i in range(depth)]
                )

        def classifier():
            with context("classifier"):
                self.mix = nnx.Conv(4, 4, (1, 1), rngs=rngs, **options)
                self.classifier = nnx.Sequential(
                    nnx.Linear(4, 8, rngs=rngs, **options), nnx.relu, nnx.Linear(8, 10, rngs=rngs, **options)
                )

        for part in (classifier, features) if swapped else (features, classifier):
            part()


def classifier_bits(model):
    return bits(model.mix) | {"c" + k: v for k, v in bits(model.classifier).items()}


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n not in FAST)) for n in INITIALIZERS])
def test_the_classifier_does_not_depend_on_the_features(name):
    init = INITIALIZERS[name]
    one = TwoBlocks(1, nnx.Rngs(0), init)
    for model in (TwoBlocks(2, nnx.Rngs(0), init), TwoBlocks(4, nnx.Rngs(0), init, swapped=True)):
        assert classifier_bits(model) == classifier_bits(one)
        assert bits(model.features[0]) == bits(one.features[0])
    plain = [TwoBlocks(depth, nnx.Rngs(0), init, blocks=False) for depth in (1, 2)]
    assert classifier_bits(plain[0]) != classifier_bits(plain[1])


def test_the_key_matters_and_the_count_does_not():
    rngs = nnx.Rngs(0)
    rngs.params(), rngs.dropout()
    one = TwoBlocks(2, nnx.Rngs(0))
    assert bits(TwoBlocks(2, rngs)) == bits(one), "the bits of weights change with what was drawn before their blocks"
    others = set(bits(TwoBlocks(2, nnx.Rngs(1))).values())
    same = [path for path, value in bits(one).items() if "kernel" in path and value in others]
    assert not same, f"kernels that have the same bits from another key: {same}"


def test_the_streams_are_those_of_block_key_and_go_on_outside():
    rngs, same = nnx.Rngs(0, params=jax.random.key(5)), nnx.Rngs(0, params=jax.random.key(5))
    assert rngs.params() == same.params()
    with qrjax.block("a", rngs=rngs):
        expected = nnx.Rngs(qrjax.block_key(jax.random.key(0), "a"), params=qrjax.block_key(jax.random.key(5), "a"))
        assert [rngs.params(), rngs.params(), rngs()] == [expected.params(), expected.params(), expected()]
        with qrjax.block(7, rngs=rngs):
            nested = nnx.Rngs(qrjax.block_key(qrjax.block_key(jax.random.key(0), "a"), 7))
            assert rngs.default() == nested.default()
        assert rngs.params() == expected.params()
    assert [rngs.params(), rngs()] == [same.params(), same()]


def test_one_stream_alone():
    rngs = nnx.Rngs(0, params=1)
    with qrjax.block("a", rngs=rngs.params):
        assert rngs.params() == nnx.Rngs(qrjax.block_key(jax.random.key(1), "a"))()
        assert rngs() == nnx.Rngs(0)()


def test_keys_of_split_streams():
    rngs = nnx.Rngs(0).split(3)
    keys = [rngs.default.key[i] for i in range(3)]
    with qrjax.block("a", rngs=rngs):
        found = rngs.default.key.get_value()
        assert [found[i] for i in range(3)] == [qrjax.block_key(key, "a") for key in keys]
    assert [rngs.default.key[i] for i in range(3)] == keys


def test_an_exception_puts_the_streams_back():
    rngs, same = nnx.Rngs(0), nnx.Rngs(0)
    with pytest.raises(KeyError, match="x"), qrjax.block("a", rngs=rngs):  # noqa: PT012
        rngs()
        raise KeyError("x")
    assert rngs() == same()


def test_vmap_and_jit_of_constructors():
    # Initializers whose bits do not depend on the way of compilation.
    init = INITIALIZERS["glorot_uniform_hash"]
    expected = [np.asarray(TwoBlocks(2, nnx.Rngs(seed), init).mix.kernel) for seed in range(3)]

    @nnx.vmap(in_axes=0, out_axes=0)
    def many(key):
        return TwoBlocks(2, nnx.Rngs(key), init)

    models = many(jax.vmap(jax.random.key)(jnp.arange(3)))
    np.testing.assert_array_equal(models.mix.kernel, expected)
    jitted = nnx.jit(lambda rngs: TwoBlocks(2, rngs, init))(nnx.Rngs(0))
    np.testing.assert_array_equal(jitted.mix.kernel, expected[0])
    abstract = nnx.eval_shape(lambda: TwoBlocks(2, nnx.Rngs(0)))
    assert abstract.mix.kernel.shape == (1, 1, 4, 4)


def test_as_a_decorator():
    rngs = nnx.Rngs(0)

    @qrjax.block("a", rngs=rngs)
    def make():
        return nnx.Linear(3, 3, rngs=rngs)

    expected = nnx.Linear(3, 3, rngs=nnx.Rngs(qrjax.block_key(jax.random.key(0), "a")))
    assert bits(make()) == bits(expected)
    with pytest.warns(qrjax.BlockWarning, match="entered twice with the same nnx.Rngs") as caught:
        make()
    assert caught[0].filename == __file__


def test_the_same_name_twice_warns():
    rngs = nnx.Rngs(0)
    with qrjax.block("a", rngs=rngs):
        one = nnx.Linear(3, 3, rngs=rngs)
    with pytest.warns(qrjax.BlockWarning, match=r"qrjax.block\('a'\) was entered twice.* equal weights") as caught:  # noqa: SIM117
        with qrjax.block("a", rngs=rngs):
            two = nnx.Linear(3, 3, rngs=rngs)
    assert caught[0].filename == __file__
    assert bits(one) == bits(two)


def test_what_is_no_second_entry_of_one_model():
    for _ in range(2):
        TwoBlocks(1, nnx.Rngs(0))
    rngs = nnx.Rngs(0)
    for seed in range(2):
        nnx.reseed(rngs, default=seed)
        TwoBlocks(1, rngs)
    for name in ("x", "y"):
        with qrjax.block(name, rngs=rngs):
            TwoBlocks(1, rngs)
    for _ in range(2):
        with qrjax.block("nothing is drawn", rngs=rngs):
            pass


LAYERS = st.lists(
    st.tuples(st.text(max_size=5) | st.integers(0, 99), st.integers(0, 3)), unique_by=lambda x: (type(x[0]), x[0])
)


@settings(max_examples=25, deadline=None)
@given(LAYERS, st.randoms(use_true_random=False))
def test_any_blocks_in_any_order(layers, chance):
    def run(blocks):
        rngs, found = nnx.Rngs(3), {}
        for name, count in blocks:
            with qrjax.block(name, rngs=rngs):
                found[type(name), name] = [jax.random.key_data(rngs.params()).tolist() for _ in range(count)]
            rngs()
        return found

    before = run(layers)
    changed = [(name, chance.randint(0, 3)) for name, _ in layers if chance.random() < 0.8]
    chance.shuffle(changed)
    for name, keys in run(changed).items():
        assert all(a == b for a, b in zip(keys, before[name], strict=False))
    every = [tuple(key) for keys in before.values() for key in keys]
    assert len(set(every)) == len(every)
