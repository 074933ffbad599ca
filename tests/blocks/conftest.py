# ruff: noqa: NPY002 - the global generator is what this is about
"""Every test finds the process without a seed, and leaves its generators as they were."""

import random

import numpy as np
import pytest

from qrjax._blocks import _stream
from qrjax._blocks._frames import ROOT, STAGE
from qrjax._blocks._generators import Generators


@pytest.fixture(autouse=True)
def unseeded(monkeypatch):
    python, numpy, bits = random.getstate(), np.random.get_state(legacy=False), np.random.get_bit_generator()
    monkeypatch.setattr(_stream, "_seed", None)
    monkeypatch.setattr(ROOT, "generators", Generators())
    yield
    assert not STAGE.frames, f"the test left blocks open: {STAGE.frames}"
    assert STAGE.owner is ROOT, f"Python's and NumPy's generators are still those of a block: {STAGE.owner}"
    np.random.set_bit_generator(bits)
    random.setstate(python)
    np.random.set_state(numpy)


@pytest.fixture
def seeded(unseeded):  # noqa: ARG001 - comes first
    from qrjax import set_seed

    set_seed(42)
