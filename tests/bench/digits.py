"""What training on scikit-learn's digits shows: the demo's three initializers, pruning criteria, and rounds of pruning.

    python tests/bench/digits.py demo|criteria|rounds [--markdown] [--seeds 5]

demo: `qrjax demo`. criteria and rounds: `examples/which_weights_learned.py` and `examples/prune_in_rounds.py`, whose
docstrings say what is trained. Test accuracies in percent, mean and standard deviation over the seeds; of pruning at
equal sparsity of every kernel.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from sampling import Report, environment, show, version

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))
PLUS_MINUS = "±"
# What the criteria's table shows: how weights go, and which shares.
SHOWN = (("zero", (0.5, 0.8, 0.9)), ("initial", (0.5, 0.8, 0.9)), ("zero, retrained", (0.9, 0.95)))


def cell(accuracies: Any) -> str:
    return f"{np.mean(accuracies):.1f} {PLUS_MINUS} {np.std(accuracies, ddof=1):.1f}"


def demo(seeds: int) -> Report:
    from qrjax._datasets._table import load
    from qrjax._demo._model import INITIALIZERS
    from qrjax._demo._summary import HEADINGS, rows
    from qrjax._demo._training import Trainer

    trainer = Trainer(load("digits"), seeds)
    histories = [trainer.train(name, init, 10, lambda *_: None) for name, init in INITIALIZERS.items()]
    return Report(f"`qrjax demo`, {seeds} seeds, 10 epochs", HEADINGS, rows(histories, PLUS_MINUS))


def criteria(seeds: int) -> Report:
    import which_weights_learned as example

    outcomes = run(example, seeds)
    lines = [
        [
            f"`{criterion}`",
            *(cell([o.pruned[criterion, share, way] for o in outcomes]) for way, shares in SHOWN for share in shares),
        ]
        for criterion in example.CRITERIA
    ]
    columns = ("criterion", *(f"{way}: {100 * share:g} % gone" for way, shares in SHOWN for share in shares))
    return Report(f"{cell([o.accuracy for o in outcomes])} before pruning", columns, lines)


def rounds(seeds: int) -> Report:
    import prune_in_rounds as example

    found = run(example, seeds)
    lines = [[f"`{criterion}`", way, *map(cell, cells.T)] for (criterion, way), cells in found.after.items()]
    columns = ("criterion", "way", *(f"{100 * share:g} % gone" for share in (0.8, 0.9, 0.95, 0.98)))
    return Report(f"{cell(found.before)} before pruning", columns, lines)


def run(example: Any, seeds: int) -> Any:
    """An example's `main` at its own settings; what it prints goes to standard error, its picture nowhere."""
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(sys.stderr):
        return example.main(["--seeds", str(seeds), "--output", f"{folder}/picture.png"])


PARTS = {"demo": demo, "criteria": criteria, "rounds": rounds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=PARTS, help="which table")
    parser.add_argument("--markdown", action="store_true", help="print Markdown instead of a terminal's tables")
    parser.add_argument("--seeds", type=int, default=5, help="networks")
    options = parser.parse_args()
    facts = environment() | {name: version(name) for name in ("flax", "optax")}
    show([PARTS[options.part](options.seeds)], facts, options.markdown)


if __name__ == "__main__":
    main()
