"""The Makefile: alone it lists its targets; profile and settings reach the command line; no address is baked in."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import ROOT

MAKE = shutil.which("make")
pytestmark = pytest.mark.skipif(MAKE is None, reason="there is no make on this machine")


def make(*arguments: str) -> str:
    done = subprocess.run([MAKE, *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout


def test_make_alone_lists_every_documented_target():
    text = (ROOT / "Makefile").read_text()
    documented = re.findall(r"^([a-z]+):.*##", text, flags=re.MULTILINE)
    assert {"book", "test", "notebooks", "serve", "bench", "clean"} <= set(documented)
    listed = make()
    for target in documented:
        assert re.search(rf"make {target} ", listed), f"{target} is not listed"
    phony = set(re.search(r"^\.PHONY: (.+)$", text, flags=re.MULTILINE)[1].split())
    assert phony - {"help"} <= set(documented) and set(documented) <= phony


def test_profile_settings_and_cores_reach_the_run():
    setting = "task1_lazycnn.epochs=3"
    lines = make("-n", "notebooks", "PROFILE=smoke", f"SET={setting}", "CORES=3").splitlines()
    (run,) = [line for line in lines if "lazyutils.cli run" in line]
    assert "--profile smoke" in run and "--cores 3" in run and f"--set {setting}" in run


def test_quick_is_the_default_profile():
    assert "--profile quick" in make("-n", "notebooks")


def test_cleaning_keeps_the_data_and_the_environment():
    removed = make("-n", "clean").split()
    assert "runs" in removed and not {"data", ".venv", "book", "notebooks"} & set(removed)


def tracked() -> list[str]:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    return listed.stdout.split("\n")[:-1]


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="this copy is no git checkout")
def test_tracked_files_name_no_registry_host_and_no_path_of_a_machine():
    places = "|".join(re.escape(f"{place}/") for place in (ROOT, Path.home()))
    forbidden = re.compile(rf"registry\.npmjs|files\.pythonhosted|--index-url|\"resolved\": \"http|{places}")
    suffixes = (".py", ".md", ".json", ".yaml", ".yml", ".toml", ".txt", ".ipynb", ".cfg", "file")
    for name in tracked():
        path = ROOT / name
        if name.endswith(suffixes) and path.is_file() and path.name != "test_makefile.py":
            found = forbidden.search(path.read_text(encoding="utf-8"))
            assert found is None, f"{name}: {found}"
