"""Pictures, drawn with matplotlib (extra `plot`), which is loaded when one is asked for."""

from qrjax._plot._changes import changes
from qrjax._plot._signal import signal

__all__ = ["changes", "signal"]
