"""The figures and tables of Task 5: perturbations, success against radius, and what is drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import torch
from IPython.display import Markdown
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from torch import Tensor, nn

from lazyutils.attacks import AttackResult
from lazyutils.cloak import Attacked, Drawing, Goal, halves, least, relation, rounded_success, shares_by_color
from lazyutils.cloak_beyond import Attempt
from lazyutils.perturbations import success_curve
from lazyutils.plots import COLOR, DIGIT, INK, NEITHER, REFERENCE, color_ticks, draw_image, percent
from lazyutils.training import predict

NETWORKS = {"lazycnn": COLOR, "twin": "#e69f00", "robust_erm": "#56b4e9", "robust_best": DIGIT}
NAMES = {
    "lazycnn": "LazyCNN",
    "twin": "honest twin",
    "robust_erm": "RobustCNN, plain",
    "robust_best": "RobustCNN, fixed",
}
METHOD_NAMES = {"fgsm": "FGSM", "pgd": "PGD", "deepfool": "DeepFool"}
LINES = ("-", "--", ":")
GRAY = 0.5  # no change, in a picture of a perturbation
WIDTH = 10.8  # inches, of a row of panels


def amplified(delta: Tensor, factor: float) -> Tensor:
    """``delta`` as an image: middle grey where nothing changes, ``factor`` times as strong as it is."""
    return (GRAY + factor * delta).clamp(0, 1)


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> Markdown:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return Markdown("\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines))


def exhibits(
    images: Tensor, found: Mapping[str, AttackResult], models: Mapping[str, nn.Module], goal: Goal, factor: float
) -> Figure:
    """Each image, then for each network the amplified perturbation and the adversarial image with its answer."""
    rows, columns = len(images), 1 + 2 * len(found)
    figure, axes = plt.subplots(rows, columns, figsize=(1.45 * columns, 1.75 * rows + 0.3), squeeze=False)
    for row in range(rows):
        draw_image(axes[row, 0], images[row], "original" if row == 0 else "", 8)
        for place, (name, result) in enumerate(found.items()):
            before = predict(models[name], images[row : row + 1]).softmax(1)[0, goal.source]
            answers = predict(models[name], result.images[row : row + 1]).softmax(1)[0]
            noise, changed = axes[row, 1 + 2 * place], axes[row, 2 + 2 * place]
            draw_image(
                noise, amplified(result.images[row] - images[row], factor), f"{NAMES[name]}\nwas {before:.0%}", 8
            )
            verdict = f"{goal.source}: {answers[goal.source]:.0%}  {goal.target}: {answers[goal.target]:.0%}"
            draw_image(changed, result.images[row], f"answers {int(answers.argmax())}\n{verdict}", 8)
            for spine in changed.spines.values():
                spine.set(visible=bool(result.success[row]), color="#009e73", linewidth=3)
    return figure


def share(value: float | None, digits: int = 1) -> str:
    """A share in percent, a dash where there is none."""
    return "–" if value is None else percent(value, digits)


def success_table(found: Mapping[str, Attacked], models: Mapping[str, nn.Module], goal: Goal) -> Markdown:
    """Network x method: success on all images and both halves, after 8 bits, gradients used, median L2 of successes."""
    rows = []
    for name, halved in shares_by_color(found).items():
        other, own = halved.values()
        for method, result in found[name].results.items():
            successes = [
                share(figures) for figures in (result.success.double().mean().item(), other[method], own[method])
            ]
            saved = percent(rounded_success(models[name], result, goal))
            size = f"{result.l2[result.success].median():.2f}" if result.success.any() else "–"
            images, gradients = f"{other['n']} + {own['n']}", f"{result.steps.double().mean():.0f}"
            rows.append([NAMES[name], images, METHOD_NAMES[method], *successes, saved, gradients, size])
    head = ["network", "images", "method", "success", "other colour", "own colour", "8 bits", "steps", "L2"]
    return table(head, rows)


def panel_row(count: int, height: float) -> tuple[Figure, np.ndarray]:
    """``count`` panels side by side, on one vertical axis."""
    figure, panels = plt.subplots(1, count, figsize=(min(3.5 * count, WIDTH), height), sharey=True, squeeze=False)
    return figure, panels[0]


def radius_curves(radii: Mapping[str, Mapping[str, Tensor]], largest: float, marked: float) -> Figure:
    """Share of images that fall within a radius: a panel a network, a line a method."""
    figure, panels = panel_row(len(radii), 3.4)
    grid = torch.linspace(0, largest, 200)
    for panel, (name, methods) in zip(panels, radii.items(), strict=True):
        for style, minimal in zip(LINES, methods.values(), strict=False):
            curve = 100 * success_curve(minimal.cpu(), grid)
            panel.plot(grid, curve, style, color=NETWORKS[name], lw=2)
        panel.axvline(marked, color=REFERENCE, lw=1)
        panel.set(title=NAMES[name], xlabel="radius (share of the range)", ylim=(-2, 102), xlim=(0, largest))
    panels[0].set_ylabel("images fooled (%)")
    style_legend(figure, [METHOD_NAMES.get(method, method) for method in next(iter(radii.values()))])
    return figure


def style_legend(figure: Figure, labels: Sequence[str]) -> None:
    """Below all panels: what each line style stands for."""
    handles = [Line2D([], [], color=INK, ls=style, lw=2) for style, _ in zip(LINES, labels, strict=False)]
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), handlelength=2.6)


def radius_boxes(radii: Mapping[str, Mapping[str, Tensor]], largest: float, title: str) -> Figure:
    """The smallest radius of every image, a row a network and attack; images beyond the range at its end."""
    rows = [(name, method, values.cpu()) for name, methods in radii.items() for method, values in methods.items()]
    figure, axes = plt.subplots(figsize=(8, 0.9 + 0.36 * len(rows)))
    jitter = np.random.default_rng(0)
    for row, (name, _, values) in enumerate(rows):
        shown = values.clamp(max=1.03 * largest)
        spread = row + jitter.uniform(-0.22, 0.22, len(shown))
        axes.plot(shown, spread, "o", ms=3, alpha=0.6, color=NETWORKS[name], mec="none")
        axes.plot([shown.median()] * 2, [row - 0.35, row + 0.35], color=INK, lw=2)
    axes.set_yticks(
        range(len(rows)), [f"{NAMES[name]} · {METHOD_NAMES.get(method, method)}" for name, method, _ in rows]
    )
    axes.axvspan(largest, 1.1 * largest, color=NEITHER, alpha=0.2, lw=0)
    axes.text(1.075 * largest, (len(rows) - 1) / 2, "not fooled", rotation=90, ha="center", va="center", size=9)
    axes.invert_yaxis()
    axes.set(title=title, xlabel="smallest radius that fools (share of the pixel range)", xlim=(0, 1.1 * largest))
    return figure


def radius_table(radii: Mapping[str, Mapping[str, Tensor]], conflicting: Tensor, largest: float) -> Markdown:
    """Each network's median radius, the best attack's for each image, on both halves; beside it LazyCNN's."""

    def size(value: float | None) -> str:
        return "–" if value is None else f"over {largest}" if value > largest else f"{value:.3f}"

    smallest = {name: least(row) for name, row in radii.items()}
    lazy, rows = smallest["lazycnn"], []
    for name, values in smallest.items():
        larger = f"{percent((lazy > values).double().mean().item(), 0)} ({relation(lazy, values)})"
        needs = [size(value) for value in halves(values, conflicting).values()]
        rows.append([NAMES[name], *needs, "–" if name == "lazycnn" else larger])
    counts = [
        f"{int(half.sum())} on {colour}" for half, colour in ((conflicting, "another"), (~conflicting, "its own"))
    ]
    head = ["network", f"median of {len(lazy)} images", *(f"of {count} colour" for count in counts)]
    return table([*head, "LazyCNN needs more on"], rows)


def masking_table(checks: Mapping[str, Mapping[str, float]], restarts: int, queries: int) -> Markdown:
    """One row a check, one column a network, percent of images."""
    names = {
        "radius": "radius, the median image's",
        "pgd": "PGD from the image",
        "restarts": f"and {restarts} random restarts",
        "square": f"Square attack, no gradient, {queries} queries",
        "unbounded": "PGD with radius 1",
        "zero_gradient": "images without any gradient",
    }
    rows = [[label, *(percent(checks[name][key]) for name in checks)] for key, label in names.items()]
    rows[0][1:] = [f"{checks[name]['radius']:.3f}" for name in checks]
    return table(["check", *(NAMES[name] for name in checks)], rows)


def transfer_table(shares: Mapping[str, Mapping[str, float]]) -> Figure:
    """Rows: made against; columns: shown to."""
    figure, axes = plt.subplots(figsize=(7, 4.4))
    values = 100 * np.array([list(row.values()) for row in shares.values()])
    drawn = axes.imshow(values, vmin=0, vmax=100, cmap="cividis")
    for (row, column), value in np.ndenumerate(values):
        axes.text(column, row, f"{value:.0f}", ha="center", va="center", color="black" if value > 55 else "white")
    names = [NAMES[name].replace(" ", "\n") for name in shares]
    axes.set_xticks(range(len(names)), names)
    axes.set_yticks(range(len(names)), names)
    axes.set(title="Success of transferred images", xlabel="shown to", ylabel="made against")
    figure.colorbar(drawn, ax=axes, label="% fooled")
    return figure


def surfaces(found: Mapping[str, Tensor], eps: float) -> Figure:
    """Log-odds of the target on a plane through one image: towards the target, and along a random direction."""
    figure, panels = panel_row(len(found), 2.9)
    axis = np.linspace(-eps, eps, len(next(iter(found.values()))))
    for panel, (name, surface) in zip(panels, found.items(), strict=True):
        limit = surface.abs().max().item()
        levels = np.linspace(-limit, limit, 25)
        drawn = panel.contourf(axis, axis, surface.T, levels=levels, cmap="PuOr_r")
        panel.contour(axis, axis, surface.T, levels=[0], colors=INK, linewidths=2)
        panel.plot(0, 0, "o", color=INK, ms=4)
        panel.set(title=NAMES[name], xlabel="along the gradient's sign")
        scale = figure.colorbar(drawn, ax=panel, format="%.0f", ticks=MaxNLocator(6))
    scale.set_label("log-odds of the target", size=9)
    panels[0].set_ylabel("along random signs")
    return figure


def mean_perturbations(found: Mapping[str, Drawing], templates: Tensor, source: int, target: int) -> Figure:
    """Each network's mean perturbation and mean size of change, beside the target's stroke minus the source's."""
    figure, axes = plt.subplots(2, len(found) + 1, figsize=(1.9 * (len(found) + 1) + 0.6, 4.2), squeeze=False)
    size = {name: drawing.delta.abs().mean((0, 1)).cpu() for name, drawing in found.items()}
    for column, (name, drawing) in enumerate(found.items()):
        mean = drawing.delta.mean(0)
        factor = 0.5 / mean.abs().max().item()
        draw_image(axes[0, column], amplified(mean, factor), f"{NAMES[name]}\nmean, × {factor:.0f}", 8)
        axes[1, column].imshow(size[name], cmap="magma", vmin=0)
        axes[1, column].set_title(f"mean size\nup to {size[name].max():.3f}", fontsize=8, loc="center")
    limit = templates[target].abs().max()
    axes[0, -1].imshow(templates[target].cpu(), cmap="PuOr_r", vmin=-limit, vmax=limit)
    axes[0, -1].set_title(f"mean stroke:\n{target} (orange) - {source} (purple)", fontsize=8, loc="center")
    for panel in axes.flat:
        panel.axis("off")
        panel.title.set_fontweight("normal")
    return figure


def energy_bars(found: Mapping[str, Drawing], random: Mapping[str, float]) -> Figure:
    """Where the energy lies: tint of the background, stroke, and pattern on the background."""
    rows = {NAMES[name]: {key: share.mean().item() for key, share in d.shares.items()} for name, d in found.items()}
    rows["random noise"] = dict(random)
    figure, axes = plt.subplots(figsize=(7.5, 0.8 + 0.42 * len(rows)))
    left = np.zeros(len(rows))
    labels = {"tint": "background tint", "stroke": "on the stroke", "pattern": "pattern on the background"}
    for (key, label), color in zip(labels.items(), (COLOR, DIGIT, NEITHER), strict=True):
        widths = np.array([100 * row[key] for row in rows.values()])
        axes.barh(list(rows), widths, left=left, color=color, label=label)
        for row, width in enumerate(widths):
            if width > 6:
                text = {"ha": "center", "va": "center", "color": "white", "size": 9}
                axes.text(left[row] + width / 2, row, f"{width:.0f}%", **text)
        left += widths
    axes.invert_yaxis()
    axes.set(xlabel="share of the perturbation's energy (%)", xlim=(0, 100), title="Energy")
    axes.legend(ncols=3, loc="lower right", bbox_to_anchor=(1, 1.0), borderaxespad=0)
    return figure


def likeness(found: Mapping[str, Drawing], target: int) -> Figure:
    """Which colour the tint leans to, and which digit the ink resembles, the target's bar outlined."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(10.5, 3.4))
    width = 0.8 / len(found)
    for place, (name, drawing) in enumerate(found.items()):
        at = np.arange(10) + (place - (len(found) - 1) / 2) * width
        for axes, values in ((left, drawing.colors), (right, drawing.shapes)):
            bars = axes.bar(at, values.cpu().nan_to_num(0), width, color=NETWORKS[name], label=NAMES[name])
            bars[target].set(edgecolor=INK, linewidth=1.2)
    color_ticks(left, "x")
    left.set_xticks(np.arange(10), left.get_xticklabels())
    for label in left.get_xticklabels():
        label.set(rotation=45, ha="right", rotation_mode="anchor")
    right.set_xticks(np.arange(10))
    left.set(title="Tint: towards which colour?", ylabel="mean cosine")
    right.set(title="Ink: towards which digit?", xlabel="digit", ylabel="mean correlation")
    for axes in (left, right):
        axes.axhline(0, color=INK, lw=0.8)
    figure.legend(*right.get_legend_handles_labels(), loc="outside lower center", ncols=len(found))
    return figure


def search_history(attempt: Attempt) -> Figure:
    """Optuna's best score so far, with the scores of no perturbation and of the gradient's one."""
    history, nothing, gradient = attempt.history, attempt.nothing, attempt.gradient
    figure, axes = plt.subplots(figsize=(7, 3.2))
    axes.plot(range(1, len(history) + 1), 100 * np.array(history), color=COLOR, lw=2, label="Optuna, best so far")
    axes.axhline(100 * gradient, color=DIGIT, lw=2, ls="--", label="minibatch gradients, as many looks at the images")
    axes.axhline(100 * nothing, color=REFERENCE, lw=1, ls=":", label="no perturbation")
    top = max(100 * gradient, 100 * max(history), 1)
    axes.set(title="A universal perturbation, with and without gradients", xlabel="trial", ylim=(0, 1.75 * top))
    axes.set_ylabel("mean probability\nof the target (%)")
    axes.legend(loc="upper left")
    return figure


def universal_lines(curves: Mapping[str, Sequence[Mapping[str, float]]], radii: Sequence[float]) -> Figure:
    """Success of one perturbation for all unseen images, against its radius."""
    figure, axes = plt.subplots(figsize=(7, 3.4))
    for name, points in curves.items():
        for key, style, what in (("answer", "-", "answer"), ("confident", "--", "and confident")):
            values = [100 * point[key] for point in points]
            axes.plot(radii, values, style, marker="o", ms=4, color=NETWORKS[name], label=f"{NAMES[name]}: {what}")
    axes.set(title="One perturbation for every unseen image", xlabel="radius eps (share of the pixel range)")
    axes.set(ylabel="images fooled (%)", ylim=(-2, 102), xlim=(0, None))
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def universal_colors(found: Mapping[str, Tensor], radii: Mapping[str, float]) -> Figure:
    """Success on each background: one perturbation for all of them, and one for each."""
    figure, axes = plt.subplots(figsize=(9, 1.2 + 0.42 * 2 * len(found)))
    values = 100 * torch.cat(list(found.values())).cpu()
    drawn = axes.pcolormesh(values.numpy(), vmin=0, vmax=100, cmap="cividis", edgecolors="white", lw=1)
    for (row, column), value in np.ndenumerate(values.numpy()):
        text = "–" if np.isnan(value) else f"{value:.0f}"
        dark = not np.isnan(value) and value <= 55
        axes.text(column + 0.5, row + 0.5, text, ha="center", va="center", size=8, color="white" if dark else "black")
    kinds = ("one for all", "one for this colour")
    labels = [f"{NAMES[name]}, eps {radii[name]} · {kind}" for name in found for kind in kinds]
    axes.set_yticks(np.arange(len(labels)) + 0.5, labels)
    axes.invert_yaxis()
    color_ticks(axes, "x")
    axes.tick_params(length=0)
    axes.set_title("Unseen images fooled, by background")
    figure.colorbar(drawn, ax=axes, label="% fooled", pad=0.02)
    return figure


def kind_curves(found: Mapping[str, Mapping[str, Sequence[float]]], radii: Sequence[float]) -> Figure:
    """Success of any perturbation, of a pattern without tint, and of a tint alone: a panel a network."""
    figure, panels = panel_row(len(found), 3.4)
    for panel, (name, kinds) in zip(panels, found.items(), strict=True):
        for style, values in zip(LINES, kinds.values(), strict=True):
            panel.plot(radii, 100 * np.array(values), style, marker="o", ms=3, color=NETWORKS[name], lw=2)
        panel.set(title=NAMES[name], xlabel="radius eps", ylim=(-2, 102), xlim=(0, None))
    panels[0].set_ylabel("images fooled (%)")
    style_legend(figure, list(next(iter(found.values()))))
    return figure


def costs_table(costs: Mapping[str, Mapping[str, float]], eps: float) -> Markdown:
    """The fixed network, trained on without an adversary, and with one."""
    rows = [[name, *(percent(value) for value in figures.values())] for name, figures in costs.items()]
    return table(["network", "easy accuracy", "hard accuracy", f"fooled by PGD, eps {eps}"], rows)
