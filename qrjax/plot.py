"""Pictures, drawn with matplotlib (extra `plot`), which is loaded when one is asked for.

Every function draws on the Axes `ax`, or on those of a new figure, and returns them: a notebook shows the figure,
`matplotlib.pyplot.show()` does elsewhere, and `.figure.savefig(path)` keeps it. `signal` and `changes` have several
panels: they take and return several Axes, in a tuple that has the figure as one of them would.

Colors follow the style: what stands out is drawn in the color of its text, in dark styles too.
"""

from qrjax._plot._boxes import boxes
from qrjax._plot._changes import changes
from qrjax._plot._coordinates import coordinates
from qrjax._plot._density import density
from qrjax._plot._losses import losses
from qrjax._plot._movement import movement
from qrjax._plot._points import points
from qrjax._plot._signal import signal
from qrjax._plot._spectrum import spectrum
from qrjax._plot._stability import stability
from qrjax._plot._weights import weights

__all__ = [
    "boxes",
    "changes",
    "coordinates",
    "density",
    "losses",
    "movement",
    "points",
    "signal",
    "spectrum",
    "stability",
    "weights",
]


def __dir__() -> list[str]:
    return sorted(__all__)
