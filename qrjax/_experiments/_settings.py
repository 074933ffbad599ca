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
OPTIMIZERS = {"adam": 1e-3, "sgd": 1e-2}  # with Keras's learning rates, as in the paper
# What each dataset holds; `Settings` is checked before any file is read.
KINDS = {"digits": "images", "mnist1d": "images", "mnist": "images", "cifar10": "images", "imdb": "tokens"}
SourceName = Literal["random", "sobol", "sequence", "hash", "autoinit", "own"]


class Model(NamedTuple):
    """A kind of network."""

    takes: tuple[str, ...]
    kernels: Callable[[Settings, Dataset], int]
    build: Callable[[Settings, Dataset, Inits], nn.Module]


@dataclasses.dataclass(frozen=True)
class Settings:
    """One experiment of the paper: a network, its data, its initial weights and its training.

    Attributes:
      dataset: "digits" (scikit-learn's) or "mnist1d" (signals of 40 numbers), which need no file, "mnist", "cifar10"
        or "imdb".
      model: "mlp1" and "mlp2" (one and two hidden layers), "cnn", "lstm" (tokens), "transformer".
      initializer: one of the paper's ten, such as "glorot_uniform", or one of your own as "package.module:factory":
        a function without arguments that returns an initializer, (key, shape, dtype) -> array. Its results have this
        name alone, so another definition needs another.
      source: "random" (jax.nn.initializers), "sobol", "sequence" (the paper's order), "hash" or "autoinit"; "own" for
        an initializer of your own, and for no other.
      optimizer: "adam" or "sgd".
      learning_rate: None: Keras's, 0.001 for Adam and 0.01 for SGD.
      epochs: passes over the training data.
      batch_size: examples in a step; what is left of an epoch is left out of it.
      units: width of hidden layers, of the LSTM and of the Transformer.
      filters: of the convolutions, in order.
      heads, blocks: of the Transformer.
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
    optimizer: Literal["adam", "sgd"] = "adam"
    learning_rate: float | None = None
    epochs: int = 10
    batch_size: int = 32
    units: int = 64
    filters: tuple[int, ...] = (16, 32)
    heads: int = 4
    blocks: int = 2
    vocabulary: int = 10_000
    length: int = 200
    limit: int | None = None

    def __post_init__(self) -> None:
        for name, choices in (
            ("dataset", list(KINDS)), ("model", list(MODELS)), ("optimizer", list(OPTIMIZERS)),
        ):  # fmt: skip
            choice(name, getattr(self, name), choices)
        self._check_initializer()
        self._check_numbers()
        self._make_plain()
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

    def _check_numbers(self) -> None:
        for name in ("epochs", "batch_size", "units", "heads", "blocks", "vocabulary", "length"):
            positive(name, getattr(self, name))
        if not isinstance(self.filters, (tuple, list)) or not self.filters:
            raise ValueError(f"`filters` must be positive integers, got {self.filters!r}; for example (16, 32)")
        for number in self.filters:
            positive("filters", number)
        if self.limit is not None:
            positive("limit", self.limit)
        rate = self.learning_rate
        if rate is not None and not 0 < _real(rate) <= LARGEST_RATE:
            raise ValueError(f"`learning_rate` must be a positive number, got {rate!r}; for example 0.001")
        if self.model == "transformer" and self.units % self.heads:
            raise ValueError(f"`units` {self.units} must be a multiple of `heads` {self.heads}")

    def _make_plain(self) -> None:
        from qrjax._words._numbers import real_number

        # Python's own numbers, so that equal settings are equal in a file, too.
        rate = OPTIMIZERS[self.optimizer] if self.learning_rate is None else real_number(self.learning_rate)
        object.__setattr__(self, "learning_rate", rate)
        object.__setattr__(self, "filters", tuple(map(int, self.filters)))
        for name in ("epochs", "batch_size", "units", "heads", "blocks", "vocabulary", "length", "limit"):
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


def _mlp(layers: int) -> Model:
    def build(settings: Settings, data: Dataset, inits: Inits) -> nn.Module:
        from qrjax._experiments._models import Mlp

        return Mlp(inits, data.classes, (settings.units,) * layers)

    return Model(("images",), lambda _settings, _data: layers + 1, build)


def _cnn(settings: Settings, data: Dataset, inits: Inits) -> nn.Module:
    from qrjax._experiments._models import Cnn

    return Cnn(inits, data.classes, settings.filters, settings.units)


def _lstm(settings: Settings, data: Dataset, inits: Inits) -> nn.Module:
    from qrjax._experiments._models import Lstm

    return Lstm(inits, data.classes, data.vocabulary or 0, settings.units)


def _transformer(settings: Settings, data: Dataset, inits: Inits) -> nn.Module:
    from qrjax._experiments._models import Transformer

    return Transformer(inits, data.classes, data.vocabulary, settings.units, settings.heads, settings.blocks)


def _transformer_kernels(settings: Settings, data: Dataset) -> int:
    from qrjax._experiments._models import Transformer

    return settings.blocks * Transformer.in_each_block + 1 + (data.vocabulary is None)


MODELS = {
    "mlp1": _mlp(1),
    "mlp2": _mlp(2),
    "cnn": Model(("images",), lambda settings, _data: len(settings.filters) + 2, _cnn),
    "lstm": Model(("tokens",), lambda _settings, _data: 3, _lstm),
    "transformer": Model(("images", "tokens"), _transformer_kernels, _transformer),
}
