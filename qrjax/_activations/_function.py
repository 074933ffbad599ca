"""An elementwise function of arrays, in float64, with its derivative and its expectations over normal variables."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from qrjax._terminal._received import received

Floats = NDArray[np.float64]

# Beyond, a standard normal variable has no weight that float64 would notice.
LIMIT = 10.0
# Panels of the first round, their Gauss-Legendre points, and how many panels one call takes.
PANELS, POINTS, BATCH = 128, 12, 128
# A panel is halved until its halves agree to this, or it is so narrow that a step within it makes no difference.
CLOSE, NARROW = 1e-13, 1e-12
_X, _W = np.polynomial.legendre.leggauss(POINTS)
# Of a function that rounds to fewer digits than float64, or bends everywhere, so many panels are halved once more; what
# the halves then differ by, together, must be below this share.
MANY, COARSE = 1 << 13, 1e-3
# For functions that JAX cannot trace.
STEP = 1e-5
_SAMPLE = np.linspace(-3.0, 3.5, 14)


class Activation:
    """A user's function, checked: it acts on each element by itself and gives real numbers."""

    def __init__(self, function: Any) -> None:
        if not callable(function) or isinstance(function, type):
            raise TypeError(
                f"`activation` must be a function of an array, such as jax.nn.gelu, got {received(function)}"
            )
        self.function: Callable[[Any], Any] = function
        self.name = str(getattr(function, "__name__", type(function).__name__))
        self._pair = jax.jit(lambda x: jax.jvp(function, (x,), (jnp.ones_like(x),)))
        self.traced = True
        self._check()

    def __call__(self, x: Floats) -> tuple[Floats, Floats]:
        """The values and the derivatives at an array of any shape."""
        if not self.traced:
            return self._plain(x), (self._plain(x + STEP) - self._plain(x - STEP)) / (2 * STEP)
        with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
            value, slope = self._pair(jnp.asarray(x, jnp.float64))
            return np.asarray(value, np.float64), np.asarray(slope, np.float64)

    def _plain(self, x: Floats) -> Floats:
        return np.asarray(self.function(x), np.float64)

    def _check(self) -> None:
        try:
            whole = self(_SAMPLE)[0]
        except jax.errors.JAXTypeError:
            self.traced = False
            whole = self(_SAMPLE)[0]
        if whole.shape != _SAMPLE.shape:
            raise ValueError(
                f"`activation` must return an array of its argument's shape, got {whole.shape} for {_SAMPLE.shape}"
            )
        if not np.allclose(whole[:7], self(_SAMPLE[:7])[0], rtol=1e-5, atol=1e-7, equal_nan=True):
            raise ValueError(
                f"`activation` {self.name} must act on each element by itself; of functions such as softmax or a norm, "
                "qrjax.analyze of a model tells the moments"
            )
        if not np.isfinite(whole).all():
            raise ValueError(f"`activation` {self.name} gives NaN or infinities between -3 and 3.5; it must be finite")

    @np.errstate(over="ignore", invalid="ignore")
    def expectations(self, target: float, integrands: Callable[[Floats, Floats, Floats], Floats]) -> Floats:
        """E g(f(x), f'(x), x) for a normal x of mean 0 and this second moment; g gives several rows.

        Panels are halved where the function bends, so that kinks and steps cost no digits.

        Raises:
          ValueError: if it bends everywhere.
        """
        edges = np.linspace(-LIMIT, LIMIT, PANELS + 1)
        low, high = edges[:-1], edges[1:]
        coarse, total = self._panels(low, high, target, integrands), 0.0
        while low.size:
            middle = (low + high) / 2
            left, right = (self._panels(a, b, target, integrands) for a, b in ((low, middle), (middle, high)))
            fine = left + right
            apart = np.abs(fine - coarse)
            done = (apart <= CLOSE * (1e-3 + np.abs(fine))).all(0) | (high - low < NARROW)
            done |= ~np.isfinite(fine).all(0)  # an overflow, which no halving mends
            if low.size > MANY:
                if (apart[:, ~done].sum(1) > COARSE * np.abs(fine[:, ~done]).sum(1)).any():
                    raise ValueError(
                        f"`activation` {self.name} is too rough for its moments to be found: it bends everywhere, or "
                        "rounds to few digits"
                    )
                done[:] = True
            total = total + fine[:, done].sum(1)
            go = ~done
            low, high = np.concatenate([low[go], middle[go]]), np.concatenate([middle[go], high[go]])
            coarse = np.concatenate([left[:, go], right[:, go]], 1)
        return np.asarray(total)

    def _panels(
        self, low: Floats, high: Floats, target: float, integrands: Callable[[Floats, Floats, Floats], Floats]
    ) -> Floats:
        """The integrals over panels, shape (integrands, panels)."""
        found = []
        for start in range(0, low.size, BATCH):
            a, b = low[start : start + BATCH], high[start : start + BATCH]
            z = (a + b)[:, None] / 2 + (b - a)[:, None] / 2 * _X
            # All calls are of one shape, so that one program serves them.
            padded = np.zeros((BATCH, POINTS))
            padded[: a.size] = np.sqrt(target) * z
            value, slope = (v[: a.size] for v in self(padded))
            density = np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi) * _W * (b - a)[:, None] / 2
            found.append((integrands(value, slope, padded[: a.size]) * density).sum(-1))
        return np.concatenate(found, 1)
