"""Optimizers by name, with a multiplier for each weight or with one rate for all."""

from __future__ import annotations

from typing import Any

from qrjax._autoinit._calls import closed
from qrjax._coordinates._settings import Settings
from qrjax._rates._learning_rates import learning_rates
from qrjax._rates._scale_by_width import scale_by_width
from qrjax._terminal._received import received

MOMENTUM = 0.9


def optimizer_of(module: Any, call: Any, settings: Settings) -> Any:
    """An optax transformation: the steps of an optimizer, times each weight's multiplier, times the rate.

    Raises:
      TypeError: if a function was given that makes no transformation.
    """
    import optax

    if callable(settings.optimizer):
        made = settings.optimizer(closed(module))
        if not all(callable(getattr(made, name, None)) for name in ("init", "update")):
            raise TypeError(f"`optimizer` must return an optax transformation, got {received(made)}")
        return made
    assert settings.rate is not None
    scaled = [scale_by_width(_multipliers(module, call, settings))] if settings.multipliers else []
    return optax.chain(_downhill(settings.optimizer), *scaled, optax.scale(settings.rate))


def _multipliers(module: Any, call: Any, settings: Settings) -> Any:
    (positional, named), options = call
    whose: dict[str, Any] = {"weights": "module"} if settings.weights == "module" else {"head": settings.head}
    if callable(settings.weights):
        whose = {}
    whose |= {"optimizer": settings.optimizer, "call_kwargs": named}
    whose |= {"outputs": settings.outputs, "branches": settings.branches}
    return learning_rates(module, *positional, **whose, **options)  # type: ignore[call-overload]


def _downhill(name: str) -> Any:
    """Steps at a rate of 1."""
    import optax
    import optax.contrib

    if name == "muon":
        return optax.contrib.muon(1.0)  # Adam's for what is no matrix
    direction = {"adam": optax.scale_by_adam, "sgd": lambda: optax.trace(MOMENTUM), "sign": optax.scale_by_sign}[name]
    return optax.chain(direction(), optax.scale(-1.0))
