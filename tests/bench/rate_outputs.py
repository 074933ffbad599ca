"""How large the outputs of trained networks are: what `outputs` of `qrjax.learning_rates` is to be.

    python tests/bench/rate_outputs.py [--markdown]

The MLP of `rate_training.py` with Flax's own weights, Adam, batches of 64, at the best of six rates that are factors of
two apart, one seed. The size is the root mean square of what the network returns for 512 training examples.
"""

import argparse

import numpy as np
from rate_training import EVALUATED, Cell, Training
from sampling import Report, environment, show

RATES = range(-11, -5)
CASES = [
    (data, width, steps)
    for data in ("digits", "centred digits", "mnist1d", "regression")
    for width, steps in ((64, 60), (256, 60), (256, 300))
]


def trained(data: str, width: int, steps: int) -> tuple[float, float]:
    """The loss at the best rate and the size of the outputs there."""
    training = Training(Cell("mlp", data, "adam", "default", width, steps))
    seen, found = np.arange(EVALUATED), []
    for rate in RATES:
        params = training.params(2.0**rate, 0)
        outputs = training.network.apply({"params": params}, training.data[0][seen])
        found.append((float(training.loss(params, seen)), float(np.sqrt(np.square(outputs).mean()))))
    return min(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--markdown", action="store_true", help="print Markdown instead of a terminal's table")
    options = parser.parse_args()
    lines = []
    for data, width, steps in CASES:
        loss, size = trained(data, width, steps)
        lines.append([data, str(width), str(steps), f"{loss:.3f}", f"{size:.1f}"])
    columns = ("data", "width", "steps", "loss", "size of the outputs")
    show([Report("Outputs of trained networks", columns, lines)], environment(), options.markdown)


if __name__ == "__main__":
    main()
