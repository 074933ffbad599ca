"""Tensors in parts: the bits of one device's, no word between devices, and no room but for the part itself.

Each test runs a function of `partitions` in a process with 8 devices.
"""

import pytest
from devices import run


def assert_as_alone(found):
    assert [row for row in found if not row["equal"]] == []
    programs = [row for row in found if "collectives" in row]
    assert programs
    assert [row for row in programs if row["collectives"]] == []
    assert [row for row in programs if row["temporaries"] > 0.05] == []


def test_every_kind_of_initializer_mesh_partition_and_way_to_ask():
    found = run("partitions", "checks", {"kinds": 0, "uneven": 33})
    assert len(found) >= 9 + 2
    assert_as_alone(found)


@pytest.mark.slow
@pytest.mark.whole_tables("even-9-21")
@pytest.mark.parametrize(("table", "every", "count"), [("even", 9, 21), ("uneven", 4, 17)])
def test_initializers_with_many_partitions(table, every, count):
    found = run("partitions", "checks", {table: every})
    assert len(found) == count
    assert_as_alone(found)


@pytest.mark.slow
def test_a_vocabulary_of_50257():
    assert_as_alone(run("partitions", "checks", {"vocabulary": 1}))


EVERY = [5, pytest.param(1, marks=pytest.mark.whole_tables)]


@pytest.fixture(scope="module", params=EVERY, ids="every {}".format)
def others(request):
    return run("partitions", "others", request.param)


def test_jax_itself_divides_without_a_remainder_only(others):
    assert len(others["remainders"]) == 4
    assert all("evenly divide" in answer for answer in others["remainders"].values())


def test_collectives_are_seen_where_there_are_some(others):
    assert "all-reduce" in others["gathered"]


def test_vectors(others):
    # Their length is no multiple of 8 times a power of two: as a raster, the sequence would be cut across devices.
    assert others["vectors"] == [{"equal": True, "collectives": []}] * 2


def test_orthogonal_matrices_are_made_whole_on_every_device(others):
    assert others["orthogonal"] == [{"equal": True, "collectives": []}] * len(others["orthogonal"])


def test_weights_at_an_index_that_lies_in_parts(others):
    assert len(others["indexed"]) >= 3
    assert others["indexed"] == [{"equal": True, "collectives": []}] * len(others["indexed"])


def test_a_tensor_for_every_key_of_those_that_lie_in_parts(others):
    assert len(others["of keys"]) >= 4
    assert others["of keys"] == [{"equal": True, "parted": True}] * len(others["of keys"])
