"""A training function under `vmap` over seeds."""

from __future__ import annotations

import itertools
import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from qrjax._files._journal import Journal, Record, decoded, encoded, opened, warn_of_damage
from qrjax._sweep._places import Devices, Group, devices_of, group
from qrjax._sweep._programs import Program, Shapes, digest, program
from qrjax._sweep._results import Sweep
from qrjax._sweep._seeds import as_array, checked, checked_chunk, chunks, padded
from qrjax._terminal._bar import bar

KIND = "qrjax.sweep"
# What a line of a file has that tells of other chunks from there on.
CHANGED = {"chunk", "program"}


def sweep(
    train: Callable[..., Any],
    seeds: Any,
    *args: Any,
    chunk: int | None = None,
    devices: Sequence[jax.Device] | None = None,
    file: str | os.PathLike[str] | None = None,
    settings: Mapping[str, Any] | None = None,
    progress: bool = True,
) -> Sweep:
    """Runs a training function for many seeds at once, chunk by chunk, and continues where it was killed.

    `train` runs under `jax.jit` and `jax.vmap`, compiled once, on every device a chunk at a time; a second sweep of
    the same program does not compile again. With a file every finished chunk is kept on disk before the next begins;
    the same call after a crash runs the seeds that are missing, in chunks of the same size, and returns what an
    undisturbed run would have, bit for bit, whatever the number of devices.

    Under `jax.distributed` every process makes the same call, with a file that all of them see: each runs its share
    of the chunks and adds them to that file, and all return the whole. What a process wrote before it was killed is
    kept.

    The same bits need a `train` that gives them twice on one device. Some operations do not: on a GPU additions in no
    fixed order, as of scattered gradients (XLA's flag --xla_gpu_deterministic_ops=true forbids them), and kernels
    that are chosen by their speed; on a CPU products so large that several threads share a sum, of whose number the
    last bits depend. Devices or processes of several kinds differ, too.

    Args:
      train: (seed, *args) -> results: a traced integer in, numbers or arrays out, such as {"loss": (epochs,),
        "accuracy": ()}; any pytree. `jax.random.key(seed)` and `qrjax.autoinit(..., seed=seed)` take the seed. One
        that spreads over devices itself runs as it is, one chunk after the other.
      seeds: different whole numbers from 0 to 2**32 - 1, or how many, from 0.
      *args: pytrees of arrays that all seeds share, such as the training data: better here than closed over,
        where they would become part of the program.
      chunk: how many seeds run side by side on a device; None: its share of the seeds, or as many as fit into half
        of its free memory, by what the compiler says of the program. Results may depend on it in the last bits, as
        a matrix product's do, so give it where runs on one and on several devices shall be equal. A file keeps the
        chunk it was begun with until you give another, which holds for the seeds that are missing.
      devices: of this process, which run a chunk each; None: all, or the default device alone where one was set.
      file: where finished chunks are kept, as JSON lines; None keeps none.
      settings: what you want to find in `file` later; plain JSON values. Another run with the same file must have
        the same.
      progress: whether to show a bar, on a terminal.

    Returns:
      A `Sweep`: arrays by name with the seeds as their first axis, and tidy rows (`rows`, `to_csv`, `to_pandas`).

    Raises:
      TypeError: if `seeds` are not whole numbers, `devices` are none, `settings` are no mapping of plain JSON values,
        or `train` returns something other than real arrays of different names.
      ValueError: if a seed comes twice or is out of range, `chunk` is not positive, `devices` are not different ones
        of this process, several processes have no `file`, or `file` holds something else: results of another
        training function, other arguments, settings or versions. The file stays as it is.
      OSError: if `file` cannot be written; what it held is kept.

    A line of `file` that is damaged is a `qrjax.DamagedLineWarning`, and its seed is run again.

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
    numbers, chunk, places, together = checked(seeds), checked_chunk(chunk), devices_of(devices), group()
    plain = _plain(settings)
    if together.processes > 1 and file is None:
        raise ValueError(f"`file` is None, and {together.processes} processes share their results by it; name one")
    with nullcontext() if file is None else opened(file, KIND, shared=together.processes > 1) as journal:
        before = _continued(journal)
        program = _program(train, numbers, args, chunk or before.get("chunk"), places, together)
        _agree(journal, before, _header(program, plain, places), train, args, together)
        done = _done(journal, program.shapes)
        missing = chunks([seed for seed in numbers if seed not in done], program.chunk)
        share = list(itertools.chain.from_iterable(together.share(missing)))
        for part, records in _ran(program, share, progress):
            if journal is not None:
                journal.append(records)
            done |= zip(part, records, strict=True)
        if journal is not None and together.processes > 1:
            together.wait("end")
            journal.reload()
            done = _done(journal, program.shapes)
    return _collected(numbers, done, program.shapes)


def _program(
    train: Callable[..., Any], seeds: Sequence[int], args: Sequence[Any], chunk: int | None, places: Devices,
    together: Group,
) -> Program:  # fmt: skip
    """The same in all processes, each of which has read the file by then, and none has written."""
    share = math.ceil(len(seeds) / together.processes)
    found = program(train, share, args, chunk, places)
    least = min(together.every(found.chunk))
    found = found if least == found.chunk else program(train, share, args, least, places)
    if len(set(together.every(int(found.digest[:7], 16)))) > 1:
        raise ValueError(
            f"`train` or its arguments are not the same in all {together.processes} processes; each must make the same "
            "call, on devices of one kind"
        )
    return found


def _continued(journal: Journal | None) -> Record:
    """What a file says of its results: its second line, and what changed since."""
    if journal is None or not journal.records:
        return {}
    if "metrics" not in journal.records[0]:
        raise ValueError(
            f"line 2 of {str(journal.path)!r} is damaged, which says what its results are of; it was left as it is: "
            "repair that line, or choose another name"
        )
    found = dict(journal.records[0])
    for record in journal.records[1:]:
        if record.keys() == CHANGED:
            found |= record
    return found


def _done(journal: Journal | None, shapes: Shapes) -> dict[int, Record]:
    """What a file holds, by seed."""
    found: dict[int, Record] = {}
    if journal is None:
        return found
    for number, record in zip(journal.numbers[1:], journal.records[1:], strict=True):
        if record.keys() == CHANGED:
            continue
        if cause := _damage(record, shapes):
            warn_of_damage(journal.path, number, cause)
            continue
        found[record["seed"]] = record
    return found


def _damage(record: Record, shapes: Shapes) -> str:
    """What is wrong with a seed's record; nothing, if all is right."""
    if missing := [name for name in ("seed", "seconds", "values") if name not in record]:
        return f"it has no {missing[0]!r}"
    values = record["values"]
    if not isinstance(values, dict) or values.keys() != shapes.keys():
        return "its values have other names"
    try:
        wrong = [name for name, leaf in shapes.items() if np.array(values[name], leaf.dtype).size != leaf.size]
    except (TypeError, ValueError):
        return "its values are no numbers"
    return f"{wrong[0]!r} has another shape" if wrong else ""


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


def _header(program: Program, settings: Mapping[str, Any], places: Devices) -> Record:
    metrics = {name: {"shape": list(leaf.shape), "dtype": str(leaf.dtype)} for name, leaf in program.shapes.items()}
    versions = {"qrjax": sys.modules["qrjax"].__version__, "jax": jax.__version__, "numpy": np.__version__}
    return {
        "settings": settings, "versions": versions, "device": places[0].device_kind,
        "chunk": program.chunk, "program": program.digest, "metrics": metrics,
    }  # fmt: skip


def _agree(
    journal: Journal | None, before: Record, now: Record, train: Callable[..., Any], args: Sequence[Any],
    together: Group,
) -> None:  # fmt: skip
    """Whether a file may be continued; a new one gets its header, one in other chunks a line that says so."""
    if journal is None:
        return
    added = now if not before else {name: now[name] for name in sorted(CHANGED)}
    is_other = bool(before) and before["chunk"] != now["chunk"]
    if before:
        begun = digest(train, args, before["chunk"]) if is_other else now["program"]
        _check_same(journal, before, now | {"program": begun})
    if is_other or not before:
        if together.process == 0:
            journal.append([added])
        together.wait("begin")


def _check_same(journal: Journal, before: Record, now: Record) -> None:
    # In this order, so that the message names the cause rather than its effect.
    for name in ("settings", "versions", "device", "metrics", "program"):
        if encoded(before.get(name)) != encoded(now[name]):  # in which a NaN equals itself
            said = "another training function or other arguments" if name == "program" else f"other {name}"
            shown = "" if name == "program" else f": {before.get(name)!r} there, {now[name]!r} here"
            raise ValueError(
                f"`file` {str(journal.path)!r} holds results of {said}{shown}; it was left as it is: choose another "
                "name, or delete it"
            )


def _ran(program: Program, seeds: Sequence[int], progress: bool) -> Iterator[tuple[tuple[int, ...], list[Record]]]:
    """The seeds of a chunk on each device and their records, as they are finished."""
    finished = 0
    with bar(len(seeds), "seeds", progress) as update:
        for part in padded(seeds, program.chunk * program.devices):
            start = time.perf_counter()
            leaves = jax.device_get(program.run(as_array(part)))
            named = list(zip(program.shapes, leaves, strict=True))
            count = len(dict.fromkeys(part))
            each = (time.perf_counter() - start) / count
            yield (
                part[:count],
                [
                    {"seed": seed, "seconds": each, "values": {n: _numbers(leaf[row]) for n, leaf in named}}
                    for row, seed in enumerate(part[:count])
                ],
            )
            finished += count
            update(finished, "seeds")


def _numbers(values: np.ndarray[Any, Any]) -> Any:
    """Python's numbers, exactly."""
    wide = values.astype(np.float64) if jnp.issubdtype(values.dtype, np.floating) else values
    return wide.tolist()


def _collected(seeds: Sequence[int], done: Mapping[int, Record], shapes: Shapes) -> Sweep:
    values = {
        name: np.array([done[seed]["values"][name] for seed in seeds], leaf.dtype).reshape(len(seeds), *leaf.shape)
        for name, leaf in shapes.items()
    }
    return Sweep(tuple(seeds), values, sum(done[seed]["seconds"] for seed in seeds))
