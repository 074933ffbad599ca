"""Second moments by pattern, by function, and chosen by the predicted gradient."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import qrjax

X = jax.ShapeDtypeStruct((8, 32), jnp.float32)


def chain(activation, depth, norm=False):
    layers = []
    for _ in range(depth - 1):
        layers += [nn.Dense(32), *([nn.LayerNorm()] if norm else []), activation]
    return nn.Sequential([*layers, nn.Dense(10)])


def moments(report):
    return [row.second_moment for row in report.weights]


def test_mapping():
    target = {"layers_0/*": 0.25, "layers_*/kernel": 4.0}
    report = qrjax.analyze(chain(nn.tanh, 3), X, target=target)
    np.testing.assert_allclose(moments(report), [0.25, 4.0, 4.0], rtol=1e-5)
    assert report.target == report.to_dict()["target"] == target
    assert "target 0.25 for layers_0/*, 4 for layers_*/kernel" in repr(report)
    alone = qrjax.analyze(chain(nn.tanh, 3), X, target={"layers_2/kernel": 0.5})
    np.testing.assert_allclose(moments(alone), [1.0, 0.5, 1.0], rtol=1e-5)


def test_function():
    report = qrjax.analyze(chain(nn.tanh, 3), X, target=by_path)
    np.testing.assert_allclose(moments(report), [2.0, 0.125, 0.125], rtol=1e-5)
    assert report.target is by_path
    assert report.to_dict()["target"] == "by_path"
    assert "target by_path" in repr(report)


def by_path(path):
    return 2.0 if path.startswith("layers_0") else 0.125


def test_a_weight_used_twice_and_a_masked_one():
    class Shared(nn.Module):
        @nn.compact
        def __call__(self, x):
            layer = nn.Dense(32, name="shared")
            x = nn.gelu(layer(nn.gelu(layer(x))))
            return x @ jnp.tanh(self.param("squashed", nn.initializers.normal(), (32, 4)))

    report = qrjax.analyze(Shared(), X, target={"shared/*": 0.25, "squashed": 0.125})
    first, second, third = moments(report)
    assert (first + second) / 2 == pytest.approx(0.25, rel=2e-2)
    assert third == pytest.approx(0.125, rel=1e-3)


def test_what_is_wrong_is_said():
    network = chain(nn.tanh, 3)
    for target, error, said in [
        ("stabel", ValueError, r"`target` must be a number, 'stable', a mapping .* 'stabel'; did you mean 'stable'"),
        ({}, TypeError, r"`target` as a mapping must be from patterns of paths to numbers.*got"),
        ({3: 1.0}, TypeError, r"`target` as a mapping must be from patterns of paths"),
        ({"*": -1.0}, ValueError, r"`target\['\*'\]` is a second moment, so it must be positive and finite, got -1.0"),
        ({"*": "a"}, TypeError, r"`target\['\*'\]` must be a number"),
        (lambda _: jnp.nan, ValueError, r"`target\('layers_0/kernel'\)` is a second moment, .* got nan"),
        (lambda _: None, TypeError, r"`target\('layers_0/kernel'\)` must be a number, .* got None"),
        (
            {"layer_0/kernel": 1.0}, ValueError,
            r"`target` has the pattern 'layer_0/kernel', which matches no parameter; .*did you mean 'layers_0/kernel'",
        ),
        ({"*/bias": 1.0}, ValueError, r"`target` has the pattern '\*/bias', which matches no weight; weights: lay"),
    ]:  # fmt: skip
        with pytest.raises(error, match=said):
            qrjax.autoinit(network, X, target=target)
    with pytest.raises(ValueError, match="`target` 'stable' chooses scales, but weights='module' keeps"):
        qrjax.analyze(network, X, target="stable", weights="module")


@pytest.mark.parametrize(
    ("activation", "depth", "octaves"),
    [
        (nn.tanh, 30, (2, 4)),
        pytest.param(nn.swish, 20, (5, 7), marks=pytest.mark.slow),
        pytest.param(nn.gelu, 30, (7, 9), marks=pytest.mark.slow),
    ],
)
def test_stable_chooses_as_the_closed_form_does(activation, depth, octaves):
    report = qrjax.analyze(chain(activation, depth), X, target="stable")
    assert report.target == {f"layers_{2 * depth - 2}/kernel": 1.0, "*": report.target["*"]}
    chosen = -np.log2(report.target["*"])
    assert octaves[0] <= chosen <= octaves[1]
    *hidden, head = moments(report)
    assert head == pytest.approx(1.0, rel=1e-4)
    np.testing.assert_allclose(hidden, report.target["*"], rtol=1e-4)
    # Of plain layers theory knows both factors: they are within the half octave where it was chosen, and for twice that
    # one of them is not.
    theory = qrjax.stability(activation, targets=[2.0**-chosen, 2.0 ** (1 - chosen)])
    growth = np.log2(np.maximum(theory.gradient, theory.scale)) * (depth - 2)
    assert growth[0] < 0.6
    assert growth[1] > 0.4
    (said,) = [f for f in report.findings if f.startswith('target="stable": hidden')]
    assert said.severity == "info"
    assert f"have the second moment 2^-{chosen:.0f}; the gradient " in said
    assert f"over {depth - 1} weights (2^" in said


def test_stable_is_one_where_nothing_is_gained():
    for network, said in [
        (chain(nn.relu, 6), "second moment 1; the gradient"),
        (chain(nn.gelu, 6, norm=True), "second moment 1; the gradient"),
        (chain(nn.softplus, 6), "with smaller ones gradients change more"),
        (chain(nn.tanh, 2), "as there is no depth"),
        (nn.Dense(10), "no hidden weight has a gradient"),
    ]:
        report = qrjax.analyze(network, X, target="stable")
        assert report.target == 1.0
        assert said in next(f for f in report.findings if f.startswith('target="stable"'))


@pytest.mark.slow
def test_stable_says_where_no_target_keeps_two_examples_apart():
    def remedies(activation):
        report = qrjax.analyze(chain(activation, 40), X, target="stable")
        return ["a shift of the activation" in f for f in report.findings if f.startswith('target="stable": hidden')]

    assert remedies(nn.relu) == [True]
    assert remedies(lambda x: nn.relu(x + 1) - 1) == [False]


def test_stable_keeps_two_examples_apart():
    def curved(x):
        # As elu: an error of the signal's size does not grow, but its mean makes examples alike.
        return jnp.where(x < 0, jnp.expm1(4 * x) / 4, x)

    report = qrjax.analyze(chain(curved, 12), X, target="stable")
    straight = qrjax.analyze(chain(curved, 12), X, target=2.0**-12)
    first = qrjax.analyze(chain(curved, 12), X)
    apart = [1 - found.weights[-2].correlation.get(0, 0.0) for found in (first, report, straight)]
    assert apart[0] < apart[2] / 2 < apart[1]


def advice(report):
    return [f for f in report.findings if 'distribution="orthogonal"' in f]


def test_stable_advises_orthogonal_weights_where_many_layers_are_plain():
    (said,) = advice(qrjax.analyze(chain(nn.relu, 20), X, target="stable"))
    assert "20 weights follow one another with nothing but activations between them" in said
    assert not advice(qrjax.analyze(chain(nn.relu, 19), X, target="stable"))


@pytest.mark.slow
def test_stable_advises_nothing_where_norms_or_orthogonal_weights_are():
    assert not advice(qrjax.analyze(chain(nn.relu, 20, norm=True), X, target="stable"))
    options = {"target": "stable", "distribution": "orthogonal", "report": True}
    assert not advice(qrjax.autoinit(chain(nn.relu, 20), X, **options)[1])


class Chain(nnx.Module):
    def __init__(self, rngs):
        self.layers = nnx.List([nnx.Linear(32, 10 if i == 6 else 32, rngs=rngs) for i in range(7)])

    def __call__(self, x):
        for layer in self.layers[:-1]:
            x = nnx.tanh(layer(x))
        return self.layers[-1](x)


def test_linen_nnx_pairs_and_what_was_chosen_agree():
    network = chain(nn.tanh, 7)
    report = qrjax.analyze(network, X, target="stable")
    other = qrjax.analyze(Chain(nnx.Rngs(0)), X, target="stable")
    pair = (lambda key, x: network.init(key, x)["params"], lambda params, x: network.apply({"params": params}, x))
    third = qrjax.analyze(pair, X, target="stable")
    gains = [[row.gain for row in found.weights] for found in (report, other, third)]
    assert gains[0] == gains[1] == gains[2]
    assert report.target["*"] == other.target["*"] < 1
    # The report's target is one itself.
    assert [row.gain for row in qrjax.analyze(network, X, target=report.target).weights] == gains[0]


@pytest.mark.slow
def test_stable_within_jit_in_records_and_calibrated():
    network = chain(nn.tanh, 7)
    variables = qrjax.autoinit(network, X, seed=3, target="stable")
    traced = jax.jit(lambda seed: qrjax.autoinit(network, X, seed=seed, target="stable"))(3)
    jax.tree.map(np.testing.assert_array_equal, variables, traced)
    record = qrjax.record(network, X, seed=3, target="stable")
    kernel = variables["params"]["layers_4"]["kernel"]
    np.testing.assert_array_equal(record.weight("layers_4/kernel", (...,)), kernel)
    x = jax.random.normal(jax.random.key(1), X.shape)
    calibrated = qrjax.calibrate(network, variables, x, target="stable")
    found = [row.measured_second_moment for row in qrjax.measure(network, calibrated, x).weights]
    chosen = qrjax.analyze(network, x, target="stable").target["*"]
    np.testing.assert_allclose(found, [chosen] * 6 + [1.0], rtol=1e-2)
