"""`head=`: the weights that make a model's outputs, at a scale of their own."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import qrjax

X = jax.random.normal(jax.random.key(0), (16, 12))


class Net(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.log_softmax(nn.Dense(5, name="head")(nn.tanh(nn.Dense(16, name="body")(x))) * 2.0)


class Tied(nn.Module):
    @nn.compact
    def __call__(self, ids):
        table = nn.Embed(20, 8, name="table")
        return table.attend(nn.Dense(8, name="body")(table(ids)))


SETTINGS = {
    "plain": {}, "own": {"distribution": "own"}, "orthogonal": {"distribution": "orthogonal"},
    "hash": {"source": "hash"}, "stable": {"target": "stable"}, "patterns": {"target": {"head/*": 4.0}},
    "calibrated": {"calibrate": True}, "zero sums": {"layout": "neurons"},
}  # fmt: skip


@pytest.mark.few("*-0.0", "calibrated-0.01")
@pytest.mark.parametrize("head", [0.0, 0.01])
@pytest.mark.parametrize("name", SETTINGS)
def test_heads_have_it_and_records_give_them_again(name, head):
    variables, report = qrjax.autoinit(Net(), X, head=head, report=True, **SETTINGS[name])
    assert report["head"].second_moment == pytest.approx(head, rel=1e-4)
    assert report["body"].second_moment == pytest.approx(1.0, rel=1e-4)
    kernel = variables["params"]["head"]["kernel"]
    assert bool((kernel == 0).all()) == (head == 0)
    record = qrjax.record(Net(), X, head=head, **SETTINGS[name])
    again = record.initial("head/kernel")
    np.testing.assert_array_equal(np.asarray(kernel).view(np.uint32), np.asarray(again).view(np.uint32))
    bodies = variables["params"]["body"]["kernel"], record.initial("body/kernel")
    np.testing.assert_array_equal(*map(np.asarray, bodies))
    if name == "calibrated" and head:
        logits = qrjax.measure(Net(), variables, X)["head"].measured_second_moment
        assert logits == pytest.approx(head, rel=0.02)


def test_a_head_may_be_a_function_of_weights_or_several():
    class Masked(nn.Module):
        @nn.compact
        def __call__(self, x):
            w = self.param("w", nn.initializers.normal(), (12, 3))
            return x @ (w * np.tri(12, 3, dtype=np.float32)), {
                "other": nn.Dense(2, name="last")(nn.Dense(12, name="first")(x))
            }

    variables = qrjax.autoinit(Masked(), X, head=0.0)
    zero = jax.tree.map(lambda w: bool((w == 0).all()), variables["params"])
    assert zero == {"w": True, "first": {"kernel": False, "bias": True}, "last": {"kernel": True, "bias": True}}
    small = qrjax.analyze(Masked(), X, head=0.25)
    assert [round(row.second_moment, 2) for row in small.weights] == [0.25, 1.0, 0.25]


def test_a_tied_table_is_left_and_that_is_an_error_where_nothing_else_is_a_head():
    ids = jnp.arange(6).reshape(2, 3)
    with pytest.raises(ValueError, match=r"`head` is for .* table/embedding have other uses too"):
        qrjax.autoinit(Tied(), ids, head=0.0)

    class Two(nn.Module):
        @nn.compact
        def __call__(self, ids):
            logits = Tied(name="tied")(ids)
            return logits, nn.Dense(3, name="value")(nn.Embed(20, 8, name="other")(ids))

    variables, report = qrjax.autoinit(Two(), ids, head=0.0, report=True)
    assert not variables["params"]["value"]["kernel"].any()
    assert variables["params"]["tied"]["table"]["embedding"].any()
    left = next(f for f in report.findings if "other uses" in f)
    assert left.severity == "warning"


def test_errors():
    with pytest.raises(ValueError, match=r"`head` must be the second moment .*got -1"):
        qrjax.autoinit(Net(), X, head=-1)
    with pytest.raises(TypeError, match=r"`head` must be"):
        qrjax.autoinit(Net(), X, head="zero")
    with pytest.raises(TypeError, match=r"`head` must be a number, .*traced"):
        jax.jit(lambda h: qrjax.autoinit(Net(), X, head=h))(0.5)
