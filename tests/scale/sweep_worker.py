"""One of several processes that run a sweep together: reports what came of it, and stays until its input ends.

    python sweep_worker.py FOLDER PORT PROCESSES PROCESS

A file `seconds` in the folder says how long a seed takes.
"""

import json
import os
import pathlib
import sys
import time
import traceback
from typing import Any

import devices
import jax
import jax.numpy as jnp

import qrjax

SEEDS, CHUNK = 11, 2


def train(seed, scale):
    def step(x, _):
        x = jnp.tanh(x @ x.T) * scale
        return x, x.mean()

    return {"curve": jax.lax.scan(step, jax.random.normal(jax.random.key(seed), (8, 8)), length=3)[1]}


def slowly(seconds: float) -> Any:
    def wait(n):
        time.sleep(seconds)
        return n

    def function(seed, scale):
        waited = jax.pure_callback(wait, jax.ShapeDtypeStruct((), jnp.uint32), seed, vmap_method="sequential")
        return train(waited, scale)

    return function


def curve(**options: Any) -> str:
    """Every bit."""
    return qrjax.sweep(train, SEEDS, 0.5, chunk=CHUNK, progress=False, **options)["curve"].tobytes().hex()


def refused(*arguments: Any, **options: Any) -> str:
    try:
        qrjax.sweep(*arguments, progress=False, **options)
    except ValueError as error:
        return str(error)
    return ""


def main(folder: pathlib.Path, port: str, processes: int, process: int) -> None:
    """Runs the sweep, and writes down what it gives."""
    address = f"127.0.0.1:{port}"
    jax.distributed.initialize(
        address, processes, process, coordinator_bind_address=address, heartbeat_timeout_seconds=600
    )
    said = [refused(train, 2), refused(train, 2, process, file=folder / "other.jsonl")]
    pause = folder / "seconds"
    function = slowly(float(pause.read_text())) if pause.exists() else train
    found = qrjax.sweep(function, SEEDS, 0.5, chunk=CHUNK, file=folder / "sweep.jsonl", progress=False)
    temporary = folder / f"report.{process}.part"
    temporary.write_text(json.dumps({"curve": found["curve"].tobytes().hex(), "said": said}))
    temporary.rename(folder / f"report.{process}")
    sys.stdin.read()  # the coordinator takes all others with it when it goes


if __name__ == "__main__":
    devices.strict(optimized=False)
    status = 1
    try:
        main(pathlib.Path(sys.argv[1]), sys.argv[2], *map(int, sys.argv[3:]))
        status = 0
    except BaseException:
        traceback.print_exc()
    # Without a farewell to the others, some of whom may be gone, and would be waited for.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
