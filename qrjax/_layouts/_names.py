"""The layouts by name, for those who list them and draw nothing: this file loads no JAX."""

from __future__ import annotations

from typing import Literal

Layout = Literal["sequence", "shuffled", "outputs", "neurons", "points"]
LAYOUTS = ("sequence", "shuffled", "outputs", "neurons", "points")
