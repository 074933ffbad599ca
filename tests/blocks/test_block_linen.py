# ruff: noqa: NPY002 - the global generator is what this is about
"""Linen: layers made in a block depend on the key of `init`, the block and their order there, not on their names."""

import contextlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from hypothesis import given, settings
from hypothesis import strategies as st

import qrjax

KEY = jax.random.key(3)
X = jnp.ones((1, 4, 4, 3))
# Their bits do not depend on the way of compilation, which tests that compile rely on.
HASH = qrjax.he_normal_hash()
INITIALIZERS = {
    "default": nn.initializers.lecun_normal(),
    "orthogonal": nn.initializers.orthogonal(),
    "he_normal_qr": qrjax.he_normal_qr(),
    "glorot_uniform_hash": qrjax.glorot_uniform_hash(),
}


FAST = ("default", "glorot_uniform_hash")


def bits(tree):
    flat, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path): np.asarray(leaf).tobytes() for path, leaf in flat}


def kernel(key, *shape):
    """The weights of a Dense layer whose module's stream is at `key`."""
    return nn.Dense(shape[1], kernel_init=HASH).init({"params": key}, jnp.ones((1, shape[0])))["params"]["kernel"]


def layer_key(key, *path):
    """The key of layer number path[-1] of the block path[:-1], as qrjax.block documents it."""
    return qrjax.block_key(qrjax.block_key(key, *path[:-1]), path[-1])


class TwoBlocks(nn.Module):
    """The network of the issue; both parts have convolutions, so that the names of the second's change."""

    depth: int
    kernel_init: Any = HASH
    blocks: bool = True
    swapped: bool = False

    def features(self, x):
        for _ in range(self.depth):
            x = nn.relu(nn.Conv(4, (3, 3), kernel_init=self.kernel_init)(x))
        return x

    def classifier(self, x):
        x = nn.Conv(4, (1, 1), kernel_init=self.kernel_init)(x).mean((1, 2))
        return nn.Dense(10, kernel_init=self.kernel_init)(nn.relu(nn.Dense(8, kernel_init=self.kernel_init)(x)))

    @nn.compact
    def __call__(self, x):
        context = qrjax.block if self.blocks else lambda _: contextlib.nullcontext()
        parts = [("features", self.features), ("classifier", self.classifier)]
        if self.swapped:
            with context("classifier"):
                self.classifier(jnp.ones((1, 4, 4, 4)))
            parts.pop()
        for name, part in parts:
            with context(name):
                x = part(x)
        return x


def classifier_bits(params, depth, swapped=False):
    number = 0 if swapped else depth
    return bits([params[f"Conv_{number}"], params["Dense_0"], params["Dense_1"]])


@pytest.mark.few("glorot_uniform_hash")
@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n not in FAST)) for n in INITIALIZERS])
def test_the_classifier_does_not_depend_on_the_features(name):
    init = INITIALIZERS[name]
    one = TwoBlocks(1, init).init(KEY, X)["params"]
    for depth in (2, 4):
        params = TwoBlocks(depth, init).init(KEY, X)["params"]
        assert classifier_bits(params, depth) == classifier_bits(one, 1)
        assert bits(params["Conv_0"]) == bits(one["Conv_0"])
    swapped = TwoBlocks(2, init, swapped=True).init(KEY, X)["params"]
    assert classifier_bits(swapped, 2, swapped=True) == classifier_bits(one, 1)
    assert bits(swapped["Conv_1"]) == bits(one["Conv_0"])
    plain = [TwoBlocks(depth, init, blocks=False).init(KEY, X)["params"] for depth in (1, 2)]
    assert classifier_bits(plain[0], 1) != classifier_bits(plain[1], 2)


def test_names_stay_and_the_key_matters():
    params, plain = (TwoBlocks(2, blocks=blocks).init(KEY, X)["params"] for blocks in (True, False))
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, plain)
    other = TwoBlocks(2).init(jax.random.key(4), X)["params"]
    kernels = [{v for k, v in bits(tree).items() if "kernel" in k} for tree in (params, plain, other)]
    assert len(set.union(*kernels)) == 3 * len(kernels[0])


class Everything(nn.Module):
    """Layers and parameters in blocks, nested and not, and outside."""

    @nn.compact
    def __call__(self, x):
        nn.Dense(4, kernel_init=HASH, name="first")(x)
        self.param("outside", HASH, (4, 4))
        with qrjax.block("a"):
            nn.Dense(4, kernel_init=HASH, name="a0")(x)
            self.param("pa", HASH, (4, 4))
            with qrjax.block(7):
                nn.Dense(4, kernel_init=HASH, name="a7")(x)
                self.param("p7", HASH, (4, 4))
            self.param("qa", HASH, (4, 4))
            nn.Dense(4, kernel_init=HASH, name="a1")(x)
        nn.Dense(4, kernel_init=HASH, name="last")(x)
        return self.param("after", HASH, (4, 4))


class Outer(nn.Module):
    """A module with blocks inside of one that has one."""

    @nn.compact
    def __call__(self, x):
        with qrjax.block("o"):
            Everything(name="inner")(x)
        return Everything(name="free")(x)


class Parameters(nn.Module):
    @nn.compact
    def __call__(self):
        return [self.param(f"p{i}", HASH, (4, 4)) for i in range(2)]


def parameters(key):
    """The first two parameters of a module whose stream is at `key`."""
    return list(Parameters().init({"params": key})["params"].values())


def test_keys_are_the_documented_ones():
    x = jnp.ones((1, 4))
    params = Everything().init(KEY, x)["params"]
    for name, path in {"a0": ("a", 0), "a1": ("a", 1), "a7": ("a", 7, 0)}.items():
        np.testing.assert_array_equal(params[name]["kernel"], kernel(layer_key(KEY, *path), 4, 4))
    for names, path in {("pa", "qa"): ("a",), ("p7",): ("a", 7)}.items():
        for name, expected in zip(names, parameters(qrjax.block_key(KEY, *path)), strict=False):
            np.testing.assert_array_equal(params[name], expected)
    nested = Outer().init(KEY, x)["params"]["inner"]
    inside = layer_key(KEY, "o", 0)
    np.testing.assert_array_equal(nested["a0"]["kernel"], kernel(layer_key(inside, "a", 0), 4, 4))
    np.testing.assert_array_equal(nested["p7"], parameters(qrjax.block_key(inside, "a", 7))[0])


def test_outside_of_blocks_all_is_as_in_plain_flax():
    class Plain(nn.Module):
        @nn.compact
        def __call__(self, x):
            nn.Dense(4, kernel_init=HASH, name="first")(x)
            self.param("outside", HASH, (4, 4))
            nn.Dense(4, kernel_init=HASH, name="last")(x)
            return self.param("after", HASH, (4, 4))

    x = jnp.ones((1, 4))
    expected, found = Plain().init(KEY, x)["params"], Everything().init(KEY, x)["params"]
    assert bits({name: found[name] for name in expected}) == bits(expected)


def test_all_weights_differ():
    kernels = [v for path, v in bits(Outer().init(KEY, jnp.ones((1, 4)))["params"]).items() if "bias" not in path]
    assert len(set(kernels)) == len(kernels) == 20


class InSetup(nn.Module):
    """Layers assigned in setup: single ones, lists, dictionaries, chains, modules given from outside."""

    depth: int
    given: nn.Module | None = None

    def setup(self):
        with qrjax.block("features"):
            self.stack = [nn.Dense(4, kernel_init=HASH) for _ in range(self.depth)]
            self.named = {"b": nn.Dense(4, kernel_init=HASH), "a": nn.Dense(4, kernel_init=HASH)}
        with qrjax.block("head"):
            self.chain = nn.Sequential([nn.Dense(4, kernel_init=HASH), nn.relu, nn.Dense(4, kernel_init=HASH)])
            self.bias = self.param("bias", HASH, (4, 4))
            self.head = nn.Dense(4, kernel_init=HASH)

    def __call__(self, x):
        for layer in (*self.stack, self.named["b"], self.named["a"], self.chain, self.head):
            x = layer(x)
        return x if self.given is None else self.given(x)


def test_layers_in_setup():
    x = jnp.ones((1, 4))
    models = [InSetup(depth).init(KEY, x)["params"] for depth in (1, 3)]
    head = [{name: params[name] for name in ("chain", "bias", "head")} for params in models]
    assert bits(head[0]) == bits(head[1])
    np.testing.assert_array_equal(models[1]["stack_2"]["kernel"], kernel(layer_key(KEY, "features", 2), 4, 4))
    np.testing.assert_array_equal(models[1]["head"]["kernel"], kernel(layer_key(KEY, "head", 1), 4, 4))
    given = InSetup(1, nn.Dense(4, kernel_init=HASH)).init(KEY, x)["params"]
    assert bits({name: given[name] for name in models[0]}) == bits(models[0])


class Repeated(nn.Module):
    """A module whose blocks are found twice, once in each of two instances, and one that is shared."""

    def setup(self):
        self.shared = TwoBlocks(1)
        self.own = TwoBlocks(1)

    def __call__(self, x):
        return self.shared(x) + self.shared(x) + self.own(x)


def test_one_class_twice_has_two_sets_of_weights_and_one_instance_twice_has_one():
    params = Repeated().init(KEY, X)["params"]
    assert set(params) == {"shared", "own"}
    for path, leaf in bits(params["shared"]).items():
        assert "bias" in path or bits(params["own"])[path] != leaf


class Lifted(nn.Module):
    """A transformation of the whole, in which a block is, or of layers in a block."""

    depth: int
    kind: str

    @nn.compact
    def __call__(self, x):
        with qrjax.block("features"):
            for _ in range(self.depth):
                x = self.layer()(x)
        with qrjax.block("classifier"):
            return self.layer()(x)

    def layer(self):
        options: dict[str, Any] = {"variable_axes": {"params": 0}, "split_rngs": {"params": True}}
        if self.kind == "scan":
            return Scanned(4)
        if self.kind == "vmap":
            return nn.vmap(nn.Dense, in_axes=None, out_axes=-1, axis_size=4, **options)(1, kernel_init=HASH)
        if self.kind == "rnn":
            return nn.RNN(nn.SimpleCell(4, kernel_init=HASH, recurrent_kernel_init=HASH))
        if self.kind == "batch norm":
            return Normalized()
        transform = {"remat": nn.remat, "jit": nn.jit}[self.kind]
        return transform(nn.Dense)(4, kernel_init=HASH)


class Scanned(nn.Module):
    features: int

    @nn.compact
    def __call__(self, x):
        options = {"variable_axes": {"params": 0}, "split_rngs": {"params": True}, "length": 3}
        return nn.scan(Step, **options)(self.features)(x, None)[0]


class Step(nn.Module):
    """A step of a scan, which has a block of its own."""

    features: int

    @nn.compact
    def __call__(self, x, _):
        with qrjax.block("step"):
            return nn.Dense(self.features, kernel_init=HASH)(x), None


class Normalized(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.BatchNorm(use_running_average=False)(nn.Dense(4, kernel_init=HASH)(x))


@pytest.mark.few("scan", "batch norm")
@pytest.mark.parametrize(
    "kind", ["remat", "jit", "scan", "vmap", pytest.param("rnn", marks=pytest.mark.slow), "batch norm"]
)
def test_lifted_layers(kind):
    def name(params):
        return max(params, key=lambda key: int(key.rpartition("_")[2]))

    x = jnp.ones((2, 3, 4) if kind == "rnn" else (4,) if kind == "vmap" else (2, 4))
    if kind == "vmap":
        x = x[None, :]
        models = [Squeezed(depth).init(KEY, x)["params"] for depth in (1, 2)]
    else:
        models = [Lifted(depth, kind).init(KEY, x)["params"] for depth in (1, 2)]
    last = [params[name(params)] for params in models]
    assert bits(last[0]) == bits(last[1])
    first = [params[min(params)] for params in models]
    assert bits(first[0]) == bits(first[1]) != bits(last[0])


class Squeezed(Lifted):
    """The vmapped layers, each of one feature, side by side."""

    kind: str = "vmap"

    def layer(self):
        made = super().layer()
        return lambda x: made(x)[..., 0, :]


def test_what_jit_has_compiled_before_does_not_matter():
    class Parent(nn.Module):
        names: tuple[str, ...]
        jitted: Any

        @nn.compact
        def __call__(self, x):
            for name in self.names:
                with qrjax.block(name):
                    x = self.jitted(("x", "y"))(x)
            return x

    def weights(jitted, *names):
        params = Parent(names, jitted).init(KEY, jnp.ones((1, 4)))["params"]
        return {name: bits(part) for name, part in zip(names, params.values(), strict=True)}

    warm = nn.jit(Twice)
    both = weights(warm, "a", "b")
    assert both["a"] != both["b"]
    assert weights(warm, "b") == weights(nn.jit(Twice), "b") == {"b": both["b"]}
    assert weights(nn.jit(Twice), "b", "a") == both


@pytest.mark.slow
@pytest.mark.parametrize("transform", [nn.remat, nn.jit])
def test_a_lifted_parent_has_the_weights_of_its_plain_self(transform):
    plain = InSetup(2).init(KEY, jnp.ones((1, 4)))["params"]
    lifted = transform(InSetup)(2).init(KEY, jnp.ones((1, 4)))["params"]
    if transform is nn.remat:
        assert bits(lifted) == bits(plain)
    others = [transform(TwoBlocks)(depth).init(KEY, X)["params"] for depth in (1, 2)]
    assert classifier_bits(others[0], 1) == classifier_bits(others[1], 2)


class Functions(nn.Module):
    """Lifted functions of the module itself within and after the block, with layers made before and inside."""

    depth: int
    transform: str

    @nn.compact
    def __call__(self, x):
        apply = getattr(self, self.transform)
        with qrjax.block("features"):
            for _ in range(self.depth):
                x = nn.Dense(4, kernel_init=HASH)(x)
        with qrjax.block("classifier"):
            dense = nn.Dense(4, kernel_init=HASH)
            x = apply(dense, x)
            x = nn.Dense(4, kernel_init=HASH)(x)
        return apply(dense, x)

    def remat(self, dense, x):
        return nn.remat(lambda _, layer, x: layer(x))(self, dense, x)

    def cond(self, dense, x):
        return nn.cond(True, lambda module, x: module(x), lambda module, x: -module(x), dense, x)

    def jit(self, dense, x):
        return nn.jit(lambda _, layer, x: layer(x))(self, dense, x)


@pytest.mark.few("cond")
@pytest.mark.parametrize("transform", ["remat", "cond", "jit"])
def test_lifted_functions(transform):
    models = [Functions(depth, transform).init(KEY, jnp.ones((1, 4)))["params"] for depth in (1, 3)]
    for number in (1, 2):
        one, three = models[0][f"Dense_{number}"], models[1][f"Dense_{number + 2}"]
        assert bits(one) == bits(three)
    assert len({v for k, v in bits(models[1]).items() if "kernel" in k}) == len(models[1])


def test_layers_that_a_lifted_function_creates():
    class Inside(nn.Module):
        depth: int

        @nn.compact
        def __call__(self, x):
            for _ in range(self.depth):
                x = nn.Dense(4, kernel_init=HASH)(x)
            with qrjax.block("a"):
                x = nn.Dense(4, kernel_init=HASH, name="first")(x)
                x = nn.remat(lambda _, x: nn.Dense(4, kernel_init=HASH)(x))(self, x)
                return nn.Dense(4, kernel_init=HASH, name="last")(x)

    for depth in (0, 2):
        params = Inside(depth).init(KEY, jnp.ones((1, 4)))["params"]
        for number, name in enumerate(("first", f"Dense_{depth}", "last")):
            np.testing.assert_array_equal(params[name]["kernel"], kernel(layer_key(KEY, "a", number), 4, 4))


def test_vmap_jit_raw_keys_and_shapes():
    model = TwoBlocks(2)
    jitted = jax.jit(model.init)
    one = [jitted(jax.random.key(seed), X) for seed in range(3)]
    many = jax.vmap(lambda seed: model.init(jax.random.key(seed), X))(jnp.arange(3))
    for seed in range(3):
        assert bits(jax.tree.map(lambda leaf, seed=seed: np.asarray(leaf)[seed], many)) == bits(one[seed])
    assert bits(model.init(jax.random.key(0), X)) == bits(one[0])
    assert bits(model.init(jax.random.PRNGKey(0), X)) == bits(one[0])
    assert bits(model.init_with_output(jax.random.key(0), X)[1]) == bits(one[0])
    assert bits(model.lazy_init(jax.random.key(0), jax.ShapeDtypeStruct(X.shape, X.dtype))) == bits(one[0])
    shapes = jax.eval_shape(model.init, jax.random.key(0), X)
    assert jax.tree.map(jnp.shape, one[0]) == jax.tree.map(lambda leaf: leaf.shape, shapes)
    assert "classifier" not in model.tabulate(jax.random.key(0), X)


class Noisy(nn.Module):
    """With dropout, whose stream differs from the parameters', and a stream that is missing."""

    blocks: bool

    @nn.compact
    def __call__(self, x, train=True):
        with qrjax.block("a") if self.blocks else contextlib.nullcontext():
            return nn.Dropout(0.5, deterministic=not train)(nn.Dense(32, kernel_init=HASH)(x))


def test_apply_is_as_without_blocks():
    x = jnp.ones((1, 4))
    variables = Noisy(True).init({"params": KEY, "dropout": KEY}, x)
    for rngs in ({"dropout": KEY}, {"dropout": KEY, "params": KEY}):
        found, plain = (Noisy(blocks).apply(variables, x, rngs=rngs) for blocks in (True, False))
        np.testing.assert_array_equal(found, plain, f"dropout in a block at apply, against none, with rngs {[*rngs]}")
    bound = TwoBlocks(1).bind(TwoBlocks(1).init(KEY, X))
    assert bound(X).shape == (1, 10)
    gradient = jax.grad(lambda v: Noisy(True).apply(v, x, train=False).sum())(variables)
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


def test_other_streams_follow_the_block_at_init():
    class Random(nn.Module):
        @nn.compact
        def __call__(self, number):
            for _ in range(number):
                nn.Dropout(0.5, deterministic=False)(jnp.ones(3))
            with qrjax.block("a"):
                return self.variable("state", "x", lambda: self.make_rng("noise")).value

    keys = {"params": KEY, "noise": jax.random.key(9)}
    one, two = (Random().init(keys, number)["state"]["x"] for number in (0, 2))
    assert one == two
    assert Random().init(keys | {"params": jax.random.key(0)}, 0)["state"]["x"] == one


class Twice(nn.Module):
    names: tuple[str, ...]

    @nn.compact
    def __call__(self, x):
        for name in self.names:
            with qrjax.block(name):
                x = nn.Dense(4, kernel_init=HASH)(x)
        return x


def test_the_same_name_twice_warns_and_gives_equal_weights():
    x = jnp.ones((1, 4))
    with pytest.warns(
        qrjax.BlockWarning, match=r"qrjax.block\('a'\) was entered twice in the Linen module Twice: .* equal weights"
    ) as caught:
        params = Twice(("a", "b", "a")).init(KEY, x)["params"]
    assert [warning.filename for warning in caught] == [__file__]
    assert bits(params["Dense_0"]) == bits(params["Dense_2"]) != bits(params["Dense_1"])
    with pytest.warns(qrjax.BlockWarning, match="in the Linen module Twice/layers_1: "):
        nn.Sequential([nn.Dense(4), Twice(("a", "a"))]).init(KEY, x)


def test_what_is_no_second_entry_of_one_module():
    model = Twice(("a", "b"))
    variables = [model.init(KEY, jnp.ones((1, 4))) for _ in range(2)]
    Twice(("a", "a")).apply(variables[0], jnp.ones((1, 4)))  # nothing is created
    Repeated().init(KEY, X)  # the shared module is called twice

    class Empty(nn.Module):
        @nn.compact
        def __call__(self, x):
            for _ in range(3):
                with qrjax.block("nothing is created"):
                    x = x + 1
            return x

    Empty().init(KEY, X)


def test_an_exception_leaves_the_module_usable():
    class Failing(nn.Module):
        @nn.compact
        def __call__(self, x):
            with contextlib.suppress(KeyError), qrjax.block("a"):
                nn.Dense(4, kernel_init=HASH)(x)
                raise KeyError
            self.param("p", HASH, (4, 4))
            return nn.Dense(4, kernel_init=HASH, name="after")(x)

    params = Failing().init(KEY, jnp.ones((1, 4)))["params"]
    assert bits(params["p"]) == bits(parameters(KEY)[0])
    np.testing.assert_array_equal(params["Dense_0"]["kernel"], kernel(layer_key(KEY, "a", 0), 4, 4))


def test_as_a_decorator_of_methods():
    class Decorated(nn.Module):
        @nn.compact
        @qrjax.block("a")
        def __call__(self, x):
            return nn.Dense(4, kernel_init=HASH)(x)

    params = Decorated().init(KEY, jnp.ones((1, 4)))["params"]
    np.testing.assert_array_equal(params["Dense_0"]["kernel"], kernel(layer_key(KEY, "a", 0), 4, 4))


def test_with_a_seed_weights_are_the_same_and_so_are_the_generators():
    expected = bits(TwoBlocks(2).init(KEY, X))
    qrjax.set_seed(1)
    state = np.random.get_state()[1].tolist()
    assert bits(TwoBlocks(2).init(KEY, X)) == bits(jax.jit(TwoBlocks(2).init)(KEY, X)) == expected
    assert np.random.get_state()[1].tolist() == state


def test_without_a_seed_generators_are_left_alone():
    class Drawing(nn.Module):
        @nn.compact
        def __call__(self, x):
            with qrjax.block("a"):
                draws.append(np.random.rand())
            return x

    draws = []
    np.random.seed(5)
    Drawing().init(KEY, X)
    Drawing().apply({}, X)
    assert draws == np.random.RandomState(5).rand(2).tolist()


def test_autoinit_draws_by_path():
    variables, report = qrjax.autoinit(TwoBlocks(2), X, seed=1, report=True, source="hash")
    plain = qrjax.autoinit(TwoBlocks(2, blocks=False), X, seed=1, source="hash")
    assert bits(variables) == bits(plain)
    assert [row.path for row in report if row.gain is not None] == ["Conv_0", "Conv_1", "Conv_2", "Dense_1", "Dense_0"]


class Tree(nn.Module):
    """Blocks in blocks, with layers of two types in each; what a block's layers are is noted."""

    blocks: Any
    found: Any

    @nn.compact
    def __call__(self, x):
        self.run(self.blocks, (), x)
        return x

    @nn.nowrap
    def run(self, blocks, path, x):
        for name, types, inner in blocks:
            with qrjax.block(name):
                self.run(inner, (*path, name), x)
                for number, dense in enumerate(types):
                    layer = nn.Dense(2, use_bias=False) if dense else nn.Einsum((2, 2), "ab,bc->ac", use_bias=False)
                    layer(x)
                    self.found[(*path, name), number] = layer.name


def forest(children):
    part = st.tuples(st.text(max_size=3) | st.integers(0, 9), st.lists(st.booleans(), max_size=2), children)
    return st.lists(part, max_size=3, unique_by=lambda part: part[0])


def changed(blocks, chance):
    """The same blocks in another order, some left out, others with another layer at the end or one less."""
    kept = [
        (name, chance.choice([types, [*types, True], types[:-1]]), changed(inner, chance))
        for name, types, inner in blocks
        if chance.random() < 0.8
    ]
    chance.shuffle(kept)
    return kept


@settings(max_examples=10, deadline=None)
@given(forest(forest(st.just([]))), st.randoms(use_true_random=False))
def test_any_tree_of_blocks(blocks, chance):
    def weights(blocks):
        found = {}
        params = Tree(blocks, Found(found)).init(KEY, jnp.ones((1, 2))).get("params", {})
        return {place: (name.partition("_")[0], bits(params[name])) for place, name in found.items()}

    before, after = weights(blocks), weights(changed(blocks, chance))
    for place in before.keys() & after.keys():
        assert before[place] == after[place]
    every = [str(tree) for _, tree in before.values()]
    assert len(set(every)) == len(every)


class Found:
    """A dictionary that Flax takes for an attribute like any other, and leaves alone."""

    def __init__(self, found):
        self.found = found

    def __setitem__(self, place, name):
        self.found[place] = name
