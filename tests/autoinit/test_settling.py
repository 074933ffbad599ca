"""Weights used several times settle in a few walks, or it is said that they did not."""

from collections import Counter

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import qrjax
from qrjax._interpreter import _gains, _stretches, _walk
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


@pytest.fixture
def steps(monkeypatch):
    """How often each equation of the program itself was walked, by its number."""
    count = Counter()
    original = _walk.Walk.step

    def counted(self, body, number, environment):
        if self.gains.decides and not self._site:
            count[number] += 1
        original(self, body, number, environment)

    monkeypatch.setattr(_walk.Walk, "step", counted)
    return count


def test_modules_used_many_times_settle_in_a_few_walks(steps):
    # By name, as what meets its own outputs is to be no stronger than these.
    report = qrjax.analyze(Evolved(), X, target={"part_*": 1.0, "*": 1.0})
    assert max(steps.values()) <= 8
    for name in ("part_0", "part_1", "part_2"):
        assert np.mean([row.second_moment for row in report.at(name) if row.gain]) == pytest.approx(1.0, abs=0.02)
    assert not any("unsettled" in finding for finding in report.findings)


class Between(nn.Module):
    """A layer used twice, with others before and behind it."""

    @nn.compact
    def __call__(self, x):
        twice = nn.Dense(32, name="twice")
        x = nn.relu(nn.Dense(32, name="before")(x))
        return nn.Dense(4, name="behind")(nn.relu(twice(nn.tanh(3 * twice(x)))))


def test_only_the_stretch_from_a_weights_first_use_to_its_last_is_walked_again(steps):
    report = qrjax.analyze(Between(), X)
    again = [number for number, times in sorted(steps.items()) if times > 1]
    assert 0 < len(again) < len(steps) / 2
    assert again == list(range(again[0], again[-1] + 1))
    first, second = (row.second_moment for row in report.at("twice") if row.gain)
    assert (first + second) / 2 == pytest.approx(1.0, abs=0.01)
    assert abs(first - second) > 0.2
    for name in ("before", "behind"):
        assert report.at(name)[0].second_moment == pytest.approx(1.0)


def test_a_stretch_is_found_within_a_call(steps):
    def init(key, _):
        return {name: jax.random.normal(key, (32, 32)) for name in ("before", "twice", "behind")}

    def apply(weights, x):
        x = jnp.tanh(3 * x @ weights["before"])
        return jnp.tanh(x @ weights["twice"]) @ weights["twice"] @ weights["behind"]

    report = qrjax.analyze((init, jax.jit(apply)), X)
    assert set(steps.values()) == {1}
    assert np.mean([row.second_moment for row in report.weights if row.weight == "twice"]) == pytest.approx(1, abs=0.01)


class Tied(nn.Module):
    """A language model that makes logits with its table."""

    @nn.compact
    def __call__(self, ids):
        table = nn.Embed(64, 16, name="table")
        x = nn.Dense(16)(nn.LayerNorm()(table(ids)))
        return table.attend(nn.LayerNorm()(x))


def test_a_table_that_makes_logits_is_known_beforehand(steps):
    report = qrjax.analyze(Tied(), jax.ShapeDtypeStruct((4, 8), jnp.int32))
    assert set(steps.values()) == {1}
    looked_up, logits = (row for row in report.at("table") if row.gain)
    assert looked_up.second_moment == pytest.approx(1 / 16, rel=0.01)
    assert logits.second_moment == pytest.approx(1.0, abs=0.01)
    assert any("makes logits too" in note for note in looked_up.notes)


def test_a_recurrence_that_begins_with_zeros_is_walked_once(steps):
    """What its weights keep does not answer to them, and is known from the second step on."""
    report = qrjax.analyze(nn.RNN(nn.SimpleCell(32)), jax.ShapeDtypeStruct((4, 8, 16), jnp.float32))
    assert any(finding.startswith("recurrent") for finding in report.findings)
    assert set(steps.values()) == {1}


def test_what_did_not_settle_is_said_and_nothing_is_lost(monkeypatch):
    monkeypatch.setattr(_stretches, "SWEEPS", 1)
    report = qrjax.analyze(Evolved(), X)
    assert any(f.startswith("unsettled: after") and "miss the target by up to" in f for f in report.findings)
    assert report[-1].second_moment == pytest.approx(1.0, abs=2 * 2.0**-_gains.BITS)  # a gain has so many bits
