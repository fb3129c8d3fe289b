"""Splicing on real networks (identities) and on a planted network (known answers)."""

from __future__ import annotations

import math

import pytest
import torch
from model_state import count_hooks
from sklearn.linear_model import LogisticRegression
from torch import nn

from lazyutils import data, models, sae, splice, training
from lazyutils.errors import ClearError

NETWORKS = [("LazyCNN", {}), ("RobustCNN", {}), ("ResNet18", {"image_size": 32})]
PLACES = [
    ("LazyCNN", "relu1"),
    ("LazyCNN", "conv3"),
    ("LazyCNN", "relu3"),
    ("RobustCNN", "pool1"),
    ("ResNet18", "layer4"),
]


def images(count: int = 6, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, 3, 28, 28, generator=torch.Generator().manual_seed(seed))


def identity_autoencoder(size: int) -> sae.TopK:
    """A dictionary with one latent for each entry and no limit: it reproduces every state."""
    autoencoder = sae.build("topk", size, size, k=size).eval()
    for layer in (autoencoder.encoder, autoencoder.decoder):
        layer.weight.data.copy_(torch.eye(size))
        layer.bias.data.zero_()
    return autoencoder


class Planted(nn.Module):
    """States are one-hot colour (10 entries, weight 3) and one-hot digit (10 entries, weight 1); the head adds them."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(20, 10, bias=False)
        self.fc.weight.data.copy_(torch.cat([torch.eye(10), torch.eye(10)], dim=1))


def planted_subject(count: int = 400) -> splice.Subject:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(10, (count,), generator=generator)
    colors = (labels + 1 + torch.randint(9, (count,), generator=generator)) % 10
    eye = torch.eye(10)
    easy, hard = (torch.cat([3 * eye[color], eye[labels]], dim=1) for color in (labels, colors))
    model = Planted()
    place = splice.Site(model, "planted", (20,), lambda x: x, model.fc)
    return splice.Subject(place, easy, labels, hard, labels, colors)


@pytest.mark.parametrize(("architecture", "layer"), PLACES)
def test_reading_and_putting_back_is_the_network(architecture: str, layer: str) -> None:
    model = models.build(architecture, **dict(NETWORKS)[architecture]).train()
    place = splice.site(model, layer)
    states = place.read(images())
    assert states.shape == (6, place.size)
    torch.testing.assert_close(place.logits(states), training.predict(model, images()), rtol=1e-5, atol=1e-5)
    assert model.training and all(parameter.requires_grad for parameter in model.parameters())
    assert count_hooks(model) == 0 and all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize(("architecture", "layer"), [("LazyCNN", "relu3"), ("ResNet18", "layer4")])
def test_identity_autoencoder_changes_no_logit(architecture: str, layer: str) -> None:
    place = splice.site(models.build(architecture, **dict(NETWORKS)[architecture]), layer)
    states = place.read(images(3))
    reconstructed = identity_autoencoder(place.size)(states).detach()
    torch.testing.assert_close(place.logits(reconstructed), place.logits(states), rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", ["study", "topk", "batchtopk"])
def test_error_term_and_ablating_nothing(kind: str) -> None:
    place = splice.site(models.build("LazyCNN"), "relu3")
    x = place.read(images(40))
    autoencoder = sae.build(kind, place.size, 32, **({} if kind == "study" else {"k": 4}))
    sae.fit(autoencoder, x, epochs=1)
    with torch.no_grad():
        z = autoencoder.encode(x)
        error = x - autoencoder.decode(z)
        torch.testing.assert_close(autoencoder.decode(z) + error, x, rtol=0, atol=1e-6)
    nothing = torch.tensor([], dtype=torch.int64)
    assert torch.equal(splice.ablate(autoencoder, x, nothing, z.mean(0)), x)
    features = torch.tensor([3, 7])
    z_new = z.clone()
    z_new[:, features] = z.mean(0)[features]
    with torch.no_grad():
        slow = autoencoder.decode(z_new) + error
    torch.testing.assert_close(splice.ablate(autoencoder, x, features, z.mean(0)), slow)


@pytest.mark.parametrize("fill", ["mean", "zero"])
def test_planted_colour_is_switched_off(fill: str) -> None:
    judged, autoencoder = planted_subject(), identity_autoencoder(20)
    zeros = torch.zeros(20)
    fill_with = zeros if fill == "zero" else autoencoder.encode(judged.hard).mean(0).detach()
    color, digit = torch.arange(10), torch.arange(10, 20)
    assert judged.measure() == {"easy": 1, "hard": 0, "colour_share": 1}
    off_color, off_digit, off_all = splice.ablate_each(judged, autoencoder, [color, digit, torch.arange(20)], fill_with)
    assert off_color == {"easy": 1, "hard": 1, "colour_share": 0}
    assert off_digit == {"easy": 1, "hard": 0, "colour_share": 1}
    assert off_all["easy"] < 0.3 and off_all["hard"] < 0.3
    assert judged.measure(lambda x: splice.ablate(autoencoder, x, color, fill_with)) == off_color


def test_dose_curve_of_the_planted_network_is_a_straight_line() -> None:
    judged, autoencoder = planted_subject(), identity_autoencoder(20)
    doses = [torch.arange(count) for count in range(11)]
    shares = [figure["colour_share"] for figure in splice.ablate_each(judged, autoencoder, doses, torch.zeros(20))]
    left = [(judged.hard_colors >= count).double().mean().item() for count in range(11)]
    assert shares == pytest.approx(left)


def test_steering_makes_the_planted_network_follow() -> None:
    judged, autoencoder = planted_subject(), identity_autoencoder(20)
    for color in range(10):
        answers = judged.site.predict(splice.steer(autoencoder, judged.hard, color, 5.0))
        assert (answers == color).all()
    torch.testing.assert_close(splice.steer(autoencoder, judged.hard, 4, 0.0), judged.hard)


def test_erasure_makes_colour_means_equal_and_keeps_the_digit() -> None:
    judged = planted_subject(4000)
    generator = torch.Generator().manual_seed(1)
    colors, labels = (torch.randint(10, (4000,), generator=generator) for _ in range(2))
    states = torch.cat([3 * torch.eye(10)[colors], torch.eye(10)[labels]], dim=1)
    erase = splice.erase_color_means(states, colors)
    erased = erase(states)
    means = torch.stack([erased[colors == color].mean(0) for color in range(10)])
    assert means.std(0).max() < 1e-5
    assert torch.allclose(erase(erased), erased, atol=1e-5)
    assert judged.measure(erase)["hard"] > 0.95 and judged.measure(erase)["colour_share"] < 0.05


def test_refitted_head_agrees_with_scikit_learn() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(600, 8, generator=generator)
    labels = (x @ torch.randn(8, 10, generator=generator) + torch.randn(600, 10, generator=generator)).argmax(1)
    head = splice.fit_head(x, labels, penalty=1e-2, steps=200)
    standardized = (x - head.mean) / head.scale
    peer = LogisticRegression(C=1 / (2 * 1e-2 * len(x)), max_iter=1000, tol=1e-8).fit(standardized, labels)
    centered = head.weight - head.weight.mean(0)  # a common shift of all classes changes nothing
    torch.testing.assert_close(centered, torch.from_numpy(peer.coef_).float(), rtol=0, atol=5e-3)


def test_preferred_inputs_equal_a_loop_and_leave_no_trace(global_random_state) -> None:
    model = models.build("LazyCNN")
    place = splice.site(model, "relu3")
    autoencoder = sae.build("topk", place.size, 5, k=2)
    together = splice.preferred_inputs(place, autoencoder, steps=15)
    assert (together.achieved > together.history[0]).all()
    assert together.images.min() >= 0 and together.images.max() <= 1
    alone = sae.build("topk", place.size, 1, k=1)
    alone.encoder.weight.data.copy_(autoencoder.encoder.weight[3:4])
    single = splice.preferred_inputs(place, alone, steps=15)
    torch.testing.assert_close(single.images[0], together.images[3], rtol=0, atol=2e-3)
    assert all(parameter.grad is None for parameter in (*model.parameters(), *autoencoder.parameters()))


def test_preferred_pixels_of_a_pixel_autoencoder_follow_its_weights() -> None:
    autoencoder = sae.build("study", 2352, 4)
    found = splice.preferred_inputs(None, autoencoder, steps=100, lr=0.2)
    signs = autoencoder.encoder.weight.detach().view(4, 3, 28, 28) > 0
    assert ((found.images > 0.5) == signs).float().mean() > 0.98


def test_spatial_sd_tells_flat_from_textured() -> None:
    flat = torch.tensor([0.9, 0.1, 0.4]).view(1, 3, 1, 1).expand(1, 3, 28, 28)
    checks = (torch.arange(784).view(28, 28) % 2).float().expand(1, 3, 28, 28)
    assert splice.spatial_sd(flat).item() < 1e-6
    assert splice.spatial_sd(checks).item() == pytest.approx(0.5, abs=0.01)


def test_random_sets_are_repeatable_and_hold_distinct_features() -> None:
    candidates = torch.arange(5, 25)
    sets = splice.random_sets(candidates, 8, 10, seed=3)
    assert all(len(chosen.unique()) == 8 and set(chosen.tolist()) <= set(candidates.tolist()) for chosen in sets)
    assert torch.equal(torch.stack(sets), torch.stack(splice.random_sets(candidates, 8, 10, seed=3)))


def test_subject_reads_both_sets(splits) -> None:
    sets = [
        data.ColoredDigits(split["images"][:20].float() / 255, *(split[k][:20] for k in ("labels", "colors", "masks")))
        for split in (splits["easy"], splits["hard"])
    ]
    model = models.build("LazyCNN")
    judged = splice.subject(splice.site(model, "relu3"), *sets)
    answers = training.predict(model, sets[1].images).argmax(1)
    assert judged.measure()["hard"] == pytest.approx((answers == sets[1].labels).double().mean().item())


@pytest.mark.parametrize(
    ("call", "word"),
    [
        (lambda: splice.site(models.build("LazyCNN"), "conv9"), "conv9"),
        (lambda: splice.site(models.build("LazyCNN"), "fc"), "relu3"),
        (lambda: splice.site(models.build("ResNet18", image_size=32), "layer1"), "layer4"),
        (lambda: planted_subject().site.logits(torch.ones(2, 21)), "21"),
        (lambda: planted_subject().site.logits(torch.full((2, 20), math.nan)), "NaN"),
        (lambda: splice.ablate(identity_autoencoder(4), torch.ones(2, 4), torch.tensor([4]), torch.zeros(4)), "0 to 3"),
        (lambda: splice.ablate(identity_autoencoder(4), torch.ones(2, 5), torch.tensor([1]), torch.zeros(4)), "5"),
        (lambda: splice.steer(identity_autoencoder(4), torch.ones(2, 4), -1, 1.0), "-1"),
        (lambda: splice.random_sets(torch.arange(3), 4, 1, 0), "draw 4 of 3"),
        (lambda: splice.erase_color_means(torch.ones(5, 4), torch.zeros(5, dtype=torch.int64)), "ten colours"),
        (lambda: splice.fit_head(torch.full((5, 4), math.inf), torch.zeros(5, dtype=torch.int64)), "infinite"),
    ],
)
def test_bad_input_is_one_clear_error(call, word: str) -> None:
    with pytest.raises(ClearError, match=word) as caught:
        call()
    assert "\n" not in str(caught.value)
