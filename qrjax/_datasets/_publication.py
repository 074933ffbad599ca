"""Where a dataset is published, and what is said of files that are something else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class CorruptFile(ValueError):
    """A file is damaged or of another format; the message says what was expected and found, and the remedy."""


class Publication(NamedTuple):
    """Where a dataset is published and by whom, the address that its files begin with, and the digests that its
    publisher gives, by file name."""

    title: str
    where: str
    url: str
    digests: Mapping[str, str]

    @property
    def remedy(self) -> str:
        return f"{self.title} is published at {self.where}"
