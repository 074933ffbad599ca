"""Tables are text in a notebook, too, where rich would rather show HTML."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

import qrjax

X = jnp.ones((2, 6))
NETWORK = nn.Dense(4)


def changed():
    init = functools.partial(NETWORK.init, jax.random.key(0), X)
    return qrjax.changes(init, jax.tree.map(lambda leaf: leaf + 1, init()))


TABLES = {
    "report": lambda: qrjax.analyze(NETWORK, X),
    "changes": changed,
    "sweep": lambda: qrjax.sweep(lambda seed: seed, 3, progress=False),
}


@pytest.mark.parametrize("name", TABLES)
def test_are_the_same_text(name, monkeypatch, capsys):
    table = TABLES[name]()
    plain = str(table)
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    assert str(table) == plain
    assert len(plain.splitlines()) >= 3
    assert capsys.readouterr().out == ""
