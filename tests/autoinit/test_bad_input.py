"""Bad input: a clear error, and the module's path where there is one. What has no rule is no error."""

import flax.linen as nn
import jax
import jax.extend.core
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import qrjax
from qrjax._rules._modules import MODULES
from qrjax._rules._registry import CUSTOM

X = np.random.default_rng(0).standard_normal((8, 16), np.float32)
DENSE = nn.Sequential([nn.Dense(8), nn.relu, nn.Dense(4)])
READERS = {
    "analyze": qrjax.analyze,
    "autoinit": qrjax.autoinit,
    "calibrate": lambda module, x, **options: qrjax.calibrate(module, module.init(jax.random.key(0), X), x, **options),
    "measure": lambda module, x: qrjax.measure(module, module.init(jax.random.key(0), X), x),
    "swept": lambda module, x: qrjax.autoinit(module, x, calibrate=True),
}
BOTH = ["analyze", "autoinit"]
ALL = [*BOTH, "calibrate"]


def refused(reader, error, message, module, x, **options):
    with pytest.raises(error, match=message):
        READERS[reader](module, x, **options)


@pytest.mark.parametrize("reader", ALL)
@pytest.mark.parametrize("module", [nn.LayerNorm(), nn.Sequential([nn.relu]), nn.Dropout(0.5, deterministic=True)])
def test_no_weights_at_all(reader, module):
    message = "no weights|`select` None matches no parameter"
    refused(reader, ValueError, message, module, X)


def test_no_weights_says_which_parameters_there_are():
    refused("analyze", ValueError, "no weights.*parameters: bias, scale", nn.LayerNorm(), X)
    refused("analyze", ValueError, "no weights.*parameters: none", nn.Sequential([nn.relu]), X)
    counts = nn.Dense(4, dtype=jnp.float32, param_dtype=jnp.int32, kernel_init=nn.initializers.ones)
    refused("analyze", ValueError, "no weights with a scale: bias, kernel hold integers", counts, X)
    refused("analyze", ValueError, "no weights", (lambda _, x: {"w": x}, lambda _, x: x), X)
    with pytest.raises(ValueError, match="no weights"):
        qrjax.measure(nn.LayerNorm(), nn.LayerNorm().init(jax.random.key(0), X), X)


@pytest.mark.parametrize("reader", ["calibrate", "measure", "swept"])
def test_an_input_of_second_moment_zero(reader):
    message = r"zero everywhere, so there is nothing to measure.*: jax.random.normal\(jax.random.key\(0\), \(8, 16\)\)"
    refused(reader, ValueError, message, DENSE, np.zeros((8, 16), np.float32))


@pytest.mark.parametrize("reader", BOTH)
def test_given_moments_of_zero(reader):
    shape = jax.ShapeDtypeStruct((8, 16), jnp.float32)
    refused(reader, ValueError, "mean 0 and variance 0 is no signal", DENSE, shape, input_variance=0.0)
    refused(
        reader, ValueError, "`input_variance` must be finite and not negative, got -1.0", DENSE, X, input_variance=-1.0
    )
    refused(reader, ValueError, "`input_variance` must be .*, got nan", DENSE, X, input_variance=float("nan"))
    refused(reader, ValueError, "`input_mean` must be finite, got inf", DENSE, X, input_mean=float("inf"))


@pytest.mark.parametrize("reader", ALL)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_an_input_that_is_not_finite(reader, bad):
    x = X.copy()
    x[1, 2] = x[3, 4] = bad
    refused(reader, ValueError, r"`sample_input` of shape \(8, 16\) holds 2 NaN or infinite values; clean it", DENSE, x)
    refused(reader, ValueError, "holds 2 NaN or infinite values", DENSE, jnp.asarray(x))


@pytest.mark.parametrize("reader", BOTH)
def test_a_shape_that_the_module_rejects_raises_its_own_error(reader):
    class Picky(nn.Module):
        @nn.compact
        def __call__(self, x):
            if x.ndim != 4:
                raise ValueError(f"Picky takes images, not {x.shape}")
            return nn.Dense(4)(x)

    refused(reader, ValueError, r"^Picky takes images, not \(8, 16\)", Picky(), X)
    # Flax's own, with its own text.
    refused(reader, Exception, "dot_general|shapes|matrix|broadcast|contract", nn.Conv(4, (3, 3)), X[0])


def test_variables_of_another_shape_raise_the_frameworks_own_error():
    variables = DENSE.init(jax.random.key(0), X[:, :4])
    with pytest.raises(Exception, match="layers_0"):
        qrjax.measure(DENSE, variables, X)


@pytest.mark.parametrize("reader", BOTH)
def test_a_bound_module(reader):
    bound = DENSE.bind(DENSE.init(jax.random.key(0), X))
    refused(reader, ValueError, r"`module` Sequential is bound to variables; pass the unbound module.*unbind", bound, X)
    with pytest.raises(ValueError, match="is bound to variables"):
        qrjax.measure(bound, bound.variables, X)


@pytest.mark.parametrize("module", [None, "Dense", nn.Dense, (nn.relu,), jnp.dot, (1, 2)])
@pytest.mark.parametrize("reader", BOTH)
def test_no_module(reader, module):
    message = (
        r"`module` must be a flax.linen.Module, a flax.nnx.Module, .* or a pair of functions \(init, apply\), got "
    )
    refused(reader, TypeError, message, module, X)


def test_a_method_in_the_place_of_its_module():
    for method in (DENSE.apply, DENSE.init, nnx.Linear(16, 4, rngs=nnx.Rngs(0)).__call__):
        refused(
            "analyze", TypeError, "`module` must be .*; pass the module itself, and which of its methods", method, X
        )


@pytest.mark.parametrize("reader", ALL)
@pytest.mark.parametrize("target", [-1.0, 0, 0.0, float("nan"), float("inf")])
def test_a_target_that_is_not_positive(reader, target):
    message = "`target` is a second moment, so it must be positive and finite, got "
    refused(reader, ValueError, message, DENSE, X, target=target)


@pytest.mark.parametrize("reader", ALL)
@pytest.mark.parametrize("target", [None, True, [1.0]])
def test_a_target_that_is_no_number(reader, target):
    refused(reader, TypeError, "`target` must be a number.*got ", DENSE, X, target=target)


@pytest.mark.parametrize("reader", ALL)
def test_a_target_that_is_a_word_but_no_setting(reader):
    refused(reader, ValueError, "`target` must be a number, 'stable', a mapping.*got '1'", DENSE, X, target="1")


@pytest.mark.parametrize("reader", ALL)
@pytest.mark.parametrize("select", ["conv*", ["a", "b"], lambda _: False, "kernel"])
def test_a_selection_that_matches_nothing(reader, select):
    message = "`select` .* matches no parameter; paths: layers_0/bias, layers_0/kernel.*may use"
    refused(reader, ValueError, message, DENSE, X, select=select)


@pytest.mark.parametrize("reader", ALL)
@pytest.mark.parametrize("select", [1, [1]])
def test_a_selection_of_another_type(reader, select):
    refused(reader, TypeError, "`select` must be a pattern, patterns or a function of a path", DENSE, X, select=select)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"distribution": "cauchy"}, "`distribution` must be one of 'truncated_normal'.*got 'cauchy'"),
        ({"source": "threefry"}, "`source` must be one of 'sobol', 'hash'.*got 'threefry'"),
        ({"layout": "rows"}, "`layout` must be one of .*'outputs'.*got 'rows'"),
    ],
)
def test_settings_of_the_draw(option, message):
    refused("autoinit", ValueError, message, DENSE, X, **option)


def test_other_settings():
    refused("analyze", ValueError, "`weights` must be one of .*, got 'torch'", DENSE, X, weights="torch")
    variables, shape = DENSE.init(jax.random.key(0), X), jax.ShapeDtypeStruct(X.shape, X.dtype)
    with pytest.raises(ValueError, match="`sample_input` must hold real numbers to be measured"):
        qrjax.measure(DENSE, variables, shape)
    with pytest.raises(ValueError, match=r"`module` holds shapes instead of arrays.*pass the function that makes it"):
        qrjax.autoinit(nnx.eval_shape(lambda: nnx.Linear(16, 4, rngs=nnx.Rngs(0))), X)
    with pytest.raises(ValueError, match="the terms of a WeightedSum must have one shape"):
        qrjax.WeightedSum().init(jax.random.key(0), X, X[:, :3])
    with pytest.raises(ValueError, match="at least one term, got none"):
        qrjax.WeightedSum().init(jax.random.key(0))
    with pytest.raises(ValueError, match="this WeightedSum takes 2 terms, got 1"):
        qrjax.WeightedSum.NNX(2)(X)


# -- rules that return nonsense ---------------------------------------------------------------------------------------

cube_p = jax.extend.core.Primitive("test_cube")
cube_p.def_impl(lambda x: x**3)
cube_p.def_abstract_eval(lambda x: jax.core.ShapedArray(x.shape, x.dtype))
jax.interpreters.mlir.register_lowering(cube_p, jax.interpreters.mlir.lower_fun(lambda x: x**3, multiple_results=False))


class Cubed(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(4)(cube_p.bind(nn.Dense(8)(x)))


class Inner(nn.Module):
    @nn.compact
    def __call__(self, x):
        return jnp.sort(x, axis=-1)


class Outer(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(4)(Inner(name="inner")(nn.Dense(8)(x)))


@pytest.fixture
def rules():
    """Registered rules are forgotten again."""
    before, modules = dict(CUSTOM), dict(MODULES)
    yield
    for table, kept in ((CUSTOM, before), (MODULES, modules)):
        table.clear()
        table.update(kept)


NONSENSE = [
    (lambda x: x.mean, TypeError, "must return a qrjax.Signal, got .*Signal.normal or signal.map"),
    (lambda _: None, TypeError, "must return a qrjax.Signal, got None"),
    (lambda x: x.with_shape((8, 3)), ValueError, r"must return a signal of shape \(8, 8\), got \(8, 3\)"),
    (
        lambda x: x.fresh(values=x.values * np.nan),
        ValueError,
        "returned a signal whose second moment is nan; it must be finite",
    ),
]


@pytest.mark.usefixtures("rules")
@pytest.mark.parametrize(("function", "error", "message"), NONSENSE)
def test_a_rule_that_returns_nonsense(function, error, message):
    qrjax.rule(cube_p)(lambda x: function(x))
    refused("analyze", error, "the rule of test_cube " + message, Cubed(), X)


@pytest.mark.usefixtures("rules")
@pytest.mark.parametrize(("function", "error", "message"), NONSENSE)
def test_a_module_rule_that_returns_nonsense_is_named_with_its_path(function, error, message):
    qrjax.module_rule(Inner)(lambda x: function(x))
    refused("analyze", error, "the module rule of Inner at 'inner' " + message, Outer(), X)


@pytest.mark.usefixtures("rules")
def test_rules_of_the_wrong_number_and_for_the_wrong_things():
    qrjax.rule(cube_p)(lambda x: [x, x])
    refused("analyze", ValueError, "the rule of test_cube must return 1 signals, got 2", Cubed(), X)
    with pytest.raises(TypeError, match="`primitive` must be a JAX primitive or its name, got 3"):
        qrjax.rule(3)
    with pytest.raises(TypeError, match="`kind` must be a class of modules, got 'Dense'"):
        qrjax.module_rule("Dense")


@pytest.mark.usefixtures("rules")
def test_rules_that_make_sense():
    @qrjax.rule(cube_p)
    def cube(x):
        return x.map(lambda values: values**3)

    report = qrjax.analyze(Cubed(), X)
    assert report.weights[-1].input_second_moment == pytest.approx(15.0, rel=1e-3)  # E[z^6]
    assert not any(row.notes for row in report)

    @qrjax.module_rule(Inner)
    def inner(x):
        return qrjax.Signal.normal(x.shape, 0.0, 9.0)

    assert qrjax.analyze(Outer(), X).weights[-1].input_second_moment == pytest.approx(9.0)


# -- operations without a rule ----------------------------------------------------------------------------------------


def test_an_operation_without_a_rule_is_sampled_and_noted():
    report = qrjax.analyze(Cubed(), np.repeat(X, 64, 0))
    noted = [row for row in report if any("test_cube" in note and "sampling" in note for note in row.notes)]
    assert len(noted) == 1
    # By 512 x 8 samples of z^6, whose variance is 10395 - 225: 5 sigma.
    assert report.weights[-1].input_second_moment == pytest.approx(15.0, abs=5 * np.sqrt(10170 / 4096))


def test_a_sorted_signal_is_noted_where_it_comes_out():
    report = qrjax.analyze(Outer(), X)
    assert any("sort by sampling" in note for row in report for note in row.notes)
    assert report["inner"].second_moment == pytest.approx(1.0, rel=0.5)
