"""Autoencoders against slow references, on planted dictionaries, and with bad input."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from lazyutils import sae, sae_metrics
from lazyutils.errors import ClearError, DivergedError

SIZE, WIDTH = 12, 20


def states(count: int = 200, size: int = SIZE, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, size, generator=torch.Generator().manual_seed(seed)) * 3


def planted(count: int = 4000, size: int = 24, atoms: int = 12, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """States that are sums of two or three of ``atoms`` unit directions with weights 1 to 2, and the directions."""
    generator = torch.Generator().manual_seed(seed)
    directions = F.normalize(torch.randn(atoms, size, generator=generator), dim=1)
    on = torch.rand(count, atoms, generator=generator) < 0.2
    weights = (1 + torch.rand(count, atoms, generator=generator)) * on
    return weights @ directions, directions


def built(kind: str, seed: int = 0) -> sae.SparseAutoencoder:
    return sae.build(kind, SIZE, WIDTH, seed, **({} if kind == "study" else {"k": 4}))


@pytest.mark.parametrize("k", [1, 4, WIDTH])
def test_topk_keeps_exactly_k_of_the_largest(k: int) -> None:
    autoencoder = sae.build("topk", SIZE, WIDTH, k=k)
    x = states()
    a, z = autoencoder.pre_activations(x), autoencoder.encode(x)
    assert ((z != 0).sum(1) == k).all()
    for row in range(len(x)):
        kept = np.argsort(-a[row].detach().numpy())[:k]
        reference = np.zeros(WIDTH, dtype=np.float32)
        reference[kept] = a[row].detach().numpy()[kept]
        np.testing.assert_array_equal(z[row].detach().numpy(), reference)


def test_topk_encodes_as_the_paper_writes_it() -> None:
    autoencoder = sae.build("topk", SIZE, WIDTH, k=4)
    x = states()
    autoencoder.adapt(x)
    torch.nn.init.normal_(autoencoder.encoder.bias)
    scaled = x / autoencoder.scale
    slow = torch.stack([autoencoder.encoder.weight @ (row - autoencoder.decoder.bias) for row in scaled])
    torch.testing.assert_close(autoencoder.pre_activations(x), slow + autoencoder.encoder.bias)


def test_batchtopk_keeps_k_on_average_in_training() -> None:
    autoencoder = sae.build("batchtopk", SIZE, WIDTH, k=4).train()
    z = autoencoder.encode(states())
    assert (z != 0).sum() == 4 * len(z)
    assert (z != 0).sum(1).float().std() > 0


def test_batchtopk_threshold_makes_codes_independent_of_the_batch() -> None:
    x = states(1000)
    autoencoder = sae.build("batchtopk", SIZE, WIDTH, k=4)
    sae.fit(autoencoder, x, epochs=3)
    together = autoencoder.encode(x)
    torch.testing.assert_close(together[:7], autoencoder.encode(x[:7]))
    assert (together != 0).float().sum(1).mean().item() == pytest.approx(4, rel=0.25)
    assert together[together != 0].min() > autoencoder.threshold


@pytest.mark.parametrize("kind", ["topk", "batchtopk"])
def test_decoder_has_unit_norm_after_every_step(kind: str) -> None:
    autoencoder, norms = built(kind), []
    step = autoencoder.project

    def watched() -> None:
        step()
        norms.append(autoencoder.decoder.weight.norm(dim=0).detach().clone())

    autoencoder.project = watched
    sae.fit(autoencoder, states(), epochs=3, batch_size=32, learning_rate=0.05)
    assert len(norms) == 3 * math.ceil(200 / 32)
    torch.testing.assert_close(torch.stack(norms), torch.ones(len(norms), WIDTH))


def slow_study_loss(autoencoder: sae.StudyAutoencoder, x: np.ndarray) -> float:
    """The study's loss in plain NumPy, one latent at a time."""
    parameters = {name: value.detach().double().numpy() for name, value in autoencoder.state_dict().items()}
    scaled = x / parameters["scale"]
    z = np.maximum(scaled @ parameters["encoder.weight"].T + parameters["encoder.bias"], 0)
    x_hat = 1 / (1 + np.exp(-(z @ parameters["decoder.weight"].T + parameters["decoder.bias"])))
    penalty = 0.0
    for j in range(z.shape[1]):
        rho_hat = np.mean(np.tanh(z[:, j]))
        penalty += autoencoder.rho * math.log(autoencoder.rho / rho_hat)
        penalty += (1 - autoencoder.rho) * math.log((1 - autoencoder.rho) / (1 - rho_hat))
    return float(np.mean((scaled - x_hat) ** 2) + autoencoder.weight * penalty)


def slow_topk_loss(autoencoder: sae.TopK, x: np.ndarray) -> float:
    """Gao et al.'s loss in plain NumPy, one state at a time."""
    parameters = {name: value.detach().double().numpy() for name, value in autoencoder.state_dict().items()}
    w_e, b_e = parameters["encoder.weight"], parameters["encoder.bias"]
    w_d, b_pre = parameters["decoder.weight"], parameters["decoder.bias"]
    dead = parameters["silent"] + len(x) > autoencoder.dead_after
    squares = aux = 0.0
    rows = []
    for row in x / parameters["scale"]:
        a = w_e @ (row - b_pre) + b_e
        kept = np.argsort(-a)[: autoencoder.k]
        rows.append((a, row - b_pre - w_d[:, kept] @ a[kept], kept))
    for _, _, kept in rows:
        dead[kept] = False
    count = min(autoencoder.k_aux, dead.sum())
    for a, error, _ in rows:
        squares += np.sum(error**2)
        tried = [j for j in np.argsort(-a) if dead[j]][:count]
        aux += np.sum((error - w_d[:, tried] @ a[tried]) ** 2)
    return squares / len(x) + (autoencoder.alpha * aux / squares if count else 0.0)


@pytest.mark.parametrize("silent", [0.0, 5000.0])
def test_topk_loss_agrees_with_a_slow_reference(silent: float) -> None:
    x = states()
    autoencoder = sae.build("topk", SIZE, WIDTH, k=2, k_aux=3).double().train()
    autoencoder.adapt(x.double())
    autoencoder.encoder.bias.data[WIDTH // 2 :] -= 9  # half of the latents never fire
    autoencoder.silent.fill_(silent)
    expected = slow_topk_loss(autoencoder, x.double().numpy())
    assert autoencoder.loss(x.double()).item() == pytest.approx(expected, rel=1e-9)


def test_study_loss_agrees_with_a_slow_reference() -> None:
    x = states().double()
    autoencoder = sae.build("study", SIZE, WIDTH).double()
    autoencoder.adapt(x)
    assert autoencoder.loss(x).item() == pytest.approx(slow_study_loss(autoencoder, x.numpy()), rel=1e-9)


@pytest.mark.parametrize("kind", ["study", "topk"])
def test_gradient_agrees_with_central_differences(kind: str) -> None:
    x = states(16).double()
    autoencoder = built(kind).double().eval()
    autoencoder.adapt(x)
    autoencoder.loss(x).backward()
    for parameter in autoencoder.parameters():
        for position in (0, parameter.numel() // 2):
            flat, step = parameter.data.view(-1), 1e-6
            start = flat[position].item()
            values = []
            for moved in (start + step, start - step):
                flat[position] = moved
                values.append(autoencoder.loss(x).item())
            flat[position] = start
            difference = (values[0] - values[1]) / (2 * step)
            assert parameter.grad.view(-1)[position].item() == pytest.approx(difference, rel=1e-4, abs=1e-7)


def test_auxiliary_error_carries_no_gradient_to_live_latents() -> None:
    autoencoder = sae.build("topk", SIZE, WIDTH, k=2).train()
    autoencoder.encoder.bias.data[WIDTH // 2 :] -= 9
    autoencoder.silent[WIDTH // 2 :] = 5000.0
    a = autoencoder.pre_activations(states())
    error = torch.rand(200, SIZE)
    autoencoder.auxiliary(a, error).backward()
    gradient = autoencoder.encoder.weight.grad.abs().sum(1)
    assert (gradient[: WIDTH // 2] == 0).all() and (gradient[WIDTH // 2 :] > 0).any()


def test_auxiliary_loss_wakes_dead_latents(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sae, "REVIVING", 0.0)
    x, _ = planted()
    shares = {}
    for alpha in (0.0, 1 / 32):
        autoencoder = sae.build("topk", 24, 16, k=3, alpha=alpha)
        autoencoder.encoder.bias.data[8:] = -0.6
        sae.fit(autoencoder, x, epochs=20, learning_rate=3e-3)
        shares[alpha] = sae_metrics.quality(autoencoder, x)["dead_share"]
    assert shares[1 / 32] == 0 < shares[0.0]


def test_silent_latents_start_anew_at_badly_explained_states() -> None:
    x, _ = planted()
    autoencoder = sae.build("topk", 24, 16, k=3)
    autoencoder.adapt(x)
    autoencoder.silent[:2] = len(x)
    before = autoencoder.encoder.weight.detach().clone()
    error = (x / autoencoder.scale - autoencoder.decoder(autoencoder.encode(x))).detach()
    autoencoder.revive(x, torch.Generator().manual_seed(0))
    assert torch.equal(autoencoder.encoder.weight[2:], before[2:]) and (autoencoder.silent == 0).all()
    torch.testing.assert_close(autoencoder.encoder.weight[:2], autoencoder.decoder.weight[:, :2].T)
    first, second = autoencoder.encoder.weight[:2].detach()
    assert (F.normalize(error, dim=1) @ first).max().item() == pytest.approx(1, abs=1e-5)
    assert (first @ second).item() == pytest.approx(0, abs=1e-5)
    assert (autoencoder.encode(x)[:, :2] != 0).any(0).all()


def test_training_leaves_no_latent_dead_without_the_auxiliary_loss() -> None:
    x, _ = planted()
    autoencoder = sae.build("topk", 24, 16, k=3, alpha=0.0)
    autoencoder.encoder.bias.data[8:] = -0.6
    sae.fit(autoencoder, x, epochs=20, learning_rate=3e-3)
    assert sae_metrics.quality(autoencoder, x)["dead_share"] == 0


@pytest.mark.parametrize("kind", ["topk", "batchtopk"])
def test_many_silent_latents_do_no_harm(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    x, _ = planted()
    explained = []
    for share in (0.0, 0.8):
        monkeypatch.setattr(sae, "REVIVING", share)
        autoencoder = sae.build(kind, 24, 200, k=3)
        sae.fit(autoencoder, x, epochs=5, learning_rate=5e-3, decay=0.8)
        explained.append(sae_metrics.quality(autoencoder, x)["explained_variance"])
    assert explained[1] > explained[0] - 0.1


@pytest.mark.parametrize(("kind", "worst"), [("topk", 0.9), ("batchtopk", 0.6)])
def test_planted_dictionary_is_recovered(kind: str, worst: float) -> None:
    x, directions = planted()
    autoencoder = sae.build(kind, 24, 16, k=3)
    sae.fit(autoencoder, x, epochs=40, learning_rate=5e-3, decay=0.3)
    cosines = sae_metrics.matched_cosines(directions, autoencoder.decoder.weight.detach().T)
    assert cosines.mean() > 0.9 and cosines.min() > worst
    untrained = sae.build(kind, 24, 16, k=3).decoder.weight.detach().T
    assert sae_metrics.matched_cosines(directions, untrained).mean() < 0.6


def test_kl_is_zero_at_its_target_and_finite_at_the_ends() -> None:
    assert sae.kl_sparsity(torch.full((5,), 0.05), 0.05).item() == pytest.approx(0, abs=1e-6)
    assert math.isfinite(sae.kl_sparsity(torch.tensor([0.0, 1.0]), 0.05).item())
    assert sae.kl_sparsity(torch.tensor([0.4]), 0.05) > sae.kl_sparsity(torch.tensor([0.1]), 0.05)


def test_study_autoencoder_is_bounded_by_its_training_range() -> None:
    x = states()
    autoencoder = sae.build("study", SIZE, WIDTH)
    sae.fit(autoencoder, x, epochs=2)
    assert (autoencoder(100 * x) <= x.amax(0) + 1e-5).all()


@pytest.mark.parametrize("kind", ["study", "topk", "batchtopk"])
def test_shift_is_the_difference_of_two_reconstructions(kind: str) -> None:
    autoencoder = built(kind).eval()
    autoencoder.adapt(states())
    z, other = autoencoder.encode(states()), autoencoder.encode(states(seed=1))
    torch.testing.assert_close(autoencoder.shift(z, other), autoencoder.decode(other) - autoencoder.decode(z))


@pytest.mark.parametrize("kind", ["study", "topk", "batchtopk"])
def test_seed_decides_and_global_random_state_stays(kind: str) -> None:
    before = torch.get_rng_state()
    weights = []
    for seed in (0, 0, 1):
        autoencoder = built(kind, seed)
        losses = sae.fit(autoencoder, states(), epochs=4, seed=seed)
        weights.append(autoencoder.encoder.weight.detach())
    assert losses[-1] < losses[0]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])
    assert torch.equal(before, torch.get_rng_state())
    assert not autoencoder.training


def test_frozen_decoder_stays_as_it_was() -> None:
    autoencoder = built("topk")
    autoencoder.decoder.weight.requires_grad_(False)
    before = autoencoder.decoder.weight.clone()
    sae.fit(autoencoder, states(), epochs=2)
    torch.testing.assert_close(autoencoder.decoder.weight, before)


@pytest.mark.parametrize(
    ("call", "word"),
    [
        (lambda: sae.build("topk", SIZE, 8, k=9), "k = 9"),
        (lambda: sae.build("topk", SIZE, 8, k=0), "k = 0"),
        (lambda: sae.build("moe", SIZE, 8), "unknown autoencoder"),
        (lambda: sae.build("study", 0, 8), "at least 1"),
        (lambda: sae.build("study", SIZE, 8, rho=1.5), "rho"),
        (lambda: sae.fit(built("topk"), states(size=SIZE + 1), epochs=1), "12"),
        (lambda: sae.fit(built("topk"), states() * math.nan, epochs=1), "NaN"),
        (lambda: sae.fit(built("topk"), states()[:0], epochs=1), "shape"),
        (lambda: sae.fit(built("topk"), states().view(-1, 3, 2, 2), epochs=1), "flatten"),
        (lambda: sae.fit(built("topk"), torch.ones(9, SIZE), epochs=1), "the same"),
        (lambda: sae.fit(built("study"), states() - 2, epochs=1), "negative"),
        (lambda: sae.fit(built("topk"), states(), epochs=0), "epochs"),
    ],
)
def test_bad_input_is_one_clear_error(call, word: str) -> None:
    with pytest.raises(ClearError, match=word) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_divergence_is_said() -> None:
    with pytest.raises(DivergedError):
        sae.fit(built("topk"), states(), epochs=3, learning_rate=1e25)
