"""Whole models in parts, as Flax asks for them: the bits of one device's, no word between devices, no room beside.

Each test runs a function of `partitioned_models` in a process with 8 devices.
"""

import itertools

import pytest
from devices import run

MESHES = ([8], [4, 2], [2, 2, 2])
# way, draw, source, mesh, scanned, within the mesh
CASES = [("logical axes", "autoinit", "hash", [2, 2, 2], True, True)]
ASKED = itertools.product(("with_partitioning", "logical axes"), ("init", "autoinit"), ("default", "hash"), MESHES)
CASES += [("with_partitioning", "init", "default", [4, 2], True, False)]
CASES += [(*case, k % 4 > 0, k % 5 == 0) for k, case in enumerate(ASKED) if k % 7 == 0]


def assert_as_alone(found):
    assert found["equal"], f"not the weights of one device: {found}"
    assert found["placed"], f"not laid out as asked for: {found}"
    assert found["parts"] > 7.9, found  # of 8: biases and norms are nobody's alone
    assert found["collectives"] == [], found
    assert found["temporaries"] <= 0.05, found


@pytest.mark.slow  # by default a smaller module, below
@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_linen_decoder(case):
    assert_as_alone(run("partitioned_models", "linen", *case))


CREATED = [
    ("explicit, told", "hash", [2, 2, 2]),
    ("within", "hash", [8]),
    ("within", "default", [2, 2, 2]),
    ("explicit, told", "default", [8]),
    ("explicit", "default", [4, 2]),
    ("explicit", "hash", [2, 2, 2]),
]


@pytest.mark.parametrize(
    ("way", "source", "mesh"),
    [
        ("within", "default", [4, 2]),
        *(pytest.param(*case, marks=pytest.mark.slow) for case in CREATED),
    ],
)
def test_an_nnx_module_built_within_a_mesh(way, source, mesh):
    for found in run("partitioned_models", "created", way, source, mesh):
        assert_as_alone(found)


@pytest.mark.parametrize(
    ("draw", "source", "mesh"),
    [
        pytest.param("autoinit", "default", [4, 2], marks=pytest.mark.slow),
        *(pytest.param("init", s, m, marks=pytest.mark.slow) for s, m in (("default", [8]), ("hash", [2, 2, 2]))),
        pytest.param("autoinit", "hash", [2, 2, 2], marks=pytest.mark.slow),
    ],
)
def test_an_nnx_module_parted_by_jit(draw, source, mesh):
    assert_as_alone(run("partitioned_models", "by_jit", draw, source, mesh))


@pytest.mark.slow  # by default `test_placements.py` asks it of one layer
@pytest.mark.parametrize(
    ("way", "source", "mesh"),
    [
        ("within", "hash", [2, 2, 2]),
        ("within", "default", [8]),
        ("explicit, told", "default", [4, 2]),
    ],
)
def test_autoinit_leaves_an_nnx_module_in_its_parts(way, source, mesh):
    for found in run("partitioned_models", "existing", way, source, mesh):
        assert_as_alone(found)
