"""The runner with small notebooks: what is executed when, and what survives a failing cell and SIGKILL."""

from __future__ import annotations

import json
import time

import pytest
from project_fixture import TOYS, ToyProject

CANVAS, LAZY, RESNET = TOYS

pytestmark = pytest.mark.end_to_end


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project in a folder with a blank in its name, after one run of all its small notebooks.

    Each test changes settings that the next one then starts from, so that nothing runs twice.
    """
    project = ToyProject(tmp_path_factory.mktemp("runner") / "a project")
    done, executed = run(project, task1_lazycnn__seconds=1, task1_resnet18__seconds=1)
    assert (done.returncode, executed) == (0, list(TOYS)), done.stdout
    return project


def run(project, **changes):
    """Run with changed settings; return the finished process and the tasks that were executed."""
    done = project.run(*project.toys(**changes))
    return done, project.executed()


def results(project):
    return [json.loads((project.folder / f"runs/toy/results/{task}.json").read_text()) for task in TOYS]


def test_independent_tasks_ran_side_by_side_on_one_thread_each(project):
    canvas, (lazy_start, lazy_end), (resnet_start, resnet_end) = (result["span"] for result in results(project))
    assert canvas[1] < min(lazy_start, resnet_start), "task 0 is done before its data are used"
    assert max(lazy_start, resnet_start) < min(lazy_end, resnet_end), "they overlap"
    assert {result["env"]["OMP_NUM_THREADS"] for result in results(project)} == {"1"}
    assert [result["value"] for result in results(project)] == [1, 2, 1], "the profile's values reached the notebooks"


def test_nothing_changed_nothing_runs(project):
    before = project.snapshot("*/[!l]*/*")
    (project.folder / "lazyutils/parameters.py").touch()
    (project.folder / "notebooks" / f"{LAZY}.ipynb").touch()
    done, executed = run(project)
    assert (done.returncode, executed) == (0, [])
    assert project.snapshot("*/[!l]*/*") == before


def test_a_changed_module_or_parameter_reruns_only_what_depends_on_it(project):
    for module in ("parameters", "gradcam"):  # LazyCNN's notebook imports the first, nobody the second
        with open(project.folder / f"lazyutils/{module}.py", "a") as file:
            file.write("# changed\n")
    done, executed = run(project)
    assert (done.returncode, executed) == (0, [LAZY])
    done, executed = run(project, task1_resnet18__value=7)
    assert (done.returncode, executed) == (0, [RESNET])
    assert [result["value"] for result in results(project)] == [1, 2, 7]


def test_what_depends_on_a_changed_task_runs_again(project):
    before = project.snapshot("*/[!l]*/*")
    done = project.run("--dry-run", *project.toys(task0_biased_canvas__value=4))
    assert done.returncode == 0 and project.executed() == []
    assert all(task in done.stdout for task in TOYS)
    assert project.snapshot("*/[!l]*/*") == before, "a dry run runs nothing"
    done, executed = run(project)
    assert (done.returncode, executed) == (0, list(TOYS))
    assert (project.folder / "runs/toy/models/lazycnn.safetensors").read_text() == f"{CANVAS}=4;{LAZY}=2;"


def test_a_failing_cell_stops_its_task_and_harms_nothing_else(project):
    kept = ("*/results/*", "*/models/*", "*/data/*", "*/notebooks/*")
    earlier = project.snapshot(*kept)
    done, executed = run(project, task1_lazycnn__fail="true", task1_resnet18__value=5)
    assert done.returncode != 0 and executed == [LAZY, RESNET]
    assert "AssertionError: this cell was told to fail" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("error: not every task was finished: the reason is above")
    assert f"{LAZY}: FAILED" in done.stdout and f"runs/toy/logs/{LAZY}.ipynb" in done.stdout
    failed = project.folder / f"runs/toy/logs/{LAZY}.ipynb"
    outputs = [output for cell in json.loads(failed.read_text())["cells"] for output in cell.get("outputs", [])]
    assert "told to fail" in next(output["evalue"] for output in outputs if output["output_type"] == "error")
    for path, (_, content) in project.snapshot(*kept).items():
        assert (earlier[path][1] == content) == ("resnet18" not in path), f"{path}: only ResNet-18's are new"
    done, executed = run(project, task1_lazycnn__fail="false")
    assert (done.returncode, executed) == (0, [LAZY]), "only what failed is run again"
    assert not failed.exists(), "the failed notebook is gone once it succeeds"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--set", f"{LAZY}.valu=3"], f"{LAZY} has no parameter 'valu': did you mean 'value'?"),
        (["--set", f"{LAZY}.value=10"], f"{LAZY}.value = 10 is not allowed: it takes a whole number from 1 to 9"),
        (["task1_lazycn"], f"there is no task 'task1_lazycn': did you mean '{LAZY}'?"),
        (["--profile", "toi"], "there is no profile 'toi': did you mean 'toy'?"),
    ],
)
def test_a_mistyped_name_or_value_is_refused_at_once(project, arguments, message):
    start = time.monotonic()
    done = project.run(*([] if "--profile" in arguments else ["--profile", "toy"]), *arguments)
    assert time.monotonic() - start < 5
    assert (done.returncode, done.stdout) == (2, f"error: {message}\n")
    assert project.executed() == []


def test_a_broken_pipeline_is_not_silent(project):
    snakefile = project.folder / "Snakefile"
    intact = snakefile.read_text()
    snakefile.write_text(f"{intact}\nraise RuntimeError('broken on purpose')\n")
    done = project.run(*project.toys())
    snakefile.write_text(intact)
    assert done.returncode != 0 and "error: not every task was finished" in done.stdout
    assert "broken on purpose" in (project.folder / "runs/toy/logs/snakemake.log").read_text()
    assert project.executed() == []


def test_killed_in_the_middle_it_goes_on_to_the_same_results(project):
    earlier = project.snapshot("*/models/*")
    process = project.start(*project.toys(task1_lazycnn__seconds=30, task1_resnet18__value=6))
    project.wait_for(f"{RESNET}: finished", process)
    refused = project.run(*project.toys())
    assert refused.stdout == "error: another run of profile 'toy' is going on in this folder\n"
    assert refused.returncode == 2, "a second run beside the first one"
    project.kill(process)
    assert project.executed() == [LAZY, RESNET]
    done, executed = run(project, task1_lazycnn__seconds=0.1)
    assert (done.returncode, executed) == (0, [LAZY]), done.stdout
    assert not list((project.folder / "runs/toy").glob(".work-*")), "the killed run's leavings are gone"
    lazy = "runs/toy/models/lazycnn.safetensors"
    assert project.snapshot("*/models/*")[lazy][1] == earlier[lazy][1]
