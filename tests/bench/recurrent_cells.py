"""What recurrent weights are to get: the target, as all weights, or what the state has; three cells of Flax's.

    python tests/bench/recurrent_cells.py [--results FOLDER] [--seeds 15] [--cells gru rnn] [--optimizers momentum]

Each cell runs over the rows of scikit-learn's digits and a dense layer reads its last state. It begins by Flax's
default scale (`lecun_normal`), by `autoinit`, and by `autoinit` with the target 1 for every weight (`AtTarget`).
Rates are tuned and seeds paired as in `evidence.py`, from which all settings come. A run that was killed goes on.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import flax.linen as nn
from evidence import BASELINE, RATES, SAME, SMALL, as_peer
from experiments import cell, machine
from jax import Array
from sampling import Report, as_markdown, command

import qrjax
from qrjax import experiments
from qrjax._experiments._initializers import Initializer, kernel_inits

sys.path.insert(0, str(Path(__file__).parent))  # where a worker finds `AtTarget`

CELLS = {"lstm": nn.OptimizedLSTMCell, "gru": nn.GRUCell, "rnn": nn.SimpleCell}
ARMS = {
    "autoinit": ("lecun_normal", "autoinit"),
    "target 1": ("recurrent_cells:AtTarget", "own"),
}


class Network(nn.Module):
    """A cell over rows, and a layer that reads its last state."""

    cell: str
    units: int
    classes: int
    inits: tuple[Initializer, ...]

    @nn.compact
    def __call__(self, images: Array) -> Array:
        rows = images.reshape(*images.shape[:2], -1)
        kernel, recurrent, head = self.inits
        made = CELLS[self.cell](self.units, kernel_init=kernel, recurrent_kernel_init=recurrent)
        return nn.Dense(self.classes, kernel_init=head)(nn.RNN(made)(rows)[:, -1])


@dataclasses.dataclass(frozen=True)
class Settings(experiments.Settings):
    """Those of an LSTM with another cell."""

    cell: str = "lstm"

    def network(self, data: Any, dim: int = 1) -> nn.Module:
        inits = kernel_inits(self.initializer, self.source, self.kernels(data), dim)
        return Network(self.cell, self.units, data.classes, inits)


class AtTarget:
    """`qrjax.autoinit` with the target 1 for every weight: a target by a pattern is taken at its word."""

    def params(self, network: Any, examples: Any, key: Any) -> Any:
        return qrjax.autoinit(network, examples, key=key, target={"*Cell*": 1.0})["params"]


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--results", type=Path, default=Path("recurrent"), help="a folder to write, or to go on with")
    parser.add_argument("--seeds", type=int, default=15, help="networks for each way to begin")
    parser.add_argument("--cells", nargs="+", default=list(CELLS), choices=CELLS)
    parser.add_argument("--optimizers", nargs="+", default=list(RATES), choices=RATES)
    options = parser.parse_args(argv)
    options.results.mkdir(parents=True, exist_ok=True)
    records = [
        record
        for name in options.cells
        for optimizer in options.optimizers
        for record in trained(name, optimizer, options)
    ]
    found = experiments.compare(as_peer(record, ARMS) for record in records)
    places = list(dict.fromkeys((one.settings["cell"], one.settings["optimizer"]) for one in found))
    print(as_markdown(Report("Recurrent weights", ("cell", "default, %", *ARMS), [line(p, found) for p in places])))
    print(f"\nFrom `{command()}`: {len(records)} networks and their trials, {machine(records)}.")


def trained(name: str, optimizer: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    rates = {"learning_rate": RATES[optimizer], "optimizer": optimizer}
    ways = (BASELINE, *ARMS.values())
    settings = [
        Settings(model="lstm", cell=name, initializer=init, source=source, **rates, **SAME | SMALL)  # type: ignore[arg-type]
        for init, source in ways
    ]
    return experiments.run(settings, options.seeds, options.results / f"{name}_{optimizer}.jsonl", chunk=30)


def line(place: tuple[str, str], found: Sequence[experiments.Comparison]) -> list[str]:
    here = {one.source: one for one in found if (one.settings["cell"], one.settings["optimizer"]) == place}
    return ["/".join(place), f"{100 * here['autoinit'].baseline_mean:.2f}", *(cell(here[name]) for name in ARMS)]


if __name__ == "__main__":
    main()
