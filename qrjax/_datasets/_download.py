"""Published files brought here, where someone asks for it."""

from __future__ import annotations

from pathlib import Path

from qrjax._datasets._publication import CorruptFile, Publication
from qrjax._terminal._packages import package


def downloaded(folder: Path | None, publication: Publication, name: str) -> Path:
    """The folder with all files of a publication; what is there already is not fetched again.

    Without a folder it is the user's cache of this dataset.

    Raises:
      ImportError: if pooch is not installed.
      OSError: if a file cannot be fetched or written.
      CorruptFile: if what is fetched, or there, is not what was published.
    """
    pooch = package("pooch", "downloading needs pooch", "bench")
    folder = Path(pooch.os_cache("qrjax")) / name if folder is None else folder
    for file, digest in publication.digests.items():
        there = folder / file
        # Pooch would replace a file of another content.
        if there.exists() and not pooch.hashes.hash_matches(there, digest):
            raise CorruptFile(
                f"{str(there)!r} is not the published file; move it away, or name another folder to download to"
            )
        try:
            pooch.retrieve(publication.url + file, digest, file, folder)
        except ValueError as error:
            raise CorruptFile(f"what was fetched is not the published file: {error}") from error
        except OSError as error:
            raise OSError(f"cannot fetch {publication.url + file}: {error}; {publication.remedy}") from error
    return folder
