"""Folders to upload to Kaggle: the data set with all that the notebooks need, and each notebook beside its metadata.

``make kaggle OWNER=<your Kaggle user>`` writes ``kaggle/``; then, with the Kaggle CLI::

    kaggle datasets create -p kaggle/colored_mnist --dir-mode zip
    kaggle kernels push -p kaggle/kernels/task0_biased_canvas

The data set holds the images, MNIST, lazyutils as a wheel, and the published checkpoints, so that the notebooks run
with the internet switched off, where the libraries that Tasks 3 and 5 compare with are installed.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import nbformat

from lazyutils import address, data, export, mnist, standins
from lazyutils.command import exit_code
from lazyutils.errors import ClearError
from lazyutils.files import whole_tree, write_atomically
from lazyutils.site import Report, task_names

CONTENTS = """# What is in this folder

| file | what | licence |
|---|---|---|
| `type2_background/` | the coloured images as PNG files, see README.md | CC BY-SA 3.0 |
| `colored_mnist.safetensors` | the same images, their labels, colours and stroke masks as tensors | CC BY-SA 3.0 |
| `*-ubyte` | MNIST, the four original files | CC BY-SA 3.0 |
| `lazyutils-*.whl` | the book's code | MIT |
{models}"""
FROM_INPUT = """\
    from pathlib import Path

    wheel = next(Path("/kaggle/input").rglob("lazyutils-*.whl"))
    %pip install -q --no-deps --no-index {wheel}
    import lazyutils  # noqa: F401"""


def write(owner: str | None, out: Path, root: Path = Path(), report: Report = print) -> Path:
    """Write ``out/colored_mnist`` (the data set) and ``out/kernels/<task>`` (the notebooks), whole or not at all.

    Args:
        owner: the Kaggle user who uploads; None leaves the Kaggle CLI's marker in the files.
        out: replaced if it is such a folder.
        root: the repository.
        report: receives the log, line by line.

    Raises:
        ClearError: ``owner`` is no Kaggle user's name, ``out`` is another folder, or a title breaks Kaggle's rules.
    """
    if owner is not None and not re.fullmatch(r"[a-z0-9-]+", owner):
        raise ClearError(f"OWNER {owner!r}: write the name in your Kaggle profile's address, such as a-reader")
    if out.exists() and not (out / "kernels").is_dir():
        raise ClearError(f"{out} is there already and holds something else: choose another folder with --out")
    with whole_tree(out) as scratch:
        source = write_data_set(owner or export.NO_OWNER, scratch, root, report)
        for task in task_names(root):
            write_kernel(task, owner or export.NO_OWNER, source, scratch / "kernels" / task, root)
    if owner is None:
        report(
            f"No owner given: {export.NO_OWNER} stands in all metadata; `make kaggle OWNER=...` puts your user there"
        )
    report(f"Upload with `kaggle datasets create -p {out}/colored_mnist --dir-mode zip`,")
    report(f"then with `kaggle kernels push -p {out}/kernels/<task>` for each task.")
    return out


def write_data_set(owner: str, folder: Path, root: Path, report: Report) -> str:
    """Write the data set below ``folder`` and return its name on Kaggle, ``owner/slug``."""
    splits = data.colored_mnist(mnist.load(root / "data", report), **standins.RECIPE)
    tree = export.write_png_tree(splits, folder)
    files = tree.parent
    standins.save_data(files / "colored_mnist.safetensors", splits)
    for name in mnist.FILES:
        shutil.copyfile(root / "data/MNIST/raw" / name, files / name)
    build_wheel(root, files)
    checkpoints = sorted((root / "lazyutils/published").glob("*.safetensors"))
    for checkpoint in checkpoints:
        for path in (checkpoint, checkpoint.with_suffix(".json")):
            shutil.copyfile(path, files / path.name)
    rows = [f"| `{path.name}`, `{path.stem}.json` | a published network | MIT |\n" for path in checkpoints]
    write_atomically(files / "CONTENTS.md", CONTENTS.format(models="".join(rows)).encode())
    export.write_kaggle_folder(tree, splits, standins.RECIPE, owner)
    return json.loads((files / "dataset-metadata.json").read_bytes())["id"]


def build_wheel(root: Path, target: Path) -> None:
    """Build lazyutils from a copy of its source into ``target``; raise with pip's last line where that fails."""
    with tempfile.TemporaryDirectory() as copy:
        shutil.copytree(root / "lazyutils", Path(copy, "lazyutils"), ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("pyproject.toml", "README.md", "LICENSE"):
            shutil.copyfile(root / name, Path(copy, name))
        command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(target), copy]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ClearError(f"pip could not build lazyutils: {(done.stderr.strip() or 'no message').splitlines()[-1]}")


def write_kernel(task: str, owner: str, source: str, folder: Path, root: Path) -> None:
    """Write a notebook that takes lazyutils from the data set ``source``, and ``kernel-metadata.json``."""
    text = (root / "notebooks" / f"{task}.ipynb").read_text(encoding="utf-8")
    name = title(task, nbformat.reads(text, as_version=4))
    metadata = {
        "id": f"{owner}/{slug(name)}",
        "title": name,
        "code_file": f"{task}.ipynb",
        "language": "python",
        "kernel_type": "notebook",
        "is_private": True,
        "enable_gpu": False,
        "enable_internet": False,
        "dataset_sources": [source],
        "competition_sources": [],
        "kernel_sources": [],
        "model_sources": [],
    }
    notebook = address.with_bootstrap(text, address.bootstrap(FROM_INPUT))
    write_atomically(folder / f"{task}.ipynb", notebook.encode())
    write_atomically(folder / "kernel-metadata.json", (json.dumps(metadata, indent=2) + "\n").encode())


def title(task: str, notebook: nbformat.NotebookNode) -> str:
    """The notebook's heading below the book's title; Kaggle takes 5 to 50 characters."""
    heading = notebook.cells[0].source.splitlines()[0].removeprefix("# ")
    name = f"The Lazy Artist, {heading}"
    if not 5 <= len(name) <= 50:
        raise ClearError(f"{task}: Kaggle's titles have at most 50 characters, {name!r} has {len(name)}")
    return name


def slug(name: str) -> str:
    """A title as Kaggle writes it into addresses: lower case, with one hyphen for all that is no letter or digit."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def main(arguments: list[str] | None = None) -> int:
    """Write the folders from the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m lazyutils.kaggle", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--owner", help="the Kaggle user who uploads (default: the Kaggle CLI's marker for one)")
    parser.add_argument("--out", type=Path, default=Path("kaggle"), help="folder to write (default: %(default)s)")
    options = parser.parse_args(arguments)
    return exit_code(lambda: write(options.owner, options.out))


if __name__ == "__main__":
    sys.exit(main())
