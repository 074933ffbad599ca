"""What a failure says of many numbers at once: how many are wrong, and the first of them."""

from typing import Any

import numpy as np


def wrong(right: Any, **shown: Any) -> str:
    """Empty where all is right; else how many are not, and of the first its place and the numbers to be shown."""
    right = np.asarray(right)
    places = np.argwhere(~right)
    if not len(places):
        return ""
    first = tuple(map(int, places[0]))
    numbers = (f"{name} {np.broadcast_to(array, right.shape)[first]}" for name, array in shown.items())
    return f"{len(places)} of {right.size} are wrong, the first at {first}: {', '.join(numbers)}"
