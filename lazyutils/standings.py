"""From the figures of single runs to a league: means over seeds, paired differences, gaps closed, honest selection."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

from lazyutils import sweep
from lazyutils.league import BEST, ENTRIES, Point
from lazyutils.metrics import collect_seeds, over_seeds
from lazyutils.plots import percent
from lazyutils.run import flag

RECOLORED = "corrected_recoloring"
"""The best method with the recolouring penalty."""

Figures = Mapping[str, float]
Grid = Mapping[str, Mapping[float, Mapping[str, Any]]]
"""Collected figures by method and by one setting's value."""


def by_method(points: Sequence[Point], figures: Sequence[Figures]) -> dict[str, list[dict[str, float]]]:
    """Each method's runs, in the order of the points' seeds."""
    grouped: dict[str, list[dict[str, float]]] = defaultdict(list)
    for point, found in zip(points, figures, strict=True):
        grouped[point.method].append(dict(found))
    return dict(grouped)


def paired(values: Sequence[float], baseline: Sequence[float]) -> dict[str, Any]:
    """Mean of the differences between runs of the same seeds, with Student's 95% interval and paired test.

    Returns:
        ``{"mean", "low", "high", "p", "n"}``; interval and ``p`` (two-sided) are None for a single pair.
    """
    differences = np.asarray(values) - np.asarray(baseline)
    mean, n = float(differences.mean()), len(differences)
    if n < 2 or not differences.std():
        return {"mean": mean, "low": None, "high": None, "p": None, "n": n}
    half = float(stats.t.ppf(0.975, n - 1) * stats.sem(differences))
    p = float(stats.ttest_rel(values, baseline).pvalue)
    return {"mean": mean, "low": mean - half, "high": mean + half, "p": p, "n": n}


def league(runs: Mapping[str, list[dict[str, float]]], oracle: Sequence[Figures]) -> dict[str, dict[str, Any]]:
    """Every row over its seeds, with ``gap_closed`` = (row - ERM) / (oracle - ERM) on hard images, and the paired
    difference to ERM, ``hard_difference``; a row of fewer runs has the first seeds of ERM's."""
    low = [run["hard_accuracy"] for run in runs["erm"]]
    floor, ceiling = float(np.mean(low)), float(np.mean([run["hard_accuracy"] for run in oracle]))
    table = {}
    for method, seeds in runs.items():
        hard = [run["hard_accuracy"] for run in seeds]
        closed = over_seeds([(value - floor) / (ceiling - floor) if ceiling != floor else math.nan for value in hard])
        difference = paired(hard, low[: len(hard)])
        table[method] = {**collect_seeds(seeds), "gap_closed": closed, "hard_difference": difference}
    return table


def selections(runs: Mapping[str, list[dict[str, float]]]) -> dict[str, dict[str, Any]]:
    """What different ways to choose among all runs of all methods would report as the hard accuracy.

    Returns:
        For each way: the ``method`` chosen, and the ``hard_accuracy`` it would report.
    """

    def mean(method: str, key: str) -> float:
        return float(np.mean([run[key] for run in runs[method]]))

    ways = {"easy validation accuracy": "easy_accuracy", "balanced validation accuracy": "balanced_validation"}
    table = {}
    for way, key in ways.items():
        method = max(runs, key=lambda name: mean(name, key))
        table[way] = {"method": method, "hard_accuracy": mean(method, "hard_accuracy")}
    everything = [(run["hard_accuracy"], method) for method, seeds in runs.items() for run in seeds]
    best, method = max(everything)
    return {**table, "the hard set itself (best run of all)": {"method": method, "hard_accuracy": best}}


def along(points: Sequence[Point], figures: Sequence[Figures], key: str, own: Any) -> Grid:
    """Figures over seeds by method and by one of the points' settings; a setting of None is the data set's ``own``."""
    grouped: dict[str, dict[Any, list[Figures]]] = defaultdict(lambda: defaultdict(list))
    for point, found in zip(points, figures, strict=True):
        value = getattr(point, key)
        grouped[point.method][own if value is None else value].append(found)
    return {
        method: {value: collect_seeds(runs) for value, runs in sorted(values.items())}
        for method, values in grouped.items()
    }


def grid_table(grid: Grid, setting: str) -> str:
    """Markdown: accuracy on hard, easy and unseen colours, one line a value of ``setting`` and a method."""
    lines = [f"| {setting} | method | hard | easy | ten colours never seen |", "|--:|---|--:|--:|--:|"]
    for value in sorted({value for values in grid.values() for value in values}):
        for method, values in grid.items():
            if row := values.get(value):
                found = (cell(row[key]) for key in ("hard_accuracy", "easy_accuracy", "unseen_colours"))
                lines.append(f"| {value:,} | {ENTRIES[method].title} | {' | '.join(found)} |")
    return "\n".join(lines)


def shift_table(table: Mapping[str, Mapping[str, Any]], oracle: Mapping[str, Any]) -> str:
    """Markdown: ERM, the best method and the recolouring penalty beside it on shifted hard images, and the oracle; then
    what the penalty is worth in colours never seen, over pairs of the same seeds."""
    rows = {ENTRIES[name].title: table[name] for name in ("erm", BEST, RECOLORED) if name in table} | {"Oracle": oracle}
    lines = ["| | hard | ten colours never seen | texture three times as strong |", "|---|--:|--:|--:|"]
    for title, row in rows.items():
        shifted = " | ".join(cell(row[key]) for key in ("hard_accuracy", "unseen_colours", "texture_shift"))
        lines.append(f"| {title} | {shifted} |")
    if RECOLORED in table:
        penalized, alone = (table[name]["unseen_colours"]["values"] for name in (RECOLORED, BEST))
        gain = verdict(paired(penalized, alone[: len(penalized)]))
        lines += ["", f"In colours never seen, the recolouring penalty beside the correction {gain}."]
    return "\n".join(lines)


def league_table(table: Mapping[str, Mapping[str, Any]], commands: Mapping[str, str]) -> str:
    """Markdown: one line a row of the league, best hard accuracy first, with the command that makes it."""
    head = (
        "| | uses | easy | hard | colour | worst digit | gap closed | against ERM | core s |\n"
        "|---|---|--:|--:|--:|--:|--:|--:|--:|"
    )
    rows, order = [], sorted(table, key=lambda name: -table[name]["hard_accuracy"]["mean"])
    for method in order:
        row, entry = table[method], ENTRIES[method]
        title = f"**{entry.title}**" if method == BEST else entry.title
        rows.append(
            f"| {title} | {entry.knows} | {cell(row['easy_accuracy'])} | {cell(row['hard_accuracy'])} | "
            f"{cell(row['colour_share'])} | {cell(row['worst_digit'])} | {percent(row['gap_closed']['mean'], 0)} | "
            f"{in_points(row['hard_difference'])} | {row['seconds']['mean']:.0f} |"
        )
    lines = "\n".join(f"# {ENTRIES[method].title}\n{commands[method]}" for method in order)
    return f"{head}\n" + "\n".join(rows) + f"\n\nEach row by itself:\n\n```bash\n{lines}\n```"


def row_command(parameters: Mapping[str, Any], method: str) -> str:
    """The papermill call that trains one row with the seeds and budget of this page."""
    seeds = parameters["seeds" if method in sweep.ALWAYS else "method_seeds"]
    names = ("epochs", "study_epochs", "critic", "train_size", "validation_size", "hard_size")
    values = {"methods": [method], "seeds": seeds, "method_seeds": seeds, **{name: parameters[name] for name in names}}
    flags = " ".join(flag(name, value) for name, value in values.items())
    return f"papermill notebooks/task4_intervention.ipynb out.ipynb -k python3 {flags}"


def cell(figure: Mapping[str, Any]) -> str:
    """Mean and standard deviation in percent."""
    spread = "" if figure["sd"] is None else f" ± {100 * figure['sd']:.1f}"
    return f"{100 * figure['mean']:.1f}{spread}"


def in_points(figure: Mapping[str, Any]) -> str:
    """A paired difference in points, with its interval where there is one."""
    interval = "" if figure["low"] is None else f" [{100 * figure['low']:+.1f}, {100 * figure['high']:+.1f}]"
    return f"{100 * figure['mean']:+.1f}{interval}"


def verdict(figure: Mapping[str, Any]) -> str:
    """What a paired difference allows to say."""
    if figure["low"] is None:
        return f"one pair of runs differs by {100 * figure['mean']:+.1f} points, which decides nothing"
    said = "helps" if figure["low"] > 0 else "harms" if figure["high"] < 0 else "makes no difference that we can tell"
    return f"{said}: {in_points(figure)} points over {figure['n']} pairs (paired t-test, p = {figure['p']:.2g})"
