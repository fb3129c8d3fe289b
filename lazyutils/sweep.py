"""Many training runs, each once: a plan of points, and one small JSON file a finished point.

``python -m lazyutils.sweep --data FILE --folder DIR POINT`` runs one of them, for Snakemake to place side by side or
on a cluster. A page asks ``cached`` for the same points and finds them done.
"""

from __future__ import annotations

import argparse
import hashlib
import inspect
import json
import math
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lazyutils import (
    augment,
    checkpoints,
    critics,
    data,
    interventions,
    league,
    memory,
    metrics,
    models,
    penalties,
    run,
    training,
)
from lazyutils.command import exit_code
from lazyutils.errors import ClearError, MissingArtefactError
from lazyutils.files import write_atomically
from lazyutils.league import BEST, ENTRIES, Point
from lazyutils.sources import statements

CODE = (augment, critics, data, interventions, league, metrics, models, penalties, training)
"""A point that other code has made is made again."""


ALWAYS = ("erm", "study_penalty", BEST)
"""Rows that the page can't do without; all ``seeds`` are theirs."""
OVERSAMPLING = ("corrected_resampling", "corrected_recoloring", "corrected_teacher", "just_train_twice")
"""Rows whose ``strength`` says how many times a conflicting image is seen."""


def plan(parameters: Mapping[str, Any], own_bias: float) -> dict[str, list[Point]]:
    """All points of Task 4's page, by the part of the page they serve.

    Args:
        parameters: Task 4's, as in its parameters cell.
        own_bias: the data set's; at any other bias the images are recoloured.

    Raises:
        ClearError: an unknown method or an impossible combination. Of the bias ratios, those that a method can't be
            trained at are left out instead.
    """
    refuse_impossible(parameters)
    common = {key: parameters[key] for key in ("train_size", "validation_size", "hard_size", "critic")}

    def point(method: str, seed: int, **changes: Any) -> Point:
        bias = own_bias if changes.get("bias") is None else changes["bias"]
        league.check(Point(method, critic=parameters["critic"], bias=bias))
        found = Point(method, seed, **{"strength": ENTRIES[method].strength, **common, **changes})
        return budgeted(found, parameters)

    seeds, fewer = parameters["seeds"], parameters["method_seeds"]
    methods = dict.fromkeys([*ALWAYS, *parameters["methods"]])
    brackets = dict.fromkeys(["oracle", *parameters["brackets"]])
    at_bias = [
        point(method, seed, bias=None if bias == own_bias else bias)
        for bias in parameters["biases"]
        for method in parameters["sweep_methods"]
        for seed in parameters["bias_seeds"]
        if bias < 1 or not ENTRIES[method].needs_conflicts
    ]
    of_size = [
        point(method, seed, train_size=size)
        for size in parameters["sizes"]
        for method in parameters["size_methods"]
        for seed in parameters["size_seeds"]
    ]
    return {
        "league": [point(method, seed) for method in methods for seed in (seeds if method in ALWAYS else fewer)],
        "strength": [point("study_penalty", s, strength=weight) for weight in parameters["strengths"] for s in seeds],
        "brackets": [point(name, seed) for name in brackets for seed in fewer],
        "bias": at_bias,
        "size": of_size,
    }


def refuse_impossible(parameters: Mapping[str, Any]) -> None:
    """Raise a ``ClearError`` for what would fail, or mix what must stay apart, only after hours of training."""
    seeds, fewer = parameters["seeds"], parameters["method_seeds"]
    if fewer != seeds[: len(fewer)]:
        raise ClearError(f"method_seeds = {fewer} must be the first of seeds = {seeds}: rows are compared in pairs")
    for parameter, known in (("methods", league.METHODS), ("brackets", league.BRACKETS)):
        for method in parameters[parameter]:
            if method not in known:
                raise ClearError(f"{parameter}: {method!r} is none of {', '.join(known)}")
    largest, held = max(parameters["train_size"], *parameters["sizes"]), parameters["validation_size"]
    if largest + held > data.EASY_IMAGES:
        raise ClearError(
            f"{largest} images to train on and validation_size = {held} are more than the {data.EASY_IMAGES} easy ones"
        )


def epochs(point: Point, parameters: Mapping[str, Any]) -> int:
    """The page's epochs; for another number of images as many as make as many steps, within limits: at most 4 times
    as many, and at least 8 of the study's or all of a one-cycle schedule, which needs time to calm down."""
    if point.method == "colour_only":
        return 2
    as_study = ENTRIES[point.method].as_study
    usual = parameters["study_epochs" if as_study else "epochs"]
    same_steps = round(usual * parameters["train_size"] / point.train_size)
    return max(min(8, usual) if as_study else usual, min(4 * usual, same_steps))


def budgeted(point: Point, parameters: Mapping[str, Any]) -> Point:
    """The point with what fits its number of images, where that is not the page's.

    The one-cycle schedule's weight decay falls with the square root of its steps: half way, on a logarithmic scale,
    between one that stays and one with which weights are forgotten over the same share of a run (Wang & Aitchison
    2025). Conflicting images are repeated less where there are fewer of them, which are soon known by heart: in
    proportion to the square root of the number of images. More of them are repeated as often as ever.
    """
    found = replace(point, epochs=epochs(point, parameters))
    if ENTRIES[point.method].as_study or point.train_size == parameters["train_size"]:
        return found
    share = parameters["epochs"] * parameters["train_size"] / (found.epochs * point.train_size)
    found = replace(found, weight_decay=round(point.weight_decay * math.sqrt(share), 4))
    if point.method not in OVERSAMPLING:
        return found
    fewer = math.sqrt(min(1, point.train_size / parameters["train_size"]))
    return replace(found, strength=max(1.0, round(point.strength * fewer, 1)))


def name(point: Point) -> str:
    """A file name that tells the point from any other."""
    return f"{point.method}-seed{point.seed}-{digest(asdict(point))}"


def digest(content: Any) -> str:
    """Twelve hexadecimal digits of anything JSON can hold."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]


def fingerprint(path: Path) -> str:
    """Names the data set and the code that a point's figures depend on."""
    return digest([data.metadata(path), [statements(inspect.getsource(module)) for module in CODE]])


def cached(point: Point, path: Path, folder: Path, device: torch.device | str = "cpu") -> dict[str, float]:
    """The point's figures: read where this code made them from this data, else trained and written.

    Args:
        path: the data set of task 0.
        folder: receives ``<name>.json``, and ``<name>.safetensors`` where the book knows the architecture.
    """
    league.check(point)
    file, mark = record_file(point, folder), fingerprint(path)
    if file.is_file():
        record = json.loads(file.read_text())
        if record["fingerprint"] == mark:
            return record["figures"]
    model, figures = league.run(point, path, device)
    keep(model, point, mark, folder)
    record = {"point": asdict(point), "fingerprint": mark, "figures": figures, "made": circumstances(device)}
    write_atomically(file, json.dumps(record, indent=2).encode())
    return figures


def keep(model: nn.Module, point: Point, mark: str, folder: Path) -> None:
    """Save a point's network with the ``fingerprint`` it was made under, where the book knows the architecture."""
    if type(model).__name__ in models.ARCHITECTURES:
        checkpoints.save(network_file(point, folder), model, {"point": asdict(point), "fingerprint": mark})


def circumstances(device: torch.device | str) -> dict[str, Any]:
    """What may move a figure within its seeds' spread: versions, hardware, precision."""
    device = torch.device(device)
    precision = training.resolve_precision("auto", device)
    return {"versions": run.versions(), "device": run.device_name(device), "precision": precision}


def machines(points: Iterable[Point], folder: Path) -> list[str]:
    """The different machines and precisions that finished points were made on, in words."""
    made = [json.loads(record_file(point, folder).read_text())["made"] for point in points]
    return sorted({f"{one['device']}, {one['precision']}" for one in made})


def record_file(point: Point, folder: Path) -> Path:
    """Where a point's figures lie."""
    return folder / f"{name(point)}.json"


def network_file(point: Point, folder: Path) -> Path:
    """Where a point's checkpoint lies."""
    return folder / f"{name(point)}.model.safetensors"


def network(point: Point, path: Path, folder: Path, device: torch.device | str = "cpu") -> nn.Module:
    """A point's network; trained once more where it is missing (see ``points``), or of other code or data."""
    file, mark = network_file(point, folder), fingerprint(path)
    if file.is_file():
        model, sidecar = checkpoints.load(file)
        if sidecar.get("fingerprint") == mark:
            return model
    keep(league.train(point, path, device), point, mark, folder)
    return checkpoints.load(file)[0]


def main(arguments: list[str] | None = None) -> int:
    """Run one point, given as JSON."""
    parser = argparse.ArgumentParser(prog="python -m lazyutils.sweep", description=__doc__)
    parser.add_argument("point", help='JSON, such as \'{"method": "erm", "seed": 1}\'')
    parser.add_argument("--data", type=Path, required=True, help="the data set that task 0 made")
    parser.add_argument("--folder", type=Path, required=True, help="where results go")
    parser.add_argument("--threads", type=int, default=1, help="processor threads (default: %(default)s)")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    memory.keep_freed()
    return exit_code(lambda: make(parse(options.point), options.data, options.folder))


def make(point: Point, path: Path, folder: Path) -> None:
    """Have a point's record, of now: Snakemake goes by its date."""
    if not path.is_file():
        raise MissingArtefactError(f"{path} is missing: task0_biased_canvas makes it")
    cached(point, path, folder, "cuda" if torch.cuda.is_available() else "cpu")
    record_file(point, folder).touch()


def parse(text: str) -> Point:
    """A point from JSON."""
    try:
        return Point(**json.loads(text))
    except (json.JSONDecodeError, TypeError) as error:
        raise ClearError(f"{text!r} is no point: give a JSON object of league.Point's fields ({error})") from None


if __name__ == "__main__":
    sys.exit(main())
