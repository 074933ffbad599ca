"""The training-loss curves."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.style
import numpy as np
from matplotlib.figure import Figure

from qrjax._demo._training import History
from qrjax._plot._losses import losses

# Points of a curve in an epoch, each the mean of a run of minibatches.
POINTS = 3


def loss_curves(histories: Sequence[History]) -> Figure:
    """The mean over seeds as a line, the range over seeds as a band; needs no display."""
    seeds, epochs, _ = histories[0].losses.shape
    curves = {history.name: _smoothed(history.losses) for history in histories}
    with matplotlib.style.context("default"):
        figure = Figure(figsize=(7, 4.5), dpi=150, layout="constrained")
        axes = losses(
            curves, x=(np.arange(epochs * POINTS) + 0.5) / POINTS, xlabel="passes over the training images (epochs)",
            ylabel="training loss (cross-entropy, nats per image)", yscale="log", ax=figure.add_subplot(),
        )  # fmt: skip
        axes.set_xlim(0, epochs)
        axes.set_title("")
        axes.set_title(_title(seeds), fontsize="medium", loc="left")
    return figure


def _smoothed(steps: np.ndarray) -> np.ndarray:
    """Each seed's mean loss over the runs of minibatches."""
    seeds, _, minibatches = steps.shape
    runs = [steps[:, :, run].mean(-1) for run in np.array_split(np.arange(minibatches), POINTS)]
    return np.stack(runs, -1).reshape(seeds, -1)


def _title(seeds: int) -> str:
    if seeds == 1:
        return "Training a small CNN on handwritten digits, one seed"
    return f"Training a small CNN on handwritten digits: mean and range of {seeds} seeds"
