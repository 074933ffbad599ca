"""Downloads: only where they are asked for, what was published and nothing else."""

import functools
import hashlib
import http.server
import sys
import threading

import numpy as np
import pytest
from published import mnist_arrays, write_mnist

from qrjax._datasets import _cifar, _imdb, _mnist
from qrjax._datasets._publication import CorruptFile
from qrjax._datasets._table import load

NAMES = list(_mnist.PUBLICATION.digests)


class Quiet(http.server.SimpleHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(self.path)
        super().do_GET()

    def log_message(self, *args):
        pass


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A publisher of MNIST, small, on this machine."""
    pytest.importorskip("pooch")
    folder = tmp_path / "site"
    folder.mkdir()
    write_mnist(folder, mnist_arrays(), packed=True)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder))
    server.asked, server.folder = [], folder
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    digests = {name: f"md5:{hashlib.md5((folder / name).read_bytes()).hexdigest()}" for name in NAMES}
    url = f"http://127.0.0.1:{server.server_port}/"
    monkeypatch.setattr(_mnist, "PUBLICATION", _mnist.PUBLICATION._replace(url=url, digests=digests))
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def test_files_are_fetched_once_and_read(site, tmp_path):
    folder = tmp_path / "new" / "mnist"
    found = load("mnist", folder, download=True, checksums=True)
    assert sorted(site.asked) == sorted(f"/{name}" for name in NAMES)
    for again in (load("mnist", folder, download=True), load("mnist", folder), load("mnist", site.folder)):
        for one, other in zip(found, again, strict=True):
            np.testing.assert_array_equal(one, other)
    assert len(site.asked) == len(NAMES)
    assert sorted(path.name for path in folder.iterdir()) == sorted(NAMES)


def test_nothing_is_fetched_unless_asked_for(site, tmp_path):
    with pytest.raises(FileNotFoundError, match="missing in the folder"):
        load("mnist", tmp_path)
    with pytest.raises(ValueError, match=r"got None; MNIST is published at .*, and download=True fetches it"):
        load("mnist")
    assert site.asked == []


@pytest.mark.usefixtures("site")
def test_without_a_folder_they_go_to_the_users_cache(tmp_path, monkeypatch):
    import pooch

    monkeypatch.setattr(pooch, "os_cache", lambda project: tmp_path / "cache" / project)
    load("mnist", download=True)
    assert sorted(path.name for path in (tmp_path / "cache" / "qrjax" / "mnist").iterdir()) == sorted(NAMES)


def test_what_is_not_the_published_file_is_refused_and_not_kept(site, tmp_path):
    (site.folder / NAMES[1]).write_bytes(b"another file")
    with pytest.raises(CorruptFile, match=r"what was fetched is not the published file: .*hash"):
        load("mnist", tmp_path / "new", download=True)
    assert [path.name for path in (tmp_path / "new").iterdir()] == [NAMES[0]]


@pytest.mark.usefixtures("site")
def test_a_file_that_is_there_is_not_replaced(tmp_path):
    (tmp_path / NAMES[2]).write_bytes(b"mine")
    with pytest.raises(CorruptFile, match=rf"{NAMES[2]}' is not the published file; move it away, or name another"):
        load("mnist", tmp_path, download=True)
    assert (tmp_path / NAMES[2]).read_bytes() == b"mine"


def test_a_publisher_that_cannot_be_reached_is_named(site, tmp_path):
    (site.folder / NAMES[0]).unlink()
    with pytest.raises(OSError, match=rf"cannot fetch http://.*{NAMES[0]}: .*404.*; MNIST is published at"):
        load("mnist", tmp_path / "new", download=True)
    assert not list((tmp_path / "new").iterdir())


@pytest.mark.parametrize("publication", [_mnist.PUBLICATION, _cifar.PUBLICATION, _imdb.PUBLICATION])
def test_addresses_are_those_of_whole_files(publication):
    assert publication.url.startswith("https://")
    assert publication.url.endswith("/")
    assert all("/" not in name for name in publication.digests)


def test_digits_cannot_be_fetched():
    with pytest.raises(ValueError, match="`download` must be False for digits, which come with scikit-learn, got True"):
        load("digits", download=True)


def test_without_pooch_the_error_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(ImportError, match=r"downloading needs pooch, .*: pip install 'qrjax\[bench\]'"):
        load("mnist", tmp_path, download=True)
