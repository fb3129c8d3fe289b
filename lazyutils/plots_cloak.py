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
from lazyutils.cloak import Attacked, Drawing, Goal, easier, rounded_success, shares_fooled
from lazyutils.cloak_beyond import Attempt
from lazyutils.data import COLOR_NAMES
from lazyutils.perturbations import success_curve
from lazyutils.plots import COLOR, DIGIT, INK, NEITHER, REFERENCE, color_ticks, draw_image, percent
from lazyutils.training import predict

NETWORKS = {"lazycnn": COLOR, "robust_erm": "#56b4e9", "robust_best": DIGIT}
NAMES = {"lazycnn": "LazyCNN", "robust_erm": "RobustCNN, plain", "robust_best": "RobustCNN, fixed"}
METHOD_NAMES = {"fgsm": "FGSM", "pgd": "PGD", "deepfool": "DeepFool"}
LINES = ("-", "--", ":")
GRAY = 0.5  # no change, in a picture of a perturbation


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


def success_table(found: Mapping[str, Attacked], models: Mapping[str, nn.Module], goal: Goal) -> Markdown:
    """Network x method: success, after 8 bits, gradients used, median L2 of the successes."""
    rows = []
    for name, attacked in found.items():
        for method, result in attacked.results.items():
            size = result.l2[result.success].median().item() if result.success.any() else None
            share = percent(result.success.double().mean().item())
            saved = percent(rounded_success(models[name], result, goal))
            gradients, size = f"{result.steps.double().mean():.0f}", "–" if size is None else f"{size:.2f}"
            row = [NAMES[name], len(attacked.digits), METHOD_NAMES[method], share, saved, gradients, size]
            rows.append([*row, f"{result.linf.max():.4f}"])
    head = ["network", "images", "method", "success", "saved with 8 bits", "gradients", "median L2", "largest change"]
    return table(head, rows)


def radius_curves(radii: Mapping[str, Mapping[str, Tensor]], largest: float, marked: float) -> Figure:
    """Share of images that fall within a radius: a panel a network, a line a method."""
    figure, panels = plt.subplots(1, len(radii), figsize=(3.5 * len(radii), 3.4), sharey=True, squeeze=False)
    grid = torch.linspace(0, largest, 200)
    for panel, (name, methods) in zip(panels[0], radii.items(), strict=True):
        for style, minimal in zip(LINES, methods.values(), strict=False):
            curve = 100 * success_curve(minimal.cpu(), grid)
            panel.plot(grid, curve, style, color=NETWORKS[name], lw=2)
        panel.axvline(marked, color=REFERENCE, lw=1)
        panel.set(title=NAMES[name], xlabel="radius eps (share of the pixel range)", ylim=(-2, 102), xlim=(0, largest))
    panels[0, 0].set_ylabel("images fooled (%)")
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
    figure, axes = plt.subplots(figsize=(5.4, 3.4))
    values = 100 * np.array([list(row.values()) for row in shares.values()])
    drawn = axes.imshow(values, vmin=0, vmax=100, cmap="cividis")
    for (row, column), value in np.ndenumerate(values):
        axes.text(column, row, f"{value:.0f}", ha="center", va="center", color="black" if value > 55 else "white")
    names = [NAMES[name].replace(", ", ",\n") for name in shares]
    axes.set_xticks(range(len(names)), names)
    axes.set_yticks(range(len(names)), names)
    axes.set(title="Success of transferred images", xlabel="shown to", ylabel="made against")
    figure.colorbar(drawn, ax=axes, label="% fooled")
    return figure


def surfaces(found: Mapping[str, Tensor], eps: float) -> Figure:
    """Log-odds of the target on a plane through one image: towards the target, and along a random direction."""
    figure, panels = plt.subplots(1, len(found), figsize=(3.7 * len(found), 3.1), sharey=True, squeeze=False)
    axis = np.linspace(-eps, eps, len(next(iter(found.values()))))
    for panel, (name, surface) in zip(panels[0], found.items(), strict=True):
        limit = surface.abs().max().item()
        levels = np.linspace(-limit, limit, 25)
        drawn = panel.contourf(axis, axis, surface.T, levels=levels, cmap="PuOr_r")
        panel.contour(axis, axis, surface.T, levels=[0], colors=INK, linewidths=2)
        panel.plot(0, 0, "o", color=INK, ms=4)
        panel.set(title=NAMES[name], xlabel="along the gradient's sign")
        figure.colorbar(drawn, ax=panel, format="%.0f", ticks=MaxNLocator(6)).set_label(
            "log-odds of the target", size=8
        )
    panels[0, 0].set_ylabel("along random signs")
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
    right.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=len(found))
    return figure


def likeness_sentence(found: Mapping[str, Drawing], target: int) -> Markdown:
    """Which colour and which digit each network's perturbations resemble most, and how the target ranks."""
    said = []
    for name, drawing in found.items():
        color, digit = (values.nan_to_num(-1).argmax().item() for values in (drawing.colors, drawing.shapes))
        places = [1 + int((values > values[target]).sum()) for values in (drawing.colors, drawing.shapes)]
        said.append(
            f"{NAMES[name]}: the tint leans to **{COLOR_NAMES[color]}** ({COLOR_NAMES[target]}: place {places[0]}) "
            f"and the ink to **{digit}** ({target}: place {places[1]})"
        )
    return Markdown("; ".join(said) + ".")


def attempt_sentence(attempt: Attempt, unseen: int) -> Markdown:
    """What the two universal perturbations are worth on images that neither saw."""
    return Markdown(
        f"Of {unseen} unseen images that LazyCNN reads, Optuna's best perturbation fools "
        f"**{percent(attempt.fooled)}**, the gradient's **{percent(attempt.gradient_fooled)}**."
    )


def color_sentence(found: Mapping[str, Tensor]) -> Markdown:
    """How much a perturbation of their own helps the backgrounds, the mean over them."""
    means = {name: values.nanmean(1).tolist() for name, values in found.items()}
    said = ", ".join(f"{percent(one)} → {percent(own)} ({NAMES[name]})" for name, (one, own) in means.items())
    return Markdown(
        f"The mean over the backgrounds, one perturbation for all → one for each: {said}. If the study's reason were "
        "the whole one, the second number would be near 100%."
    )


def tools_sentence(radii: Mapping[str, float | None]) -> Markdown:
    """The median radius that each attack needs on the lazy network."""
    said = ", ".join(
        f"{method} {'more than was searched' if value is None else f'{value:.3f}'}" for method, value in radii.items()
    )
    return Markdown(
        f"What each attack needs for the bare answer of LazyCNN's median image: {said}. Where "
        "several rivals are level with the target, each plain step that beats one loses to another; momentum smooths "
        "that."
    )


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
        for key, style, what in (("answer", "-", "answer"), ("confident", "--", "answer and > 90%")):
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
    figure, panels = plt.subplots(1, len(found), figsize=(3.5 * len(found), 3.4), sharey=True, squeeze=False)
    for panel, (name, kinds) in zip(panels[0], found.items(), strict=True):
        for style, values in zip(LINES, kinds.values(), strict=True):
            panel.plot(radii, 100 * np.array(values), style, marker="o", ms=3, color=NETWORKS[name], lw=2)
        panel.set(title=NAMES[name], xlabel="radius eps", ylim=(-2, 102), xlim=(0, None))
    panels[0, 0].set_ylabel("images fooled (%)")
    style_legend(figure, list(next(iter(found.values()))))
    return figure


def costs_table(costs: Mapping[str, Mapping[str, float]], eps: float) -> Markdown:
    """Networks before and after adversarial training."""
    rows = [[name, *(percent(value) for value in figures.values())] for name, figures in costs.items()]
    return table(["network", "easy accuracy", "hard accuracy", f"fooled by PGD, eps {eps}"], rows)


def each(values: Mapping[str, float | None], digits: int = 0) -> str:
    """``"12% (LazyCNN), ..."``: one share a network."""
    return ", ".join(f"{percent(value, digits)} ({NAMES[name]})" for name, value in values.items())


def success_sentence(found: Mapping[str, Attacked], eps: float, confidence: float) -> Markdown:
    """The best method's success on each network."""
    best = {name: max(shares.values()) for name, shares in shares_fooled(found).items()}
    return Markdown(
        f"Within {eps}, at more than {confidence:.0%} confidence, the best method fools **{each(best, 1)}** of the "
        "images. The column *saved with 8 bits* says what a file leaves of that."
    )


def verdict(
    radii: Mapping[str, Mapping[str, float | None]],
    shares: Mapping[str, float],
    kinds: Mapping[str, Mapping[str, Sequence[float]]],
    curves: Mapping[str, Sequence[Mapping[str, float]]],
    widest: float,
) -> Markdown:
    """The study's two claims and its failed experiment, judged by this run's numbers."""
    strongest = {
        name: min(value for value in row.values() if value is not None)
        for name, row in radii.items()
        if any(value is not None for value in row.values())
    }
    needs = ", ".join(f"{value:.3f} ({NAMES[name]})" for name, value in strongest.items())
    tints = {name: share for name, share in shares.items() if name in NAMES}
    unseen = {name: points[-1]["answer"] for name, points in curves.items()}
    alone = {name: kinds[name]["colour only"][-1] for name in kinds}
    answer = easier(strongest) if len(strongest) == len(radii) else "Not all networks fell within the largest radius."
    return Markdown(
        f"**Is the lazy network the easier victim? {answer}** The radius that changes the answer of the median image: "
        f"{needs}. **Are they fooled for different reasons?** A tint of the background carries {each(tints, 1)} of the "
        f"energy of the smallest perturbation, {percent(shares['random'], 2)} in noise; a tint alone within {widest} "
        f"fools {each(alone)}. Strokes and patterns carry the rest. The lazy network leans on tint "
        f"{tints['lazycnn'] / max(tints['robust_best'], 1e-9):.1f} times as much as the fixed one. **One noise for "
        f"every image?** Within {widest} it fools {each(unseen)} of the unseen images, whatever their background."
    )
