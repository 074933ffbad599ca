"""Which context is in which block, and whose generators are in the place of Python's, NumPy's and Torch's own.

Every module of a process shares one `random` and one `numpy.random`. One open block at a time, the first, owns
them: their state is swapped, so that it holds for references such as `from random import shuffle` as well. Others
that are open at the same time, in other threads and tasks, have generators of their own, and so has what is outside
of all blocks; the modules' functions ask who is calling (`_dispatch.py`).
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from contextvars import ContextVar

from qrjax._blocks._dispatch import install, replacements, uninstall
from qrjax._blocks._generators import Generators


class Frame:
    """A block that is, or was, open; the root is what is outside of all blocks."""

    def __init__(self, parent: Frame | None, generators: Generators) -> None:
        self.parent = parent
        self.generators = generators
        self.open = True

    def nearest(self) -> Frame:
        """Itself or the innermost block around it that is still open; the root always is."""
        found = self
        while not found.open and found.parent is not None:
            found = found.parent
        return found


# Tasks inherit it, threads do not. A task that outlives its block goes on in what was around that.
_frame: ContextVar[Frame | None] = ContextVar("qrjax.block", default=None)


def current() -> Frame:
    """The calling context's frame."""
    frame = _frame.get()
    return ROOT if frame is None else frame.nearest()


class Stage:
    """The process's generators: who owns them, and which frames are open."""

    def __init__(self, root: Frame) -> None:
        self.owner = root
        self.frames: list[Frame] = []
        # Re-entrant since the garbage collector may close a generator with a block in it at any point.
        self.lock = threading.RLock()
        self.replaced = replacements(self.choose)

    def choose(self) -> Generators | None:
        """The calling context's generators where they are not in the singletons."""
        frame = current()
        return None if frame is self.owner else frame.generators

    def enter(self, frame: Frame, parent: Frame) -> None:
        """Each step leaves what `leave` can undo, whatever interrupts it."""
        if not self.frames:
            install(self.replaced)
        self.frames.append(frame)
        if self.owner is parent:
            parent.generators.store()
            self.owner = frame
            frame.generators.load()

    def leave(self, frame: Frame, restore: bool) -> None:
        frame.open = False
        around = frame.nearest()
        if not restore:
            if self.owner is frame:
                frame.generators.store()
            around.generators.adopt(frame.generators)
        if self.owner is frame or (self.owner is around and not restore):
            self.owner = around
            around.generators.load()
        self.frames = [other for other in self.frames if other is not frame]
        if not self.frames:
            uninstall(self.replaced)

    def seed(self, generators: Generators) -> None:
        """Sets what is outside of all blocks."""
        ROOT.generators.adopt(generators)
        if self.owner is ROOT:
            ROOT.generators.load()


ROOT = Frame(None, Generators())
STAGE = Stage(ROOT)


@contextlib.contextmanager
def entered(generators: Generators, restore: bool) -> Iterator[None]:
    """The calling context is in a block with these generators; then, or where it fails, the outer state is back."""
    around = current()
    frame = Frame(around, generators)
    began = False
    try:
        with STAGE.lock:
            STAGE.enter(frame, around)
        _frame.set(frame)
        began = True
        yield
    finally:
        with STAGE.lock:
            STAGE.leave(frame, restore or not began)
        innermost = _frame.get()
        _frame.set(None if innermost is None or innermost.nearest() is ROOT else innermost.nearest())
