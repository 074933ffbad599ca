"""How people call: wrong calls get one sentence without our frames, unusual ones get what they mean."""

import traceback

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import qrjax
from qrjax._terminal._received import received

KEY = jax.random.key(0)
X = np.random.default_rng(0).standard_normal((8, 16), np.float32)
TOKENS = np.arange(24, dtype=np.int32).reshape(2, 12)
DENSE = nn.Sequential([nn.Dense(8), nn.relu, nn.Dense(4)])
VARIABLES = jax.jit(DENSE.init)(KEY, X)
NNX = nnx.Linear(16, 4, rngs=nnx.Rngs(0))
PAIR = (lambda key, x: {"w": jax.random.normal(key, (x.shape[-1], 4))}, lambda params, x: x @ params["w"])
FAST = {"source": "hash", "distribution": "uniform"}
autoinit, analyze, measure, calibrate, record = (
    qrjax.autoinit, qrjax.analyze, qrjax.measure, qrjax.calibrate, qrjax.record,
)  # fmt: skip
DRAWING = (autoinit, analyze, record)
RUNNING = (measure, calibrate)


# -- wrong calls -----------------------------------------------------------------------------------------------------

KEY_FIRST = r"`sample_input` must be data, got .*; the key of the weights is passed by name, .*key=key"
NO_VARIABLES = r"`variables` must be what autoinit or the module's init returned, got an array of dtype float32 and sh"
NO_MODULE = r"`module` must be a flax.linen.Module, .* \(init, apply\), got "
NO_ARRAY = r"`sample_input` must hold arrays of NumPy or JAX, got "
BOTH = "both say how weights are drawn; pass one of them"


class Taken(nn.Module):
    """Its call needs what our functions have arguments for."""

    @nn.compact
    def __call__(self, x, *, key, target, seed=0):
        noise = jax.random.normal(jax.random.fold_in(key, seed), x.shape)
        return nn.Dense(4)(x + noise) - target


WRONG = {
    "as module.init is called": (DRAWING, (DENSE, KEY, X), {}, TypeError, KEY_FIRST),
    "with a raw key": (DRAWING, (DENSE, jax.random.PRNGKey(0), X), {}, TypeError, KEY_FIRST),
    "with keys by name": (DRAWING, (DENSE, {"params": KEY}, X), {}, TypeError, KEY_FIRST),
    "with Rngs": (DRAWING, (DENSE, nnx.Rngs(0), X), {}, TypeError, KEY_FIRST + ".*rngs={'dropout': key}"),
    "as module.apply is called": (DRAWING, (DENSE, VARIABLES, X), {}, TypeError, "got variables, a dict with the keys"),
    "with a state": (DRAWING, (NNX, nnx.state(NNX), X), {}, TypeError, "must be data, got variables"),
    "a key to measure": (RUNNING, (DENSE, VARIABLES, KEY, X), {}, TypeError, KEY_FIRST),
    "swapped": (RUNNING, (DENSE, X, VARIABLES), {}, TypeError, NO_VARIABLES + ".*is .module, variables, sample_input"),
    "swapped, NNX": (RUNNING, (NNX, X, nnx.state(NNX)), {}, TypeError, NO_VARIABLES),
    "swapped, a pair": (RUNNING, (PAIR, X, {"w": X.T @ X}), {}, TypeError, NO_VARIABLES),
    "the module second": (RUNNING, (VARIABLES, DENSE, X), {}, TypeError, NO_MODULE + "a dict .*; the module comes fir"),
    "the module last": (DRAWING, (X, DENSE), {}, TypeError, NO_MODULE + "an array .*; the module comes first"),
    "two modules": (DRAWING, (DENSE, DENSE), {}, TypeError, "must hold arrays, got an object of type Sequential"),
    "no variables": (RUNNING, (DENSE, X), {}, TypeError, NO_VARIABLES),
    "params alone": (RUNNING, (DENSE, VARIABLES["params"], X), {}, ValueError, "returned, {'params': ...}, got a di"),
    "another's state": (RUNNING, (NNX, {"w": X}, X), {}, ValueError, "has 'w', which `module` lacks; paths: "),
    "another shape": (RUNNING, (NNX, {"kernel": X}, X), {}, ValueError, r"'kernel' as an array .*\(8, 16\), which"),
    "a class": (
        DRAWING, (nn.Dense, X), {}, TypeError, NO_MODULE + r"the class Dense; make an instance, Dense\(\.\.\.\)"
    ),
    "a class of NNX": (DRAWING, (nnx.Linear, X), {}, TypeError, r"an instance, Linear\(\.\.\., rngs=nnx.Rngs\(0\)\)"),
    "a function": (
        DRAWING, (PAIR[1], X), {}, TypeError, r"got the function <lambda>; of a function f\(params, x\), pass"
    ),
    "a shape": (
        DRAWING, (DENSE, (8, 64)), {}, TypeError, r"got \(8, 64\); of a shape pass jax.ShapeDtypeStruct\(\(8, 64"
    ),
    "a list of sizes": (DRAWING, (DENSE, [8, 64]), {}, TypeError, r"got \[8, 64\]; of a shape pass"),
    "a number": (DRAWING, (DENSE, 3.0), {}, TypeError, NO_ARRAY + "3.0 of type float; np.asarray makes one"),
    "lists of numbers": (DRAWING, (DENSE, [[1.0, 2.0]]), {}, TypeError, NO_ARRAY + "1.0 of type float"),
    "a text": (DRAWING, (DENSE, "x"), {}, TypeError, NO_ARRAY + "'x' of type str"),
    "a builder": (
        (autoinit, analyze), (nn.Dense(4, kernel_init=qrjax.he_normal_qr), X), {}, TypeError,
        r"must be built before it is called, got a key for he_normal_qr; write he_normal_qr\(\)"
    ),
    "another builder": (
        (autoinit,), (nn.Dense(4, kernel_init=qrjax.uniform_hash), X), {}, TypeError, r"write uniform_hash\(\)"
    ),
    "a word for a seed": (
        (autoinit, record), (DENSE, X), {"seed": "abc"}, TypeError, "`seed` must be an integer, got 'abc'"
    ),
    "a key for a seed": (
        (autoinit, record), (DENSE, X), {"seed": KEY}, TypeError, "an integer, got a JAX key; pass a key as"
    ),
    "half a seed": (
        (autoinit, record), (DENSE, X), {"seed": 0.5}, TypeError, "`seed` must be an integer, got 0.5 of type"
    ),
    "a truth for a seed": ((autoinit,), (DENSE, X), {"seed": True}, TypeError, "`seed` must be an integer, got True"),
    "several seeds": (
        (autoinit,), (DENSE, X), {"seed": np.arange(3)}, TypeError, r"must be one integer, .*\(3,\); map over"
    ),
    "a seed that JAX would cut": (
        (autoinit,), (DENSE, X), {"seed": 2**40}, ValueError, r"in \[-2\*\*31, 2\*\*32\), got 109"
    ),
    "a number for a key": (
        (autoinit, record), (DENSE, X), {"key": 3}, TypeError, "`key` must be a JAX key, got 3 of type"
    ),
    "seed and key": ((autoinit, record), (DENSE, X), {"seed": 0, "key": KEY}, ValueError, "`seed` and `key` " + BOTH),
    "seed and rngs": (
        (autoinit, record), (DENSE, X), {"seed": 0, "rngs": nnx.Rngs(0)}, ValueError,
        "`seed` and the 'params' of `rngs` " + BOTH
    ),
    "key and rngs": (
        (autoinit, record), (DENSE, X), {"key": KEY, "rngs": {"params": KEY}}, ValueError,
        "`key` and the 'params' of `rngs` " + BOTH
    ),
    "a number in rngs": (
        DRAWING, (DENSE, X), {"rngs": {"dropout": 0}}, TypeError, r'`rngs\["dropout"\]` must be a JAX key'
    ),
    "a number for rngs": (
        DRAWING, (DENSE, X), {"rngs": 0}, TypeError, r"`rngs` must be the names .*, got 0 of type int"
    ),
    "streams of a pair": (
        DRAWING, (PAIR, X), {"rngs": ("dropout",)}, ValueError, "`rngs` names 'dropout', but a pair of"
    ),
    "a stream that NNX lacks": (
        DRAWING, (NNX, X), {"rngs": {"dropout": KEY}}, ValueError, "a key for 'dropout', which no"
    ),
    "an array for a target": (
        DRAWING, (DENSE, X), {"target": X}, TypeError, r"got an array .*\(8, 16\); .*call_kwargs={'tar"
    ),
    "a word for a mean": (
        DRAWING, (DENSE, X), {"input_mean": "a"}, TypeError, "`input_mean` must be a real number, got 'a'"
    ),
    "an array for a variance": (
        DRAWING, (DENSE, X), {"input_variance": X}, TypeError, "`input_variance` must be a real"
    ),
    "an argument that is ours": (
        (autoinit,), (Taken(), X), {"key": KEY, "target": 1.0}, TypeError,
        r"call lacks `key`; .* goes into call_kwargs={'key': ...}"
    ),
    "one that was given": (
        (autoinit, analyze), (Taken(), X), {"call_kwargs": {"key": KEY}}, TypeError, "lacks `target`"
    ),
    "no mapping": (DRAWING, (DENSE, X), {"call_kwargs": [1]}, TypeError, r"`call_kwargs` must be a dict .*, got \[1\]"),
    "twice": (
        DRAWING, (DENSE, X), {"call_kwargs": {"a": 1}, "a": 2}, TypeError, "`call_kwargs` has 'a', which is given"
    ),
}  # fmt: skip


def cases():
    for name, (functions, *call) in WRONG.items():
        for function in functions:
            if function is not analyze or not {"key", "seed"} & call[1].keys():  # which it has not
                yield pytest.param(function, *call, id=f"{function.__name__}, {name}")


@pytest.mark.parametrize(("function", "args", "kwargs", "error", "message"), list(cases()))
def test_a_wrong_call_gets_one_sentence(function, args, kwargs, error, message):
    with pytest.raises(error, match=message) as caught:
        function(*args, **kwargs)
    assert not any(word in str(caught.value) for word in ("Array(", "overlaying", "[[", "\n")), str(caught.value)
    assert len(str(caught.value)) < 400
    assert ours(caught.value) == []


def test_a_misspelled_argument_where_the_call_takes_any():
    """As that of nn.Sequential does, whose first layer then refuses it."""
    with pytest.raises(TypeError, match="unexpected keyword argument 'distributon'") as caught:
        autoinit(DENSE, X, distributon="normal")
    assert caught.value.__notes__[-1].endswith("so the module's call got it; did you mean 'distribution'?")
    assert ours(caught.value) == []


# -- frames ----------------------------------------------------------------------------------------------------------


def ours(error):
    """The frames of this package in an error's traceback."""
    return [f for f in traceback.extract_tb(error.__traceback__) if "/qrjax/_" in f.filename]


def functions_of(error):
    return [f.name for f in traceback.extract_tb(error.__traceback__)]


class Picky(nn.Module):
    @nn.compact
    def __call__(self, x):
        return refuse(nn.Dense(4)(x))


def refuse(x):
    raise LookupError(f"not {x.shape}")


REFUSING = (PAIR[0], lambda params, x: refuse(x @ params["w"]))


@pytest.mark.parametrize(
    ("call", "args"),
    [
        (autoinit, (Picky(), X)),
        (analyze, (REFUSING, X)),
        (measure, (REFUSING, PAIR[0](KEY, X), X)),
        (record, (Picky(), X)),
    ],
)
def test_the_models_own_frames_stay(call, args):
    with pytest.raises(LookupError, match=r"not \(8, 4\)") as caught:
        call(*args)
    assert ours(caught.value) == []
    assert functions_of(caught.value)[0] == "test_the_models_own_frames_stay"
    assert functions_of(caught.value)[-1] == "refuse"


def test_all_frames_on_demand():
    jax.config.update("jax_traceback_filtering", "off")
    try:
        with pytest.raises(TypeError) as caught:
            autoinit(nn.Dense, X)
    finally:
        jax.config.update("jax_traceback_filtering", "auto")
    assert ours(caught.value)


def test_the_frames_of_a_fault_stay(monkeypatch):
    from qrjax._interpreter._walk import Walk

    monkeypatch.setattr(Walk, "_apply", lambda *_: {}["no such thing"])
    with pytest.raises(KeyError, match="no such thing") as caught:
        analyze(PAIR, jax.ShapeDtypeStruct((8, 16), jnp.float32))
    assert ours(caught.value)


RECEIVED = [
    (3, "3 of type int"), (None, "None of type NoneType"), ("a" * 99, "'" + "a" * 60 + "'... of type str"),
    (X, "an array of dtype float32 and shape (8, 16)"), (jnp.float32(2.0), "2.0 of dtype float32"),
    (np.int64(2), "2 of dtype int64"), (KEY, "a JAX key"), (jax.random.split(KEY), "JAX keys of shape (2,)"),
    (jax.ShapeDtypeStruct((2,), jnp.int32), "ShapeDtypeStruct(shape=(2,), dtype=int32)"),
    (nn.Dense, "the class Dense"), (refuse, "the function refuse"), (DENSE, "an object of type Sequential"),
    ({"a": X, 1: X}, "a dict with the keys 'a', 1"), ({}, "a dict with the keys none"), ((1, 2.5), "(1, 2.5)"),
    ([X, X], "a list of 2 items, the first an array of dtype float32 and shape (8, 16)"), ((), "()"),
    (list(range(99)), "a list of 99 items, the first 0 of type int"), (nnx.Rngs(0), "an object of type Rngs"),
]  # fmt: skip


@pytest.mark.parametrize(("value", "text"), RECEIVED)
def test_how_messages_name_values(value, text):
    assert received(value) == text


def test_a_traced_array_is_named_as_such():
    texts = []
    jax.jit(lambda x: texts.append(received(x)))(X)
    assert texts == ["a traced array of dtype float32 and shape (8, 16)"]


# -- numbers ---------------------------------------------------------------------------------------------------------

NUMBERS = [2, 2.0, np.float32(2), np.int64(2), np.array(2.0), jnp.float32(2.0), jnp.int32(2), jnp.bfloat16(2)]


@pytest.mark.some(2)
@pytest.mark.parametrize("number", NUMBERS, ids=lambda n: type(n).__name__ + str(getattr(n, "dtype", "")))
def test_a_number_is_a_number_whatever_holds_it(number):
    report = analyze(DENSE, X, target=number)
    assert [row.gain for row in report] == [row.gain for row in analyze(DENSE, X, target=2.0)]
    shape = jax.ShapeDtypeStruct((8, 16), jnp.float32)
    given, plain = (analyze(DENSE, shape, input_mean=n, input_variance=n) for n in (number, 2.0))
    assert [row.gain for row in given] == [row.gain for row in plain]
    assert qrjax.uniform_qr(number)(KEY, (4, 4)).max() == qrjax.uniform_qr(2.0)(KEY, (4, 4)).max()


@pytest.mark.few("3", "seed3")
@pytest.mark.parametrize("seed", [3, np.int64(3), np.uint8(3), np.array(3), jnp.int32(3), jnp.uint32(3)])
def test_a_seed_is_an_integer_whatever_holds_it(seed):
    expected = autoinit(PAIR, X, seed=3, **FAST)["w"]
    np.testing.assert_array_equal(autoinit(PAIR, X, seed=seed, **FAST)["w"], expected)
    np.testing.assert_array_equal(record(PAIR, X, seed=seed, **FAST).initial("w"), expected)
    np.testing.assert_array_equal(autoinit(PAIR, X, key=jax.random.key(3), **FAST)["w"], expected)


# -- inputs by name --------------------------------------------------------------------------------------------------


class Language(nn.Module):
    """Called by name, as public language models are."""

    @nn.compact
    def __call__(self, inputs, attention_mask=None, *, train):
        x = nn.Embed(32, 16)(inputs)
        if attention_mask is not None:
            x = x * attention_mask[..., None].astype(x.dtype)
        return nn.Dense(8)(nn.Dropout(0.5, deterministic=not train)(x))


class Named(nnx.Module):
    def __init__(self, rngs):
        self.linear = nnx.Linear(16, 4, rngs=rngs)

    def __call__(self, *, inputs, scale=1.0):
        return scale * self.linear(inputs)


LANGUAGE = Language()
NAMED = [
    (LANGUAGE, (TOKENS, TOKENS > 3), {"attention_mask": TOKENS > 3, "inputs": TOKENS}, {"train": False}),
    (PAIR, (X,), {"x": X}, {}),
]


@pytest.mark.parametrize(("module", "args", "named", "rest"), NAMED)
def test_inputs_may_be_given_by_name(module, args, named, rest):
    expected = autoinit(module, *args, **rest, **FAST)
    for call in (named, {"call_kwargs": named}):
        found = autoinit(module, **call, **rest, **FAST)
        assert jax.tree.all(jax.tree.map(np.array_equal, found, expected))
    assert list(analyze(module, **named, **rest)) == list(analyze(module, *args, **rest))
    assert list(measure(module, found, **named, **rest)) == list(measure(module, found, *args, **rest))
    by_name, by_place = calibrate(module, found, **named, **rest), calibrate(module, found, *args, **rest)
    assert jax.tree.all(jax.tree.map(np.array_equal, by_name, by_place))
    for by in ("autoinit", "init"):
        own = {**FAST, "seed": 0} if by == "autoinit" else {"seed": 0}
        arrays = record(module, by=by, **named, **rest, **own).initial()
        expected = record(module, *args, by=by, **rest, **own).initial()
        assert jax.tree.all(jax.tree.map(np.array_equal, arrays, expected))


def test_a_record_finds_its_model_by_names():
    made = record(LANGUAGE, inputs=TOKENS, train=False)
    loaded = qrjax.Record.from_json(made.to_json()).with_model(LANGUAGE, inputs=TOKENS, train=False)
    assert jax.tree.all(jax.tree.map(np.array_equal, loaded.initial(), made.initial()))


def test_nnx_modules_whose_inputs_have_names_only():
    module = Named(nnx.Rngs(0))
    assert analyze(module, inputs=X, scale=2.0)[0].second_moment == pytest.approx(1.0, rel=1e-4)
    variables = autoinit(module, inputs=X, scale=2.0)
    row = measure(module, variables, inputs=X, scale=2.0).weights[0]
    assert row.measured_second_moment == pytest.approx(1.0, rel=0.5)


def test_an_input_that_is_none_is_handed_on():
    class Either(nn.Module):
        @nn.compact
        def __call__(self, ids, embedded=None):
            return nn.Dense(4)(nn.Embed(8, 16)(ids) if embedded is None else embedded)

    assert [row.path for row in analyze(Either(), None, X)] == ["Dense_0", ""]


def test_numbers_beside_arrays_are_settings():
    pair = (lambda key, _time, x, **_: PAIR[0](key, x), lambda params, time, x, scale: scale * time * (x @ params["w"]))
    expected = analyze(PAIR, X)
    assert analyze(pair, 2.0, X, scale=0.5)[0].gain == pytest.approx(expected[0].gain)
    batch = {"x": X, "train": True, "name": "validation"}
    by_dict = (
        lambda key, b: PAIR[0](key, b["x"]),
        lambda params, b: b["x"] @ params["w"] * (1.0 if b["train"] else 2.0),
    )
    assert analyze(by_dict, batch)[0].gain == pytest.approx(expected[0].gain)


class Foreign:
    """An array of another library."""

    shape, dtype = (8, 16), "float32"

    def __array__(self, dtype=None, copy=None):
        return X


def test_arrays_of_other_libraries_are_not_settings():
    with pytest.raises(TypeError, match=r"arrays of NumPy or JAX, got a test_calls.Foreign of dtype float32 and shape"):
        analyze(DENSE, Foreign())


def test_a_missing_input_is_the_calls_own_error():
    with pytest.raises(TypeError, match=r"missing 1 required positional argument: 'inputs'"):
        autoinit(LANGUAGE, train=False)


# -- names that are ours ---------------------------------------------------------------------------------------------


def test_arguments_whose_names_are_ours():
    own = {"key": KEY, "target": np.float32(2.0), "seed": 1}
    report = analyze(Taken(), X, call_kwargs=own, target=3.0)
    assert report.weights[0].second_moment == pytest.approx(3.0)
    variables = autoinit(Taken(), X, call_kwargs=own, seed=4)
    np.testing.assert_array_equal(
        variables["params"]["Dense_0"]["kernel"],
        autoinit(Taken(), X, call_kwargs=own, seed=4)["params"]["Dense_0"]["kernel"],
    )
    measured = measure(Taken(), variables, X, call_kwargs=own)
    assert measured.weights[0].measured_second_moment == pytest.approx(1.0, rel=0.5)
    assert calibrate(Taken(), variables, X, call_kwargs=own).keys() == variables.keys()
    assert len(record(Taken(), X, call_kwargs=own)) == 2


class Optional(nn.Module):
    """A call that can do without arguments of names that are ours."""

    @nn.compact
    def __call__(self, x, target=None, method="mean", layout=None, select=None):
        del layout, select
        y = nn.Dense(4)(x).mean(1) if method == "mean" else nn.Dense(4)(x)
        return y if target is None else y - target


@pytest.mark.some(5)
@pytest.mark.parametrize("name", ["target", "method", "layout", "select"])
@pytest.mark.parametrize("function", [autoinit, analyze, record])
def test_arguments_whose_names_are_ours_are_not_lost(function, name):
    value = {"target": 2.0, "method": "all", "layout": "neurons", "select": "*/kernel"}[name]
    own = rf"`{name}` may be meant for this function or for the module's own call.* call_kwargs={{'{name}': ...}}"
    with pytest.raises(TypeError, match=own):
        function(Optional(), X, **{name: value})
    assert function(Optional(), X)  # nobody gave any
    if name != "method":
        assert function(Optional(), X, **{name: value}, call_kwargs={name: None})


def test_a_call_that_takes_rngs():
    class Noisy(nnx.Module):
        def __init__(self, rngs):
            self.linear, self.dropout = nnx.Linear(16, 4, rngs=rngs), nnx.Dropout(0.5)

        def __call__(self, x, rngs):
            return self.linear(self.dropout(x, rngs=rngs))

    module, own = Noisy(nnx.Rngs(0)), {"rngs": nnx.Rngs(1)}
    with pytest.raises(TypeError, match=r"call lacks `rngs`; .* call_kwargs={'rngs': ...}"):
        autoinit(module, X, rngs=nnx.Rngs(0))
    found = analyze(module, jax.ShapeDtypeStruct((8, 16), jnp.float32), call_kwargs=own)
    assert found.weights[0].input_second_moment == pytest.approx(2.0, rel=1e-3)
    assert measure(module, module, X, call_kwargs=own).measured


def test_a_call_whose_first_argument_is_a_key():
    pair = (
        lambda key, _rng, x: PAIR[0](key, x),
        lambda params, rng, x: PAIR[1](params, x + jax.random.normal(rng, x.shape)),
    )
    report = analyze(pair, KEY, jax.ShapeDtypeStruct((8, 16), jnp.float32))
    assert report.weights[0].input_second_moment == pytest.approx(2.0, rel=1e-3)


# -- as public programs call -----------------------------------------------------------------------------------------


class HandsOn(nnx.Module):
    """Hands an optional Rngs down to dropouts that hold none, as the Transformer of Flax's NNX examples does."""

    def __init__(self, rngs):
        self.first, self.second = nnx.Linear(16, 64, rngs=rngs), nnx.Linear(64, 4, rngs=rngs)
        self.dropout = nnx.Dropout(0.5)

    def __call__(self, inputs, *, positions=None, rngs=None):
        x = self.first(inputs if positions is None else inputs + positions)
        return self.second(self.dropout(x, rngs=rngs))


def test_an_optional_argument_that_ours_would_hide():
    module, shape = HandsOn(nnx.Rngs(0)), jax.ShapeDtypeStruct((8, 16), jnp.float32)
    for function in (autoinit, analyze, record):
        with pytest.raises(
            TypeError, match=r"`rngs` may be meant for this function or for the module's own call.*call_kwarg"
        ):
            function(module, shape, rngs=nnx.Rngs(0))
    with pytest.raises(TypeError, match="`rngs` may be meant"):
        measure(module, module, X, rngs=nnx.Rngs(0))
    report = analyze(module, shape, call_kwargs={"rngs": nnx.Rngs(1)})
    assert report.weights[1].input_second_moment == pytest.approx(2.0, rel=1e-3)
    found = autoinit(module, shape, rngs=nnx.Rngs(5), call_kwargs={"rngs": nnx.Rngs(1)}, **FAST)
    expected = autoinit(module, shape, key=nnx.Rngs(5)(), call_kwargs={"rngs": nnx.Rngs(1)}, **FAST)
    np.testing.assert_array_equal(found.first.kernel[...], expected.first.kernel[...])
    assert measure(module, found, X, call_kwargs={"rngs": nnx.Rngs(1)}).measured


class Encoder(nn.Module):
    """Settings and masks as a library of public Linen models passes them."""

    @nn.compact
    def __call__(self, input_ids, attention_mask, token_type_ids=None, position_ids=None, deterministic=True,
                 return_dict=True):  # fmt: skip
        x = nn.Embed(32, 16)(input_ids) + nn.Embed(16, 16)(position_ids)
        if token_type_ids is not None:
            x = x + nn.Embed(2, 16)(token_type_ids)
        x = nn.Dropout(0.1, deterministic=deterministic)(x) * attention_mask[..., None].astype(x.dtype)
        x = nn.Dense(4)(x)
        return {"logits": x} if return_dict else (x,)


def test_ids_masks_and_positions_with_a_dict_of_keys():
    ids, positions = (
        np.arange(24, dtype=np.int32).reshape(2, 12),
        np.broadcast_to(np.arange(12, dtype=np.int32), (2, 12)),
    )
    inputs = {"input_ids": ids, "attention_mask": np.ones_like(ids), "position_ids": positions}
    params, dropout = jax.random.split(jax.random.PRNGKey(3))
    rngs = {"params": params, "dropout": dropout}
    variables = autoinit(Encoder(), **inputs, return_dict=False, rngs=rngs, **FAST)
    expected = jax.eval_shape(lambda: Encoder().init(rngs, **inputs, return_dict=False))
    assert jax.tree.map(jnp.shape, variables) == jax.tree.map(jnp.shape, expected)
    np.testing.assert_array_equal(
        variables["params"]["Dense_0"]["kernel"],
        autoinit(Encoder(), ids, inputs["attention_mask"], None, positions, key=params, **FAST)["params"]["Dense_0"][
            "kernel"
        ],
    )
    dummy = analyze(Encoder(), **inputs | {"input_ids": np.zeros_like(ids)})
    assert any("one number everywhere" in finding for finding in dummy.findings)
    assert not any("one number everywhere" in finding for finding in analyze(Encoder(), **inputs).findings)


class Standardized(nn.Module):
    """A layer with statistics that a call in training writes."""

    @nn.compact
    def __call__(self, x):
        return nn.Dense(4)(nn.BatchNorm(use_running_average=False)(nn.Dense(8)(x)))


@pytest.mark.parametrize("mutable", [["batch_stats"], nn.DenyList(("params",)), True], ids=str)
def test_what_apply_may_write_does_not_hinder_init(mutable):
    network = Standardized()
    variables = qrjax.autoinit(network, X, mutable=mutable)
    assert jax.tree.structure(variables) == jax.tree.structure(network.init(jax.random.key(0), X))
    assert len(qrjax.analyze(network, X, mutable=mutable).weights) == 2
    assert len(qrjax.measure(network, variables, X, mutable=mutable).weights) == 2
