"""The paper's files from a local server that cuts transfers, ignores Range and serves corrupt bytes."""

import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from model.datasets import download as module
from model.datasets.download import FILES, RECORD, download

SMALL, LARGE = FILES
CONTENT = {name: np.random.default_rng(seed).bytes(300_000) for seed, name in enumerate(FILES)}


class Zenodo(BaseHTTPRequestHandler):
    """One record; `server` says what goes wrong."""

    def do_GET(self):
        if self.path == f"/api/records/{RECORD}":
            return self.answer(self.server.api_status, self.server.record.encode())
        name = re.fullmatch(rf"/records/{RECORD}/files/([^?]*)\?download=1", self.path)[1]
        asked = self.headers["Range"]
        self.server.requests.append((name, asked))
        content = self.server.content[name]
        if not asked or self.server.ignores_range:
            return self.answer(200, content, cut=self.server.cuts.pop(name, None))
        start = int(asked.removeprefix("bytes=").removesuffix("-"))
        if start >= len(content):
            return self.answer(416, b"")
        return self.answer(206, content[start:], cut=self.server.cuts.pop(name, None))

    def answer(self, status: int, body: bytes, cut: int | None = None):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[:cut])

    def log_message(self, *_):
        """Say nothing."""


@pytest.fixture
def server(monkeypatch):
    with ThreadingHTTPServer(("127.0.0.1", 0), Zenodo) as server:
        server.site = f"http://127.0.0.1:{server.server_port}"
        server.content, server.requests, server.cuts = dict(CONTENT), [], {}
        server.ignores_range, server.api_status = False, 200
        checksums = {name: f"md5:{hashlib.md5(content).hexdigest()}" for name, content in CONTENT.items()}
        server.record = json.dumps({"files": [{"key": name, "checksum": x} for name, x in checksums.items()]})
        # What doi.org would answer, and the record's description from here; all else is pooch's own way.
        monkeypatch.setattr("pooch.downloaders.doi_to_url", lambda doi, **_: f"https://zenodo.org/records/{RECORD}")
        monkeypatch.setattr("pooch.downloaders.ZenodoRepository.base_api_url", f"{server.site}/api/records")
        monkeypatch.setenv("NO_PROXY", "*")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def assert_complete(folder):
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == CONTENT


def test_both_files_arrive_with_a_bar_and_are_not_fetched_twice(server, tmp_path, capsys):
    folder = tmp_path / "new" / "folder"
    assert download(folder, server.site) == [folder / name for name in FILES]
    assert_complete(folder)
    bars = capsys.readouterr().err
    assert all(f"{name}: 100%" in bars for name in FILES)
    assert server.requests == [(SMALL, None), (LARGE, None)]
    download(folder, server.site)
    assert len(server.requests) == 2


def test_a_cut_transfer_is_continued_by_the_same_call(server, tmp_path):
    server.cuts[LARGE] = 200_000
    download(tmp_path, server.site, retries=1)
    assert_complete(tmp_path)
    ranges = [int(asked[6:-1]) for name, asked in server.requests if name == LARGE and asked]
    assert len(ranges) == 1
    assert 200_000 - module.CHUNK <= ranges[0] <= 200_000


def test_a_cut_transfer_is_continued_by_the_next_call(server, tmp_path):
    server.cuts[SMALL] = 200_000
    with pytest.raises(ConnectionError, match=f"{SMALL}: .*Connection broken.*run this again to continue"):
        download(tmp_path, server.site, retries=0)
    arrived = tmp_path / f"{SMALL}.part"
    assert [path.name for path in tmp_path.iterdir()] == [arrived.name]
    assert arrived.read_bytes() == CONTENT[SMALL][: arrived.stat().st_size]
    size = arrived.stat().st_size
    download(tmp_path, server.site, retries=0)
    assert_complete(tmp_path)
    assert server.requests[1] == (SMALL, f"bytes={size}-")


def test_a_server_that_ignores_range_sends_the_whole_file(server, tmp_path):
    server.ignores_range = True
    server.cuts[SMALL] = 200_000
    download(tmp_path, server.site, retries=1)
    assert_complete(tmp_path)


def test_a_transfer_that_lacked_only_its_end_is_put_in_place(server, tmp_path):
    (tmp_path / f"{SMALL}.part").write_bytes(CONTENT[SMALL])
    download(tmp_path, server.site, retries=0)
    assert_complete(tmp_path)


@pytest.mark.parametrize("length", [1000, 300_000, 400_000])
def test_the_beginning_of_another_file_is_refused_once_and_then_forgotten(server, tmp_path, length):
    (tmp_path / f"{SMALL}.part").write_bytes(bytes(length))
    with pytest.raises(ValueError, match="does not match"):
        download(tmp_path, server.site, retries=0)
    download(tmp_path, server.site, retries=0)
    assert_complete(tmp_path)


def test_a_corrupt_file_is_never_put_in_place(server, tmp_path):
    server.content[SMALL] = CONTENT[SMALL][:-1] + b"x"
    with pytest.raises(ValueError, match=rf"\({SMALL}\) does not match the known hash"):
        download(tmp_path, server.site, retries=0)
    assert not list(tmp_path.iterdir())


def test_another_file_of_that_name_is_left_alone(server, tmp_path):
    (tmp_path / SMALL).write_bytes(b"mine")
    with pytest.raises(FileExistsError, match=r"left as it is; move or delete it"):
        download(tmp_path, server.site)
    assert (tmp_path / SMALL).read_bytes() == b"mine"
    assert not server.requests


def test_a_record_that_has_other_files(server, tmp_path):
    server.record = server.record.replace(SMALL, "other.h5")
    with pytest.raises(FileNotFoundError, match=f"has no {SMALL}, only other.h5"):
        download(tmp_path, server.site)


@pytest.mark.parametrize(("status", "answer"), [(429, '{"message": "too many requests"}'), (502, "<html>")])
def test_a_record_that_does_not_answer(server, tmp_path, status, answer):
    server.api_status, server.record = status, answer
    with pytest.raises(ConnectionError, match=f"no list of files and checksums from Zenodo record {RECORD}"):
        download(tmp_path, server.site)
    assert not list(tmp_path.iterdir())


def test_the_command_writes_into_the_data_folder_and_ends_with_one_line(server, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("DATA_FILES", str(tmp_path))
    monkeypatch.setattr(module, "download", lambda folder: download(folder, server.site, retries=0))
    module.main()
    assert_complete(tmp_path)
    assert capsys.readouterr().out.count("checksum verified") == 2
    (tmp_path / LARGE).write_bytes(b"mine")
    with pytest.raises(SystemExit, match=rf"^make data: error: .*{LARGE} is not the file of Zenodo record {RECORD}"):
        module.main()
