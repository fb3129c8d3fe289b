"""The figures of Task 4: critics, the league between its brackets, and how far the best method carries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator
from torch import Tensor

from lazyutils.data import ColoredDigits
from lazyutils.league import BEST, ENTRIES
from lazyutils.metrics import contingency
from lazyutils.plots import COLOR, DIGIT, EASY, HARD, NEITHER, REFERENCE, color_ticks, heat_table
from lazyutils.standings import Grid, paired

MARKERS = "osD^v"
METHOD_COLORS = (COLOR, DIGIT, EASY, HARD, NEITHER)


def critic_curves(curves: Mapping[str, Sequence[tuple[float, float]]]) -> Figure:
    """Precision and recall of each critic's errors as a detector of conflicting images, after every epoch."""
    figure, panels = plt.subplots(1, 2, figsize=(9, 3.2), sharey=True)
    for column, (panel, title) in enumerate(zip(panels, ("precision", "recall"), strict=True)):
        for (name, values), color, marker in zip(curves.items(), METHOD_COLORS, MARKERS, strict=False):
            epochs = np.arange(1, len(values) + 1)
            panel.plot(epochs, [100 * v[column] for v in values], color=color, marker=marker, ms=4, label=name)
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
        panel.set(title=title.capitalize(), xlabel="epochs of the critic", ylim=(0, 103))
    panels[0].set_ylabel("% of images")
    panels[1].legend(loc="lower left")
    return figure


def answers_before_after(answers: Mapping[str, Tensor], hard: ColoredDigits) -> Figure:
    """For each network a column: confusion matrix above, background against answer below (hard set, row shares)."""
    figure, panels = plt.subplots(2, len(answers), figsize=(4.6 * len(answers), 8.4), squeeze=False)
    for column, (name, predictions) in enumerate(answers.items()):
        heat_table(panels[0, column], contingency(hard.labels, predictions), name, "predicted digit", "true digit")
        heat_table(panels[1, column], contingency(hard.colors, predictions), name, "predicted digit", "")
        color_ticks(panels[1, column], "y")
    return figure


def paired_strengths(penalized: Mapping[float, Sequence[float]], baseline: Sequence[float]) -> Figure:
    """Differences in hard accuracy, penalty minus none, seed by seed, for each strength, with 95% intervals."""
    figure, axes = plt.subplots(figsize=(6.5, 3.2))
    for position, values in enumerate(penalized.values()):
        result = paired(values, baseline)
        points = 100 * (np.array(values) - np.array(baseline))
        axes.scatter(np.full(len(points), position), points, color=NEITHER, s=22, zorder=3)
        if result["low"] is not None:
            half = 100 * (result["high"] - result["mean"])
            axes.errorbar(position + 0.15, 100 * result["mean"], yerr=half, color=COLOR, marker="o", capsize=4)
    axes.axhline(0, color=REFERENCE, lw=1, ls="--")
    axes.set_xticks(range(len(penalized)), [f"0 → {strength:g}" for strength in penalized])
    axes.set(title="Penalty minus no penalty", xlabel="weight of the penalty", ylabel="hard accuracy (points)")
    axes.set_xlim(-0.6, len(penalized) - 0.4)
    return figure


def league_figure(league: Mapping[str, Any], brackets: Mapping[str, Any]) -> Figure:
    """Hard accuracy of every method (dot: mean, bars: 95% interval over seeds, small dots: seeds), with brackets."""
    rows = sorted(league, key=lambda name: league[name]["hard_accuracy"]["mean"])
    figure, axes = plt.subplots(figsize=(8, 1.6 + 0.36 * len(rows)))
    for position, name in enumerate(rows):
        hard, color = league[name]["hard_accuracy"], DIGIT if name == BEST else "#22262b"
        axes.scatter(100 * np.array(hard["values"]), np.full(hard["n"], position), color=NEITHER, s=10)
        half = interval_half_width(hard)
        axes.errorbar(100 * hard["mean"], position, xerr=half, color=color, marker="o", capsize=3)
        axes.annotate(
            f"{100 * hard['mean']:.1f}", (100 * hard["mean"], position), (0, 6), textcoords="offset points",
            ha="center", size=8, color=color,
        )  # fmt: skip
    styles = ("-", "--", "-.", ":", (0, (6, 2, 1, 2, 1, 2)))
    for (name, row), style in zip(brackets.items(), styles, strict=False):
        value = 100 * row["hard_accuracy"]["mean"]
        axes.axvline(value, ls=style, lw=1.2, color=REFERENCE, label=f"{ENTRIES[name].title} ({value:.1f})", zorder=0)
    axes.set_yticks(range(len(rows)), [ENTRIES[name].title for name in rows])
    left = min(100 * league[name]["hard_accuracy"]["mean"] for name in rows)
    axes.set(
        xlabel="hard accuracy (%)", title="The league", xlim=(max(0, left - 6), 100.5), ylim=(-0.6, len(rows) - 0.2)
    )
    axes.legend(loc="upper center", bbox_to_anchor=(0.4, -0.6 / (0.4 + 0.36 * len(rows)) * 0.9), ncols=2)
    return figure


def interval_half_width(figure: Mapping[str, Any]) -> float | None:
    """Half of Student's 95% interval of a mean over seeds, in percent; None for one seed."""
    if figure["n"] < 2:
        return None
    result = paired(figure["values"], [0.0] * figure["n"])
    return 0.0 if result["low"] is None else 100 * (result["high"] - result["mean"])


def curves_over(grid: Grid, xlabel: str, title: str, log: bool) -> Figure:
    """Hard images against one quantity, a line a method, every run a dot, methods a little apart where they coincide.

    ``log``: errors, with both axes logarithmic; otherwise accuracies, and the quantity's values stand side by side.
    """
    figure, axes = plt.subplots(figsize=(7.5, 3.9))
    ticks = sorted({value for points in grid.values() for value in points})
    for order, (method, points) in enumerate(grid.items()):
        aside = order - (len(grid) - 1) / 2
        xs = [x * 1.03**aside if log else ticks.index(x) + 0.05 * aside for x in points]
        hard = [found["hard_accuracy"] for found in points.values()]
        color, marker = METHOD_COLORS[order % len(METHOD_COLORS)], MARKERS[order % len(MARKERS)]
        means = [percent_of(found["mean"], log) for found in hard]
        axes.plot(xs, means, color=color, marker=marker, ms=5, label=ENTRIES[method].title)
        for x, found in zip(xs, hard, strict=True):
            runs = [percent_of(value, log) for value in found["values"]]
            axes.scatter([x] * found["n"], runs, color=color, s=8, alpha=0.5)
    if log:
        axes.set(xscale="log", yscale="log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.set_xticks(ticks, [f"{x:,}" for x in ticks])
    else:
        axes.set_xticks(range(len(ticks)), [f"{x:g}" for x in ticks])
        axes.set_ylim(0, 102)
    axes.minorticks_off()
    axes.set(xlabel=xlabel, ylabel="hard error (%)" if log else "hard accuracy (%)", title=title)
    axes.legend(loc="upper right" if log else "lower left")
    return figure


def percent_of(accuracy: float, error: bool) -> float:
    """An accuracy in percent, or its error."""
    return 100 * (1 - accuracy if error else accuracy)


def inside_bars(networks: Mapping[str, Mapping[str, float]]) -> Figure:
    """A panel a measure, a bar a network: what the tools of the other tasks say before and after."""
    measures = list(next(iter(networks.values())))
    figure, panels = plt.subplots(1, len(measures), figsize=(2.5 * len(measures), 2.9), squeeze=False)
    for panel, measure in zip(panels[0], measures, strict=True):
        values = [100 * row[measure] for row in networks.values()]
        bars = panel.bar(list(networks), values, color=METHOD_COLORS[: len(networks)])
        panel.bar_label(bars, fmt="%.0f", size=9)
        panel.set_title(measure, fontsize=9)
        panel.set_ylim(0, 112)
        panel.tick_params(axis="x", rotation=25, labelsize=8)
    panels[0, 0].set_ylabel("%")
    return figure
