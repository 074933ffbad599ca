"""The experiments of arXiv 2408.02654: networks trained from ten initializers and seven sources of weights.

Needs scikit-learn for its digits, SciPy to compare and pandas for tables: `pip install 'qrjax[bench]'`.
"""

from qrjax._experiments._aggregate import frame, load_results
from qrjax._experiments._run import run
from qrjax._experiments._schemes import Scheme
from qrjax._experiments._settings import Settings
from qrjax._experiments._statistics import Comparison, compare

__all__ = ["Comparison", "Scheme", "Settings", "compare", "frame", "load_results", "run"]


def __dir__() -> list[str]:
    return sorted(__all__)
