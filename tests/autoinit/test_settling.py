"""Weights used several times settle in a few walks, or it is said that they did not."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import qrjax
from qrjax._interpreter import _gains, _model
from qrjax._interpreter._settling import Settling


def test_a_linear_answer_is_found_in_as_many_steps_as_unknowns():
    matrix = np.array([[1.0, 0.6, 0.0], [0.3, 1.5, -0.4], [0.0, 0.7, 0.8]])
    place, wanted, settling = np.zeros(3), np.array([0.5, -1.0, 0.8]), Settling()
    for _ in range(6):
        miss = wanted - matrix @ place
        place = place + np.array(list(settling.steps(dict(zip("abc", miss, strict=True))).values()))
    np.testing.assert_allclose(matrix @ place, wanted, atol=1e-6)
    assert Settling().steps({}) == {}


class Evolved(nn.Module):
    """Three modules used twelve times, as evolution puts networks together."""

    @nn.compact
    def __call__(self, x):
        shared = [nn.Dense(32, name=f"part_{i}") for i in range(3)]
        found = [x]
        for i in range(12):
            found.append(nn.tanh(shared[i % 3](found[-1] + found[i // 2])))
        return nn.Dense(4)(found[-1])


X = jax.ShapeDtypeStruct((16, 32), jnp.float32)


def walks(monkeypatch):
    count = []
    original = _gains.Gains.next_walk

    def counted(self, last=False):
        count.append(self)
        return original(self, last)

    monkeypatch.setattr(_gains.Gains, "next_walk", counted)
    report = qrjax.analyze(Evolved(), X)
    return len(count), report


def test_modules_used_many_times_settle_in_a_few_walks(monkeypatch):
    number, report = walks(monkeypatch)
    assert number <= 8
    for name in ("part_0", "part_1", "part_2"):
        assert np.mean([row.second_moment for row in report.at(name) if row.gain]) == pytest.approx(1.0, abs=0.01)
    assert not any("unsettled" in finding for finding in report.findings)


def test_what_did_not_settle_is_said_and_nothing_is_lost(monkeypatch):
    monkeypatch.setattr(_model, "SWEEPS", 1)
    _, report = walks(monkeypatch)
    assert any(f.startswith("unsettled: after") and "miss the target by up to" in f for f in report.findings)
    assert report[-1].second_moment == pytest.approx(1.0)
