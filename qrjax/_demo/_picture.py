"""The training-loss curves."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from qrjax._demo._training import History

# From Okabe and Ito's palette for all kinds of color vision, in three lightnesses, so that grey will do.
LOOKS = (("#000000", "-"), ("#0072B2", "--"), ("#E69F00", "-."))
# Points of a curve in an epoch, each the mean of a run of minibatches.
POINTS = 3


def loss_curves(histories: Sequence[History]) -> Figure:
    """The mean over seeds as a line, the range over seeds as a band; needs no display."""
    with matplotlib.style.context("default"):
        figure = Figure(figsize=(7, 4.5), dpi=150, layout="constrained")
        axes = figure.add_subplot()
        for history, (color, dashes) in zip(histories, LOOKS, strict=True):
            _draw(axes, history, color, dashes)
        seeds, epochs, _ = histories[0].losses.shape
        axes.set(
            yscale="log", xlim=(0, epochs), xlabel="passes over the training images (epochs)",
            ylabel="training loss (cross-entropy, nats per image)",
        )  # fmt: skip
        axes.set_title(_title(seeds), fontsize="medium", loc="left")
        axes.grid(alpha=0.3, which="both", linewidth=0.5)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, handlelength=3.5)
    return figure


def _draw(axes: Axes, history: History, color: str, dashes: str) -> None:
    epochs, curves = _smoothed(history.losses)
    axes.fill_between(epochs, curves.min(0), curves.max(0), color=color, alpha=0.15, linewidth=0)
    axes.plot(epochs, curves.mean(0), color=color, linestyle=dashes, label=history.name)


def _smoothed(losses: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Epochs at the centres of runs of minibatches, and each seed's mean loss over the runs."""
    seeds, epochs, steps = losses.shape
    runs = [losses[:, :, run].mean(-1) for run in np.array_split(np.arange(steps), POINTS)]
    curves = np.stack(runs, -1).reshape(seeds, -1)
    return (np.arange(epochs * POINTS) + 0.5) / POINTS, curves


def _title(seeds: int) -> str:
    if seeds == 1:
        return "Training a small CNN on handwritten digits, one seed"
    return f"Training a small CNN on handwritten digits: mean and range of {seeds} seeds"
