"""What a perturbation is, on perturbations whose answer is known."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lazyutils import attack_peers, attacks, data, models, training
from lazyutils import perturbations as P
from lazyutils.errors import ClearError


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def digits_(splits):
    hard = splits["hard"]
    return data.ColoredDigits(
        hard["images"][:300].float() / 255, hard["labels"][:300], hard["colors"][:300], hard["masks"][:300]
    )


@pytest.fixture(scope="module")
def victim(splits):
    model = models.build("LazyCNN", 0)
    images = splits["easy"]["images"].float() / 255
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    training.fit(model, images, splits["easy"]["labels"], optimizer=optimizer, epochs=2, batch_size=50)
    return model


def test_minimal_eps_finds_each_threshold():
    thresholds = torch.tensor([0.0, 0.001, 0.02, 0.1, 0.299, 0.7])
    images, labels = thresholds.view(-1, 1, 1, 1), torch.zeros(6, dtype=torch.int64)
    found = P.minimal_eps(lambda x, _y, eps: x.flatten() <= eps, images, labels, bisections=8)
    assert found[0] == 0 and found[-1].isinf()
    middle = slice(1, 5)
    assert (found[middle] >= thresholds[middle]).all()
    assert (found[2:5] <= thresholds[2:5] * (1 + 2**-7)).all()
    assert found[1] - thresholds[1] <= 0.3 / 32 / 2**8 + 1e-6


def test_minimal_eps_of_an_attack_holds(victim, digits_):
    right = training.predict(victim, digits_.images).argmax(1) != 3
    few = digits_[right & (digits_.labels != 3)][:20]

    def attack(images, labels, eps):
        return attacks.pgd(victim, images, labels, 3, eps, steps=10, confidence=0.0).success

    found = P.minimal_eps(attack, few.images, few.labels, largest=1.0)
    inside = found.isfinite()
    assert inside.any() and attack(few.images[inside], few.labels[inside], found[inside]).all()


def test_minimal_eps_refuses_bad_ranges():
    with pytest.raises(ClearError, match="largest"):
        P.minimal_eps(lambda *_: None, torch.zeros(1, 3, 4, 4), torch.zeros(1), largest=2)


def test_success_curve_never_falls():
    curve = P.success_curve(torch.tensor([0.0, 0.1, torch.inf, 0.2]), torch.tensor([0.0, 0.1, 0.3]))
    assert curve.tolist() == [0.25, 0.5, 0.75]


def test_energy_shares_of_pure_cases(digits_):
    masks = digits_.masks
    tint = torch.rand(300, 3, 1, 1, generator=seeded()) * ~masks[:, None]
    on_stroke = torch.randn(300, 3, 28, 28, generator=seeded()) * masks[:, None]
    noise = torch.randn(300, 3, 28, 28, generator=seeded(1))
    torch.testing.assert_close(P.energy_shares(tint, masks)["tint"], torch.ones(300))
    torch.testing.assert_close(P.energy_shares(on_stroke, masks)["stroke"], torch.ones(300))
    shares = P.energy_shares(noise, masks)
    torch.testing.assert_close(sum(shares.values()), torch.ones(300))
    assert shares["tint"].mean() == pytest.approx(3 / noise[0].numel(), rel=0.2)
    parts = P.energy_shares(tint + on_stroke, masks)
    expected = tint.pow(2).sum((1, 2, 3)) / (tint + on_stroke).pow(2).sum((1, 2, 3))
    torch.testing.assert_close(parts["tint"], expected)


def test_recolouring_points_at_its_colour(digits_):
    flat = digits_[digits_.colors != 3]
    before = data.recolor(flat, flat.colors, noise=0).images
    after = data.recolor(flat, torch.full_like(flat.colors, 3), noise=0).images
    cosines = P.tint_directions(after - before, flat.masks, flat.colors)
    torch.testing.assert_close(cosines[:, 3], torch.ones(len(flat)))
    assert cosines.gather(1, flat.colors[:, None]).isnan().all() and cosines.nanmean(0).argmax() == 3


def test_ink_and_shape_know_a_drawn_three(digits_):
    sevens = digits_[digits_.labels == 7]
    templates = P.shape_templates(digits_.masks, digits_.labels, 7)
    paper = P.background_mean(sevens.images, sevens.masks)
    pen = P.background_mean(sevens.images, ~sevens.masks)
    delta = templates[3] * (pen - paper)[:, :, None, None] * 0.1
    drawn = P.ink(delta, sevens.images, sevens.masks)
    matches = P.shape_matches(drawn, templates)
    torch.testing.assert_close(matches[:, 3], torch.ones(len(sevens)))
    assert matches[:, 7].isnan().all() and (matches[:, :7].argmax(1) == 3).all()
    assert (P.ink(-delta, sevens.images, sevens.masks) == -drawn).all()


def test_rounding_is_a_files_rounding(digits_):
    assert torch.equal(P.to_8_bits(digits_.images), digits_.images)
    noisy = (digits_.images + 0.001).clamp(0, 1)
    assert torch.equal((P.to_8_bits(noisy) * 255).round().to(torch.uint8), (noisy * 255).round().to(torch.uint8))


def test_tint_only_is_one_colour_on_the_background(victim, digits_):
    few = digits_[digits_.labels != 3][:20]
    soft = few.images * 0.4 + 0.3
    result = attacks.pgd(victim, soft, few.labels, 3, 0.2, steps=10, confidence=1.0, constraint=P.TintOnly(few.masks))
    delta = result.images - soft
    assert result.linf.max() <= 0.2 + 1e-6 and result.linf.max() > 0.1
    mean = P.background_mean(delta, few.masks)[:, :, None, None]
    torch.testing.assert_close(delta, mean * ~few.masks[:, None], atol=1e-6, rtol=0)


def test_shape_only_leaves_the_mean_colour(victim, digits_):
    few = digits_[digits_.labels != 3][:20]
    constraint = P.ShapeOnly(few.masks)
    result = attacks.pgd(
        victim, few.images, few.labels, 3, 0.2, steps=10, restarts=1, generator=seeded(), constraint=constraint
    )
    delta = result.images - few.images
    assert result.linf.max() <= 0.2 + 1e-6 and result.images.min() >= 0 and result.images.max() <= 1
    assert P.background_mean(delta, few.masks).abs().max() < 1e-6
    assert result.l2.median() > 1


def test_shape_only_projects_to_the_nearest(digits_):
    few = digits_[:10]
    eps = torch.full((10, 1, 1, 1), 0.1)
    delta = 0.3 * torch.randn(10, 3, 28, 28, generator=seeded())
    batch = attacks.Active(torch.arange(10), few.images, delta, few.labels, eps, torch.zeros_like(delta))
    constraint = P.ShapeOnly(few.masks)
    nearest = constraint.project(batch)
    for seed in range(5):
        other = 0.3 * torch.randn(10, 3, 28, 28, generator=seeded(seed + 1))
        allowed = constraint.project(batch._replace(delta=other))
        assert ((delta - nearest) * (allowed - nearest)).sum((1, 2, 3)).max() <= 1e-3


def test_transfer_and_surface_agree_with_the_network(victim, digits_):
    few = digits_[digits_.labels == 7]
    result = attacks.pgd(victim, few.images, few.labels, 3, 0.3, steps=20, confidence=0.5)
    other = models.build("LazyCNN", 5)
    table = P.transfer({"victim": victim, "other": other}, {"victim": result.images}, 3, 0.5)
    assert table["victim"]["victim"] == pytest.approx(result.success.double().mean().item())
    assert table["victim"]["other"] < table["victim"]["victim"]
    delta = result.images[0] - few.images[0]
    surface = P.loss_surface(victim, few.images[0], 3, delta, torch.zeros_like(delta), size=5)
    odds = training.predict(victim, torch.stack([few.images[0], result.images[0]])).softmax(1)[:, 3].logit()
    torch.testing.assert_close(surface[[2, 4], 0], odds, atol=1e-4, rtol=1e-4)
    with pytest.raises(ClearError, match="surface"):
        P.loss_surface(victim, few.images[0], 3, delta, delta, size=1)


class Fixed(nn.Module):
    """Answers with the logits it was given, in order."""

    def __init__(self, logits):
        super().__init__()
        self.logits = logits

    def forward(self, x):
        return self.logits[x[:, 0, 0, 0].long()]


def test_candidates_follow_the_studys_rule():
    logits = torch.zeros(4, 10)
    logits[:, 7] = torch.tensor([9.0, 9.0, 9.0, 1.0])
    logits[:, 3] = torch.tensor([5.0, 1.0, 8.0, 9.0])
    logits[1, 2] = 4.0
    images = torch.arange(4.0).view(4, 1, 1, 1).expand(4, 3, 2, 2)
    positions, rank = P.candidates([Fixed(logits)], images, torch.tensor([7, 7, 7, 7]), source=7, target=3)
    assert positions.tolist() == [2, 0, 1] and rank.tolist() == [1, 1, 2]
    with pytest.raises(ClearError, match="no image of 5"):
        P.candidates([Fixed(logits)], images, torch.tensor([7, 7, 7, 7]), source=5, target=3)


def test_margin_with_momentum_keeps_up_with_foolbox_fmn(victim, digits_):
    answers = training.predict(victim, digits_.images).argmax(1)
    few = digits_[(answers != 3) & (digits_.labels != 3)][:15]
    theirs = attack_peers.fmn_minimal_eps(victim, few.images, 3, steps=60)
    options = {"steps": 100, "confidence": 0.0, "loss": "margin", "momentum": 0.75}
    ours = attacks.pgd(victim, few.images, few.labels, 3, (1.05 * theirs).clamp(max=1), **options)
    found = theirs.isfinite()
    assert found.sum() >= 5 and ours.success[found].double().mean() >= 0.9
