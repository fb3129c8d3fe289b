"""A tiny repository with a tiny finished run, so that the site can be built without training anything."""

from __future__ import annotations

import atexit
import base64
import functools
import json
import re
import shutil
import tempfile
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path

import ipywidgets
import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image

from lazyutils import site

ROOT = Path(__file__).resolve().parent.parent
TITLES = {
    "task0_biased_canvas": "Task 0: The Biased Canvas",
    "task1_lazycnn": "Task 1: The Cheater",
    "task1_resnet18": "Task 1: The Larger Cheater",
    "task2_prober": "Task 2: The Prober",
    "task3_interrogation": "Task 3: The Interrogation",
    "task4_intervention": "Task 4: The Intervention",
    "task5_invisible_cloak": "Task 5: The Invisible Cloak",
    "task6_decomposition": "Task 6: The Decomposition",
}
PARAMETERS = (
    'bias: "float[0, 1]" = 0.95  # probability of the own colour\nrun_dir: "str" = "runs/tiny"  # where files go\n'
)
LONG = "\n".join(f"value_{line} = {line}" for line in range(20))


def seeds(mean: float) -> dict:
    """A figure over three seeds."""
    return {"mean": mean, "sd": 0.01, "n": 3, "values": [mean - 0.01, mean, mean + 0.01]}


def features(colour_share: float) -> dict:
    """What is left after switching some features off."""
    return {"easy": 0.5, "hard": 0.1, "colour_share": colour_share}


METRICS = {
    "task0_biased_canvas": {
        "n_easy": 60000,
        "n_hard": 10000,
        "bias_ratio": 0.95,
        "hard_own_colour": 0,
        "mutual_information_easy_bits": 2.8,
        "mutual_information_hard_bits": 0.1,
        "seconds_generate": 1.0,
    },
    **{
        task: {
            "easy_accuracy": seeds(0.951),
            "hard_accuracy": seeds(0.07),
            "digit_share": seeds(0.07),
            "colour_share": seeds(0.9),
            "neither_share": seeds(0.03),
            "weights": "random",
            "laziness": {"easy": [0.95, 0.96], "hard": [0.07, 0.3]},
        }
        for task in ("task1_lazycnn", "task1_resnet18")
    },
    "task2_prober": {
        "probe_accuracy": {"lazycnn": {"relu3": {"colour": 1.0, "digit": 0.61}}},
        "probe_accuracy_untrained": {"lazycnn": {"relu3": {"colour": 1.0, "digit": 0.5}}},
        "hue_sweep": {"lazycnn": {"digit_share": 0.19}},
    },
    "task3_interrogation": {
        "heat_background_share": {"lazycnn": 0.81},
        "pixels_background_share": 0.82,
        "zero_map_share": {"lazycnn": 0.1},
        "gradcam_max_diff_displayed": 2e-6,
        "separation": {"location": {"Grad-CAM": 0.5}, "counterfactual": {"Grad-CAM": 0.9}},
        "separation_images": 30,
        "separation_all_images": {"location": 0.45, "images": 1000},
    },
    "task4_intervention": {
        "league": {
            method: {"easy_accuracy": seeds(0.98), "hard_accuracy": seeds(hard), "gap_closed": 0.0, "seconds": 50.0}
            for method, hard in (("erm", 0.86), ("study_penalty", 0.81), ("corrected_resampling", 0.97))
        },
        "brackets": {"oracle": {"easy_accuracy": 0.98, "hard_accuracy": 0.98}},
        "titles": {"erm": "ERM + BatchNorm (study)", "oracle": "Oracle: colours random"},
        "selection": {"balanced validation accuracy": {"method": "corrected_resampling", "hard_accuracy": 0.97}},
    },
    "task5_invisible_cloak": {
        "n_eligible": {"lazycnn": 40, "robust_erm": 30, "robust_best": 0},
        "success": {
            "lazycnn": {"fgsm": 0.1, "pgd": 0.2, "deepfool": 0.2},
            "robust_erm": {"fgsm": 0.1, "pgd": 0.7, "deepfool": 0.2},
            "robust_best": {"fgsm": None, "pgd": None, "deepfool": None},
        },
        "tint_share": {"lazycnn": 0.12, "random": 0.0015},
        "universal": {
            "optuna": {"lazycnn": 0.0},
            "gradient_eps_0.05": {"lazycnn": 0.1, "robust_best": None},
            "gradient_eps_0.5": {"lazycnn": 0.9, "robust_best": None},
        },
    },
    "task6_decomposition": {
        "study": {"rule": [{"steps": 300, "called_share": 0.0, "kappa": 0.0}]},
        "pixels": {"rule": [{"steps": 300, "called_share": 0.1, "kappa": 0.2}]},
        "ablation": {"colour": features(0.2), "random": features(0.9)},
        "original": features(0.9),
        "probe_ceiling": 0.66,
    },
}


@functools.cache
def built_site() -> tuple[Path, list[str]]:
    """The tiny run's site with a repository address, built once a test session, and its log."""
    folder = make_root(scratch())
    set_repository(folder, "https://github.com/an-owner/a-repo")
    log: list[str] = []
    site.build(folder / "runs/tiny", folder, log.append)
    return folder / "_build" / "html", log


@functools.cache
def built_edition() -> Path:
    """The site of the published edition, built once a test session in a copy of the repository."""
    folder = scratch()
    copy_book(folder, ignore=())
    shutil.copytree(ROOT / "notebooks", folder / "notebooks")
    return site.build(None, folder, lambda line: None).parent


def scratch() -> Path:
    """A folder that goes when the tests end."""
    folder = Path(tempfile.mkdtemp(prefix="lazy-artist-site-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def copy_book(folder: Path, ignore: Iterable[str]) -> None:
    """Pages, settings and assets of this repository."""
    shutil.copytree(ROOT / "book", folder / "book", ignore=shutil.ignore_patterns(*ignore, "__pycache__"))
    for name in ("_config.yml", "_toc.yml", "package.json", "package-lock.json"):
        shutil.copyfile(ROOT / name, folder / name)
    if (ROOT / "node_modules").is_dir():
        (folder / "node_modules").symlink_to(ROOT / "node_modules")


def set_repository(folder: Path, url: str) -> None:
    """Give the copied book an address."""
    settings = (folder / "_config.yml").read_text()
    (folder / "_config.yml").write_text(re.sub(r'(?m)^  url: ".*"$', f'  url: "{url}"', settings))


def make_root(folder: Path, tasks: Iterable[str] = TITLES) -> Path:
    """A copy of this repository's book and settings with tiny notebooks and the finished run ``runs/tiny``."""
    copy_book(folder, ignore=site.EDITION)
    for task in tasks:
        write_notebook(folder / "notebooks" / f"{task}.ipynb", notebook(task))
        write_notebook(folder / "runs/tiny/notebooks" / f"{task}.ipynb", executed(task, folder))
        write_record(folder, task)
    return folder


def notebook(task: str) -> nbformat.NotebookNode:
    """A clean task notebook: title, bootstrap, parameters, long code, a figure."""
    cells = [
        new_markdown_cell(f"# {TITLES[task]}\n\n**Does it work?** We look, with $x^2$.", id="title"),
        new_code_cell("import json", metadata={"tags": ["bootstrap"]}, id="bootstrap"),
        new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]}, id="parameters"),
        new_markdown_cell(
            "## A step\n\nIt has a formula, $E = mc^2$, and a table.\n\n$$\\int_0^1 x\\,dx = \\tfrac12$$"
        ),
        new_code_cell(LONG, id="long"),
        new_code_cell("show(figure)", metadata={"tags": ["hero"] if task == "task1_lazycnn" else []}, id="figure"),
        new_code_cell("slider", id="slider"),
    ]
    return new_notebook(cells=cells, metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}})


def executed(task: str, folder: Path) -> nbformat.NotebookNode:
    """The same notebook as papermill leaves it, with what has no place on a page."""
    done = notebook(task)
    done.metadata["language_info"] = {"name": "python", "pygments_lexer": "ipython3"}
    done.metadata["papermill"] = {"duration": 3.2, "input_path": f"{folder}/notebooks/{task}.ipynb"}
    injected = new_code_cell('bias = 0.95\nrun_dir = "runs/tiny"', metadata={"tags": ["injected-parameters"]}, id="inj")
    done.cells.insert(3, injected)
    for cell in done.cells:
        cell.metadata["papermill"] = {"start_time": "2026-01-01T00:00:00"}
        cell.metadata["execution"] = {"iopub.execute_input": "2026-01-01T00:00:00"}
    done.cells[5].outputs = [
        new_output("stream", name="stderr", text="training: 100%|####| 9/9"),
        new_output("stream", name="stdout", text=f"saved {folder}/runs/tiny/models/x.safetensors\n"),
    ]
    done.cells[6].outputs = figure_outputs() + figure_outputs("A second square")
    add_slider(done, done.cells[7])
    return done


def figure_outputs(alt: str = "A red square") -> list[nbformat.NotebookNode]:
    """What ``plots.show`` displays: a picture with alt text, and its caption."""
    buffer = BytesIO()
    Image.new("RGB", (1200, 400), "#d7263d").save(buffer, "PNG")
    picture = nbformat.v4.output_from_msg(
        {
            "header": {"msg_type": "display_data"},
            "content": {
                "data": {"image/png": base64.b64encode(buffer.getvalue()).decode(), "text/plain": alt},
                "metadata": {"image/png": {"alt": alt, "width": 800}},
            },
        }
    )
    caption = new_output("display_data", data={"text/markdown": "*A red square, 1,200 pixels wide.*"})
    return [picture, caption]


def add_slider(notebook: nbformat.NotebookNode, cell: nbformat.NotebookNode) -> None:
    """A widget and its saved state, as papermill saves them."""
    play, slider = ipywidgets.Play(max=9), ipywidgets.IntSlider(value=3, max=9, description="digit")
    link, box = ipywidgets.jslink((play, "value"), (slider, "value")), ipywidgets.HBox([play, slider])
    parts = [play, slider, link, box, *(part.layout for part in (play, slider, box)), play.style, slider.style]
    state = ipywidgets.Widget.get_manager_state(widgets=parts)
    notebook.metadata["widgets"] = {"application/vnd.jupyter.widget-state+json": state}
    view = {"model_id": box.model_id, "version_major": 2, "version_minor": 0}
    cell.outputs = [
        new_output("display_data", data={"application/vnd.jupyter.widget-view+json": view, "text/plain": "a slider"})
    ]


def write_notebook(path: Path, content: nbformat.NotebookNode) -> None:
    """Write a notebook, making its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(content, path)


def write_record(folder: Path, task: str, **changes: object) -> None:
    """Write a task's results, the contract of a run, with ``changes``."""
    record = {
        "task": task,
        "profile": "tiny",
        "parameters": {
            "bias": 0.95,
            "noise": 20.0,
            "palette": "study",
            "seed": 0,
            "epochs": 1,
            "laziness_epochs": 2,
            "run_dir": "runs/tiny",
        },
        "inputs": {},
        "seeds": [0, 1, 2],
        "seconds": 75.2,
        "peak_memory_mb": 512.5,
        "device": "cpu (a processor, 1 thread)",
        "versions": {"python": "3.11.7", "torch": "2.14.1"},
        "commit": "0123456789abcdef0123456789abcdef01234567",
        "metrics": METRICS[task],
    }
    path = folder / "runs/tiny/results" / f"{task}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**record, **changes}))
