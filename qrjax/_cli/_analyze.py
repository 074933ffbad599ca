"""`qrjax analyze`: the signal through any model."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from qrjax._cli._arguments import OneOf, PicturePath, examples
from qrjax._cli._causes import own_code, own_errors
from qrjax._cli._code import calling
from qrjax._cli._files import shown
from qrjax._cli._inputs import Input, RealNumber, arrays, written
from qrjax._cli._models import NAME, model_at, models_in
from qrjax._cli._picture import check_matplotlib, save
from qrjax._cli._screen import Screen, print_json
from qrjax._cli._sections import Sectioned, section
from qrjax._layouts._names import LAYOUTS
from qrjax._rates._names import OPTIMIZERS, Optimizer

if TYPE_CHECKING:
    from qrjax._interpreter._report import Report

analysis, rates_over_width, output = map(section, ("Analysis", "Learning rates over width", "Output"))
OPTIONS = {
    "target": "--target", "input_mean": "--input-mean", "input_variance": "--input-variance", "select": "--select",
    "sample_input": "--input", "module": NAME, "head": "--head", "branches": "--branches",
    "optimizer": "--optimizer", "outputs": "--outputs",
}  # fmt: skip
CAPTION = (
    "in: E x² is the second moment of a weight's input, E y² that of its output or of a module's; gain is the weight's "
    "standard deviation. {weights}"
)
RATES = (
    "rate is the multiplier of the learning rate ({optimizer}), and `as` the parameter's role in the signal; the "
    "learning rate is then the largest relative change of an output in a step. gain is the parameter's root mean "
    "square, in: E x² and E y² are the second moments of its input and of its output. {{weights}}"
)
OWN = "The weights are those of the module's own initialization."
GAINS = "The gains are those that qrjax.autoinit gives; --default shows the module's own initialization."
GRADIENTS = (
    " E g² is the second moment of the gradient with respect to an output, for a random cotangent of second moment 1 "
    "at the model's output, and |g| its norm per example; E w'² and |w'| are those of the gradient with respect to a "
    "weight, over the whole batch."
)


@click.command(
    cls=Sectioned,
    epilog=examples(
        "qrjax analyze model.py:CNN --input 1,32,32,3 --kwarg train=False",
        "qrjax analyze models.text:Transformer --arg layers=12 --input 1,128:int32",
        "qrjax analyze model.py:MLP --input 1,64 --plot signal.png",
        "qrjax analyze model.py:MLP --input 1,64 --default --json > default.json",
        "qrjax analyze model.py:MLP --input 1,64 --rates --head 0",
    ),
)
@click.argument("target", metavar="MODULE[:NAME]")
@calling
@analysis("--default", is_flag=True, help="Use the module's own initialization instead of qrjax.autoinit's gains.")
@analysis(
    "--target", "second_moment", metavar="NUMBER", type=RealNumber("--target 1"), default=1.0,
    help="The second moment to give every weight's output.",
)  # fmt: skip
@analysis(
    "--input-mean", metavar="NUMBER", type=RealNumber("--input-mean 0"),
    help="The mean of inputs that are real numbers or images in bytes; if there are none, of all integers, whose mean "
    "is otherwise guessed.  [default: 0]",
)  # fmt: skip
@analysis(
    "--input-variance", metavar="NUMBER", type=RealNumber("--input-variance 1"),
    help="The variance of the same inputs.  [default: 1]",
)  # fmt: skip
@analysis(
    "--select", metavar="PATTERN", multiple=True,
    help="Which weights get a gain, such as '*/kernel'; the module initializes the others.",
)  # fmt: skip
@analysis(
    "--layout", metavar="NAME", type=OneOf(LAYOUTS), default="outputs",
    help=f"The layout of the Sobol' points: {', '.join(LAYOUTS)}. Only neurons changes the gains.",
)  # fmt: skip
@analysis(
    "--gradients", is_flag=True,
    help="Predict the gradients too, backwards from a random cotangent at the model's output.",
)  # fmt: skip
@analysis(
    "--head", metavar="NUMBER", type=RealNumber("--head 0"),
    help="The second moment of the model's output; 0 means that its last weights are zero.  [default: --target's]",
)  # fmt: skip
@analysis(
    "--branches", metavar="NUMBER", type=RealNumber("--branches 1"),
    help="The second moment that the branches of a residual stream add in total.  [default: --target's, each]",
)  # fmt: skip
@rates_over_width(
    "--rates", is_flag=True,
    help="Print each parameter's learning rate multiplier, as given by qrjax.learning_rates, and why.",
)  # fmt: skip
@rates_over_width(
    "--optimizer", metavar="NAME", type=OneOf(OPTIMIZERS), default="adam",
    help=f"The optimizer to give multipliers for: {', '.join(OPTIMIZERS)}.",
)  # fmt: skip
@rates_over_width(
    "--outputs", metavar="NUMBER", type=RealNumber("--outputs 16"),
    help="The second moment that training will bring the model's outputs to; about 16 for logits.  [default: "
    "--target's]",
)  # fmt: skip
@output("--json", "as_json", is_flag=True, help="Print JSON instead of the table.")
@output(
    "--plot", metavar="PATH", type=PicturePath(),
    help="Save a picture of variance and mean, or gradient, against depth, with the module's own initialization for "
    "comparison.",
)  # fmt: skip
def command(
    target: str, inputs: tuple[Input, ...], dtypes: tuple[str, ...], arguments: tuple[tuple[str, Any], ...],
    keywords: tuple[tuple[str, Any], ...], second_moment: float, select: tuple[str, ...], default: bool,
    gradients: bool, rates: bool, optimizer: Optimizer, outputs: float | None, as_json: bool, plot: Path | None,
    **options: Any,
) -> None:  # fmt: skip
    """Predict the mean and the variance of every layer's output, without drawing a weight.

    MODULE is a dotted module name, which may be in the current folder, or the path of a .py file. NAME is a Linen or
    NNX module in it, a class or function that makes one, or a pair of functions (init, apply); without a NAME the
    models are listed. The findings below the table say where the signal or its gradient vanishes or explodes, where it
    saturates, and where examples become indistinguishable.
    """
    if ":" not in target:
        _list(target, as_json)
        return
    _check_together(rates, optimizer, outputs, gradients, plot)
    positional, named = arrays(inputs, dtypes)
    if plot is not None:
        check_matplotlib()
    settings = _merged(named, dict(keywords))
    selection = select[0] if len(select) == 1 else list(select) or None
    options |= {"gradients": True} if gradients else {}
    options |= {"target": second_moment, "select": selection, "rngs": options["rngs"] or None}
    model = model_at(target, dict(arguments))

    def report(weights: Literal["autoinit", "module"]) -> Report:
        import qrjax

        shown = ", ".join(map(written, positional))
        with own_code(f"{target} cannot be called with {shown}", _remedy), own_errors(OPTIONS):
            if rates:
                chosen = {"optimizer": optimizer, "outputs": outputs, "weights": weights}
                return _rates(model, positional, options | chosen | settings)
            return qrjax.analyze(model, positional[0], *positional[1:], weights=weights, **options, **settings)

    found = report("module" if default else "autoinit")
    if as_json:
        print_json(json.loads(found.to_json()))
    else:
        page = Screen()
        page.show(found._table()._replace(title=""))
        page.gap()
        caption = RATES.format(optimizer=optimizer) if rates else CAPTION
        page.text(caption.format(weights=OWN if default else GAINS) + GRADIENTS * gradients)
    if plot is not None:
        from qrjax import plot as pictures

        save(lambda: pictures.signal(found, default=None if default else report("module")).figure, plot)
        click.echo(f"The picture is in {shown(plot)}", err=as_json)


def _check_together(rates: bool, optimizer: str, outputs: float | None, gradients: bool, plot: Path | None) -> None:
    """Refuses options that --rates has no use for, or that need it."""
    if not rates and optimizer != OPTIMIZERS[0]:
        raise click.UsageError("--optimizer says whose rates are printed; add --rates")
    if not rates and outputs is not None:
        raise click.UsageError("--outputs is what rates are measured by; add --rates")
    other = "--gradients" if gradients else "--plot" if plot is not None else None
    if rates and other is not None:
        raise click.UsageError(f"--rates prints another table, and {other} belongs to that of the signal; run twice")


def _rates(model: Any, inputs: list[Any], options: dict[str, Any]) -> Report:
    import qrjax

    report: Report = qrjax.learning_rates(model, inputs[0], *inputs[1:], report=True, **options)[1]
    return report


def _list(place: str, as_json: bool) -> None:
    """The models of a module, to choose from."""
    found = models_in(place)
    if as_json:
        print_json([model._asdict() for model in found])
        return
    page = Screen()
    page.table(("model", "kind", "--arg"), found, left=(0, 1, 2))
    page.line(f"For example: qrjax analyze {found[0].name} --input 1,64")


def _merged(named: dict[str, Any], keywords: dict[str, Any]) -> dict[str, Any]:
    """Arguments of the model's call by name, which are none of the analysis'."""
    import qrjax

    taken = set(inspect.signature(qrjax.analyze).parameters)
    for option, names, used in (("--input", named, taken), ("--kwarg", keywords, taken | set(named))):
        wrong = sorted(set(names) & used)
        if wrong:
            reason = (
                "is given twice" if wrong[0] in named and wrong[0] not in taken else "is one of qrjax.analyze's own"
            )
            raise click.BadParameter(f"cannot pass {wrong[0]!r}, which {reason}", param_hint=option)
    return named | keywords


def _remedy(error: BaseException) -> str:
    text = str(error)
    if isinstance(error, TypeError) and "argument" in text:
        return "; give arrays by --input, one for each, and settings by --kwarg NAME=VALUE"
    if "integer" in text:
        return "; token ids have a dtype of integers: --input 1,128:int32"
    return ""
