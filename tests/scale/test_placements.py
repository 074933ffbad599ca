"""Meshes of mixed kinds, modules on several devices or meshes, and programs that have set one.

A test runs a function of `placements` in a process with 8 devices.
"""

import itertools

import pytest
from devices import run


# Of 48 or 72 ways to ask; 7 and 48 have no common factor, so that each specification and each way has its turn.
@pytest.mark.few("explicit-auto-7")
@pytest.mark.parametrize("every", [7, 1])
@pytest.mark.parametrize(("x", "y"), [*itertools.product(("explicit", "auto"), repeat=2)])
def test_every_out_sharding_in_every_kind_of_mesh(x, y, every):
    found = run("placements", "asked", x, y, every)
    assert len(found) >= 48 // every
    assert [row for row in found if not (row["placed"] and row["equal"])] == []


def test_out_sharding_along_what_a_shard_map_leaves():
    assert run("placements", "asked_within_shard_map")


def test_equal_calls_with_out_sharding_share_one_program():
    counts = run("placements", "compilations")
    assert all(first > 0 for first, _ in counts), f"compilations are not counted any more: {counts}"
    assert not any(again for _, again in counts), f"programs compiled by a first call and by an equal one: {counts}"


def test_autoinit_leaves_modules_where_they_are():
    found = run("placements", "modules")
    assert len(found) == 7
    assert [name for name, same in found.items() if not same] == []


# The first is in parts in an explicit mesh.
@pytest.mark.parametrize("every", [4, pytest.param(1, marks=pytest.mark.slow)])
def test_what_is_followed_in_a_program_that_has_set_a_mesh(every):
    found = run("placements", "followed_within_a_mesh", every)
    assert len(found) == 4 // every
    assert all(found), f"explicit or automatic mesh, in parts or whole: equal to one device's, and pruned? {found}"
