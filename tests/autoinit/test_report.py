"""The report: a table to read, JSON to keep, rows to iterate over and to look up."""

import dataclasses
import json
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import qrjax


class Twice(nn.Module):
    @nn.compact
    def __call__(self, x):
        dense = nn.Dense(64, name="shared")
        return nn.Dense(8, name="head")(nn.relu(dense(nn.relu(dense(x)))))


SHAPE = jax.ShapeDtypeStruct((16, 64), jnp.float32)
X = np.random.default_rng(0).standard_normal((16, 64), np.float32)


@pytest.fixture(scope="module")
def report():
    return qrjax.analyze(Twice(), SHAPE)


@pytest.fixture(scope="module")
def measured():
    return qrjax.measure(Twice(), Twice().init(jax.random.key(0), X), X)


def test_rows_in_order_of_execution(report):
    assert [row.path for row in report.weights] == ["shared", "shared", "head"]
    assert [row.op for row in report.weights] == ["dot_general"] * 3
    assert [row.weight for row in report.weights] == ["shared/kernel", "shared/kernel", "head/kernel"]
    assert [row.fan for row in report.weights] == [64.0] * 3
    assert report.rows[-1].shape == (16, 8)


def test_a_sequence(report):
    assert len(report) == len(list(report)) == len(report.rows)
    assert report[0] is report.rows[0]
    assert report[-1] is report.rows[-1]
    assert list(report[1:]) == list(report.rows[1:])
    assert report.rows[0] in report
    assert list(reversed(report)) == list(report.rows)[::-1]
    assert f"{len(report)} rows" in repr(report)


def test_look_up_by_path(report):
    assert report["head"].path == "head"
    assert report["head"].gain is not None
    assert len(report.at("shared")) >= 2
    assert report["shared"] is report.at("shared")[0]
    assert report.at("nowhere") == ()


def test_a_path_that_is_not_there(report):
    with pytest.raises(KeyError, match="no row has the path 'haed'; paths: shared, head"):
        report["haed"]
    with pytest.raises(IndexError, match="out of range"):
        report[1000]


def test_moments_of_a_row(report):
    row = report["head"]
    assert row.second_moment == row.mean**2 + row.variance
    assert row.input_second_moment == row.input_mean**2 + row.input_variance
    assert row.gain == pytest.approx((64 * row.input_second_moment) ** -0.5, rel=1e-3)
    assert row.correlation.keys() == {0, 1}
    assert row.correlation[1] == pytest.approx(0.0, abs=1e-3)
    assert 0 < row.correlation[0] < 1  # relu's mean is common to the batch
    assert (row.measured_mean, row.measured_variance, row.measured_second_moment, row.octaves) == (None,) * 4
    assert not report.measured


def test_measured_beside_predicted(measured):
    assert measured.measured
    for row in measured.weights:
        assert row.measured_second_moment == row.measured_mean**2 + row.measured_variance
        assert row.octaves == math.log2(row.measured_second_moment / row.second_moment)


def test_octaves_of_nothing(report):
    row = report["head"]
    zeros = {"measured_mean": 0.0, "measured_variance": 0.0}
    changed = type(row)(**{f: getattr(row, f) for f in row.__dataclass_fields__} | zeros)
    assert changed.octaves == -math.inf
    nothing = type(row)(**{f: getattr(changed, f) for f in row.__dataclass_fields__} | {"mean": 0.0, "variance": 0.0})
    assert nothing.octaves == 0.0


@pytest.mark.parametrize("which", ["report", "measured"])
def test_a_readable_table(which, request):
    found = request.getfixturevalue(which)
    lines = str(found).splitlines()
    for column in ("module", "operation", "output", "fan", "gain", "variance", "correlation", "notes"):
        assert column in lines[0]
    assert ("measured" in lines[0]) == (which == "measured")
    assert len(lines) >= 1 + len(found)
    for row, line in zip(found, lines[1:], strict=False):
        assert line.startswith(row.path or "(whole)")
        assert row.operation in line
        assert "x".join(map(str, row.shape)) in line
    assert all(line == line.rstrip() for line in lines)
    assert "\x1b" not in str(found)


def test_the_whole_model_has_a_name():
    # A module that ends in an activation has a row of its own.
    found = qrjax.analyze(nn.Sequential([nn.Dense(8), nn.relu]), SHAPE)
    assert found.rows[-1].path == ""
    assert "(whole)" in str(found)
    assert found[""].second_moment == pytest.approx(0.5, rel=1e-3)


@pytest.mark.parametrize("which", ["report", "measured"])
def test_json(which, request):
    found = request.getfixturevalue(which)
    kept = json.loads(found.to_json())
    assert kept.keys() == {"target", "findings", "severities", "rows"}
    assert kept["target"] == 1.0
    assert kept["findings"] == list(found.findings)
    assert kept["severities"] == [finding.severity for finding in found.findings]
    assert len(kept["rows"]) == len(found)
    for row, stored in zip(found, kept["rows"], strict=True):
        assert stored["path"] == row.path
        assert stored["shape"] == list(row.shape)
        assert stored["second_moment"] == row.second_moment
        assert stored["measured_second_moment"] == row.measured_second_moment
        assert stored["correlation"] == {str(axis): rho for axis, rho in row.correlation.items()}
        assert "site" not in stored
    assert json.loads(found.to_json(indent=2)) == kept
    assert "\n" in found.to_json(indent=2)


GRADIENTS = {
    "gradient": 2.0, "gradient_norm": 1.5, "weight_gradient": 1e-5, "weight_gradient_norm": 0.25,
    "measured_gradient": 4.0, "measured_gradient_norm": 1.75, "measured_weight_gradient": 1e-5,
    "measured_weight_gradient_norm": 0.125,
}  # fmt: skip


def test_rows_have_no_gradients_until_asked_for(report):
    assert not report.has_gradients
    assert all(getattr(row, name) is None for row in report for name in GRADIENTS)
    assert report["head"].gradient_octaves is None
    assert "E g²" not in str(report)


def test_gradients_in_the_table_and_in_json(report):
    row = dataclasses.replace(report["head"], **GRADIENTS)
    found = qrjax.Report([report["shared"], row])
    assert found.has_gradients
    assert (row.gradient_octaves, row.weight_gradient_octaves) == (1.0, 0.0)
    header, first, second = str(found).splitlines()
    columns = ("E g²", "measured E g²", "octaves of g", "|g|", "measured |g|", "E w'²", "measured |w'|")
    assert all(column in header for column in columns)
    assert all(number in second for number in ("1.0e-05", "+1.00", "+0.00", "1.75", "0.125"))
    assert "1.0e-05" not in first
    stored = json.loads(found.to_json())["rows"]
    assert {name: stored[1][name] for name in GRADIENTS} == GRADIENTS
    assert {name: stored[0][name] for name in GRADIENTS} == dict.fromkeys(GRADIENTS)
    assert all(found.scalars()[f"head/{name}"] == value for name, value in GRADIENTS.items())
    assert all(column in found._repr_html_() for column in ("E g²", "measured |g|"))
    assert found.to_pandas()["measured_gradient"].tolist()[1] == 4.0


def test_columns_of_gradients_are_those_that_are_there(report):
    found = str(qrjax.Report([dataclasses.replace(report["head"], measured_gradient=3.0)]))
    assert "measured E g²" in found
    assert all(column not in found for column in ("octaves of g", "|g|", "w'"))


def test_json_has_no_infinities(report):
    row = report["head"]
    infinite = type(row)(**{f: getattr(row, f) for f in row.__dataclass_fields__} | {"variance": math.inf})
    assert json.loads(qrjax.Report([infinite]).to_json())["rows"][0]["variance"] is None


def test_findings_are_printed():
    found = qrjax.Report([], ["the signal vanishes", "layer b is dead"])
    assert str(found).splitlines()[-2:] == ["- the signal vanishes", "- layer b is dead"]
    assert len(found) == 0
    with pytest.raises(KeyError, match="paths: none"):
        found["a"]
