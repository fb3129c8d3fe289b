"""Each intervention's mathematics, against independent slow references."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lazyutils import augment, critics, interventions, models, penalties, training
from lazyutils.errors import ClearError, DivergedError
from lazyutils.training import Batch


def digits(n=32, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    images = F.interpolate(torch.rand(n, 3, 7, 7, generator=generator, dtype=dtype), 28, mode="bilinear")
    return Batch(images, torch.arange(n) % 10, torch.arange(n))


def gradient(model, loss, batch):
    model.zero_grad()
    loss(model, batch).backward()
    parts = [torch.zeros_like(p) if p.grad is None else p.grad for p in model.parameters()]
    return torch.cat([part.flatten() for part in parts])


class Fixed(nn.Module):
    """Gives the same logits whatever it sees."""

    def __init__(self, logits):
        super().__init__()
        self.logits = nn.Parameter(logits)

    def forward(self, x):
        return self.logits[: len(x)]


# --- penalties -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("architecture", ["RobustCNN", "LazyCNN"])
@pytest.mark.parametrize(
    ("score", "measure"),
    [
        (penalties.target_score, penalties.channel_variance),
        (penalties.log_odds, penalties.recoloring_share),
    ],
)
def test_penalty_has_the_gradient_of_double_backward(architecture, score, measure):
    model, batch = models.build(architecture).double().train(), digits(dtype=torch.float64)
    fast = {w: penalties.penalized_cross_entropy(score, measure, lambda w=w: w) for w in (0.0, 3.0)}
    found = gradient(model, fast[3.0], batch) - gradient(model, fast[0.0], batch)

    def slow(model, batch):
        return 3 * penalties.double_backward_penalty(model, batch.images, score, measure, batch.labels)

    true = gradient(model, slow, batch)
    assert (found - true).norm() < 0.02 * true.norm()
    value = penalties.double_backward_penalty(model, batch.images, score, measure, batch.labels)
    both = [fast[w](model, batch).item() for w in (3.0, 0.0)]
    assert both[0] - both[1] == pytest.approx(3 * value.item(), rel=1e-6)


def test_a_corrected_recoloring_is_the_correction_and_at_every_second_step_twice_the_penalty():
    model, batch = models.build("RobustCNN").double().train(), digits(dtype=torch.float64)
    labels = batch.labels.repeat(20)
    critic = torch.where(torch.arange(len(labels)) % 7 == 0, (labels + 3) % 10, labels)
    corrected = interventions.logit_correction(critic, labels, 4.0)
    recipe = interventions.corrected_recoloring(critic, labels, 4.0, steps=4)
    plain = gradient(model, corrected.loss, batch)

    def slow(model, batch):
        penalty = penalties.double_backward_penalty(
            model, batch.images, penalties.log_odds, penalties.recoloring_share, batch.labels
        )
        return 2 * interventions.RECOLORING_WEIGHT * penalty

    first, none_yet, third, whole = (gradient(model, recipe.loss, batch) for _ in range(4))
    assert torch.equal(first, plain) and torch.equal(third, plain)
    assert (none_yet - plain).norm() < 0.001 * plain.norm()
    assert (whole - none_yet - gradient(model, slow, batch)).norm() < 0.02 * (whole - none_yet).norm()
    generators = (torch.Generator().manual_seed(0) for _ in range(2))
    drawn = [found.order(generator) for found, generator in zip((recipe, corrected), generators, strict=True)]
    assert torch.equal(*drawn)


def test_the_finite_difference_converges_with_the_square_of_its_step(monkeypatch):
    model, batch = models.build("RobustCNN").double().train(), digits(dtype=torch.float64)
    score, measure = penalties.log_odds, penalties.recoloring_share
    true = gradient(model, lambda m, b: penalties.double_backward_penalty(m, b.images, score, measure, b.labels), batch)
    errors = []
    for step in (1e-2, 1e-3):
        monkeypatch.setattr(penalties, "STEP", step)
        one, none = (penalties.penalized_cross_entropy(score, measure, lambda w=w: w) for w in (1.0, 0.0))
        errors.append((gradient(model, one, batch) - gradient(model, none, batch) - true).norm() / true.norm())
    assert errors[1] < errors[0] / 50


def test_penalty_leaves_running_statistics_to_one_pass():
    batch = digits()
    plain, penalized = models.build("RobustCNN").train(), models.build("RobustCNN").train()
    training.cross_entropy(plain, batch)
    penalties.penalized_cross_entropy(penalties.log_odds, penalties.recoloring_share, lambda: 1.0)(penalized, batch)
    for (name, expected), found in zip(plain.named_buffers(), penalized.buffers(), strict=True):
        torch.testing.assert_close(found, expected, msg=name)


def test_measures_by_hand():
    gradient = torch.zeros(2, 3, 4, 4)
    gradient[0] = torch.tensor([1.0, 2.0, 6.0])[:, None, None]
    gradient[1, 0, ::2], gradient[1, 0, 1::2] = 1, -1
    assert penalties.channel_variance(gradient[:1]).item() == pytest.approx(14 / 3)
    assert penalties.recoloring_share(gradient[:1]).item() == pytest.approx(1)
    assert penalties.recoloring_share(gradient[1:]).item() == 0
    assert penalties.recoloring_share(7 * gradient).item() == pytest.approx(0.5)


def test_log_odds_equals_log_p_over_one_minus_p():
    logits, labels = torch.randn(6, 10, generator=torch.Generator().manual_seed(0)), torch.arange(6)
    p = logits.softmax(1).gather(1, labels[:, None])
    assert penalties.log_odds(logits, labels).item() == pytest.approx((p / (1 - p)).log().sum().item(), rel=1e-5)


def test_pooling_that_cannot_be_repeated_is_refused():
    model = nn.Sequential(nn.Conv2d(3, 10, 3), nn.MaxPool2d(2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    loss = penalties.penalized_cross_entropy(penalties.target_score, penalties.channel_variance, lambda: 1.0)
    with pytest.raises(ClearError, match="right after a ReLU"):
        loss(model, digits())


def test_penalty_without_gradients_is_refused():
    loss = interventions.recoloring_penalty(1.0, 10).loss
    model = models.build("LazyCNN")
    with torch.no_grad(), pytest.raises(ClearError, match="no_grad"):
        loss(model, digits())
    with pytest.raises(ClearError, match="frozen"):
        loss(model.requires_grad_(False), digits())


def test_ramp_grows_linearly_from_zero_and_stays():
    ramp = penalties.LinearRamp(10, 5)
    assert [ramp() for _ in range(7)] == [0, 2.5, 5, 7.5, 10, 10, 10]


@pytest.mark.parametrize(("weight", "steps"), [(0, 5), (-1, 5), (1, 0)])
def test_a_penalty_that_penalizes_nothing_is_refused(weight, steps):
    with pytest.raises(ClearError, match="penalises nothing"):
        penalties.LinearRamp(weight, steps)


# --- weights and priors ----------------------------------------------------------------------------------------------

LABELS = torch.tensor([0, 0, 0, 1, 1, 2])
CRITIC = torch.tensor([0, 0, 1, 1, 1, 0])


def shares(order, n, epochs=2000):
    generator = torch.Generator().manual_seed(0)
    drawn = torch.cat([order(generator) for _ in range(epochs)])
    return torch.bincount(drawn, minlength=n) / len(drawn)


def test_just_train_twice_draws_errors_as_often_as_its_weight():
    found = shares(interventions.just_train_twice(CRITIC, LABELS, 4.0).order, 6)
    torch.testing.assert_close(found, torch.tensor([1, 1, 4, 1, 1, 4.0]) / 12, atol=0.01, rtol=0)


def test_cell_reweighting_shows_every_cell_equally_often():
    found = shares(interventions.cell_reweighting(CRITIC, LABELS).order, 6)
    torch.testing.assert_close(found, torch.tensor([1, 1, 2, 1, 1, 2.0]) / 8, atol=0.01, rtol=0)


def test_gradient_norm_resampling_uses_the_last_layers_true_gradient():
    generator = torch.Generator().manual_seed(0)
    features, layer = torch.rand(6, 4, generator=generator), nn.Linear(4, 10, bias=False)
    norms = []
    for h, y in zip(features, LABELS, strict=True):
        (g,) = torch.autograd.grad(F.cross_entropy(layer(h[None]), y[None]), layer.weight)
        norms.append(g.norm())
    recipe = interventions.gradient_norm_resampling(layer(features).detach(), features, LABELS)
    expected = torch.stack(norms) / sum(norms)
    torch.testing.assert_close(shares(recipe.order, 6), expected, atol=0.01, rtol=0)


def test_log_prior_is_the_smoothed_share_of_labels_in_a_critic_class():
    prior = interventions.log_prior(interventions.cell_counts(CRITIC, LABELS), smoothing=1.0)
    assert prior[0].exp().sum().item() == pytest.approx(1)
    assert prior[0, 0].exp().item() == pytest.approx((2 + 1) / (3 + 10))
    assert prior[1, 1].exp().item() == pytest.approx((2 + 1) / (3 + 10))


@pytest.mark.parametrize("oversampling", [1.0, 5.0])
def test_logit_correction_loss_by_hand(oversampling):
    logits = torch.randn(6, 10, generator=torch.Generator().manual_seed(1))
    recipe = interventions.logit_correction(CRITIC, LABELS, oversampling)
    found = recipe.loss(Fixed(logits), Batch(torch.zeros(6, 1), LABELS, torch.arange(6)))
    expected = 0.0
    for i in range(6):
        counts = torch.ones(10)
        for s, y in zip(CRITIC, LABELS, strict=True):
            if s == CRITIC[i]:
                counts[y] += 1.0 if s == y else oversampling
        z = logits[i] + (counts / counts.sum()).log()
        expected -= z.log_softmax(0)[LABELS[i]] / 6
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)
    assert (recipe.order is None) == (oversampling == 1)


def test_a_teacher_adds_the_divergence_from_its_answers():
    logits, answers = (torch.randn(6, 10, generator=torch.Generator().manual_seed(s)) for s in (1, 2))
    batch = Batch(torch.zeros(6, 1), LABELS, torch.arange(6))
    alone = interventions.logit_correction(CRITIC, LABELS, 5.0).loss(Fixed(logits), batch)
    taught = interventions.logit_correction(CRITIC, LABELS, 5.0, Fixed(answers)).loss(Fixed(logits), batch)
    p, q = answers.softmax(1), logits.softmax(1)
    expected = (p * (p / q).log()).sum(1).mean() * interventions.TEACHER_WEIGHT
    assert (taught - alone).item() == pytest.approx(expected.item(), rel=1e-5)


def test_a_teacher_is_never_taught():
    student, teacher = models.build("RobustCNN", 0).train(), models.build("RobustCNN", 1).eval()
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    interventions.disagreement(student(digits().images), teacher, digits().images).backward()
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())


def test_spectral_decoupling_by_hand():
    logits = torch.tensor([[1.0, -2.0, *[0.0] * 8]])
    batch = Batch(torch.zeros(1, 1), torch.tensor([0]), torch.tensor([0]))
    loss = interventions.spectral_decoupling(0.1).loss(Fixed(logits), batch)
    assert loss.item() == pytest.approx(F.cross_entropy(logits, batch.labels).item() + 0.1 * 0.5, rel=1e-6)


def test_learning_from_failure_weights_by_hand():
    biased, fair = (torch.randn(6, 10, generator=torch.Generator().manual_seed(s)) for s in (2, 3))
    recipe = interventions.learning_from_failure(Fixed(biased), LABELS)
    found = recipe.loss(Fixed(fair), Batch(torch.zeros(6, 1), LABELS, torch.arange(6)))
    losses = [F.cross_entropy(z, LABELS, reduction="none") for z in (biased, fair)]
    scaled = []
    for values in losses:
        largest = torch.stack([values[y == LABELS].max() for y in LABELS])
        scaled.append(values / largest)
    weight = scaled[0] / (scaled[0] + scaled[1])
    expected = (weight * losses[1]).mean() + critics.gce(biased, LABELS).mean()
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)


def test_generalized_cross_entropy_by_hand_and_finite_where_the_answer_is_impossible():
    logits = torch.tensor([[2.0, 0.0], [-200.0, 200.0]], requires_grad=True)
    values = critics.gce(logits, torch.tensor([0, 0]))
    p = logits.softmax(1)[:, 0]
    torch.testing.assert_close(values, (1 - p**0.7) / 0.7)
    values.sum().backward()
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize(
    "make",
    [
        lambda: interventions.just_train_twice(LABELS, LABELS, 20.0),
        lambda: interventions.cell_reweighting(LABELS, LABELS),
        lambda: interventions.logit_correction(LABELS, LABELS),
    ],
)
def test_a_critic_without_errors_is_refused(make):
    with pytest.raises(ClearError, match="errs on no training image"):
        make()


# --- critics ---------------------------------------------------------------------------------------------------------


def test_precision_recall_and_balanced_accuracy_by_hand():
    flagged, truth = torch.tensor([1, 1, 0, 0]).bool(), torch.tensor([1, 0, 1, 1]).bool()
    assert critics.precision_recall(flagged, truth) == (0.5, 1 / 3)
    assert critics.precision_recall(flagged & False, truth) == (0, 0)
    right = torch.tensor([0, 0, 9, 1, 1, 9])
    assert critics.balanced_accuracy(right, CRITIC, LABELS) == pytest.approx((1 + 0 + 1 + 0) / 4)


def test_critic_on_pure_colour_finds_the_exceptions():
    generator = torch.Generator().manual_seed(0)
    colors, labels = torch.arange(600) % 10, torch.arange(600) % 10
    labels[:30] = (labels[:30] + 3) % 10
    palette = torch.rand(10, 3, generator=generator)
    images = palette[colors][:, :, None, None].expand(-1, -1, 28, 28) + 0.02 * torch.randn(
        600, 3, 28, 28, generator=generator
    )
    settings = replace(critics.CRITICS["color"], epochs=15)
    answers = critics.classes(critics.train(images, labels, settings), images)
    precision, recall = critics.precision_recall(answers != labels, colors != labels)
    assert precision > 0.9 and recall > 0.9


@pytest.mark.parametrize(
    ("sevens", "trained", "returned"),
    [([0.1, 0.9], 1, 0), ([0.0, 0.09, 0.5, 0.9], 3, 2), ([0.0, 0.05, 0.08, 0.08, 0.02, 0.9], 5, 2)],
    ids=["the first is sound", "the third is", "none of five is"],
)
def test_a_critic_that_gives_a_digit_up_is_trained_again(monkeypatch, sevens, trained, returned):
    labels = torch.arange(1000) % 10
    ready, seeds = [], []
    for share in sevens:
        answers = labels.clone()
        answers[(labels == 7).nonzero()[: round(100 * (1 - share)), 0]] = 0
        ready.append(Fixed(F.one_hot(answers, 10).float()))

    def train(images, labels, settings):
        seeds.append(settings.seed)
        return ready[len(seeds) - 1]

    monkeypatch.setattr(critics, "train", train)
    monkeypatch.setattr(critics, "classes", lambda critic, images: critic.logits.argmax(1))
    critic = critics.train_whole(torch.zeros(1000, 3, 1, 1), labels, replace(critics.CRITICS["lazy"], seed=3))
    assert critic is ready[returned]
    assert seeds == [3 + 1000 * i for i in range(trained)]


def test_a_committee_answers_by_the_mean_of_its_members_probabilities():
    logits = [torch.tensor([[2.0, 0.0, 1.0], [0.0, 1.0, 0.0]]), torch.tensor([[0.0, 3.0, 1.0], [0.0, 2.0, 9.0]])]
    answers = critics.Committee(Fixed(row) for row in logits)(torch.zeros(2, 3, 1, 1))
    assert torch.allclose(answers, (logits[0].softmax(1) + logits[1].softmax(1)) / 2)


def test_a_committee_has_three_critics_of_different_seeds(monkeypatch):
    seeds, labels = [], torch.arange(20) % 10
    sound = Fixed(F.one_hot(labels, 10).float())
    monkeypatch.setattr(critics, "train", lambda images, labels, settings: seeds.append(settings.seed) or sound)
    critics.train_committee(torch.zeros(20, 3, 1, 1), labels, replace(critics.CRITICS["lazy"], seed=4))
    assert seeds == [4, 14, 24]


# --- augmentation ----------------------------------------------------------------------------------------------------


def test_augmentation_without_range_is_the_identity_and_keeps_colours():
    images = digits().images
    still = augment.geometric(0, 0, 0, 0, 0)(images, torch.Generator().manual_seed(0))
    torch.testing.assert_close(still, images, atol=1e-5, rtol=0)
    plain = torch.tensor([0.2, 0.7, 0.4])[None, :, None, None].expand(8, -1, 28, 28).contiguous()
    moved = augment.geometric()(plain, torch.Generator().manual_seed(0))
    torch.testing.assert_close(moved, plain, atol=1e-5, rtol=0)


def test_augmentation_moves_by_at_most_what_it_says_and_repeats_with_its_seed():
    theta = augment.affine_maps(500, (15, 0.15, 0.1, 0.2), torch.Generator().manual_seed(0))
    zoom = theta[:, :, :2].det().sqrt()
    assert zoom.min() >= 1 / 1.15 - 1e-5 and zoom.max() <= 1 / 0.85 + 1e-5
    angle = torch.atan2(theta[:, 1, 0], theta[:, 0, 0]).rad2deg().abs()
    assert angle.max() <= 15.001 and angle.max() > 14
    assert theta[:, :, 2].abs().max() <= 0.1
    images, move = digits().images, augment.geometric()
    first, second = (move(images, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first, second) and not torch.equal(first, images)


def test_bending_shifts_by_its_deviation_in_pixels_and_smoothly():
    shifts = augment.displacements(torch.Size((400, 3, 28, 28)), 1.5, torch.Generator().manual_seed(0)) * 28 / 2
    corners = shifts[:, ::27, ::27]  # control points, free of interpolation
    assert corners.std().item() == pytest.approx(1.5, rel=0.05) and abs(corners.mean().item()) < 0.1
    assert (shifts[:, 1:] - shifts[:, :-1]).std() < 0.5 * shifts.std()


def test_impossible_augmentation_is_refused():
    with pytest.raises(ClearError, match="scale below 1"):
        augment.geometric(scale=1.0)


# --- divergence ------------------------------------------------------------------------------------------------------


def test_a_diverging_penalty_stops_with_the_last_good_weights():
    model, batch = models.build("LazyCNN"), digits()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = torch.optim.SGD(model.parameters(), lr=1e30)
    with pytest.raises(DivergedError, match="epoch 1, step"):
        training.fit(
            model,
            batch.images,
            batch.labels,
            optimizer=optimizer,
            epochs=3,
            batch_size=8,
            loss=interventions.recoloring_penalty(1.0, 10).loss,
        )
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])
