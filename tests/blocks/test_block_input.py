# ruff: noqa: NPY002 - the global generator is what this is about
"""Bad input: an error that names argument, value and remedy, and nothing half done."""

import random
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx

import qrjax
from qrjax._adapters import _linen_blocks
from qrjax._blocks._frames import STAGE


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((1.5,), TypeError, "`name` must be a string or an integer, got 1.5 of type float"),
        ((None,), TypeError, "`name` must be a string or an integer, got None of type NoneType"),
        ((True,), TypeError, "`name` must be a string or an integer, got True; use 'True'"),
        ((-1,), ValueError, r"`name` must be in \[0, 2\*\*32\) if an integer, got -1; use the string '-1'"),
        ((2**32,), ValueError, "`name` must be in .*, got 4294967296"),
        (("a\udc00",), ValueError, "`name` must have a UTF-8 form"),
        (("a", 0), TypeError, r"`rngs` must be an nnx.Rngs, got 0 of type int; make one with nnx.Rngs\(0\)"),
        (("a", jax.random.key(0)), TypeError, "`rngs` must be an nnx.Rngs, got a JAX key"),
    ],
)
def test_where_the_block_is_written(arguments, error, message):
    with pytest.raises(error, match=message):
        qrjax.block(*arguments)


def test_before_set_seed():
    state, numpy = random.getstate(), np.random.get_state()[1].tolist()
    with pytest.raises(RuntimeError, match=r"qrjax.block\(64\) must seed .*; call qrjax.set_seed\(42\) first"):  # noqa: SIM117
        with qrjax.block(64):
            pytest.fail("entered")

    @qrjax.block("train")
    def function():
        pytest.fail("entered")

    with pytest.raises(RuntimeError, match=r"call qrjax.set_seed\(42\) first, or .* qrjax.block\('train', rngs=rngs\)"):
        function()
    with pytest.raises(RuntimeError, match=r"`next_key` needs a seed.* call qrjax.set_seed\(42\) first"):
        qrjax.next_key()
    assert random.getstate() == state
    assert np.random.get_state()[1].tolist() == numpy
    assert not STAGE.frames
    qrjax.set_seed(1)
    with qrjax.block(64):
        pass


@pytest.mark.parametrize("seed", [1.0, "1", None, True, [1], jnp.ones(2, int)])
def test_seeds(seed):
    state = random.getstate()
    with pytest.raises(TypeError, match=r"`seed` must be an integer, got .*; for instance qrjax.set_seed"):
        qrjax.set_seed(seed)
    assert random.getstate() == state


def test_seeds_that_are_integers():
    values = []
    for seed in (5, np.int64(5), np.uint8(5)):
        qrjax.set_seed(seed)
        values.append(random.random())
    assert len(set(values)) == 1


def test_set_seed_inside_of_a_block():
    qrjax.set_seed(1)
    with qrjax.block("a"):
        state = random.getstate()
        with pytest.raises(RuntimeError, match=r"`set_seed` must be called outside of blocks, got set_seed\(2\)"):
            qrjax.set_seed(2)
        assert random.getstate() == state


def test_what_is_not_decorated():
    block = qrjax.block("a")

    def generator():
        yield 1

    async def stream():
        yield 1

    for function in (generator, stream):
        with pytest.raises(
            TypeError, match=r"qrjax.block\('a'\) cannot decorate the generator function .*without a yield"
        ):
            block(function)
    for value in (3, nn.Dense):
        with pytest.raises(TypeError, match=r"decorates functions, got .*; use `with qrjax.block\('a'\):`"):
            block(value)


def test_leaving_without_entering():
    with pytest.raises(RuntimeError, match=r"left without having been entered; write `with qrjax.block\('a'\):`"):
        qrjax.block("a").__exit__(None, None, None)


def test_an_rngs_that_cannot_be_written_leaves_all_as_it_was():
    """The generators are in the block already by then."""
    qrjax.set_seed(1)
    rngs, state = nnx.Rngs(0), random.getstate()
    key = rngs.default.key.get_value()
    rngs.default.key.set_metadata(on_set_value=_refuse)
    with pytest.raises(ZeroDivisionError), qrjax.block("a", rngs=rngs):
        pytest.fail("entered")
    assert not STAGE.frames
    assert random.getstate() == state
    assert rngs.default.key.get_value() is key


def _refuse(*_):
    raise ZeroDivisionError


def test_another_flax(monkeypatch):
    class Network(nn.Module):
        @nn.compact
        def __call__(self, x):
            with qrjax.block("a"):
                return nn.Dense(3)(x)

    import flax.core.scope

    _linen_blocks._extend.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(flax.core.scope.Scope, "push", lambda *_: None)
        with pytest.raises(RuntimeError, match="`block` cannot govern Linen modules under Flax"):
            Network().init(jax.random.key(0), jnp.ones((1, 2)))
    with monkeypatch.context() as patch:
        patch.delattr(flax.core.scope.Scope, "make_rng")
        with pytest.raises(RuntimeError, match="`block` cannot govern Linen modules under Flax"):
            Network().init(jax.random.key(0), jnp.ones((1, 2)))
    with monkeypatch.context() as patch:
        patch.delattr(nn.module, "_context")
        with pytest.raises(RuntimeError, match="`block` cannot govern Linen modules under Flax"):
            qrjax.block("a").__enter__()
    Network().init(jax.random.key(0), jnp.ones((1, 2)))


@pytest.mark.slow  # another process imports JAX
def test_flax_is_not_loaded():
    code = (
        "import random, sys, qrjax\n"
        "qrjax.set_seed(1)\n"
        "with qrjax.block('a'): random.random()\n"
        "qrjax.next_key()\n"
        "print(sorted({'flax', 'optax', 'torch'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
