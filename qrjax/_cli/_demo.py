"""`qrjax demo`: three initializers on real data."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from qrjax._cli._arguments import PicturePath, WholeNumber, examples
from qrjax._cli._failure import Failure
from qrjax._cli._files import shown
from qrjax._cli._picture import save
from qrjax._cli._screen import Advance, Screen

if TYPE_CHECKING:
    from qrjax._demo._training import History, Trainer

COMPILING = "compiling"
EXTRA = {"matplotlib": "matplotlib", "sklearn": "scikit-learn"}


@click.command(
    epilog=examples(
        "qrjax demo",
        "qrjax demo --seeds 10 --epochs 20 --out curves.pdf",
        "qrjax demo --quiet > table.txt",
    )
)
@click.option(
    "--seeds", metavar="N", type=WholeNumber(1, 100, "--seeds 5"), default=5,
    help="Networks for each initializer.",
)  # fmt: skip
@click.option(
    "--epochs", metavar="N", type=WholeNumber(1, 1000, "--epochs 10"), default=10,
    help="Passes over the training images.",
)  # fmt: skip
@click.option(
    "--out", metavar="PATH", type=PicturePath(), default="demo.png",
    help="Where to save the picture, as .png, .pdf or .svg.",
)  # fmt: skip
@click.option("--quiet", is_flag=True, help="Plain text only, without progress bars or colors.")
def command(seeds: int, epochs: int, out: Path, quiet: bool) -> None:
    """Train a small network on handwritten digits from three initializers.

    The network is convolutional, the digits are scikit-learn's, and the initializers are Flax's default,
    qrjax.he_normal_qr() and qrjax.he_normal_hash(). Prints a table of the accuracies and saves a picture of the loss
    curves. Takes about half a minute on two CPU cores, and gives the same accuracies every time. Needs:
    pip install 'qrjax[demo]'
    """
    output = Screen(quiet)
    output.note("Loading JAX and the digits")
    _check_environment()
    from qrjax._datasets._table import load
    from qrjax._demo import _model, _picture, _summary, _training

    digits = load("digits")
    output.text(_summary.title(digits, seeds, epochs))
    with output.progress((COMPILING, *_model.INITIALIZERS), epochs) as advance:
        advance(COMPILING, 0, "the training, once for all")
        trainer = _training.Trainer(digits, seeds)
        advance(COMPILING, epochs, f"{trainer.compilation_seconds:.1f} s")
        histories = [_trained(trainer, name, epochs, advance) for name in _model.INITIALIZERS]
    try:
        output.table(_summary.HEADINGS, _summary.rows(histories, output.plus_minus))
        for paragraph in _summary.remarks(histories, len(digits.test_labels), trainer.compilation_seconds):
            output.text(paragraph)
            output.gap()
    finally:  # a reader that left after the first line still gets the picture
        save(lambda: _picture.loss_curves(histories), out, "--out")
    output.line(f"The loss curves are in {shown(out)}")


def _check_environment() -> None:
    try:
        import matplotlib  # noqa: F401
        import sklearn  # noqa: F401
    except ModuleNotFoundError as error:
        if error.name not in EXTRA:
            raise
        raise Failure(
            f"the demo needs {EXTRA[error.name]}, which is not installed: pip install 'qrjax[demo]'"
        ) from error
    import jax

    try:
        jax.devices()
    except RuntimeError as error:
        raise Failure(f"JAX has no device to train on; JAX_PLATFORMS=cpu may help: {error}") from error


def _trained(trainer: Trainer, name: str, epochs: int, advance: Advance) -> History:
    from qrjax._demo._model import INITIALIZERS

    advance(name, 0, "compiling its initializer")
    return trainer.train(
        name, INITIALIZERS[name], epochs, lambda done, accuracy: advance(name, done, f"test accuracy {accuracy:.1%}")
    )
