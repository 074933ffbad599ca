"""SplitMix64 as a counter-based hash on (hi, lo) pairs of uint32 words, for any shape and platform.

`output(seed, n)` is output n of SplitMix64 seeded with `seed`; the first from seed 0 is
e220a8397b1dcdaf. `absorb` chains it over words, `absorb_path` over names. See also `from_key`.
"""

from qrjax._words._keys import from_key
from qrjax._words._pairs import Pair
from qrjax._words._splitmix import absorb, absorb_path, absorb_sequence, finalize, from_int, output, stack

__all__ = ["Pair", "absorb", "absorb_path", "absorb_sequence", "finalize", "from_int", "from_key", "output", "stack"]


def __dir__() -> list[str]:
    return sorted(__all__)
