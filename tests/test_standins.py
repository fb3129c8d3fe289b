"""A notebook that runs alone: what stands in for earlier tasks, in which order, and that nothing damaged does."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lazyutils import checkpoints, data, league, mnist, models, standins
from lazyutils.errors import MissingArtefactError

LAZY = "models/lazycnn.safetensors"
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def nothing_around(monkeypatch, tmp_path):
    """No Kaggle input and no published edition but what the test puts there."""
    monkeypatch.setattr(mnist, "KAGGLE_INPUT", tmp_path / "kaggle")
    monkeypatch.setattr(standins, "PUBLISHED", tmp_path / "published")


def network(folder: Path, seed: int) -> Path:
    checkpoints.save(folder / "lazycnn.safetensors", models.build("LazyCNN", seed), {})
    return folder / "lazycnn.safetensors"


def provide(tmp_path, relative=LAZY):
    lines = []
    path, origin = standins.provide(relative, tmp_path / "runs/x", tmp_path / "data", CPU, lines.append)
    return path, origin, lines


def test_kaggle_comes_before_the_published_edition_and_that_before_an_earlier_stand_in(tmp_path):
    made = network(tmp_path / "runs/x/standins/models", 0)
    assert provide(tmp_path) == (made, "a quick version made earlier", [])
    published = network(tmp_path / "published", 1)
    assert provide(tmp_path) == (published, "the published edition", [])
    attached = network(tmp_path / "kaggle/any/depth", 2)
    assert provide(tmp_path) == (attached, "the attached Kaggle input", [])


def test_a_damaged_file_is_named_and_passed_over(tmp_path):
    attached, published = network(tmp_path / "kaggle/a", 0), network(tmp_path / "published", 1)
    attached.write_bytes(attached.read_bytes()[:-1] + b"!")
    path, _, lines = provide(tmp_path)
    assert path == published
    assert len(lines) == 1 and str(attached) in lines[0] and "wrong SHA-256" in lines[0]


def test_what_no_task_makes_is_refused(tmp_path):
    with pytest.raises(MissingArtefactError, match="nothing can stand in"):
        provide(tmp_path, "models/magic.safetensors")


def test_the_data_set_is_made_with_task_0s_recipe(tmp_path, digits, monkeypatch):
    monkeypatch.setattr(mnist, "load", lambda root, report: digits)
    path, origin, lines = provide(tmp_path, standins.DATA)
    assert origin == "a quick version made on the spot" and len(lines) == 1
    wanted = data.colored_mnist(digits, 0.95, "study", 20.0, 0)["hard"]["images"]
    assert torch.equal(data.load(path, "hard").images, wanted.float() / 255)
    assert provide(tmp_path, standins.DATA) == (path, "a quick version made earlier", [])


@pytest.mark.parametrize("name", sorted(standins.MAKERS))
def test_each_network_is_made_on_the_spot(tmp_path, name, monkeypatch):
    """On eight images, and Task 4's networks untrained: their training is another test's concern."""
    eight = data.ColoredDigits(torch.rand(8, 3, 28, 28), *torch.arange(8).expand(2, 8), torch.ones(8, 28, 28) > 0)
    monkeypatch.setattr(data, "easy_subsets", lambda *arguments: (eight, eight))
    monkeypatch.setattr(league, "train", lambda *arguments: models.build("RobustCNN", 3).eval())
    (tmp_path / "runs/x/data").mkdir(parents=True)
    (tmp_path / "runs/x" / standins.DATA).touch()
    path, origin, lines = provide(tmp_path, f"models/{name}.safetensors")
    assert origin == "a quick version made on the spot" and name in lines[0]
    model, sidecar = checkpoints.load(path)
    assert sidecar["standin"] and type(model).__name__.lower().startswith(name.split("_")[0])
