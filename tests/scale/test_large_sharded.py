"""Decoders of up to 70 billion parameters, compiled for 64 devices and not run: one device holds its shard alone."""

import importlib
import pathlib

import pytest

BENCH = pathlib.Path(__file__).parents[1] / "bench"
SMALL = {"vocabulary": 8192, "depth": 4, "width": 2048, "heads": 16, "hidden": 4096}


@pytest.fixture
def sharded_init(monkeypatch):
    monkeypatch.syspath_prepend(BENCH)
    return importlib.import_module("sharded_init")


def assert_shard_alone(found):
    assert found.collectives == 0
    # An output also counts the pointers to its arrays.
    assert found.shard <= found.output <= found.shard + 2**14
    assert found.ratio <= 1.05


@pytest.mark.slow
@pytest.mark.whole_tables("default")  # its layers one by one are below
@pytest.mark.parametrize("source", ["hash", "default", "autoinit"])
def test_a_decoder_of_70_billion_parameters(sharded_init, source):
    # Its layers are scanned, so that it compiles as fast as a small one.
    found = sharded_init.measured(source, True, (8, 8))
    assert found.parameters == pytest.approx(70.55e9, rel=1e-3)
    assert_shard_alone(found)


@pytest.mark.slow
@pytest.mark.parametrize("source", ["default", "hash"])
def test_layers_one_by_one(sharded_init, source):
    assert_shard_alone(sharded_init.measured(source, False, (8, 8), **SMALL))


@pytest.mark.slow
def test_what_is_measured_can_be_more(sharded_init):
    # Flax's own initializers make words, and floats of them, in rooms of the tensor's size.
    found = sharded_init.measured("Flax's default", True, (8, 8), **SMALL)
    assert found.ratio > 1.1
