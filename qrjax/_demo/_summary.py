"""What the demo says of its histories, in numbers and words."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from qrjax._datasets._dataset import Dataset
from qrjax._demo._model import parameters
from qrjax._demo._training import History

HEADINGS = ("initializer", "test accuracy, %", "best", "worst", "epoch 1", "final loss", "seconds")
LEGEND = (
    "Best and worst: of the seeds. Epoch 1: mean test accuracy after one epoch. Final loss: training loss, mean over "
    "the last epoch. Seconds include compiling the initializer, but not the {compilation:.1f} s of compiling the "
    "training, which all share."
)
SCALE = (
    "Flax's default is lecun_normal, half the variance of he_normal: compare the two he_normal rows to see the "
    "sequence without the scale."
)
DEALS = 10_000
# Far below the usual 5 %, which one run in twenty of equal initializers passes.
LUCK = 0.01


def title(digits: Dataset, seeds: int, epochs: int) -> str:
    """The setting, in one sentence."""
    return (
        f"Handwritten digits: {len(digits.train_labels)} training and {len(digits.test_labels)} test images of 8 x 8, "
        f"a CNN of {parameters():,} weights, {_counted(seeds, 'seed')} per initializer, "
        f"{_counted(epochs, 'epoch')} of Adam."
    )


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def rows(histories: Sequence[History], plus_minus: str) -> list[tuple[str, ...]]:
    """The cells under `HEADINGS`, one row for each initializer."""
    return [_row(history, plus_minus) for history in histories]


def _row(history: History, plus_minus: str) -> tuple[str, ...]:
    final = 100 * history.accuracies[:, -1]
    spread = "" if len(final) == 1 else f" {plus_minus} {final.std(ddof=1):.2f}"
    accuracies = (final.max(), final.min(), 100 * history.accuracies[:, 0].mean())
    return (
        history.name,
        f"{final.mean():.2f}{spread}",
        *(f"{accuracy:.2f}" for accuracy in accuracies),
        f"{history.losses[:, -1].mean():.4f}",
        f"{history.seconds:.1f}",
    )


def remarks(histories: Sequence[History], test_images: int, compilation_seconds: float) -> tuple[str, ...]:
    """The paragraphs beneath the table."""
    return (verdict(histories, test_images), SCALE, LEGEND.format(compilation=compilation_seconds))


def verdict(histories: Sequence[History], test_images: int) -> str:
    """Whether the accuracies tell the initializers apart: one sentence, from the numbers."""
    accuracies = np.stack([history.accuracies[:, -1] for history in histories])
    gap, share = _gap(accuracies), chance(accuracies)
    measured = (
        f"The mean accuracies differ by at most {100 * gap:.2f} points ({gap * test_images:.1f} of {test_images} test "
        f"images); these {accuracies.size} results, dealt to the initializers at random, differ as much in "
        f"{share:.1%} of deals"
    )
    if share > LUCK:
        return f"{measured}, so this run does not rank the initializers."
    return f"{measured}: no accident of the seeds, but also no more than one small network on one small data set."


def chance(accuracies: np.ndarray) -> float:
    """The share of random deals of the results (initializers, seeds) whose means differ as much: a permutation test."""
    deals = np.random.default_rng(0).permuted(np.tile(accuracies.ravel(), (DEALS, 1)), axis=1)
    # The means are of counts of images: anything far below one image absorbs rounding.
    return float((_gap(deals.reshape(DEALS, *accuracies.shape)) >= _gap(accuracies) - 1e-6).mean())


def _gap(accuracies: np.ndarray) -> np.ndarray:
    return np.ptp(accuracies.mean(-1, dtype=np.float64), axis=-1)
