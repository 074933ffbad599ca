"""Records of anything: shapes, dtypes, builders, odd paths, nesting."""

import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from recorded import assert_recorded, assert_same, kinds, reloaded

import qrjax
from qrjax._initializers._specification import Specification
from qrjax._interpreter._model import Leaf
from qrjax._records._entries import Entry
from qrjax._records._origins import Constant, Drawn, Factored, Keys, Stored
from qrjax._records._regions import groups, regrouped, regroups

KEY = jax.random.key(9)
BUILDERS = {
    "hash": qrjax.normal_hash(0.3),
    "qr": qrjax.uniform_qr(2.0),
    "neurons": qrjax.truncated_normal_qr(0.1, layout="neurons"),
    "shuffled": qrjax.random_normal_qr(stddev=0.2, layout="shuffled", scramble=None),
    "linear": qrjax.normal_qr(layout="outputs", dim=5, scramble="linear"),
    "points": qrjax.uniform_qr(layout="points"),
    "lopsided": qrjax.truncated_normal_hash(1.0, None, -0.5, float("inf")),
    "sequence": qrjax.uniform_qr(layout="sequence"),
}
DTYPES = ("float32", "bfloat16", "float16", "float8_e4m3fn", "float8_e5m2")


def odd(examples):
    return settings(max_examples=examples, deadline=None, derandomize=True)


def shapes(least=0, largest=7):
    return st.lists(st.integers(1, largest), min_size=least, max_size=4).map(tuple)


def names():
    return st.text(st.characters(blacklist_characters="/", codec="utf-8"), max_size=12)


def trees(leaves):
    """Nested dicts and lists; a dict's keys are all strings, or all numbers that are not 0, 1, ..."""

    def deeper(children):
        by_name = st.dictionaries(names(), children, min_size=1, max_size=3)
        by_number = st.dictionaries(st.integers(5, 2**40), children, min_size=1, max_size=3)
        return by_name | by_number | st.lists(children, min_size=1, max_size=3)

    return st.recursive(leaves, deeper, max_leaves=5)


@pytest.mark.parametrize("examples", [3, pytest.param(15, marks=pytest.mark.slow)])
def test_any_shape_dtype_and_builder(examples):
    @odd(examples)
    @given(st.sampled_from(sorted(BUILDERS)), shapes(), st.sampled_from(DTYPES), st.integers(0, 2**32 - 1))
    def check(name, shape, dtype, seed):
        if name == "sequence" and len(shape) > 1:
            shape = shape[:1]  # else it warns
        if name == "neurons":
            shape = (*shape, 3, 5)[-4:]

        def build(key):
            return {"w": BUILDERS[name](key, shape, dtype)}

        record = qrjax.record(build, by="init", key=jax.random.key(seed))
        assert kinds(record) == {"w": "drawn"}
        assert_recorded(record, build(jax.random.key(seed)), weights=examples > 4)

    check()


@pytest.mark.parametrize("examples", [2, pytest.param(12, marks=pytest.mark.slow)])
def test_any_nesting_and_any_name(examples):
    """The leaf's number says what is there: all of one shape, so that one compilation serves all."""

    @odd(examples)
    @given(trees(st.integers(0, 3)))
    def check(tree):
        def build(key):
            return jax.tree.map(lambda number: BUILDERS["hash"](jax.random.fold_in(key, number), (3, 4)), tree)

        record = reloaded(qrjax.record(build, by="init", key=KEY))
        expected = build(KEY)
        found = record.initial()
        assert jax.tree.structure(found) == jax.tree.structure(expected)
        jax.tree.map(assert_same, found, expected)
        for path, array in zip(record.paths, jax.tree.leaves(expected), strict=True):
            if record.paths.count(path) == 1:  # {"": {"": w}} and {"/": w} read alike
                assert_same(record.weight(path, (2, -1)), np.asarray(array)[2, -1])

    check()


@odd(4)
@given(names())
def test_autoinit_with_any_name(name):
    def init(_, x):
        return {name: {"w": jnp.zeros((x.shape[-1], 4))}}

    pair, x = (init, lambda params, x: x @ params[name]["w"]), jax.ShapeDtypeStruct((8, 5), jnp.float32)
    record = qrjax.record(pair, x, key=KEY, source="hash")
    assert record.paths == (f"{name}/w",)
    assert_same(reloaded(record).initial()[name]["w"], qrjax.autoinit(pair, x, key=KEY, source="hash")[name]["w"])


@pytest.mark.parametrize("name", ["_hidden", "a.b", "a b", "größe", "λ", "x" * 300, "kernel\n", "0", "null", '"'])
def test_linen_names(name):
    import flax.linen as nn

    class Named(nn.Module):
        @nn.compact
        def __call__(self, x):
            return x @ self.param(name, BUILDERS["hash"], (3, 4))

    record = qrjax.record(Named(), jnp.ones((1, 3)), by="init", key=KEY)
    assert record.paths == (name,)
    assert_recorded(record, Named().init(KEY, jnp.ones((1, 3))))


# The format, with nothing drawn.

words = st.lists(st.integers(0, 2**32 - 1), min_size=2, max_size=2)
numbers = st.floats(width=32, allow_nan=False, allow_infinity=False)


@st.composite
def origins(draw):
    """A leaf's shape and dtype, and an origin that fits it."""
    shape, dtype = draw(shapes()), np.dtype(draw(st.sampled_from([*DTYPES, "complex64", "int8", "uint32", "bool"])))
    size = math.prod(shape)
    kind = draw(st.sampled_from(["drawn", "layered", "orthogonal", "constant", "stored", "keys"]))
    if kind == "constant":
        octets = draw(st.binary(min_size=dtype.itemsize, max_size=dtype.itemsize))
        return shape, dtype, Constant(shape, dtype, np.frombuffer(octets, dtype).reshape(()))
    if kind == "stored":
        octets = draw(st.binary(min_size=size * dtype.itemsize, max_size=size * dtype.itemsize))
        return shape, dtype, Stored(shape, dtype, np.frombuffer(octets, dtype).reshape(shape))
    if kind == "keys":
        dtype = draw(st.sampled_from([jax.random.key(0, impl=i).dtype for i in ("threefry2x32", "rbg", "unsafe_rbg")]))
        data = np.zeros((*shape, dtype.itemsize // 4 or 2), np.uint32) + np.uint32(draw(st.integers(0, 2**32 - 1)))
        return shape, dtype, Keys(shape, dtype, data)
    factors = tuple(np.float32(f) for f in draw(st.lists(numbers, max_size=2)))
    own = np.asarray(draw(words), np.uint32)
    if kind == "orthogonal":
        builder = draw(st.sampled_from([qrjax.orthogonal_hash(0.7), qrjax.delta_orthogonal_qr(layout="neurons")]))
        axes = draw(st.none() | st.permutations(range(len(shape))).map(tuple))
        return shape, dtype, Factored(shape, dtype, builder, shape, dtype, own, axes, factors)
    builder, drawn = BUILDERS[draw(st.sampled_from(sorted(BUILDERS)))], np.dtype(draw(st.sampled_from(DTYPES)))
    if kind == "layered":
        layers = draw(st.integers(1, 4))
        own = np.stack([own] * layers)
        factors = tuple(np.repeat(f, layers) for f in factors)
        return (
            (layers, *shape),
            dtype,
            Drawn((layers, *shape), dtype, builder.specification(shape, drawn), own, factors),
        )
    return shape, dtype, Drawn(shape, dtype, builder.specification(shape, drawn), own, factors)


@odd(60)
@given(st.lists(st.tuples(origins(), names(), st.lists(names() | st.integers(0, 2**40)), st.booleans()), max_size=4))
def test_json_is_the_identity(made):
    entries = tuple(
        Entry(Leaf(path, shape, dtype, trained, tuple(steps)), origin)
        for (shape, dtype, origin), path, steps, trained in made
    )
    record = qrjax.Record(entries, {"by": "init", "key": {"words": [1, 2], "impl": None}})
    found = reloaded(record)
    assert found.made == record.made
    for mine, theirs in zip(record.entries, found.entries, strict=True):
        assert mine.leaf == theirs.leaf
        for name in vars(mine.origin):
            one, other = getattr(mine.origin, name), getattr(theirs.origin, name)
            if name == "factors":
                assert [f.tobytes() for f in one] == [f.tobytes() for f in other]
            elif isinstance(one, np.ndarray):
                assert (one.dtype, one.shape, one.tobytes()) == (other.dtype, other.shape, other.tobytes())
            else:
                assert one == other
    assert json.loads(found.to_json(indent=2)) == record.to_dict()


@odd(60)
@given(st.sampled_from(sorted(BUILDERS)), shapes(), st.sampled_from(DTYPES))
def test_a_specification_is_what_its_label_says(name, shape, dtype):
    specification = BUILDERS[name].specification(shape, np.dtype(dtype))
    assert Specification.from_label(specification.label) == specification
    assert Specification.from_dict(json.loads(json.dumps(specification.to_dict()))) == specification


@odd(40)
@given(st.lists(st.sampled_from([1, 2, 3, 5, 6]), max_size=5), st.data())
def test_regrouping_is_a_reshape(sizes, data):
    """A second implementation: NumPy's own numbering."""
    shape = tuple(sizes)
    total = math.prod(shape)
    target = []
    while total > 1:
        target.append(data.draw(st.sampled_from([n for n in range(2, total + 1) if total % n == 0][:4])))
        total //= target[-1]
    target = tuple(data.draw(st.permutations([*target, 1])))
    assert regroups(shape, target)
    assert not regroups((*shape, 2), target)
    for mine, theirs in groups(shape, target):
        assert math.prod(shape[a] for a in mine) == math.prod(target[a] for a in theirs)
    flat = np.random.default_rng(0).integers(0, math.prod(shape), 16)
    coordinates = tuple(jnp.asarray(c, jnp.uint32) for c in np.unravel_index(flat, shape)) if shape else ()
    found = regrouped(coordinates, shape, target)
    expected = np.unravel_index(flat, target)
    for one, other in zip(found, expected, strict=True):
        assert (np.broadcast_to(np.asarray(one), 16) == (other if shape else 0)).all()
