"""Python functions within a program are not called by the walk."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import qrjax

X = jax.ShapeDtypeStruct((16, 32), jnp.float32)


def refuses(*_):
    raise AssertionError("the walk called Python")


def checked(x):
    """As error checks do: what comes in goes out, if nothing is wrong."""
    return jax.pure_callback(refuses, jax.ShapeDtypeStruct(x.shape, x.dtype), x)


def told(x):
    jax.debug.callback(refuses, x)
    jax.debug.print("{}", x.sum())
    return x


def counted(x):
    return x + jax.pure_callback(refuses, jax.ShapeDtypeStruct((), jnp.int32)).astype(x.dtype)


def branched(x):
    """A check in a branch that known numbers do not take."""
    return jax.lax.cond(x.sum() > 1e9, lambda x: checked(jnp.ones_like(x)), lambda x: x, x)


@pytest.mark.parametrize("passed", [checked, told, counted], ids=lambda f: f.__name__)
def test_a_signal_goes_past_python(passed):
    def init(key, _):
        return {"a": jax.random.normal(key, (32, 64)), "b": jax.random.normal(key, (64, 8))}

    report = qrjax.analyze((init, lambda w, x: passed(jnp.tanh(x @ w["a"])) @ w["b"]), X)
    plain = qrjax.analyze((init, lambda w, x: jnp.tanh(x @ w["a"]) @ w["b"]), X)
    assert [row.gain for row in report.weights] == pytest.approx([row.gain for row in plain.weights])
    guessed = [finding for finding in report.findings if "what Python gives back from" in finding]
    assert bool(guessed) == (passed is not told)


def test_python_in_a_branch_is_not_called_with_known_arrays():
    net = (lambda key, _: {"a": jax.random.normal(key, (32, 8))}, lambda w, x: branched(x) @ w["a"])
    assert np.isfinite(qrjax.analyze(net, X)[-1].second_moment)
