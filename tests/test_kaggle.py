"""The folders for Kaggle: the Kaggle CLI's own code takes them, and the notebooks find lazyutils in them."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import MagicMock

import nbformat
import pytest
from conftest import ROOT

from lazyutils import checkpoints, data, export, kaggle, mnist, models, site
from lazyutils.errors import ClearError

TASKS = site.task_names(ROOT)
OWNER = "a-reader"
DATA_SET = f"{OWNER}/colored-mnist-spurious-background"


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """A copy of the repository with a published checkpoint."""
    root = tmp_path_factory.mktemp("root")
    for name in ("lazyutils", "notebooks"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("published", "__pycache__", ".*"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copyfile(ROOT / name, root / name)
    (root / "data").symlink_to(ROOT / "data")
    checkpoints.save(root / "lazyutils/published/lazycnn.safetensors", models.build("LazyCNN", 0), {})
    return root


@pytest.fixture(scope="module")
def folder(root, few, tmp_path_factory) -> Path:
    """What the command writes, with few images."""
    out = tmp_path_factory.mktemp("out") / "kaggle"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setattr(mnist, "load", lambda *arguments: few)
        assert kaggle.main(["--owner", OWNER, "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def cli(tmp_path_factory):
    """The Kaggle CLI's code, cut off from the network, and what it would have sent."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KAGGLE_CONFIG_DIR", str(tmp_path_factory.mktemp("config")))
        from kaggle.api.kaggle_api_extended import KaggleApi
    from requests.exceptions import HTTPError

    class Offline(KaggleApi):
        def build_kaggle_client(self):
            return client

        def dataset_status(self, *arguments):
            raise HTTPError("there is no such data set yet")

        def upload_files(self, request, resources, folder, *arguments):
            sent.uploaded = sorted(path.name for path in Path(folder).iterdir())

    sent, client = SimpleNamespace(), MagicMock()
    client.__enter__.return_value = client
    client.kernels.kernels_api_client.save_kernel.side_effect = lambda request: vars(sent).update(kernel=request)
    create = client.datasets.dataset_api_client.create_dataset
    create.side_effect = lambda request: vars(sent).update(data_set=request) or SimpleNamespace(error="")
    sent.api = Offline()
    sent.api.config_values = {"username": OWNER}
    return sent


@pytest.mark.parametrize("task", TASKS)
def test_the_kaggle_cli_takes_every_notebook_without_a_word(cli, folder, task, capsys) -> None:
    cli.api.kernels_push(str(folder / "kernels" / task))
    assert capsys.readouterr().out == ""
    request = cli.kernel
    assert request.slug == f"{OWNER}/{kaggle.slug(request.new_title)}"
    assert 5 <= len(request.new_title) <= 50
    assert (request.language, request.kernel_type) == ("python", "notebook")
    assert (request.is_private, request.enable_internet, request.enable_gpu) == (True, False, False)
    assert request.dataset_data_sources == [DATA_SET]
    assert len(json.loads(request.text)["cells"]) == len(nbformat.read(ROOT / f"notebooks/{task}.ipynb", 4).cells)


def test_titles_are_different_and_slugs_are_the_clis(folder) -> None:
    from slugify import slugify

    found = [json.loads(path.read_text()) for path in folder.glob("kernels/*/kernel-metadata.json")]
    assert len({metadata["id"] for metadata in found}) == len(TASKS)
    assert all(metadata["id"].split("/")[1] == slugify(metadata["title"]) for metadata in found)


def test_the_kaggle_cli_takes_the_data_set(cli, folder) -> None:
    cli.api.dataset_create_new(str(folder / "colored_mnist"), dir_mode="zip")
    assert f"{cli.data_set.owner_slug}/{cli.data_set.slug}" == DATA_SET
    assert cli.data_set.license_name == "CC-BY-SA-3.0"
    assert {"type2_background", "colored_mnist.safetensors", "lazycnn.safetensors", *mnist.FILES} <= set(cli.uploaded)


def test_the_data_set_holds_what_the_notebooks_ask_for(folder, few) -> None:
    files = folder / "colored_mnist"
    assert len(data.load(files / "colored_mnist.safetensors", "easy")) == len(few["train_labels"])
    assert all(mnist.is_intact(files / name) for name in mnist.FILES)
    checkpoints.load(files / "lazycnn.safetensors")
    (wheel,) = files.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {"lazyutils/run.py", "lazyutils/published/lazycnn.safetensors"} <= set(names)
    contents = (files / "CONTENTS.md").read_text()
    assert "`lazycnn.safetensors`" in contents and "MIT" in contents
    sums = dict(reversed(line.split("  ")) for line in (files / "SHA256SUMS").read_text().splitlines())
    assert sums[wheel.name] == hashlib.sha256(wheel.read_bytes()).hexdigest()


@pytest.mark.parametrize("task", TASKS)
def test_only_the_bootstrap_differs_from_the_clean_notebook(folder, task) -> None:
    clean = nbformat.read(ROOT / f"notebooks/{task}.ipynb", as_version=4)
    written = nbformat.read(folder / f"kernels/{task}/{task}.ipynb", as_version=4)
    differ = [i for i, (one, two) in enumerate(zip(clean.cells, written.cells, strict=True)) if one != two]
    assert differ == [1] and "/kaggle/input" in written.cells[1].source


def test_the_bootstrap_installs_the_attached_wheel_without_a_network(folder, tmp_path) -> None:
    venv.create(tmp_path / "venv")
    (packages,) = (tmp_path / "venv").glob("lib/python*/site-packages")
    (packages / "installed.pth").write_text(sysconfig.get_path("purelib"))  # its own .pth files are not followed
    cell = nbformat.read(folder / f"kernels/{TASKS[0]}/{TASKS[0]}.ipynb", as_version=4).cells[1].source
    script = tmp_path / "cell.ipy"
    script.write_text(cell.replace("/kaggle/input", str(folder)) + "\nprint(lazyutils.__file__)\n")
    python = tmp_path / "venv/bin/python"
    done = subprocess.run([python, "-m", "IPython", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert str(packages / "lazyutils/__init__.py") in done.stdout, done.stdout + done.stderr


def test_without_an_owner_the_clis_marker_stands_and_the_log_says_so(root, few, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(mnist, "load", lambda *arguments: {name: tensor[:20] for name, tensor in few.items()})
    monkeypatch.setattr(kaggle, "build_wheel", lambda *arguments: None)
    log: list[str] = []
    kaggle.write(None, tmp_path / "out", root, log.append)
    texts = [path.read_text() for path in (tmp_path / "out").rglob("*-metadata.json")]
    assert len(texts) == len(TASKS) + 1 and all(f'"{export.NO_OWNER}/' in text for text in texts)
    assert export.NO_OWNER in log[0] and "OWNER=" in log[0]
    kaggle.write("somebody", tmp_path / "out", root, log.append)
    assert export.NO_OWNER not in "".join(path.read_text() for path in (tmp_path / "out").rglob("*.json"))


def test_bad_input_is_refused_before_anything_is_written(root, tmp_path) -> None:
    with pytest.raises(ClearError, match="OWNER 'A Reader'"):
        kaggle.write("A Reader", tmp_path / "out", root)
    (tmp_path / "mine").mkdir()
    with pytest.raises(ClearError, match="choose another folder"):
        kaggle.write(OWNER, tmp_path / "mine", root)
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(f"# Task 9: {'long ' * 10}")])
    with pytest.raises(ClearError, match="at most 50 characters"):
        kaggle.title("task9", notebook)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_a_wheel_that_cannot_be_built_says_why_and_nothing_half_written_stays(root, few, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    monkeypatch.setattr(mnist, "load", lambda *arguments: few)
    with pytest.raises(ClearError, match=re.escape("could not build lazyutils: no message")):
        kaggle.write(OWNER, tmp_path / "kaggle", root)
    assert not list(tmp_path.iterdir())
