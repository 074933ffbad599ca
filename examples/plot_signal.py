"""The signal through depth: what `qrjax.analyze` foretells of a network, and a picture of it beside what happens.

    python examples/plot_signal.py --model vit
    python examples/plot_signal.py --model mlp

It needs the extra `plot` (`pip install 'qrjax[plot]'`) and a few seconds. The picture holds the variance and the mean
of every output: predicted with the weights of `qrjax.autoinit`, measured with them on a batch of noise, and measured
with Flax's default initialization. Of 50 dense layers with relu, Flax's halve the signal each and leave 1e-15 of it.
In a vision transformer the normalizations hold it, and what differs is how much each block adds: attention to noise is
a mean over tokens, which Flax's weights leave small and ours bring back to a second moment of 1.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import NamedTuple

import flax.linen as nn
import jax
import numpy as np

import qrjax

CLASSES = 10


class Block(nn.Module):
    """Attention and a perceptron, each behind a layer norm and each added to what came in."""

    heads: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Tokens to tokens."""
        width = x.shape[-1]
        x = x + nn.MultiHeadDotProductAttention(self.heads, name="attention")(nn.LayerNorm()(x))
        return x + nn.Dense(width, name="shrink")(nn.gelu(nn.Dense(4 * width, name="grow")(nn.LayerNorm()(x))))


class ViT(nn.Module):
    """A vision transformer: patches with learned positions, blocks, the mean over the tokens, a head."""

    depth: int
    width: int = 128
    heads: int = 4
    patch: int = 4

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Images to logits."""
        x = nn.Conv(self.width, (self.patch, self.patch), self.patch, padding="VALID", name="patches")(x)
        x = x.reshape(len(x), -1, self.width)
        x = x + self.param("positions", nn.initializers.normal(0.02), (1, *x.shape[1:]))
        for block in range(self.depth):
            x = Block(self.heads, name=f"block{block + 1}")(x)
        return nn.Dense(CLASSES, name="head")(nn.LayerNorm(name="norm")(x).mean(1))


class MLP(nn.Module):
    """Dense layers with relu, and nothing that would hold the signal."""

    depth: int
    width: int = 256

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Features to logits."""
        for layer in range(self.depth - 1):
            x = nn.relu(nn.Dense(self.width, name=f"dense{layer + 1}")(x))
        return nn.Dense(CLASSES, name="head")(x)


class Note(NamedTuple):
    """A remark in the picture on one row of Flax's default."""

    row: str
    text: str
    place: tuple[float, float]


class Case(NamedTuple):
    """A network, the shape of a batch for it, and what the picture says of it."""

    network: nn.Module
    batch: tuple[int, ...]
    title: str
    notes: tuple[Note, ...]


class Outcome(NamedTuple):
    """The three reports of a network."""

    predicted: qrjax.Report
    measured: qrjax.Report
    default: qrjax.Report


VIT_NOTES = (
    Note("block1/attention", "what attention adds: a mean\nover tokens, so it is small", (0.17, 0.04)),
    Note("block1", "the sum after a block", (0.02, 0.72)),
)
MLP_NOTES = (Note("dense6", "each layer with Flax's\ndefault halves the signal", (0.02, 0.35)),)
VIT_TITLE = "A vision transformer with {} blocks at initialization, on images of noise"
MLP_TITLE = "{} dense layers with relu at initialization, on noise"
CASES = {
    ("vit", "full"): Case(ViT(6), (64, 32, 32, 3), VIT_TITLE.format(6), VIT_NOTES),
    ("vit", "small"): Case(ViT(1, width=32, heads=2), (8, 16, 16, 3), VIT_TITLE.format(1), VIT_NOTES),
    ("mlp", "full"): Case(MLP(50), (256, 64), MLP_TITLE.format(50), MLP_NOTES),
    ("mlp", "small"): Case(MLP(8, width=64), (64, 64), MLP_TITLE.format(8), MLP_NOTES),
}
# The legend's own words, and what they are here.
WORDS = {
    "predicted": "predicted with qrjax.autoinit",
    "measured on a batch": "measured with qrjax.autoinit",
    "default initialization, measured": "measured with Flax's default",
}


def reports(case: Case, seed: int) -> Outcome:
    """Predicted from the shape alone, then measured on noise with our initialization and with Flax's."""
    network = case.network
    predicted = qrjax.analyze(network, jax.ShapeDtypeStruct(case.batch, "float32"))
    x = np.random.default_rng(seed).standard_normal(case.batch, np.float32)
    measured = qrjax.measure(network, qrjax.autoinit(network, x, seed=seed), x)
    default = qrjax.measure(network, jax.jit(network.init)(jax.random.key(seed), x), x)
    return Outcome(predicted, measured, default)


def show(outcome: Outcome) -> None:
    """The findings, and the first and the last weights: predicted, measured, and Flax's."""
    for name, report in (("qrjax.autoinit", outcome.predicted), ("Flax's default", outcome.default)):
        print(f"Findings with {name}:", *(report.findings or ["none"]), sep="\n- ")
    print(f"\n{'E(y²) of the output of':<32}{'predicted':>12}{'measured':>12}{'Flax default':>14}")
    weights = list(zip(outcome.predicted, outcome.measured, outcome.default, strict=True))
    weights = [rows for rows in weights if rows[0].gain is not None]
    for rows in (*weights[:4], None, *weights[-4:]):
        if rows is None:
            print("...")
            continue
        predicted, measured, default = rows
        moments = predicted.second_moment, measured.measured_second_moment, default.measured_second_moment
        print(f"{predicted.path:<32}{moments[0]:>12.3g}{moments[1]:>12.3g}{moments[2]:>14.3g}")
    worst = max((row for row in outcome.measured if row.octaves is not None), key=lambda row: abs(row.octaves))
    print(f"\nThe prediction is off the most at {worst.path}, by {worst.octaves:+.2f} octaves of E(y²).")


def picture(case: Case, outcome: Outcome, path: str) -> None:
    """Variances above, means below, in words for readers who have not met `qrjax` before."""
    variances, _ = qrjax.plot.signal(outcome.measured, default=outcome.default)
    for text in variances.get_legend().get_texts():
        name, colon, kinds = text.get_text().partition(":")
        text.set_text(WORDS.get(name, name) + colon + kinds)
    for note in case.notes:
        row = next(i for i, row in enumerate(outcome.default) if row.path == note.row)
        variances.annotate(
            note.text, (row, outcome.default[row].measured_variance), note.place, textcoords="axes fraction",
            color="#A04000", fontsize="small", arrowprops={"arrowstyle": "-", "color": "#A04000", "shrinkB": 5},
        )  # fmt: skip
    last = [
        outcome.measured[-1].variance,
        outcome.measured[-1].measured_variance,
        outcome.default[-1].measured_variance,
    ]
    text = "variance at the end: {:.2g} predicted, {:.2g} measured; {:.2g} with Flax's default".format(*last)
    variances.figure.suptitle(f"{case.title}\n{text}", x=0.01, horizontalalignment="left", fontsize="medium")
    variances.figure.savefig(path, dpi=110)


def main(argv: Sequence[str] | None = None) -> Outcome:
    """Prints what is predicted and measured, saves the picture."""
    parser = argparse.ArgumentParser(description="The signal through a network, predicted and measured.")
    parser.add_argument("--model", choices=["vit", "mlp"], default="vit")
    parser.add_argument("--depth", choices=["full", "small"], default="full", help="small for a quick look")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", help="the picture (default: signal_vit.png or signal_mlp.png, by the model)")
    options = parser.parse_args(argv)
    path = options.output or f"signal_{options.model}.png"
    case = CASES[options.model, options.depth]
    outcome = reports(case, options.seed)
    show(outcome)
    picture(case, outcome, path)
    print(f"The picture is in {path}")
    return outcome


if __name__ == "__main__":
    main()
