"""Sweeps on 8 devices: the bits of one, whatever is left over for the last chunk.

Each test runs a function of `sweeps` in a process with 8 devices.
"""

import pytest
from devices import run


def test_have_the_bits_of_one_device():
    cases = [(16, 2, 8), (13, 2, 8), (5, 2, 3)]
    assert run("sweeps", "equal", cases) == [True] * len(cases)


@pytest.mark.slow
def test_have_the_bits_of_one_device_in_any_number():
    cases = [(seeds, chunk, count) for seeds in (1, 7, 40) for chunk in (1, 3, 5) for count in (1, 2, 7, 8)]
    assert run("sweeps", "equal", cases) == [True] * len(cases)


def test_a_file_is_continued_on_other_devices():
    assert run("sweeps", "continued") == {"seeds": list(range(27)), "equal": True}


def test_use_as_many_devices_as_there_are_chunks_for():
    expected = {"64": 8, "3": 3, "chunk": 3, "default": 1, "own": [16.0, 17.0, 18.0]}
    assert run("sweeps", "places") == expected


def test_functions_of_the_host():
    assert run("sweeps", "callbacks") == list(range(11))


def test_a_device_that_comes_twice():
    assert "`devices` must be different devices" in run("sweeps", "wrong_devices")
