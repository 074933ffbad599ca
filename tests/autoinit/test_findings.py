"""What a report says in words, on networks built to deserve it, and nothing on one that does not."""

import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn

import qrjax

X = jax.ShapeDtypeStruct((32, 128), jnp.float32)


class Deep(nn.Module):
    activation: object
    depth: int = 30
    bias: float = 0.0
    scale: float = 1.0

    @nn.compact
    def __call__(self, x):
        for _ in range(self.depth):
            bias = nn.initializers.constant(self.bias)
            init = nn.initializers.variance_scaling(self.scale, "fan_in", "truncated_normal")
            x = self.activation(nn.Dense(128, kernel_init=init, bias_init=bias)(x))
        return nn.Dense(128)(x)


class Attention(nn.Module):
    sharpness: float

    @nn.compact
    def __call__(self, x):
        scores = nn.Dense(64)(x) * self.sharpness
        return nn.Dense(16)(nn.softmax(scores))


@pytest.mark.few("module0-module-vanishing", "module3*", "module5*")
@pytest.mark.parametrize(
    ("module", "weights", "word"),
    [
        (Deep(nn.relu), "module", "vanishing"),
        (Deep(nn.relu, scale=8.0), "module", "exploding"),
        (Deep(nn.relu, depth=2, bias=-4.0), "autoinit", "dead units"),
        (Deep(nn.relu), "autoinit", "correlation tends to 1"),
        (Deep(nn.gelu), "autoinit", "variance map has a slope of 1"),
        (Attention(20.0), "autoinit", "saturated softmax"),
    ],
)
def test_findings(module, weights, word):
    report = qrjax.analyze(module, X, weights=weights)
    assert any(word in finding for finding in report.findings), report.findings
    assert all(finding in str(report) for finding in report.findings)


@pytest.mark.parametrize("module", [Deep(nn.selu, depth=6), Attention(1.0)])
def test_nothing_is_found_where_nothing_is_wrong(module):
    assert qrjax.analyze(module, X).findings == ()


def test_an_amplifying_map_says_how_much():
    finding = next(f for f in qrjax.analyze(Deep(nn.gelu), X).findings if "variance map" in f)
    slope = float(finding.split("slope of ")[1].split(" ")[0])
    grown, layers = float(finding.split("grow ")[1].split(" ")[0]), int(finding.split("over ")[1].split(" ")[0])
    assert 1.05 < slope < 1.3
    assert grown == pytest.approx(slope**layers, rel=0.05)


@pytest.mark.parametrize(("scale", "said"), [(1.0, 0), (0.1, 1)])
def test_parts_of_one_weight_that_are_used_by_themselves(scale, said):
    def halves(p, x):
        return nn.relu(x @ p["w"][:, :32]), (scale * x) @ p["w"][:, 32:], x @ p["v"]

    pair = (lambda key, _: {name: jax.random.normal(key, (128, 64)) for name in "wv"}, halves)
    report = qrjax.analyze(pair, X)
    assert [bool(row.notes) for row in report.weights] == [True, True, False]
    assert all(note == "a part of w: one scale for all its parts, whose mean has the target"
               for row in report.weights for note in row.notes)  # fmt: skip
    assert sum("parts: w holds parts" in finding for finding in report.findings) == said
