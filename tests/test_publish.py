"""The published edition: what may become one, and that it shows the same site."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
import site_fixture
import yaml

from lazyutils import publish, site
from lazyutils.errors import ClearError

RUN = Path("runs/tiny")
TASK = "task1_lazycnn"


def git(*arguments: str) -> str:
    """A git command in the current folder, as somebody."""
    somebody = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    return subprocess.run(["git", *somebody, *arguments], check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tiny repository whose finished run was made from its only commit."""
    monkeypatch.chdir(site_fixture.make_root(tmp_path))
    Path("profiles").mkdir()
    Path("profiles/tiny.yaml").write_text("{}")
    for task in site_fixture.TITLES:
        Path(f"notebooks/{task}.py").write_text("import lazyutils.method\n")
    Path("lazyutils").mkdir()
    Path("lazyutils/__init__.py").write_text("")
    Path("lazyutils/method.py").write_text('"""A method."""\n\nSTEPS = 3  # of them\n')
    for folder in ("runs/tiny/models", "runs/tiny/points", "book"):
        Path(folder).mkdir(exist_ok=True)
    for name, size in (("small", 1000), ("large", 6_000_000)):
        Path(f"runs/tiny/models/{name}.safetensors").write_bytes(b"0" * size)
        Path(f"runs/tiny/models/{name}.json").write_text(json.dumps({"path": f"{tmp_path}/runs/tiny"}))
    point = {"point": {"method": "erm"}, "figures": {"hard_accuracy": 0.8}}
    Path("runs/tiny/points/erm-seed0.json").write_text(json.dumps(point))
    Path(".gitignore").write_text("runs/\n_build/\nnode_modules\n__pycache__/\n")
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "start")
    for task in site_fixture.TITLES:
        site_fixture.write_record(tmp_path, task, commit=git("rev-parse", "HEAD"))
    return tmp_path


def published() -> dict[str, bytes]:
    """Everything an edition consists of."""
    files = [path for place in publish.PLACES.values() for path in (Path(place), *Path(place).rglob("*"))]
    return {str(path): path.read_bytes() for path in files if path.is_file()}


def test_an_edition_has_pages_results_small_models_and_a_stamp(root: Path) -> None:
    log: list[str] = []
    stamp = json.loads(publish.publish(RUN, log.append).read_text())
    assert stamp["commit"] == git("rev-parse", "HEAD") and stamp["profile"] == "tiny"
    assert stamp["tasks"] == list(site_fixture.TITLES)
    names = {Path(name).name for name in published()}
    assert {f"{task}.ipynb" for task in site_fixture.TITLES} <= names
    assert "small.safetensors" in names and "large.safetensors" not in names
    assert any("large.safetensors is not published" in line for line in log)
    assert (root / "book/assets/hero.png").stat().st_size > 0
    assert json.loads((root / "book/points.jsonl").read_text())["figures"] == {"hard_accuracy": 0.8}
    assert not any(str(root).encode() in content for content in published().values())


def test_publishing_twice_gives_the_same_bytes(root: Path) -> None:
    publish.publish(RUN, lambda line: None)
    first = published()
    publish.publish(RUN, lambda line: None)
    assert published() == first


def test_the_edition_is_staged_without_a_run(root: Path) -> None:
    publish.publish(RUN, lambda line: None)
    shutil.rmtree("runs")
    log: list[str] = []
    source = site.stage(None, root, log.append)
    assert (source / f"book/tasks/{TASK}.ipynb").is_file()
    assert (source / "book/edition.json").is_file()
    assert not any("older than the notebooks" in line for line in log)


def test_a_run_is_staged_without_the_edition(root: Path) -> None:
    publish.publish(RUN, lambda line: None)
    assert not (site.stage(root / RUN, root, lambda line: None) / "book/edition.json").exists()


def incomplete() -> None:
    (RUN / f"notebooks/{TASK}.ipynb").unlink()


def mixed() -> None:
    site_fixture.write_record(Path(), TASK, commit=git("rev-parse", "HEAD"), profile="other")


def overridden() -> None:
    site_fixture.write_record(Path(), TASK, commit=git("rev-parse", "HEAD"), parameters={"bias": 0.5})


def uncommitted() -> None:
    site_fixture.write_record(Path(), TASK, commit=git("rev-parse", "HEAD") + "+changes")


def stood_in() -> None:
    site_fixture.write_record(
        Path(), TASK, commit=git("rev-parse", "HEAD"), inputs={"models/x.safetensors": "the published edition"}
    )


def outside_git() -> None:
    site_fixture.write_record(Path(), TASK, commit=None)


def changed_code() -> None:
    Path("lazyutils/method.py").write_text("STEPS = 4\n")


def heavy() -> None:
    notebook = site_fixture.executed(TASK, Path("/x"))
    notebook.cells[5].outputs[1].text = "x" * 1_600_000
    site_fixture.write_notebook(RUN / f"notebooks/{TASK}.ipynb", notebook)


FAULTS = {
    "page task1_lazycnn: .* is missing": incomplete,
    "mixes profiles other, tiny": mixed,
    "ran with bias = 0.5, its profile says 0.95": overridden,
    "page task1_lazycnn took models/x.safetensors from the published edition": stood_in,
    "page task1_lazycnn was made from uncommitted code": uncommitted,
    "made from uncommitted code": outside_git,
    "lazyutils/method.py has changed since": changed_code,
    "page task1_lazycnn has 1.6 MB": heavy,
}


@pytest.mark.parametrize("message", FAULTS)
def test_what_is_no_edition_is_refused_and_the_last_one_stays(root: Path, message: str) -> None:
    publish.publish(RUN, lambda line: None)
    before = published()
    FAULTS[message]()
    with pytest.raises(ClearError, match=message):
        publish.publish(RUN, lambda line: None)
    assert published() == before


def test_a_changed_comment_makes_nothing_stale(root: Path) -> None:
    Path("lazyutils/method.py").write_text('"""The method."""\n\nSTEPS = 3\n')
    publish.publish(RUN, lambda line: None)


def test_the_workflows_build_and_test_what_is_here_and_name_no_repository() -> None:
    texts = [path.read_text() for path in sorted((site_fixture.ROOT / ".github/workflows").glob("*.yml"))]
    assert all(yaml.safe_load(text)["jobs"] for text in texts)
    assert "python -m lazyutils.site" in texts[0] and "make test" in texts[1]
    assert "github.com" not in "".join(texts)
