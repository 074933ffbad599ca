"""One of several processes that run a sweep together: reports what came of it, and stays until its input ends.

    python sweep_worker.py FOLDER PORT PROCESSES PROCESS

A file `seconds` in the folder says how long a seed takes.
"""

import pathlib
import sys
import time
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
    devices.join(port, processes, process)
    said = [refused(train, 2), refused(train, 2, process, file=folder / "other.jsonl")]
    pause = folder / "seconds"
    function = slowly(float(pause.read_text())) if pause.exists() else train
    found = qrjax.sweep(function, SEEDS, 0.5, chunk=CHUNK, file=folder / "sweep.jsonl", progress=False)
    devices.write(folder / f"report.{process}", {"curve": found["curve"].tobytes().hex(), "said": said})
    sys.stdin.read()  # the coordinator takes all others with it when it goes


if __name__ == "__main__":
    devices.strict(optimized=False)
    devices.end_by(main)
