"""A training function under `vmap` over seeds."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from qrjax._adapters._variables import path_name
from qrjax._files._journal import Journal, Record, decoded, encoded, opened
from qrjax._sweep import _memory
from qrjax._sweep._results import Sweep
from qrjax._sweep._seeds import as_array, checked, checked_chunk, padded
from qrjax._terminal._bar import bar

KIND = "qrjax.sweep"
SEED = as_array([0]).dtype


class Program(NamedTuple):
    """The compiled training of one chunk."""

    chunk: int
    digest: str
    run: Callable[..., Any]


def sweep(
    train: Callable[..., Any],
    seeds: Any,
    *args: Any,
    chunk: int | None = None,
    file: str | os.PathLike[str] | None = None,
    settings: Mapping[str, Any] | None = None,
    progress: bool = True,
) -> Sweep:
    """Runs a training function for many seeds at once, chunk by chunk, and continues where it was killed.

    `train` runs under `jax.jit` and `jax.vmap`, compiled once. With a file every finished chunk is kept on disk
    before the next begins; the same call after a crash runs the seeds that are missing, in chunks of the same size,
    and returns what an undisturbed run would have, bit for bit. More seeds can be added later in the same way.

    Args:
      train: (seed, *args) -> results: a traced integer in, numbers or arrays out, such as {"loss": (epochs,),
        "accuracy": ()}; any pytree. `jax.random.key(seed)` and `qrjax.autoinit(..., seed=seed)` take the seed.
      seeds: different whole numbers from 0 to 2**32 - 1, or how many, from 0.
      *args: pytrees of arrays that all seeds share, such as the training data: better here than closed over,
        where they would become part of the program.
      chunk: how many seeds run side by side; None: as many as fit into half of the free memory, by what the
        compiler says of the program. Results may depend on it in the last bits, as a matrix product's do; a file
        keeps the chunk it was begun with, so begin a long sweep with a chunk that suits it.
      file: where finished chunks are kept, as JSON lines; None keeps none.
      settings: what you want to find in `file` later; plain JSON values. Another run with the same file must have
        the same.
      progress: whether to show a bar, on a terminal.

    Returns:
      A `Sweep`: arrays by name with the seeds as their first axis, and tidy rows (`rows`, `to_csv`, `to_pandas`).

    Raises:
      TypeError: if `seeds` are not whole numbers, `settings` are no mapping of plain JSON values, or `train` returns
        something other than real arrays of different names.
      ValueError: if a seed comes twice or is out of range, `chunk` is not positive or not the one that `file` was
        begun with, or `file` is damaged or holds something else: results of another training function, other
        arguments, settings or versions. The file stays as it is.
      OSError: if `file` cannot be written; what it held is kept.

    Example:
      >>> import jax, jax.numpy as jnp, qrjax
      >>> def train(seed, x):
      ...     kernel = qrjax.he_normal_qr()(jax.random.key(seed), (x.shape[-1], 32))
      ...     return {"power": jnp.mean(jax.nn.relu(x @ kernel) ** 2)}
      >>> x = jax.random.normal(jax.random.key(0), (256, 64))
      >>> found = qrjax.sweep(train, range(8), x, progress=False)
      >>> found["power"].shape, bool(abs(found["power"].mean() - 1) < 0.1)
      ((8,), True)
    """
    numbers = checked(seeds)
    chunk = checked_chunk(chunk)
    plain = _plain(settings)
    with nullcontext() if file is None else opened(file, KIND) as journal:
        before = _continued(journal)
        if chunk is not None and before.get("chunk", chunk) != chunk:
            raise ValueError(
                f"`chunk` is {chunk}, and the results in `file` {os.fspath(file or '')!r} were computed in chunks of "
                f"{before['chunk']}; continue with that, or with None"
            )
        program, shapes = _program(train, numbers, args, before.get("chunk", chunk))
        header = _header(program, shapes, plain)
        _agree(journal, before, header)
        done = _done(journal, shapes)
        pending = [seed for seed in numbers if seed not in done]
        for part, records in _ran(program, pending, args, shapes, progress):
            if journal is not None:
                journal.append(records)
            done |= zip(part, records, strict=True)
    return _collected(numbers, done, shapes)


def _done(journal: Journal | None, shapes: Mapping[str, Any]) -> dict[int, Record]:
    """What a file holds, by seed."""
    found = {}
    for number, record in enumerate(journal.records[1:] if journal else (), 3):
        if not {"seed", "seconds", "values"} <= record.keys() or record["values"].keys() != shapes.keys():
            raise ValueError(
                f"line {number} of {str(journal and journal.path)!r} is damaged; delete that line, and its seed will "
                "be run again"
            )
        found[record["seed"]] = record
    return found


def _continued(journal: Journal | None) -> Record:
    return journal.records[0] if journal is not None and journal.records else {}


def _program(
    train: Callable[..., Any], seeds: Sequence[int], args: Sequence[Any], chunk: int | None
) -> tuple[Program, dict[str, jax.ShapeDtypeStruct]]:
    batched = jax.jit(jax.vmap(train, in_axes=(0, *(None for _ in args))))
    shapes = _shapes(jax.eval_shape(train, jax.ShapeDtypeStruct((), SEED), *args))

    def lowered(count: int) -> Any:
        return batched.lower(jax.ShapeDtypeStruct((count,), SEED), *args)

    if chunk is None:
        chunk, program, compiled = _memory.fitting(lowered, len(seeds), _memory.available())
    else:
        program = lowered(chunk)
        compiled = program.compile()
    return Program(chunk, _digest(program.as_text(), args), compiled), shapes


def _shapes(results: Any) -> dict[str, jax.ShapeDtypeStruct]:
    leaves = jax.tree_util.tree_flatten_with_path(results)[0]
    if not leaves:
        raise TypeError(f"`train` must return numbers or arrays, got {results!r}")
    named = {path_name(path) or "value": leaf for path, leaf in leaves}
    if len(named) < len(leaves):
        names = [path_name(path) or "value" for path, _ in leaves]
        raise TypeError(f"`train` must return results of different names, got {sorted(names)}")
    for name, leaf in named.items():
        if jnp.issubdtype(leaf.dtype, jax.dtypes.extended) or np.issubdtype(leaf.dtype, np.complexfloating):
            raise TypeError(f"`train` must return real numbers, got {name!r} of dtype {leaf.dtype}")
    return named


def _digest(program: str, args: Sequence[Any]) -> str:
    """Of what the results depend on: the program and its arguments."""
    digest = hashlib.sha256(program.encode())
    for leaf in jax.tree.leaves(args):
        is_key = isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        data = jax.random.key_data(leaf) if is_key else leaf
        digest.update(np.ascontiguousarray(data).tobytes())
    return digest.hexdigest()


def _plain(settings: Any) -> Record:
    """As a file will give them back."""
    if settings is None:
        return {}
    try:
        found = decoded(json.loads(encoded(settings)))
    except TypeError as error:
        raise TypeError(f"`settings` must be plain JSON values, got {settings!r}: {error}") from None
    if not isinstance(found, dict):
        raise TypeError(f"`settings` must be a mapping, got {settings!r}; for example {{'width': 64}}")
    return found


def _header(program: Program, shapes: Mapping[str, Any], settings: Mapping[str, Any]) -> Record:
    metrics = {name: {"shape": list(leaf.shape), "dtype": str(leaf.dtype)} for name, leaf in shapes.items()}
    versions = {"qrjax": sys.modules["qrjax"].__version__, "jax": jax.__version__, "numpy": np.__version__}
    return {
        "settings": settings, "versions": versions, "device": jax.devices()[0].device_kind,
        "chunk": program.chunk, "program": program.digest, "metrics": metrics,
    }  # fmt: skip


def _agree(journal: Journal | None, before: Record, now: Record) -> None:
    """Whether a file may be continued; a new one gets its header."""
    if journal is None:
        return
    if not before:
        journal.append([now])
        return
    # In this order, so that the message names the cause rather than its effect.
    for name in ("settings", "versions", "device", "metrics", "program"):
        if encoded(before.get(name)) != encoded(now[name]):  # in which a NaN equals itself
            said = "another training function or other arguments" if name == "program" else f"other {name}"
            shown = "" if name == "program" else f": {before.get(name)!r} there, {now[name]!r} here"
            raise ValueError(
                f"`file` {str(journal.path)!r} holds results of {said}{shown}; it was left as it is: choose another "
                "name, or delete it"
            )


def _ran(
    program: Program, seeds: Sequence[int], args: Sequence[Any], shapes: Mapping[str, Any], progress: bool
) -> Iterator[tuple[tuple[int, ...], list[Record]]]:
    """Each chunk's seeds and their records, as they are finished."""
    with bar(len(seeds), "seeds", progress) as update:
        for number, part in enumerate(padded(seeds, program.chunk)):
            start = time.perf_counter()
            leaves = jax.device_get(jax.tree.leaves(program.run(as_array(part), *args)))
            named = list(zip(shapes, leaves, strict=True))
            count = len(dict.fromkeys(part))
            each = (time.perf_counter() - start) / count
            yield (
                part[:count],
                [
                    {"seed": seed, "seconds": each, "values": {n: _numbers(leaf[row]) for n, leaf in named}}
                    for row, seed in enumerate(part[:count])
                ],
            )
            update(number * program.chunk + count, "seeds")


def _numbers(values: np.ndarray[Any, Any]) -> Any:
    """Python's numbers, exactly."""
    wide = values.astype(np.float64) if jnp.issubdtype(values.dtype, np.floating) else values
    return wide.tolist()


def _collected(seeds: Sequence[int], done: Mapping[int, Record], shapes: Mapping[str, Any]) -> Sweep:
    values = {
        name: np.array([done[seed]["values"][name] for seed in seeds], leaf.dtype).reshape(len(seeds), *leaf.shape)
        for name, leaf in shapes.items()
    }
    return Sweep(tuple(seeds), values, sum(done[seed]["seconds"] for seed in seeds))
