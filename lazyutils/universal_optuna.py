"""The study's attempt at one perturbation for all images: a hyperparameter search with Optuna (must be installed)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lazyutils.errors import ClearError
from lazyutils.training import predict
from lazyutils.universal import check_universal

try:
    import optuna
except ModuleNotFoundError:
    raise ClearError("optuna is not installed: run `pip install optuna`, then try again") from None


@dataclass(frozen=True)
class OptunaSearch:
    """What a search without gradients found.

    Attributes:
        delta: ``float32 [3, H, W]``, the best perturbation.
        history: mean probability of the target after each trial, the best so far.
    """

    delta: Tensor
    history: list[float]


def optuna_perturbation(
    model: nn.Module,
    images: Tensor,
    target: int,
    eps: float,
    start: Tensor,
    *,
    trials: int = 100,
    cells: int = 7,
    seed: int = 0,
) -> OptunaSearch:
    """The study's attempt: a universal perturbation as a hyperparameter search (TPE), without any gradient.

    One parameter, -eps to eps, for each channel of each of ``cells x cells`` patches; the first trial
    is ``start``, averaged over the patches. The score is the mean probability of the target.

    Args:
        images: ``float32 [N, 3, H, W]`` in [0, 1].
        start: ``float32 [3, H, W]`` in [-1, 1], for instance ``study_start``; it is scaled by ``eps``.
        trials: perturbations that are tried.
        cells: patches along each side, a divisor of the image's side; with 28 each pixel is its own.
        seed: of the sampler.
    """
    check_universal(images, eps)
    side = images.shape[-1]
    if cells < 1 or side % cells or trials < 1:
        raise ClearError(f"cells ({cells}) must divide the side ({side}), and trials ({trials}) be at least 1")
    names = [f"{channel}-{cell}" for channel in "rgb" for cell in range(cells * cells)]
    guess = [max(-eps, min(eps, value)) for value in F.avg_pool2d(eps * start, side // cells).flatten().tolist()]

    def perturbation(parameters: dict[str, float]) -> Tensor:
        grid = torch.tensor([parameters[name] for name in names], dtype=images.dtype).view(3, cells, cells)
        return grid.repeat_interleave(side // cells, 1).repeat_interleave(side // cells, 2).to(images.device)

    def score(trial: optuna.Trial) -> float:
        delta = perturbation({name: trial.suggest_float(name, -eps, eps) for name in names})
        return predict(model, (images + delta).clamp(0, 1)).softmax(1)[:, target].mean().item()

    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed))
        study.enqueue_trial(dict(zip(names, guess, strict=True)))
        study.optimize(score, n_trials=trials)
    finally:
        optuna.logging.set_verbosity(verbosity)
    history = torch.tensor([trial.value for trial in study.trials]).cummax(0).values.tolist()
    return OptunaSearch(perturbation(study.best_params), history)
