"""Quality figures against their definitions, and the statistics of controls."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import r2_score

from lazyutils import sae, sae_metrics
from lazyutils.errors import ClearError


def draws(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_explained_variance_of_mean_and_perfect_predictor() -> None:
    x = draws(50, 8) * torch.arange(1, 9) + 3
    assert sae_metrics.explained_variance(x, x.mean(0).expand_as(x)) == pytest.approx(0, abs=1e-6)
    assert sae_metrics.explained_variance(x, x) == 1


def test_explained_variance_agrees_with_scikit_learn() -> None:
    x = draws(50, 8) * torch.arange(1, 9)
    x_hat = x + draws(50, 8, seed=1)
    expected = r2_score(x.numpy(), x_hat.numpy(), multioutput="variance_weighted")
    assert sae_metrics.explained_variance(x, x_hat) == pytest.approx(expected, abs=1e-5)


def test_quality_counts_by_hand() -> None:
    autoencoder = sae.build("topk", 6, 9, k=2)
    x = draws(40, 6)
    z = autoencoder.encode(x)
    figures = sae_metrics.quality(autoencoder, x)
    fired = [sum(bool(z[n, j] != 0) for n in range(40)) / 40 for j in range(9)]
    assert figures["l0"] == 2
    assert figures["dead_share"] == pytest.approx(sum(share == 0 for share in fired) / 9)
    assert figures["dense_share"] == pytest.approx(sum(share > 0.5 for share in fired) / 9)
    assert figures["fvu"] == pytest.approx(1 - figures["explained_variance"])


def test_density_histogram_counts_live_latents_once() -> None:
    density = torch.tensor([0.0, 1e-6, 0.009, 0.011, 0.5, 1.0])
    edges, counts = sae_metrics.density_histogram(density, bins=4, lowest=1e-4)
    torch.testing.assert_close(edges, torch.tensor([1e-4, 1e-3, 1e-2, 1e-1, 1.0]))
    assert counts.tolist() == [1, 1, 1, 2]


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000))
def test_matching_undoes_a_permutation(seed: int) -> None:
    directions = draws(7, 30, seed=seed)
    shuffled = directions[torch.randperm(7, generator=torch.Generator().manual_seed(seed))] * 3
    torch.testing.assert_close(sae_metrics.matched_cosines(directions, shuffled), torch.ones(7))


def test_matching_is_the_best_of_all_permutations() -> None:
    from itertools import permutations

    first, second = sae_metrics.random_directions(4, 5, 0), sae_metrics.random_directions(4, 5, 1)
    cosines = (first @ second.T).numpy()
    best = max(sum(cosines[i, p] for i, p in enumerate(order)) for order in permutations(range(4)))
    assert sae_metrics.matched_cosines(first, second).sum().item() == pytest.approx(best, abs=1e-5)


def test_permutation_p_is_uniform_under_the_null() -> None:
    generator = np.random.default_rng(0)
    values = [sae_metrics.permutation_p(x[0], list(x[1:])) for x in generator.normal(size=(2000, 20))]
    assert np.mean(np.array(values) <= 0.1) == pytest.approx(0.1, abs=0.02)
    assert sae_metrics.permutation_p(5.0, [1.0] * 199) == 1 / 200


def test_auroc_agrees_with_scikit_learn() -> None:
    from sklearn.metrics import roc_auc_score

    x, factor = draws(300, 4).relu(), torch.arange(300) % 10  # half of the activations are tied at zero
    found = sae_metrics.auroc(x, factor)
    for unit in range(4):
        for level in range(10):
            expected = roc_auc_score((factor == level).numpy(), x[:, unit].numpy())
            assert found[unit, level].item() == pytest.approx(expected, abs=1e-6)


def test_recovered_and_interval() -> None:
    assert sae_metrics.recovered(0.9, 1.0, 0.5) == pytest.approx(0.8)
    assert sae_metrics.interval(list(range(101))) == pytest.approx((2.5, 97.5))


def test_random_directions_have_unit_norm() -> None:
    directions = sae_metrics.random_directions(5, 40, seed=1)
    torch.testing.assert_close(directions.norm(dim=1), torch.ones(5))
    assert torch.equal(directions, sae_metrics.random_directions(5, 40, seed=1))


@pytest.mark.parametrize(
    "call",
    [
        lambda: sae_metrics.explained_variance(torch.ones(3, 2), torch.ones(3, 2)),
        lambda: sae_metrics.explained_variance(torch.ones(3, 2), torch.ones(3, 3)),
        lambda: sae_metrics.recovered(0.5, 0.5, 0.5),
        lambda: sae_metrics.matched_cosines(torch.ones(3, 2), torch.ones(2, 2)),
        lambda: sae_metrics.permutation_p(0.0, []),
        lambda: sae_metrics.quality(sae.build("topk", 6, 9, k=2), torch.ones(4, 7)),
    ],
)
def test_bad_input_is_a_clear_error(call) -> None:
    with pytest.raises(ClearError):
        call()
