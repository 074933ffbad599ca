"""One of several processes that run experiments together: reports the records, and stays until its input ends.

python training_worker.py FOLDER PORT PROCESSES PROCESS
"""

import pathlib
import sys
from typing import Any

import devices

from qrjax import experiments

SEEDS, CHUNK = 5, 1


def losses(file: pathlib.Path, **options: Any) -> list[list[float]]:
    """Every bit."""
    chosen = experiments.Settings(
        model="mlp1", units=8, epochs=2, limit=96, source="hash", validation=0.25, learning_rate=(1e-3, 1e-2)
    )
    found = experiments.run(chosen, SEEDS, file, progress=False, **options)
    return [record["loss"] for record in found]


def refused(file: pathlib.Path) -> str:
    try:
        losses(file)
    except ValueError as error:
        return str(error)
    return ""


def main(folder: pathlib.Path, port: str, processes: int, process: int) -> None:
    """Trains its share, and writes down the whole."""
    devices.join(port, processes, process)
    said = refused(folder / "other.jsonl")
    found = losses(folder / "training.jsonl", chunk=CHUNK)
    devices.write(folder / f"report.{process}", {"losses": found, "said": said})
    sys.stdin.read()  # the coordinator takes all others with it when it goes


if __name__ == "__main__":
    devices.strict(optimized=False)
    devices.end_by(main)
