"""Checkpoints come back as they were, and a damaged, foreign or half-written one is never taken for good."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
import torch

from lazyutils import checkpoints, models
from lazyutils.errors import DamagedFileError, MissingArtefactError

OPTIONS = {"ResNet18": {"image_size": 32}, "ColorCritic": {"width": 8}}


@pytest.fixture
def stored(tmp_path):
    path = tmp_path / "models" / "lazycnn.safetensors"
    checkpoints.save(path, models.build("LazyCNN", 5), {"parameters": {"epochs": 3}})
    return path


@pytest.mark.parametrize("name", models.ARCHITECTURES)
def test_a_checkpoint_comes_back_as_it_was(name, tmp_path, global_random_state):
    options = OPTIONS.get(name, {})
    model = models.build(name, 5, **options).to(memory_format=torch.channels_last).train()
    path = tmp_path / "x.safetensors"
    checkpoints.save(path, model, {"parameters": {"epochs": 3}, "note": "ß"}, **options)
    back, sidecar = checkpoints.load(path)
    assert type(back) is type(model) and not back.training and model.training
    assert all(torch.equal(value, back.state_dict()[key]) for key, value in model.state_dict().items())
    assert sidecar["architecture"] == name and sidecar["options"] == options
    assert sidecar["parameters"] == {"epochs": 3} and sidecar["note"] == "ß"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.json", "x.safetensors"]


def test_the_same_network_gives_the_same_bytes(stored, tmp_path):
    checkpoints.save(tmp_path / "again.safetensors", models.build("LazyCNN", 5), {})
    assert (tmp_path / "again.safetensors").read_bytes() == stored.read_bytes()


@pytest.mark.parametrize(
    "damage",
    [lambda b: b[:-1], lambda b: b"", lambda b: b[:-9] + bytes([b[-9] ^ 1]) + b[-8:], lambda b: b + b"\0"],
    ids=["cut", "empty", "one bit", "longer"],
)
def test_a_damaged_checkpoint_is_refused(stored, damage):
    stored.write_bytes(damage(stored.read_bytes()))
    with pytest.raises(DamagedFileError, match=r"lazycnn\.safetensors is damaged.*run its task again"):
        checkpoints.load(stored)


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "3", "{}", b"\xff\xfe\x00", '{"architecture": "LazyCNN", "options": {}}'],
    ids=["empty", "cut", "list", "number", "no keys", "binary", "no checksum"],
)
def test_a_sidecar_that_is_none_is_refused(stored, text):
    stored.with_suffix(".json").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DamagedFileError, match=r"lazycnn\.json is no sidecar"):
        checkpoints.load(stored)


@pytest.mark.parametrize(
    "change",
    [{"architecture": "RobustCNN"}, {"architecture": "VGG16"}, {"options": {"depth": 3}}, {"options": None}],
    ids=["another network", "unknown network", "foreign options", "no options"],
)
def test_a_foreign_checkpoint_is_refused(stored, change):
    sidecar = json.loads(stored.with_suffix(".json").read_text())
    stored.with_suffix(".json").write_text(json.dumps({**sidecar, **change}))
    with pytest.raises(DamagedFileError, match="lazycnn"):
        checkpoints.load(stored)


@pytest.mark.parametrize("suffix", [".safetensors", ".json"])
def test_a_missing_file_is_named(stored, suffix):
    stored.with_suffix(suffix).unlink()
    with pytest.raises(MissingArtefactError, match=rf"no checkpoint .*lazycnn\{suffix}: run the task"):
        checkpoints.load(stored)


def save_and_be_killed(path, moment):
    """In a forked process: save another network to ``path`` and die half-way, or before the sidecar."""
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    write_bytes, replace = Path.write_bytes, os.replace

    def half(self, content):
        write_bytes(self, content[: len(content) // 2])
        os.kill(os.getpid(), signal.SIGKILL)

    def only_one(source, goal):
        replace(source, goal)
        os.kill(os.getpid(), signal.SIGKILL)

    if moment == "half-way":
        Path.write_bytes = half
    else:
        os.replace = only_one
    checkpoints.save(path, models.build("LazyCNN", 6), {})
    os._exit(0)


@pytest.mark.parametrize("moment", ["half-way", "before the sidecar"])
@pytest.mark.parametrize("earlier", [True, False], ids=["over an earlier one", "new"])
def test_a_killed_writer_leaves_nothing_that_counts(tmp_path, stored, moment, earlier):
    path = stored if earlier else tmp_path / "new.safetensors"
    assert save_and_be_killed(path, moment) == -signal.SIGKILL
    if earlier and moment == "half-way":
        back, _ = checkpoints.load(path)
        assert torch.equal(back.conv1.weight, models.build("LazyCNN", 5).conv1.weight)
    else:
        with pytest.raises((MissingArtefactError, DamagedFileError)):
            checkpoints.load(path)
