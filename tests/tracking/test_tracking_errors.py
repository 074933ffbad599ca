"""Whatever does not fit is said, before anything is done."""

import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import qrjax

KEY = jax.random.key(2)
LAYER, X = nn.Dense(3, kernel_init=qrjax.he_normal_hash()), jnp.ones((1, 4))
INIT = functools.partial(LAYER.init, KEY, X)
PARAMS = INIT()["params"]
RECORD = qrjax.record(LAYER, X, by="init", key=KEY)
MASK = jax.tree.map(lambda x: jnp.ones(x.shape, bool), PARAMS)
KERNEL = PARAMS["kernel"]
FORMS = {"function": INIT, "record": RECORD, "variables": PARAMS}

awakened = functools.partial(qrjax.mask, sparsity=0.5)
CALLS = {
    "changes": qrjax.changes,
    "awakened": awakened,
    "prune": lambda form, params: qrjax.prune(params, jax.tree.map(lambda x: x == 0, params), "initial", form),
    "max_sparsity": lambda form, params: qrjax.max_sparsity(lambda _: 0.0, form, params, 0.1, progress=False),
}
MISFITS = {
    "missing": ({"kernel": KERNEL}, r"the variables lack 'bias' of shape \(3,\)"),
    "extra": (PARAMS | {"scale": jnp.ones(3)}, r"the variables have 'scale' of shape \(3,\), which the record lacks"),
    "shape": (PARAMS | {"kernel": jnp.ones((3, 4))}, r"'kernel' has the shape \(3, 4\), and in the record \(4, 3\)"),
    "dtype": (PARAMS | {"kernel": jnp.ones((4, 3), jnp.bfloat16)}, "'kernel' has the dtype bfloat16, in the record f"),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("misfit", MISFITS)
def test_params_of_another_model(form, call, misfit):
    params, message = MISFITS[misfit]
    with pytest.raises(ValueError, match=message):
        CALLS[call](FORMS[form], params)


@pytest.mark.parametrize("call", CALLS)
def test_leaves_that_are_no_arrays(call):
    with pytest.raises(TypeError, match=r"`params` must hold arrays, got 1\.0 of type float at 'bias'"):
        CALLS[call](INIT, {"kernel": np.ones((4, 3), np.float32), "bias": 1.0})
    with pytest.raises(TypeError, match=r"`params` must hold arrays, got 3 of type int$"):
        qrjax.changes(INIT, 3)


@pytest.mark.parametrize("form", [None, "model.json", b"{}", 3])
def test_no_source_of_initial_values(form):
    with pytest.raises(TypeError, match=r"`record_or_init_fn` must (be a qrjax\.Record|hold arrays)"):
        qrjax.changes(form, PARAMS)


def test_a_record_that_needs_the_model():
    layer = nn.Dense(3)
    record = qrjax.Record.from_json(qrjax.record(layer, X, by="init", key=KEY).to_json())
    params = jax.jit(layer.init)(KEY, X)["params"]
    for call in (qrjax.changes, awakened):
        with pytest.raises(LookupError, match=r"'kernel' come from a builder of the model's own.*with_model"):
            call(record, params)
    assert qrjax.changes(record.with_model(layer, X), params).total.changed == 0


@pytest.mark.parametrize("threshold", [-1e-9, -math.inf, math.nan, np.float32(-1)])
def test_thresholds_out_of_range(threshold):
    for call in (qrjax.changes, qrjax.mask):
        with pytest.raises(ValueError, match="`threshold` must not be negative or NaN, got"):
            call(INIT, PARAMS, threshold=threshold)


@pytest.mark.parametrize("threshold", ["0.1x", [1.0], np.ones(2), 1j])
def test_thresholds_that_are_no_numbers(threshold):
    for call in (qrjax.changes, qrjax.mask):
        with pytest.raises(TypeError, match="`threshold` must be a number, got"):
            call(INIT, PARAMS, threshold=threshold)


@pytest.mark.parametrize("sparsity", [-0.01, 1.01, math.nan, math.inf])
def test_sparsities_out_of_range(sparsity):
    with pytest.raises(ValueError, match=r"`sparsity` is the fraction of weights that go, in \[0, 1\], got"):
        qrjax.mask(INIT, PARAMS, sparsity=sparsity)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({}, ValueError, "give one of `threshold` and `sparsity`, got threshold=None, sparsity=None"),
        ({"sparsity": 0.1, "threshold": 0.1}, ValueError, "give one of `threshold` and `sparsity`"),
        ({"sparsity": "half"}, ValueError, "`sparsity` must be a number, or as in '2:4' .*, got 'half'"),
        ({"sparsity": [0.5]}, TypeError, r"`sparsity` must be a number or a text such as '2:4', got \[0\.5\]"),
        ({"sparsity": "5:4"}, ValueError, "`sparsity` must be a number, or as in '2:4' .*, got '5:4'"),
        ({"sparsity": "2:4", "scope": "global"}, ValueError, "`scope` 'global' does not go with `sparsity` '2:4'"),
        ({"sparsity": "2:4", "whole": "filter"}, ValueError, "`whole` 'filter' does not go with `sparsity` '2:4'"),
        ({"sparsity": "2:4", "at_least": 0.1}, ValueError, "`at_least` 0.1 does not go with `sparsity` '2:4'"),
        ({"sparsity": 0.1, "at_least": 2}, ValueError, "`at_least` is the fraction of every variable that stays"),
        ({"sparsity": 0.1, "at_least": "some"}, TypeError, "`at_least` must be a number, got 'some'"),
        ({"sparsity": 0.1, "whole": "row"}, ValueError, "`whole` must be 'filter', 'head' or axes, got 'row'"),
        ({"sparsity": 0.1, "whole": 2}, ValueError, "`whole` 2 is outside a shape of 2 dimensions"),
        ({"sparsity": 0.1, "whole": "head"}, ValueError, "no variable is a projection .*; paths: kernel"),
        ({"sparsity": "2:4", "in_axis": 2}, ValueError, "`in_axis` 2 is outside a shape of 2 dimensions"),
        ({"sparsity": 0.1, "within": {"bias": MASK["bias"]}}, ValueError, "the mask lack 'kernel'"),
        ({"sparsity": 0.1, "criterion": "size"}, ValueError, "`criterion` must be one of 'change', .*got 'size'"),
        ({"sparsity": 0.1, "scope": "model"}, ValueError, "`scope` must be one of 'layer', 'global', got 'model'"),
        (
            {"sparsity": 0.1, "select": "*/kernel"},
            ValueError,
            r"no variable is left to prune with `select` '\*/kernel'",
        ),
        ({"sparsity": 0.1, "keep": "kernel"}, ValueError, "no variable is left .*`keep` 'kernel'; paths: bias, kernel"),
        ({"sparsity": 0.1, "select": ()}, ValueError, "no variable is left"),
        ({"sparsity": 0.1, "select": 5}, TypeError, "`select` must be a pattern, patterns or a function"),
        ({"sparsity": 0.1, "keep": [5]}, TypeError, "`keep` must be a pattern, patterns or a function"),
    ],
)
def test_options_of_awakened(options, error, message):
    with pytest.raises(error, match=message):
        qrjax.mask(INIT, PARAMS, **options)


@pytest.mark.parametrize("criterion", ["change", "relative_change", "movement"])
def test_criteria_that_need_initial_values(criterion):
    with pytest.raises(ValueError, match=f"`criterion` '{criterion}' compares with the initial weights"):
        qrjax.mask(None, PARAMS, criterion=criterion, sparsity=0.5)


@pytest.mark.parametrize(
    ("value", "options"),
    [
        pytest.param(math.nan, {"sparsity": 0.5}, marks=pytest.mark.slow),
        (math.inf, {"threshold": 0.1}),
        pytest.param(-math.inf, {"sparsity": 0.0, "scope": "global"}, marks=pytest.mark.slow),
    ],
)
def test_weights_that_no_criterion_ranks(value, options):
    broken = PARAMS | {"kernel": KERNEL.at[1, :2].set(value)}
    for criterion in ("change", "magnitude", "random"):
        with pytest.raises(ValueError, match=r"'kernel' holds 2 NaN or infinite weights.*qrjax\.changes counts"):
            qrjax.mask(INIT, broken, criterion=criterion, **options)
    assert qrjax.changes(INIT, broken).total.not_finite == 2
    kept = PARAMS | {"bias": PARAMS["bias"].at[0].set(value)}
    assert not np.asarray(qrjax.mask(INIT, kept, sparsity=1)["kernel"]).any()


MASKS = {
    "missing": ({"kernel": MASK["kernel"]}, ValueError, "differ in structure: the mask lack 'bias'"),
    "extra": (MASK | {"scale": MASK["bias"]}, ValueError, "differ in structure: the params lack 'scale'"),
    "shape": (
        MASK | {"bias": np.ones(4, bool)},
        ValueError,
        r"`mask` has the shape \(4,\) at 'bias', the params \(3,\)",
    ),
    "float": (MASK | {"bias": np.ones(3)}, TypeError, "`mask` must be of booleans, got float64 at 'bias'; compare"),
    "integer": (
        MASK | {"kernel": np.ones((4, 3), int)},
        TypeError,
        "`mask` must be of booleans, got int64 at 'kernel'",
    ),
    "scalar": (MASK | {"bias": True}, TypeError, "`mask` must hold arrays, got True of type bool at 'bias'"),
    "array": (np.ones(3, bool), ValueError, "differ in structure"),
}


@pytest.mark.parametrize("name", MASKS)
def test_masks_that_do_not_fit(name):
    mask, error, message = MASKS[name]
    with pytest.raises(error, match=message):
        qrjax.prune(PARAMS, mask)
    with pytest.raises(error, match=message):
        qrjax.prune(PARAMS, mask, "initial", INIT)
    with pytest.raises(error, match=message):
        qrjax.keep_pruned(optax.sgd(0.1), mask).init(PARAMS)


def test_options_of_prune():
    with pytest.raises(ValueError, match="`to` must be one of 'zero', 'initial', got 'one'"):
        qrjax.prune(PARAMS, MASK, "one")
    with pytest.raises(ValueError, match="`record_or_init_fn` must be given for to='initial'"):
        qrjax.prune(PARAMS, MASK, "initial")


@pytest.mark.parametrize("tolerance", [-1e-9, math.nan, "little", None])
def test_tolerances_out_of_range(tolerance):
    with pytest.raises(ValueError, match="`tolerance` is by how much the loss may rise, not negative and not NaN, got"):
        qrjax.max_sparsity(lambda _: 0.0, INIT, PARAMS, tolerance)


@pytest.mark.parametrize("steps", [0, -1, 2.5])
def test_steps_out_of_range(steps):
    with pytest.raises(ValueError, match="`steps` must be a positive integer, got"):
        qrjax.max_sparsity(lambda _: 0.0, INIT, PARAMS, 0.1, steps=steps)


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_to_begin_with(loss):
    with pytest.raises(ValueError, match=f"the loss is {loss} before anything is pruned"):
        qrjax.max_sparsity(lambda _: loss, INIT, PARAMS, 0.1, progress=False)


def test_a_loss_that_raises_is_not_hidden():
    def loss(_):
        raise RuntimeError("no batch")

    with pytest.raises(RuntimeError, match="no batch"):
        qrjax.max_sparsity(loss, INIT, PARAMS, 0.1, progress=False)
