"""Quasirandom, addressable, signal-preserving weight initialization for JAX and Flax."""

import importlib
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qrjax import experiments, plot, random, sobol, splitmix
    from qrjax._activations._gain import gain
    from qrjax._activations._stability import Stability, stability
    from qrjax._adapters._weighted_sum import WeightedSum
    from qrjax._autoinit._analyze import analyze
    from qrjax._autoinit._calibration import CalibrationWarning
    from qrjax._autoinit._centered import centered_unit_norm
    from qrjax._autoinit._initialize import autoinit
    from qrjax._autoinit._measure import calibrate, measure
    from qrjax._autoinit._rules import module_rule, rule
    from qrjax._blocks._block import BlockWarning, block
    from qrjax._blocks._stream import next_key, set_seed
    from qrjax._coordinates._check import coordinate_check
    from qrjax._coordinates._result import Coordinate, CoordinateCheck
    from qrjax._files._journal import DamagedLineWarning
    from qrjax._initializers._builders import (
        delta_orthogonal_hash,
        delta_orthogonal_qr,
        glorot_normal_hash,
        glorot_normal_qr,
        glorot_uniform_hash,
        glorot_uniform_qr,
        he_normal_hash,
        he_normal_qr,
        he_uniform_hash,
        he_uniform_qr,
        kaiming_normal_hash,
        kaiming_normal_qr,
        kaiming_uniform_hash,
        kaiming_uniform_qr,
        lecun_normal_hash,
        lecun_normal_qr,
        lecun_uniform_hash,
        lecun_uniform_qr,
        normal_hash,
        normal_qr,
        orthogonal_hash,
        orthogonal_qr,
        random_normal_hash,
        random_normal_qr,
        random_uniform_hash,
        random_uniform_qr,
        truncated_normal_hash,
        truncated_normal_qr,
        uniform_hash,
        uniform_qr,
        variance_scaling_hash,
        variance_scaling_qr,
        xavier_normal_hash,
        xavier_normal_qr,
        xavier_uniform_hash,
        xavier_uniform_qr,
    )
    from qrjax._initializers._initializer import Initializer, RankCollapseWarning
    from qrjax._interpreter._finding import UnhealthyError
    from qrjax._interpreter._report import Report, Row
    from qrjax._interpreter._untouched import UntouchedWarning
    from qrjax._layouts._effective_rank import effective_rank
    from qrjax._rates._learning_rates import learning_rates
    from qrjax._rates._scale_by_width import scale_by_width
    from qrjax._records._make import record
    from qrjax._records._record import Record
    from qrjax._signals._signal import Signal
    from qrjax._sweep._results import Sweep
    from qrjax._sweep._sweep import sweep
    from qrjax._tracking._changes import Change, Changes, changes
    from qrjax._tracking._masks import EmptiedWarning, awakened, mask
    from qrjax._tracking._prune import prune
    from qrjax._tracking._pruned import keep_pruned, pruned
    from qrjax._tracking._search import max_sparsity
    from qrjax._words._block_key import block_key

__version__ = "0.2.0"

__all__ = [
    "BlockWarning", "CalibrationWarning", "Change", "Changes", "Coordinate", "CoordinateCheck", "DamagedLineWarning",
    "EmptiedWarning", "Initializer", "RankCollapseWarning", "Record", "Report", "Row", "Signal", "Stability", "Sweep",
    "UnhealthyError", "UntouchedWarning", "WeightedSum", "analyze", "autoinit", "awakened", "block", "block_key",
    "calibrate", "centered_unit_norm", "changes", "coordinate_check", "delta_orthogonal_hash", "delta_orthogonal_qr",
    "effective_rank", "experiments", "gain", "glorot_normal_hash", "glorot_normal_qr", "glorot_uniform_hash",
    "glorot_uniform_qr", "he_normal_hash", "he_normal_qr", "he_uniform_hash", "he_uniform_qr", "kaiming_normal_hash",
    "kaiming_normal_qr", "kaiming_uniform_hash", "kaiming_uniform_qr", "keep_pruned", "learning_rates",
    "lecun_normal_hash", "lecun_normal_qr", "lecun_uniform_hash", "lecun_uniform_qr", "mask", "max_sparsity",
    "measure", "module_rule", "next_key", "normal_hash", "normal_qr", "orthogonal_hash", "orthogonal_qr", "plot",
    "prune", "pruned", "random", "random_normal_hash", "random_normal_qr", "random_uniform_hash", "random_uniform_qr",
    "record", "rule", "scale_by_width", "set_seed", "sobol", "splitmix", "stability", "sweep",
    "truncated_normal_hash", "truncated_normal_qr", "uniform_hash", "uniform_qr", "variance_scaling_hash",
    "variance_scaling_qr", "xavier_normal_hash", "xavier_normal_qr", "xavier_uniform_hash", "xavier_uniform_qr",
]  # fmt: skip


# All is loaded when it is asked for, so that what needs no JAX, such as `qrjax --help`, does not wait for it.
_MODULES = ("experiments", "plot", "random", "sobol", "splitmix")
# Where each name is.
_HOMES = {
    "_activations._gain": "gain",
    "_activations._stability": "Stability stability",
    "_adapters._weighted_sum": "WeightedSum",
    "_autoinit._analyze": "analyze",
    "_autoinit._calibration": "CalibrationWarning",
    "_autoinit._centered": "centered_unit_norm",
    "_autoinit._initialize": "autoinit",
    "_autoinit._measure": "calibrate measure",
    "_autoinit._rules": "module_rule rule",
    "_blocks._block": "BlockWarning block",
    "_blocks._stream": "next_key set_seed",
    "_coordinates._check": "coordinate_check",
    "_coordinates._result": "Coordinate CoordinateCheck",
    "_files._journal": "DamagedLineWarning",
    "_initializers._initializer": "Initializer RankCollapseWarning",
    "_interpreter._finding": "UnhealthyError",
    "_interpreter._report": "Report Row",
    "_interpreter._untouched": "UntouchedWarning",
    "_layouts._effective_rank": "effective_rank",
    "_rates._learning_rates": "learning_rates",
    "_rates._scale_by_width": "scale_by_width",
    "_records._make": "record",
    "_records._record": "Record",
    "_signals._signal": "Signal",
    "_sweep._results": "Sweep",
    "_sweep._sweep": "sweep",
    "_tracking._changes": "Change Changes changes",
    "_tracking._masks": "EmptiedWarning awakened mask",
    "_tracking._prune": "prune",
    "_tracking._pruned": "keep_pruned pruned",
    "_tracking._search": "max_sparsity",
    "_words._block_key": "block_key",
    "_initializers._builders": " ".join(name for name in __all__ if name.endswith(("_qr", "_hash"))),
}
_LATER = {name: home for home, names in _HOMES.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"qrjax.{name}")
    if name not in _LATER:
        # With these two Python asks whether a name like it was meant.
        raise AttributeError(f"module 'qrjax' has no attribute {name!r}", name=name, obj=sys.modules[__name__])
    globals()[name] = value = getattr(importlib.import_module(f"qrjax.{_LATER[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
