"""How much time a run of gpu.py has, and what it did not suffice for."""

from __future__ import annotations

import dataclasses
import math
import sys
import time

# What is wanted most first; the share of the minutes at whose end a part begins nothing more.
SHARES = {"speed": 0.3, "model": 0.4, "unrolled": 0.5, "autoinit": 0.6, "digests": 0.8, "tests": 1.0}
PARTS = tuple(SHARES)


@dataclasses.dataclass
class Clock:
    """Asked before each piece of work.

    Attributes:
      seconds: there are in all.
      begun: by the monotonic clock.
      left_out: what was refused, "part: what".
    """

    seconds: float = math.inf
    begun: float = dataclasses.field(default_factory=time.monotonic)
    left_out: list[str] = dataclasses.field(default_factory=list)

    @property
    def left(self) -> float:
        """Seconds."""
        return self.seconds - (time.monotonic() - self.begun)

    def allows(self, part: str, what: str) -> bool:
        """Whether to begin something of a part; says what on standard error, or notes that it was left out."""
        passed = time.monotonic() - self.begun
        if passed >= SHARES[part] * self.seconds:
            self.left_out.append(f"{part}: {what}")
            return False
        print(f"{passed:6.1f} s  {part}: {what}", file=sys.stderr, flush=True)
        return True
