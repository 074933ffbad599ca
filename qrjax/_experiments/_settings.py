"""What one experiment is: every choice, checked, and the network it means."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from qrjax._experiments._names import INITIALIZERS, MARK, OWN, SOURCES
from qrjax._experiments._own import built, check_form
from qrjax._terminal._names import choice

if TYPE_CHECKING:
    import flax.linen as nn

    from qrjax._datasets._dataset import Dataset
    from qrjax._experiments._models import Inits

MOST = 2**31 - 1
LARGEST_RATE = 1e38  # of float32
MOST_HELD = 0.9  # of the training examples, for validation
# With Keras's learning rates, as in the paper; "momentum" is SGD with 0.9 of it.
OPTIMIZERS = {"adam": 1e-3, "sgd": 1e-2, "momentum": 1e-2}
# What each dataset holds; `Settings` is checked before any file is read.
KINDS = {"digits": "images", "mnist1d": "images", "mnist": "images", "cifar10": "images", "imdb": "tokens"}
SourceName = Literal["random", "sobol", "sequence", "hash", "autoinit", "stable", "calibrate", "own"]


# Settings that are whole numbers from 1.
COUNTS = ("epochs", "batch_size", "units", "heads", "blocks", "vocabulary", "length", "depth")


class Model(NamedTuple):
    """A kind of network."""

    takes: tuple[str, ...]
    has_norms: bool
    kernels: Callable[[Settings, Dataset], int]
    build: Callable[[Settings, Dataset, Inits], nn.Module]


@dataclasses.dataclass(frozen=True)
class Settings:
    """One experiment of the paper: a network, its data, its initial weights and its training.

    Attributes:
      dataset: "digits" (scikit-learn's) or "mnist1d" (signals of 40 numbers), which need no file, "mnist", "cifar10"
        or "imdb".
      model: "mlp1" and "mlp2" (one and two hidden layers), "cnn", "lstm" (over tokens, or over
        the rows of images), "transformer".
      initializer: one of the paper's ten, such as "glorot_uniform", or one of your own as "package.module:factory":
        a function without arguments that returns an initializer, (key, shape, dtype) -> array, or something with a
        method `params`, (network, examples, key) -> params, that makes all of a Linen module's at once. Its results
        have this name alone, so another definition needs another.
      source: "random" (jax.nn.initializers), "sobol", "sequence" (the paper's order), "hash", "autoinit", "stable"
        (autoinit with that target) or "calibrate" (random, then `qrjax.calibrate`); "own" for an initializer of your
        own, and for no other.
      optimizer: "adam", "sgd" or "momentum" (SGD with a momentum of 0.9).
      learning_rate: None: Keras's, 0.001 for Adam and 0.01 for SGD. Several: that one of them is taken which is best
        on the validation examples for two seeds of their own; "random", "sobol", "sequence" and "hash", which draw at
        one scale, take the one that is best for "random".
      epochs: passes over the training data.
      batch_size: examples in a step; what is left of an epoch is left out of it.
      units: width of hidden layers, of the LSTM and of the Transformer.
      filters: of the convolutions, in order.
      heads, blocks: of the Transformer.
      depth: how many times each hidden layer comes in a row: of the perceptrons, the convolutions, the LSTM and the
        Transformer's blocks; 3 makes a network three times as deep.
      norms: whether the Transformer has its LayerNorms; the others have none.
      validation: the share of the training examples that are not trained on but tell when to stop: a comparison takes
        the test accuracy of the epoch that is best on them. 0: none, and the last epoch counts, as in the paper.
      vocabulary, length: of "imdb": how many words are kept, and how many tokens of a review.
      limit: at most so many training and test examples; None: all.

    Raises:
      ValueError: if a name is unknown, a number is out of range, or the model does not take the dataset.

    Example:
      >>> import qrjax
      >>> qrjax.experiments.Settings(model="cnn", initializer="he_normal").learning_rate
      0.001
    """

    dataset: Literal["digits", "mnist1d", "mnist", "cifar10", "imdb"] = "digits"
    model: Literal["mlp1", "mlp2", "cnn", "lstm", "transformer"] = "mlp2"
    initializer: str = "glorot_uniform"
    source: SourceName = "sobol"
    optimizer: Literal["adam", "sgd", "momentum"] = "adam"
    learning_rate: float | tuple[float, ...] | None = None
    epochs: int = 10
    batch_size: int = 32
    units: int = 64
    filters: tuple[int, ...] = (16, 32)
    heads: int = 4
    blocks: int = 2
    vocabulary: int = 10_000
    length: int = 200
    limit: int | None = None
    depth: int = 1
    norms: bool = True
    validation: float = 0.0

    def __post_init__(self) -> None:
        for name, choices in (
            ("dataset", list(KINDS)), ("model", list(MODELS)), ("optimizer", list(OPTIMIZERS)),
        ):  # fmt: skip
            choice(name, getattr(self, name), choices)
        self._check_initializer()
        self._check_numbers()
        self._make_plain()
        self._check_norms()
        kind, takes = KINDS[self.dataset], MODELS[self.model].takes
        if kind not in takes:
            fit = ", ".join(name for name, model in MODELS.items() if kind in model.takes)
            data = ", ".join(name for name, its in KINDS.items() if its in takes)
            raise ValueError(
                f"`model` {self.model!r} takes {' or '.join(takes)} and `dataset` {self.dataset!r} holds {kind}: use "
                f"one of {fit} with it, or {self.model!r} with {data}"
            )

    def _check_initializer(self) -> None:
        if isinstance(self.initializer, str) and MARK in self.initializer:
            check_form(self.initializer)
            if self.source != OWN:
                raise ValueError(f"`source` must be {OWN!r} for an initializer of your own, got {self.source!r}")
            return
        if self.source == OWN:
            raise ValueError(
                f"`source` {OWN!r} is of an `initializer` of your own, such as 'package.module:factory', got "
                f"{self.initializer!r}"
            )
        choice("initializer", self.initializer, INITIALIZERS)
        choice("source", self.source, list(SOURCES))

    def _check_norms(self) -> None:
        if not isinstance(self.norms, bool):
            raise ValueError(f"`norms` must be True or False, got {self.norms!r}")
        if not (self.norms or MODELS[self.model].has_norms):
            having = ", ".join(repr(name) for name, model in MODELS.items() if model.has_norms)
            raise ValueError(f"`norms` False is for a `model` that has some, {having}; {self.model!r} has none")

    def _check_numbers(self) -> None:
        for name in COUNTS:
            positive(name, getattr(self, name))
        if not isinstance(self.filters, (tuple, list)) or not self.filters:
            raise ValueError(f"`filters` must be positive integers, got {self.filters!r}; for example (16, 32)")
        for number in self.filters:
            positive("filters", number)
        if self.limit is not None:
            positive("limit", self.limit)
        self._check_rates()
        if self.model == "transformer" and self.units % self.heads:
            raise ValueError(f"`units` {self.units} must be a multiple of `heads` {self.heads}")

    def _check_rates(self) -> None:
        if not 0 <= _real(self.validation) <= MOST_HELD:
            raise ValueError(
                f"`validation` must be a share of the training examples from 0 to {MOST_HELD}, got {self.validation!r}"
            )
        rates: Any = self.learning_rate
        is_several = isinstance(rates, (tuple, list))
        for rate in rates if is_several else () if rates is None else (rates,):
            if not 0 < _real(rate) <= LARGEST_RATE:
                raise ValueError(f"`learning_rate` must be a positive number, got {rate!r}; for example 0.001")
        if is_several and len(set(rates)) < max(2, len(rates)):
            raise ValueError(f"`learning_rate` must be one number or several different ones, got {rates!r}")
        if is_several and not self.validation:
            raise ValueError(
                f"`learning_rate` {rates!r} is chosen on validation examples, and `validation` is 0; give a share, for "
                "example 0.2"
            )

    def _make_plain(self) -> None:
        # Python's own numbers, so that equal settings are equal in a file, too.
        object.__setattr__(self, "learning_rate", _plain_rate(self.learning_rate, OPTIMIZERS[self.optimizer]))
        object.__setattr__(self, "filters", tuple(map(int, self.filters)))
        object.__setattr__(self, "validation", _real(self.validation))
        for name in (*COUNTS, "limit"):
            value = getattr(self, name)
            object.__setattr__(self, name, value if value is None else int(value))

    def check(self, data: Dataset) -> None:
        """Whether the network fits the data, and an initializer of one's own is there.

        Raises:
          ValueError: if the CNN halves the images to nothing, or the initializer is not what it must be.
        """
        if self.source == OWN:
            built(self.initializer)
        height, width = data.train_inputs.shape[1:3]
        least = min(size for size in (height, width, max(height, width)) if size > 1 or height == width)
        if self.model == "cnn" and least >> len(self.filters) - 1 == 0:
            raise ValueError(
                f"`filters` {self.filters} are too many for images of {height} x {width}, which are halved between the "
                f"convolutions; at most {least.bit_length()}"
            )

    def with_source(self, source: SourceName) -> Settings:
        """The same experiment from another source of randomness."""
        return dataclasses.replace(self, source=source)

    def kind(self) -> Settings:
        """What experiments have in common that train by one program, if they have as many epochs."""
        return dataclasses.replace(self, initializer="glorot_uniform", source="random", learning_rate=None)

    def kernels(self, data: Dataset) -> int:
        """How many kernels the network draws: as many Sobol' dimensions does it use in the paper's order."""
        return MODELS[self.model].kernels(self, data)

    def network(self, data: Dataset, dim: int = 1) -> nn.Module:
        """The network with its initializers; `dim` is the first kernel's dimension in the paper's order."""
        from qrjax._experiments._initializers import kernel_inits

        inits = kernel_inits(self.initializer, self.source, self.kernels(data), dim)
        return MODELS[self.model].build(self, data, inits)


def positive(name: str, value: Any) -> int:
    """`value` as an int, from 1 to MOST."""
    from qrjax._words._numbers import whole_number

    try:
        number = whole_number(value)
    except TypeError:
        number = 0
    if not 1 <= number <= MOST:
        raise ValueError(f"`{name}` must be a positive integer, got {value!r}")
    return number


def _real(value: Any) -> float:
    """A real number; NaN if it is none."""
    from qrjax._words._numbers import real_number

    try:
        return real_number(value)
    except TypeError:
        return math.nan


def _plain_rate(rate: Any, usual: float) -> float | tuple[float, ...]:
    if rate is None:
        return usual
    return tuple(map(_real, rate)) if isinstance(rate, (tuple, list)) else _real(rate)


def _mlp(layers: int) -> Model:
    def build(settings: Settings, data: Dataset, inits: Inits) -> nn.Module:
        from qrjax._experiments._models import Mlp

        return Mlp(inits, data.classes, (settings.units,) * (layers * settings.depth))

    return Model(("images",), False, lambda settings, _data: layers * settings.depth + 1, build)


def _cnn(settings: Settings, data: Dataset, inits: Inits) -> nn.Module:
    from qrjax._experiments._models import Cnn

    return Cnn(inits, data.classes, settings.filters, settings.units, settings.depth)


def _lstm(settings: Settings, data: Dataset, inits: Inits) -> nn.Module:
    from qrjax._experiments._models import Lstm

    return Lstm(inits, data.classes, data.vocabulary, settings.units, settings.depth)


def _transformer(settings: Settings, data: Dataset, inits: Inits) -> nn.Module:
    from qrjax._experiments._models import Transformer

    blocks = settings.blocks * settings.depth
    return Transformer(
        inits, data.classes, data.vocabulary, settings.units, settings.heads, blocks, norms=settings.norms
    )


def _transformer_kernels(settings: Settings, data: Dataset) -> int:
    from qrjax._experiments._models import Transformer

    return settings.blocks * settings.depth * Transformer.in_each_block + 1 + (data.vocabulary is None)


MODELS = {
    "mlp1": _mlp(1),
    "mlp2": _mlp(2),
    "cnn": Model(("images",), False, lambda settings, _data: (len(settings.filters) + 1) * settings.depth + 1, _cnn),
    "lstm": Model(("images", "tokens"), False, lambda settings, _data: 2 * settings.depth + 1, _lstm),
    "transformer": Model(("images", "tokens"), True, _transformer_kernels, _transformer),
}
