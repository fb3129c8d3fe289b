"""Every command of the README runs here; its figures, names and links are those of the repository.

In a copy of the project: papermill really runs, with the smoke profile's sizes. ``make`` really runs too, with a
``.venv/bin/python`` that passes the commands on as dry runs: Snakemake plans every job with the checked parameters, and
the others parse their arguments. What they do when they are not dry is in test_end_to_end, test_site and test_kaggle.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys

import pytest
import yaml
from project_fixture import ROOT, Project

from lazyutils import pipeline

README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```bash\n(.*?)```", README, re.DOTALL)
COMMANDS = [line.partition("  # ")[0].strip() for block in BLOCKS for line in block.splitlines()]
MAKE = [command for command in COMMANDS if command.startswith("make ")]
PAPERMILL = ".venv/bin/papermill notebooks/task1_lazycnn.ipynb out.ipynb -k python3 -p epochs 3"
RUN = "-m lazyutils.cli run --profile"
SITE = "-m lazyutils.cli site --profile"
EXPECTED = {
    "make book": [f"{RUN} quick --cores 2 --set", f"{SITE} quick"],
    "make test": ["-m pytest -n 2"],
    "make site": ["-m lazyutils.site"],
    "make serve": ["-m http.server 8000 --bind 127.0.0.1 --directory _build/html"],
    "make book PROFILE=full": [f"{RUN} full --cores 2 --set", f"{SITE} full"],
    'make book SET="task1_lazycnn.epochs=3 task1_lazycnn.batch_size=64"': [
        f"{RUN} quick --cores 2 --set task1_lazycnn.epochs=3 task1_lazycnn.batch_size=64",
        f"{SITE} quick",
    ],
    "make sweep PROFILE=full": [
        "-m lazyutils.cli run task0_biased_canvas --profile full --cores 2 --set",
        "-m snakemake -s sweep/Snakefile --config profile=full set= --rerun-incomplete --nolock --keep-going --cores 2",
    ],
    "make resume PROFILE=full": [
        "-m lazyutils.cli run task0_biased_canvas --profile full --cores 2 --set",
        "-m lazyutils.points unpack book/points.jsonl runs/full/points",
    ],
    "make kaggle OWNER=your-kaggle-user": ["-m lazyutils.kaggle --owner your-kaggle-user"],
}
"""What each command of ``make`` has to call."""
PYTHON = f"""#!/bin/sh
echo "$*" >> commands
case "$*" in
    *"lazyutils.cli run"* | *snakemake*) exec {sys.executable} "$@" --dry-run ;;
    *) exec {sys.executable} "$@" --help ;;
esac
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Project:
    """A copy of the project with what ``make`` needs, installed as far as ``make`` can tell."""
    project = Project(tmp_path_factory.mktemp("readme") / "project")
    for name in ("Makefile", "requirements.txt", "pyproject.toml", "package.json", "package-lock.json"):
        shutil.copy(ROOT / name, project.folder / name)
    for name in ("tests/requirements.txt", "tests/requirements-nodeps.txt", "sweep/Snakefile"):
        (project.folder / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, project.folder / name)
    for name, text in {
        ".venv/bin/python": PYTHON,
        ".venv/bin/papermill": f'#!/bin/sh\nexec {sys.executable} -m papermill "$@"\n',
        ".venv/.installed": "",
        ".venv/.tested": "",
        "node_modules/.package-lock.json": "",
        "runs/full/data/colored_mnist.safetensors": "",
    }.items():
        path = project.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)
    return project


def shell(project: Project, command: str) -> str:
    done = subprocess.run(command, shell=True, cwd=project.folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done.stdout


def test_every_command_is_run_below() -> None:
    assert sorted(COMMANDS) == sorted([*EXPECTED, PAPERMILL])


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make on this machine")
@pytest.mark.parametrize("command", MAKE)
def test_a_make_command_calls_what_it_promises(project, command) -> None:
    log = project.folder / "commands"
    log.unlink(missing_ok=True)
    shell(project, command)
    assert [line.strip() for line in log.read_text().splitlines()] == EXPECTED[command]


def test_one_task_with_another_parameter(project, digits) -> None:
    """The command as it stands, with the smoke profile's sizes behind it."""
    sizes = {**yaml.safe_load((ROOT / "profiles/smoke.yaml").read_text())["task1_lazycnn"], "run_dir": "runs/quick"}
    sizes |= {"laziness_epochs": 2, "critic_epochs": 1}
    sizes.pop("epochs")
    shell(project, f"{PAPERMILL} -y '{json.dumps(sizes)}'")
    record = json.loads((project.folder / "runs/quick/results/task1_lazycnn.json").read_text())
    assert record["parameters"]["epochs"] == 3
    assert (project.folder / "out.ipynb").is_file()


def test_targets_folders_and_links_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    assert set(re.findall(r"`make ([a-z]+)", README)) <= targets
    (section,) = re.findall(r"## The map\n(.*?)\n## ", README, re.DOTALL)
    folders = re.findall(r"`([\w/]+)`(?=[^|]*\|[^|\n]+\|$)", section, re.MULTILINE)
    assert len(folders) >= 8
    linked = [place for place in re.findall(r"(?<!!)\[[^\]]+\]\(([^)]+)\)", README) if "://" not in place]
    for name in (*folders, *linked):
        assert (ROOT / name).exists(), name


def test_tasks_and_profiles_are_all_there() -> None:
    tasks = set(re.findall(r"`(task\d_\w+)`", README))
    assert tasks == {path.stem for path in (ROOT / "notebooks").glob("*.ipynb")}
    profiles = {path.stem for path in (ROOT / "profiles").glob("*.yaml")}
    assert set(re.findall(r"^\| `(\w+)` \| [^|]+ \| [^|]+ \|$", README, re.MULTILINE)) == profiles
    assert set(pipeline.load_profile("full")) == tasks


@pytest.mark.skipif(not (ROOT / "book/edition.json").exists(), reason="no edition is published yet")
def test_picture_and_time_are_the_editions() -> None:
    edition = json.loads((ROOT / "book/edition.json").read_text())
    ((alt, picture),) = re.findall(r"^!\[([^\]]+)\]\(([^)]+)\)$", README, re.MULTILINE)
    assert len(alt) > 30 and (ROOT / picture).is_file()
    (row,) = re.findall(rf"^\| `{edition['profile']}` \|.*$", README, re.MULTILINE)
    assert row.endswith(f"| {round(edition['seconds'] / 60)} min |"), "the README's time is not the edition's"


def test_the_bibtex_entry_is_the_citation() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    entry = dict(re.findall(r"^  (\w+) = \{+(.*?)\}+,$", README, re.MULTILINE))
    assert entry["title"] == citation["title"]
    assert entry["author"] == " and ".join(author["name"] for author in citation["authors"])
    assert entry["version"] == str(citation["version"])
    assert entry["year"] == str(citation["date-released"].year)
    assert entry["license"] == citation["license"]
    assert entry.get("url") == citation.get("repository-code")
