"""What every record must do: give initial values back, bit for bit, after JSON and without the model."""

from typing import Any

import jax
import numpy as np
import pytest

import qrjax
from qrjax._adapters._variables import leaves_of, values_of


def octets(array: Any) -> bytes:
    """As bytes, so that 0 and -0 differ and a NaN is itself."""
    if jax.numpy.issubdtype(array.dtype, jax.dtypes.prng_key):
        array = jax.random.key_data(array)
    return np.ascontiguousarray(array).tobytes()


def assert_same(found: Any, expected: Any, name: str = "") -> None:
    """Type, shape and bits."""
    name = name or "the array"
    assert found.dtype == expected.dtype, f"{name} is {found.dtype}, not {expected.dtype}"
    assert found.shape == expected.shape, f"{name} has the shape {found.shape}, not {expected.shape}"
    differing = np.frombuffer(octets(found), np.uint8) != np.frombuffer(octets(expected), np.uint8)
    told = f"{differing.sum()} of {differing.size} bytes of {name} differ; found {found}, expected {expected}"
    assert not differing.any(), told


def reloaded(record: qrjax.Record) -> qrjax.Record:
    """After a round trip through JSON, which changes nothing."""
    text = record.to_json()
    result = qrjax.Record.from_json(text)
    assert result.to_json() == text
    return result


def kinds(record: qrjax.Record) -> dict[str, str]:
    """Of every variable's origin, by path."""
    return {entry.leaf.path: entry.origin.kind for entry in record.entries}


def assert_recorded(record: qrjax.Record, variables: Any, weights: bool = False) -> None:
    """A record says what the variables were: leaf by leaf after a reload; where the model is needed, before it.

    `weights`: whether to ask for single weights too, of one variable of every kind.
    """
    loaded, kind = reloaded(record), kinds(record)
    some = {kind[path]: path for path in reversed(record.paths)}.values() if weights else ()
    leaves, arrays = leaves_of(variables), values_of(variables)
    assert list(record.paths) == [leaf.path for leaf in leaves]
    for leaf, array in zip(leaves, arrays, strict=True):
        source = loaded
        if kind[leaf.path] == "model":
            source = record
            with pytest.raises(LookupError, match=r"with_model\(module, sample_input\)"):
                loaded.initial(leaf.path)
        assert_same(source.initial(leaf.path), array, leaf.path)
        for index in indices(leaf.shape, len(leaf.path)) if leaf.path in some else ():
            assert_same(source.weight(leaf.path, index), array[index], f"{leaf.path} at {index}")
    if "model" not in kind.values():
        found = jax.tree.leaves(loaded.initial())
        assert sorted(map(octets, found)) == sorted(map(octets, arrays))
    whole = record.initial()
    assert leaves_of(whole) == leaves_of(variables)
    for leaf, found, array in zip(leaves, values_of(whole), arrays, strict=True):
        assert_same(found, array, leaf.path)


def indices(shape: tuple[int, ...], seed: int) -> list[Any]:
    """One weight from the front and the same from the back, a box, a strided slice, an Ellipsis, and integer arrays."""
    if 0 in shape:
        return [Ellipsis]
    rng = np.random.default_rng(seed)
    point = tuple(int(rng.integers(n)) for n in shape)
    result: list[Any] = [point, tuple(i - n for i, n in zip(point, shape, strict=True))]
    if shape:
        result.append((*[slice(i // 2, i + 1) for i in point[:-1]], slice(None)))
        result.append((slice(None, None, max(1, shape[0] // 3)), *point[1:]))
        result.append((Ellipsis, slice(point[-1], None, -2)))
        result.append((rng.integers(-shape[0], shape[0], (2, 2)), *point[1:]))
    return result
