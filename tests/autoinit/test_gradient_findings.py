"""What a report says of gradients, and what it raises in people's tests."""

import dataclasses
import json
import math
import pickle

import jax
import pytest
from flax import linen as nn

import qrjax
from qrjax._interpreter._gradient_findings import gradient_findings

ROW = qrjax.Row("", "dot_general", (8, 4), 4.0, 0.5, 0.0, 1.0, 0.0, 1.0, {}, gradient=1.0, weight_gradient=1.0)


def rows(powers, half=""):
    """Rows of weights whose gradients have these squared norms, in octaves."""
    return [
        dataclasses.replace(
            ROW, path=f"Dense_{i}", weight=f"Dense_{i}/kernel", **{f"{half}gradient_norm": 2 ** (power / 2)}
        )
        for i, power in enumerate(powers)
    ]


def said(rows):
    return [(found.severity, str(found)) for found in gradient_findings(rows)]


def chain(octaves, count=40):
    return [octaves * (1 - i / (count - 1)) for i in range(count)]


@pytest.mark.parametrize(
    ("powers", "severity", "words"),
    [
        (chain(7.8), "warning", "the gradient grows 2^7.8-fold from Dense_39 to Dense_0 (predicted"),
        (chain(-7.8), "warning", "the gradient falls 2^7.8-fold from Dense_39 to Dense_0 (predicted"),
        (chain(20, 21), "error", "exploding gradient: it grows 2^20.0-fold from Dense_20 to Dense_0 (predicted"),
        (chain(-20, 21), "error", "vanishing gradient: it falls 2^20.0-fold from Dense_20 to Dense_0 (predicted"),
        # One broken layer, among many and among a few.
        ([9.0] * 12 + [0.0] * 12, "warning",
         "the gradient grows 2^9.0-fold from Dense_23 to Dense_0, most of it from Dense_12 to Dense_11 (predicted"),
        ([9.0, 9.0, 0.0], "warning",
         "the gradient grows 2^9.0-fold from Dense_2 to Dense_0, most of it from Dense_2 to Dense_1 (predicted"),
        ([-6.0, -5.0, 0.0] * 8 + [-14.0, -15.0, -8.0] * 8, "warning",
         "the gradient grows 2^8.0-fold from Dense_47 to Dense_2, most of it from Dense_26 to Dense_23 (predicted"),
    ],
)  # fmt: skip
def test_growth(powers, severity, words):
    ((found, sentence),) = said(rows(powers))
    assert found == severity
    assert sentence.startswith(words)
    assert sentence.endswith("(predicted, squared norm per example)")


@pytest.mark.parametrize(
    "powers",
    [
        chain(5.0),
        [0.0] * 20 + [8.0],  # a head behind a mean over places
        [-8.0, -7.0, 0.0, 1.0, 0.0, 0.0] * 6,  # queries and keys
        [7.0] + [0.0] * 12,  # a table of words
        [],
        [3.0],
    ],
)
def test_what_is_beside_the_stream_is_no_growth(powers):
    assert said(rows(powers)) == []


def test_tables_have_a_scale_of_their_own():
    found = rows([9.0, 9.0, *[0.0] * 12])
    assert len(said(found)) == 1
    assert said([*(dataclasses.replace(row, op="gather") for row in found[:2]), *found[2:]]) == []


def test_predictions_speak_first_and_measurements_where_they_do_not():
    predicted, measured = rows(chain(8.0)), rows(chain(9.0), "measured_")
    both = [dataclasses.replace(p, measured_gradient_norm=m.measured_gradient_norm)
            for p, m in zip(predicted, measured, strict=True)]  # fmt: skip
    assert [("2^8.0" in s, "predicted" in s) for _, s in said(both)] == [(True, True)]
    assert [("2^9.0" in s, "measured" in s) for _, s in said(measured)] == [(True, True)]
    steady = [dataclasses.replace(row, gradient_norm=1.0) for row in measured]
    assert [("2^9.0" in s, "measured" in s) for _, s in said(steady)] == [(True, True)]


def test_no_finite_number():
    found = [dataclasses.replace(row, measured_gradient_norm=math.nan) for row in rows([0.0] * 6)]
    ((severity, sentence),) = said(found)
    assert severity == "error"
    assert "the measured one is no finite number at Dense_0/kernel, Dense_1/kernel" in sentence
    assert sentence.endswith("and 2 more")


def test_weights_that_get_none():
    found = rows([0.0] * 3)
    found[1] = dataclasses.replace(found[1], measured_weight_gradient=0.0)
    ((severity, sentence),) = said(found)
    assert severity == "warning"
    assert sentence.startswith("no gradient: Dense_1/kernel gets none (measured), since what comes behind is zero")


def test_what_is_measured_decides_whether_there_is_none():
    (row,) = rows([0.0])
    row = dataclasses.replace(row, weight_gradient=0.0)
    assert "none (predicted)" in said([row])[0][1]
    assert said([dataclasses.replace(row, measured_weight_gradient=1e-9)]) == []


def test_a_module_of_several_weights():
    first, *others = rows([9.0, 0.0, 0.0])
    ((_, sentence),) = said([dataclasses.replace(first, path=""), *(dataclasses.replace(r, path="b") for r in others)])
    assert "from Dense_2/kernel to Dense_0/kernel" in sentence


class Deep(nn.Module):
    """Tanh layers, one of which multiplies."""

    factor: float

    @nn.compact
    def __call__(self, x):
        for i in range(10):
            x = nn.tanh(nn.Dense(32)(x)) * (self.factor if i == 5 else 1.0)
        return nn.Dense(3)(x)


@pytest.mark.parametrize(
    ("factor", "found"), [pytest.param(1.0, [], marks=pytest.mark.slow), (1e-4, ["error"]), (0.0, ["warning"])]
)
def test_a_real_network(factor, found):
    x = jax.random.normal(jax.random.key(0), (16, 32))
    variables = jax.jit(Deep(1.0).init)(jax.random.key(1), x)
    report = qrjax.measure(Deep(factor), variables, x, gradients=True)
    about = [f for f in report.findings if "gradient" in f]
    assert [f.severity for f in about] == found, about
    if factor == 1e-4:
        assert about[0].startswith("vanishing gradient: it falls 2^")
        assert "most of it from Dense_6 to Dense_5" in about[0]
        assert {f.severity for f in report.findings[:2]} == {"error"}
    if factor == 0.0:
        assert about[0].startswith("no gradient: Dense_0/kernel, Dense_1/kernel")


# -- severities ----------------------------------------------------------------------------------------------------


@pytest.fixture
def report():
    found = list(gradient_findings(rows(chain(30.0))))
    return qrjax.Report(rows(chain(8.0)), [*found, "a plain sentence"])


def test_sentences_have_severities(report):
    assert [f.severity for f in report.findings] == ["error", "warning"]
    assert report.findings[1] == "a plain sentence"
    assert json.loads(report.to_json())["severities"] == ["error", "warning"]
    again = pickle.loads(pickle.dumps(report.findings))
    assert again == report.findings
    assert [f.severity for f in again] == ["error", "warning"]


def test_assert_healthy(report):
    with pytest.raises(qrjax.UnhealthyError, match=r"findings of severity 'error':\n- error: exploding") as caught:
        report.assert_healthy()
    assert caught.value.findings == report.findings[:1]
    assert isinstance(caught.value, AssertionError)
    with pytest.raises(qrjax.UnhealthyError, match=r"'warning' or above:\n- error: .*\n- warning: a plain sentence"):
        report.assert_healthy("warning")
    with pytest.raises(qrjax.UnhealthyError, match="a plain sentence"):
        report.assert_healthy("info")


def test_healthy_reports():
    plain = qrjax.Report([], ["a plain sentence"])
    plain.assert_healthy()
    qrjax.Report([]).assert_healthy("info")
    with pytest.raises(ValueError, match="`severity` must be one of 'info', 'warning', 'error', got 'fatal'"):
        plain.assert_healthy("fatal")


def test_what_was_taken_for_granted_is_information():
    ids = jax.ShapeDtypeStruct((4, 7), "int32")
    (found,) = qrjax.analyze(nn.Embed(16, 8), ids).findings
    assert found.severity == "info"
    vanishing = qrjax.analyze(Deep(0.0), jax.ShapeDtypeStruct((16, 32), "float32"), weights="module").findings
    assert "error" in [f.severity for f in vanishing if f.startswith("vanishing")]
