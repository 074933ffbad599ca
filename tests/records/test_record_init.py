"""Records of what a plain initialization draws: Linen's `module.init`, NNX constructors, functions."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from recorded import assert_recorded, assert_same, kinds, octets, reloaded

import qrjax

KEY = jax.random.key(3)
X = jnp.ones((2, 8))
TOKENS = jnp.ones((2, 5, 8))
QR, HASH = qrjax.he_normal_qr, qrjax.he_normal_hash


class Layer(nn.Module):
    """As the body of scans and maps."""

    @nn.compact
    def __call__(self, x, _=None):
        return nn.Dense(8, kernel_init=QR(), bias_init=qrjax.normal_hash())(x), None


def scanned(layer, length=3, **axes):
    return nn.scan(layer, variable_axes={"params": 0} | axes, split_rngs={"params": True}, length=length)


def mapped(layer, split=True, axis=0):
    split = {"params": split}
    return nn.vmap(layer, variable_axes={"params": axis}, split_rngs=split, in_axes=(None, None), axis_size=3)


class Around(nn.Module):
    """What a transformation makes of a layer."""

    transformed: type

    @nn.compact
    def __call__(self, x, _=None):
        return self.transformed()(x, None)[0], None


class OfVmap(nn.Module):
    """The mean over three layers side by side."""

    @nn.compact
    def __call__(self, x, _=None):
        return mapped(Layer)()(x, None)[0].mean(0), None


class OfScan(nn.Module):
    """Four layers, one after the other."""

    @nn.compact
    def __call__(self, x, _=None):
        return scanned(Layer, 4)()(x, None)[0], None


class Own(nn.Module):
    """One parameter by `self.param`, from a function of a key and a shape."""

    make: object
    shape: tuple[int, ...] = (8, 12)

    @nn.compact
    def __call__(self, x):
        return x @ self.param("w", self.make, self.shape).reshape(8, -1).astype(x.dtype)


def dense(**options):
    return nn.Dense(12, **{"kernel_init": QR()} | options)


zeros, normal = nn.initializers.zeros, nn.initializers.normal(0.3)
attention = functools.partial(nn.MultiHeadDotProductAttention, num_heads=2)
# A module, its input, and the kinds of origins that its variables have: "cd" is a constant and a drawn one.
LETTERS = {"constant": "c", "drawn": "d", "keys": "k", "model": "m", "orthogonal": "o", "stored": "s"}
DRAWN = {
    "dense": (dense(), X, "cd"),
    "dense hash": (dense(kernel_init=HASH(zero_mean=True), bias_init=qrjax.normal_hash(1.0)), X, "dd"),
    "stream": (dense(kernel_init=HASH().stream("query", 2)), X, "cd"),
    "conv": (nn.Conv(6, (3, 3), kernel_init=qrjax.lecun_uniform_qr(layout="neurons")), jnp.ones((1, 6, 6, 4)), "cd"),
    "dense general": (nn.DenseGeneral((2, 3), axis=(-2, -1), kernel_init=QR()), TOKENS, "cd"),
    "dense general batched": (nn.DenseGeneral((2, 3), axis=-1, batch_dims=(0,), kernel_init=HASH()), TOKENS, "cd"),
    "attention": (attention(kernel_init=QR(), out_kernel_init=HASH()), TOKENS, "cdcdcdcd"),
    "embed": (nn.Embed(11, 6, embedding_init=qrjax.random_normal_hash(0.0, 0.5)), jnp.ones((2, 5), int), "d"),
    "batch norm": (nn.BatchNorm(use_running_average=True), X, "cccc"),
    "constants": (dense(kernel_init=nn.initializers.constant(-0.0), bias_init=nn.initializers.ones), X, "cc"),
    "orthogonal": (dense(kernel_init=qrjax.orthogonal_qr(0.7)), X, "co"),
    "delta orthogonal": (nn.Conv(8, (3, 3), kernel_init=qrjax.delta_orthogonal_hash()), jnp.ones((1, 6, 6, 8)), "co"),
    "bfloat16": (dense(param_dtype=jnp.bfloat16, bias_init=qrjax.uniform_qr()), X.astype(jnp.bfloat16), "dd"),
    "float16": (dense(param_dtype=jnp.float16), X.astype(jnp.float16), "cd"),
    "complex": (dense(param_dtype=jnp.complex64, dtype=jnp.complex64), X.astype(jnp.complex64), "cd"),
    "bounds": (Own(qrjax.random_uniform_hash(-0.1, 0.3)), X, "d"),
    "mean": (Own(qrjax.random_normal_qr(0.3, 0.1)), X, "d"),
    "truncated": (Own(qrjax.truncated_normal_qr(0.5, None, -1.0, 2.5)), X, "d"),
    "infinite bound": (Own(qrjax.truncated_normal_hash(0.5, None, -1.0, float("inf"))), X, "d"),
    "converted": (Own(lambda key, shape: HASH()(key, shape).astype(jnp.bfloat16)), X, "d"),
    "widened": (Own(lambda key, shape: QR()(key, shape, jnp.float16).astype(jnp.float32)), X, "d"),
    "reshaped": (Own(lambda key, _: QR()(key, (16, 6)).reshape(4, 2, 1, 12)), X, "d"),
    "regrouped": (Own(lambda key, _: HASH()(key, (5, 1, 8, 4)).reshape(5, 32, 1)), X, "d"),
    "vector": (Own(qrjax.uniform_hash(2.0), (8,)), X, "d"),
    "scan": (Around(scanned(Layer)), X, "dd"),
    "vmap": (Around(mapped(Layer)), X, "dd"),
    "scan of vmap": (Around(scanned(OfVmap, 4)), X, "dd"),
    "scan of scan": (Around(scanned(OfScan, 2)), X, "dd"),
    "remat": (Around(nn.remat(Layer)), X, "dd"),
    "scan of remat": (Around(scanned(nn.remat(Layer))), X, "dd"),
    "jit": (Around(nn.jit(Layer)), X, "dd"),
    "boxes": (dense(kernel_init=nn.with_partitioning(QR(), ("in", "out"))), X, "cd"),
    "logical boxes": (dense(kernel_init=nn.with_logical_partitioning(QR(), ("in", "out"))), X, "cd"),
}
# Not plain draws, though they come from ours; right with the model all the same.
CHANGED = {
    "JAX's own": (dense(kernel_init=normal), X, "cm"),
    "half as large": (Own(lambda key, shape: 0.5 * QR()(key, shape)), X, "m"),
    "doubly rounded": (Own(lambda key, s: QR()(key, s).astype(jnp.float16).astype(jnp.float32)), X, "m"),
    "transposed": (Own(lambda key, _: QR()(key, (8, 8)).T), X, "m"),
    "reversed": (Own(lambda key, shape: QR()(key, shape)[::-1]), X, "m"),
    "a part": (Own(lambda key, _: QR()(key, (8, 24))[:, :12]), X, "m"),
    "two joined": (Own(lambda k, _: jnp.concatenate([QR()(k, (8, 6)), HASH()(k, (8, 6))], 1)), X, "m"),
    "a sum": (Own(lambda key, shape: QR()(key, shape) + normal(key, shape)), X, "m"),
    "masked": (Own(lambda key, shape: jnp.where(jnp.eye(8, 12) > 0, QR()(key, shape), 0)), X, "m"),
    "stacked at the end": (Around(scanned(Layer, params=1)), X, "mm"),
    "mapped at the end": (Around(mapped(Layer, axis=1)), X, "mm"),
    "one for all": (Around(mapped(Layer, split=False)), X, "mm"),
    "vmap of scan": (Around(mapped(OfScan)), X, "mm"),
    "a table of numbers": (Own(lambda _, shape: jnp.sin(jnp.arange(96.0)).reshape(shape)), X, "m"),
    "a few numbers": (Own(lambda *_: jnp.sin(jnp.arange(8.0)), (8,)), X, "s"),
    "a scalar everywhere": (Own(lambda _, shape: jnp.full(shape, 0.1)), X, "c"),
}
# The rest compiles a lot, or its like is run anyway.
FAST = {"dense", "constants", "orthogonal", "bfloat16", "reshaped", "scan of vmap", "boxes", "JAX's own",
        "half as large", "doubly rounded", "a few numbers", "a scalar everywhere"}  # fmt: skip
TABLE = DRAWN | CHANGED
NAMES = [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in TABLE]


@pytest.mark.few("dense", "constants", "boxes", "doubly rounded")
@pytest.mark.parametrize("name", NAMES)
def test_linen(name):
    module, x, expected = TABLE[name]
    # Ours have the same bits in any program, which compiles faster in one piece.
    init = module.init if "m" in expected or name == "dense" else jax.jit(module.init)
    variables = init(KEY, x)
    record = qrjax.record(module, x, by="init", key=KEY)
    assert "".join(LETTERS[kind] for kind in kinds(record).values()) == expected
    assert_recorded(record, variables, weights=name not in FAST or name == "scan of vmap")
    assert jax.tree.structure(record.initial()) == jax.tree.structure(variables)


@pytest.mark.parametrize("name", ["JAX's own", "half as large", pytest.param("vmap of scan", marks=pytest.mark.slow)])
def test_what_is_no_plain_draw_comes_back_with_the_model(name):
    module, x, _ = TABLE[name]
    variables = module.init(KEY, x)
    loaded = reloaded(qrjax.record(module, x, by="init", key=KEY))
    path = loaded.paths[-1]
    for ask in (loaded.initial, lambda path: loaded.weight(path, 0), lambda _: loaded.initial()):
        with pytest.raises(LookupError, match=r"builder of the model's own.*record\.with_model\(module, sample_input"):
            ask(path)
    assert_recorded(loaded.with_model(module, x), variables)
    other = loaded.with_model(module, x, key=jax.random.key(4))
    assert octets(other.initial(path)) == octets(qrjax.record(module, x, by="init", seed=4).initial(path))


@pytest.mark.few("raw-ours", "rbg-JAX's own")
@pytest.mark.parametrize("builder", [QR(), normal], ids=["ours", "JAX's own"])
@pytest.mark.parametrize("key", [jax.random.PRNGKey(3), jax.random.key(3, impl="rbg")], ids=["raw", "rbg"])
def test_other_kinds_of_keys(key, builder):
    module = dense(kernel_init=builder)
    record = qrjax.record(module, X, by="init", key=key)
    variables = module.init(key, X)
    assert_recorded(record, variables)
    assert_same(reloaded(record).with_model(module, X).initial("kernel"), variables["params"]["kernel"])


def test_under_jit_ours_have_the_same_bits():
    module = nn.Sequential([dense(), nn.relu, dense(kernel_init=qrjax.lecun_uniform_hash())])
    assert_recorded(qrjax.record(module, X, by="init", key=KEY), jax.jit(module.init)(KEY, X))


def test_the_module_takes_arguments_streams_and_collections():
    class Noisy(nn.Module):
        @nn.compact
        def __call__(self, x, scale, *, train):
            x = nn.Dropout(0.5, deterministic=not train)(nn.Dense(4, kernel_init=QR())(x) * scale)
            self.sow("seen", "x", x)
            return nn.BatchNorm(use_running_average=not train)(x)

    streams = {"params": KEY, "dropout": jax.random.fold_in(KEY, 1)}
    variables = Noisy().init(streams, X, 2.0, train=True)
    record = qrjax.record(Noisy(), X, 2.0, train=True, rngs=("dropout",), by="init", key=KEY)
    assert kinds(record)["seen/x/0"] == "model"  # an activation
    assert_recorded(record, variables)
    assert set(record.paths) >= {"Dense_0/kernel", "batch_stats/BatchNorm_0/mean", "seen/x/0"}
    trained = {e.leaf.path for e in record.entries if e.leaf.trained}
    assert trained == {"Dense_0/kernel", "Dense_0/bias", "BatchNorm_0/scale", "BatchNorm_0/bias"}


def test_an_initial_value_that_depends_on_the_input_needs_it():
    module = Own(lambda key, shape: QR()(key, shape))
    assert len(qrjax.record(module, jax.ShapeDtypeStruct((2, 8), jnp.float32), by="init", key=jax.random.key(0)))

    class Standard(nn.Module):
        @nn.compact
        def __call__(self, x):
            return x / self.param("spread", lambda _: x.std(0))[None]

    x = jax.random.normal(KEY, (5, 8))
    assert_recorded(qrjax.record(Standard(), x, by="init", key=KEY), Standard().init(KEY, x))
    with pytest.raises(ValueError, match=r"'spread' depend on `sample_input`, of which only the shape.*pass the array"):
        qrjax.record(Standard(), jax.ShapeDtypeStruct((5, 8), jnp.float32), by="init", key=jax.random.key(0))


class Net(nnx.Module):
    """Ours, JAX's own, statistics, and a random stream with its count."""

    def __init__(self, rngs):
        self.ours = nnx.Linear(8, 4, kernel_init=QR(), rngs=rngs)
        self.own = nnx.Linear(4, 4, rngs=rngs)
        self.norm = nnx.BatchNorm(4, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)


@pytest.mark.parametrize("streams", [{}, {"dropout": 1}], ids=["one", "two"])
def test_nnx(streams):
    def build(key):
        return Net(nnx.Rngs(key, **streams))

    record = qrjax.record(build, key=KEY, by="init")
    module = build(KEY)
    found = kinds(record)
    assert {found["ours/kernel"], found["own/kernel"], found["dropout/rngs/key"]} == {"drawn", "model", "keys"}
    assert_recorded(record, module)
    assert isinstance(record.initial(), Net)
    assert_recorded(reloaded(record).with_model(build), module)
    assert reloaded(record).weight("dropout/rngs/key", ()) == module.dropout.rngs.key[...]
    assert [e.leaf.path for e in record.entries if e.leaf.trained] == [
        "norm/bias", "norm/scale", "ours/bias", "ours/kernel", "own/bias", "own/kernel"
    ]  # fmt: skip


def test_nnx_constructed_under_vmap():
    def build(key):
        @nnx.split_rngs(splits=3)
        @nnx.vmap(in_axes=0, out_axes=0)
        def one(rngs):
            return nnx.Linear(8, 4, kernel_init=QR(), rngs=rngs)

        return one(nnx.Rngs(key))

    record = qrjax.record(build, key=KEY, by="init")
    assert kinds(record) == {"bias": "constant", "kernel": "drawn"}
    assert record.entry("kernel").origin.layers == (3,)
    assert_recorded(record, build(KEY))


@pytest.mark.slow
def test_an_ensemble():
    module = dense(bias_init=normal)

    def build(key):
        return jax.vmap(module.init, (0, None))(jax.random.split(key, 3), X)

    record = qrjax.record(build, key=KEY, by="init")
    assert kinds(record) == {"bias": "model", "kernel": "drawn"}
    assert_recorded(record, build(KEY))


def pair_init(key, x):
    one, two, three = jax.random.split(key, 3)
    layers = [QR()(one, (x.shape[-1], 4)), (HASH()(two, (4, 4)), jnp.zeros(4))]
    return {"layers": layers, "by number": {3: jnp.ones(3), 7: normal(three, (2,))}}


def test_a_pair_of_functions():
    record = qrjax.record((pair_init, lambda _, x: x), X, by="init", key=KEY)
    assert kinds(record) == {
        "by number/3": "constant", "by number/7": "model", "layers/0": "drawn", "layers/1/0": "drawn",
        "layers/1/1": "constant",
    }  # fmt: skip
    params = pair_init(KEY, X)
    assert_recorded(record, params)
    attached = reloaded(record).with_model((pair_init, lambda _, x: x), X)
    assert jax.tree.structure(attached.initial()) == jax.tree.structure(params)


def test_without_the_model_the_tree_has_dicts_and_lists():
    def build(key):
        return pair_init(key, X) | {"by number": {3: jnp.ones(3), 7: jnp.ones(2)}}

    found = reloaded(qrjax.record(build, key=KEY, by="init")).initial()
    expected = build(KEY)
    expected["layers"][1] = list(expected["layers"][1])
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    assert set(found["by number"]) == {3, 7}
    jax.tree.map(assert_same, found, expected)


@pytest.mark.parametrize("shape", [(3, 4), (0, 4), ()])
def test_a_single_array(shape):
    def build(key):
        return qrjax.uniform_hash(3.0)(key, shape)

    record = qrjax.record(build, key=KEY, by="init")
    assert record.paths == ("",)
    assert_recorded(record, build(KEY))
    assert_same(reloaded(record).initial(), build(KEY))


def test_paths_that_read_alike_are_told_apart():
    def build(key):
        return {"a/b": QR()(key, (4, 3)), "a": {"b": HASH()(key, (4, 3))}}

    record = reloaded(qrjax.record(build, key=KEY, by="init"))
    jax.tree.map(assert_same, record.initial(), build(KEY))
    with pytest.raises(KeyError, match=r"2 variables have the path 'a/b', at .*; take them from initial\(\)"):
        record.initial("a/b")


def test_a_large_constant_is_not_made():
    module = nn.Dense(2**18, kernel_init=zeros, bias_init=nn.initializers.constant(-1.5))
    x = jax.ShapeDtypeStruct((1, 2**22), jnp.float32)  # 4 TiB
    record = qrjax.record(module, x, by="init", key=jax.random.key(0))
    assert kinds(record) == {"bias": "constant", "kernel": "constant"}
    assert octets(record.weight("kernel", (5, -1))) == bytes(4)
    assert reloaded(record).weight("bias", 7) == np.float32(-1.5)


def test_nan_and_negative_zero_are_constants_of_their_own():
    def build(_):
        return {"nan": jnp.full(3, jnp.nan), "mixed": jnp.array([0.0, -0.0]), "zero": jnp.full((2, 2), -0.0)}

    record = qrjax.record(build, key=KEY, by="init")
    assert kinds(record) == {"mixed": "stored", "nan": "constant", "zero": "constant"}
    assert_recorded(record, build(KEY))
