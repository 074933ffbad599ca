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
    "BlockWarning",
    "CalibrationWarning",
    "Change",
    "Changes",
    "Coordinate",
    "CoordinateCheck",
    "DamagedLineWarning",
    "EmptiedWarning",
    "Initializer",
    "RankCollapseWarning",
    "Record",
    "Report",
    "Row",
    "Signal",
    "Stability",
    "Sweep",
    "UnhealthyError",
    "UntouchedWarning",
    "WeightedSum",
    "analyze",
    "autoinit",
    "awakened",
    "block",
    "block_key",
    "calibrate",
    "centered_unit_norm",
    "changes",
    "coordinate_check",
    "delta_orthogonal_hash",
    "delta_orthogonal_qr",
    "effective_rank",
    "experiments",
    "gain",
    "glorot_normal_hash",
    "glorot_normal_qr",
    "glorot_uniform_hash",
    "glorot_uniform_qr",
    "he_normal_hash",
    "he_normal_qr",
    "he_uniform_hash",
    "he_uniform_qr",
    "kaiming_normal_hash",
    "kaiming_normal_qr",
    "kaiming_uniform_hash",
    "kaiming_uniform_qr",
    "keep_pruned",
    "learning_rates",
    "lecun_normal_hash",
    "lecun_normal_qr",
    "lecun_uniform_hash",
    "lecun_uniform_qr",
    "mask",
    "max_sparsity",
    "measure",
    "module_rule",
    "next_key",
    "normal_hash",
    "normal_qr",
    "orthogonal_hash",
    "orthogonal_qr",
    "plot",
    "prune",
    "pruned",
    "random",
    "random_normal_hash",
    "random_normal_qr",
    "random_uniform_hash",
    "random_uniform_qr",
    "record",
    "rule",
    "scale_by_width",
    "set_seed",
    "sobol",
    "splitmix",
    "stability",
    "sweep",
    "truncated_normal_hash",
    "truncated_normal_qr",
    "uniform_hash",
    "uniform_qr",
    "variance_scaling_hash",
    "variance_scaling_qr",
    "xavier_normal_hash",
    "xavier_normal_qr",
    "xavier_uniform_hash",
    "xavier_uniform_qr",
]


# All is loaded when it is asked for, so that what needs no JAX, such as `qrjax --help`, does not wait for it.
_MODULES = ("experiments", "plot", "random", "sobol", "splitmix")
_LATER = {name: "qrjax._initializers._builders" for name in __all__ if name.endswith(("_qr", "_hash"))} | {
    "Initializer": "qrjax._initializers._initializer",
    "RankCollapseWarning": "qrjax._initializers._initializer",
    "BlockWarning": "qrjax._blocks._block",
    "CalibrationWarning": "qrjax._autoinit._calibration",
    "Change": "qrjax._tracking._changes",
    "Changes": "qrjax._tracking._changes",
    "Coordinate": "qrjax._coordinates._result",
    "CoordinateCheck": "qrjax._coordinates._result",
    "DamagedLineWarning": "qrjax._files._journal",
    "EmptiedWarning": "qrjax._tracking._masks",
    "Record": "qrjax._records._record",
    "Report": "qrjax._interpreter._report",
    "Row": "qrjax._interpreter._report",
    "Signal": "qrjax._signals._signal",
    "Stability": "qrjax._activations._stability",
    "Sweep": "qrjax._sweep._results",
    "WeightedSum": "qrjax._adapters._weighted_sum",
    "analyze": "qrjax._autoinit._analyze",
    "autoinit": "qrjax._autoinit._initialize",
    "awakened": "qrjax._tracking._masks",
    "block": "qrjax._blocks._block",
    "block_key": "qrjax._words._block_key",
    "calibrate": "qrjax._autoinit._measure",
    "centered_unit_norm": "qrjax._autoinit._centered",
    "UnhealthyError": "qrjax._interpreter._finding",
    "UntouchedWarning": "qrjax._interpreter._untouched",
    "changes": "qrjax._tracking._changes",
    "coordinate_check": "qrjax._coordinates._check",
    "effective_rank": "qrjax._layouts._effective_rank",
    "gain": "qrjax._activations._gain",
    "keep_pruned": "qrjax._tracking._pruned",
    "learning_rates": "qrjax._rates._learning_rates",
    "mask": "qrjax._tracking._masks",
    "max_sparsity": "qrjax._tracking._search",
    "measure": "qrjax._autoinit._measure",
    "module_rule": "qrjax._autoinit._rules",
    "next_key": "qrjax._blocks._stream",
    "prune": "qrjax._tracking._prune",
    "pruned": "qrjax._tracking._pruned",
    "record": "qrjax._records._make",
    "rule": "qrjax._autoinit._rules",
    "scale_by_width": "qrjax._rates._scale_by_width",
    "set_seed": "qrjax._blocks._stream",
    "stability": "qrjax._activations._stability",
    "sweep": "qrjax._sweep._sweep",
}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"qrjax.{name}")
    if name not in _LATER:
        # With these two Python asks whether a name like it was meant.
        raise AttributeError(f"module 'qrjax' has no attribute {name!r}", name=name, obj=sys.modules[__name__])
    globals()[name] = value = getattr(importlib.import_module(_LATER[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
