"""Files and folders are there whole or not at all."""

from __future__ import annotations

import os

import pytest

from lazyutils import files


def test_writing_atomically_cleans_up_after_an_error(tmp_path, monkeypatch):
    (tmp_path / "x").write_bytes(b"before")
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError("disk")))
    with pytest.raises(OSError, match="disk"):
        files.write_atomically(tmp_path / "x", b"after")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("x", b"before")]


def test_a_tree_takes_the_earlier_ones_place(tmp_path):
    target = tmp_path / "tree"
    for word in ("before", "after"):
        with files.whole_tree(target) as scratch:
            (scratch / word).write_text(word)
            assert not (target / word).exists()
    assert [path.name for path in tmp_path.rglob("*")] == ["tree", "after"]


def test_an_error_leaves_the_earlier_tree_and_nothing_else(tmp_path):
    with files.whole_tree(tmp_path / "tree") as scratch:
        (scratch / "before").touch()
    with pytest.raises(OSError, match="full"), files.whole_tree(tmp_path / "tree") as scratch:
        (scratch / "after").touch()
        raise OSError("disk full")
    assert [path.name for path in tmp_path.rglob("*")] == ["tree", "before"]
