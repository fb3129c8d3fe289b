"""The training loop: learns, repeats by seed, keeps its hands off global state, survives divergence."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lazyutils import data, models, training
from lazyutils.errors import ClearError, DivergedError


def toy(n=250, seed=0):
    """Images whose one bright quadrant is the label, 0 to 3."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(4, (n,), generator=generator)
    images = 0.3 * torch.rand(n, 3, 28, 28, generator=generator)
    for image, label in zip(images, labels, strict=True):
        row, column = 14 * (label // 2), 14 * (label % 2)
        image[:, row : row + 14, column : column + 14] += 0.6
    return images, labels


def fitted(seed=0, architecture="LazyCNN", epochs=3, **settings):
    model = models.build(architecture, 1)
    images, labels = toy()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    settings = {"epochs": epochs, "batch_size": 50, "seed": seed, **settings}
    return model, training.fit(model, images, labels, optimizer=optimizer, **settings)


def same(first, second):
    return all(
        torch.equal(a, b) for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    )


@pytest.mark.parametrize("precision", training.PRECISIONS)
@pytest.mark.parametrize("architecture", ["LazyCNN", "RobustCNN"])
def test_learns_a_toy_problem(architecture, precision):
    model, losses = fitted(architecture=architecture, precision=precision)
    images, labels = toy(seed=1)
    assert (training.predict(model, images).argmax(1) == labels).double().mean() > 0.97
    assert len(losses) == 3 and losses[-1] < losses[0] / 3
    assert not model.training and all(parameter.dtype == torch.float32 for parameter in model.parameters())


def test_moving_average_by_hand():
    model = nn.BatchNorm1d(2)
    average = training.MovingAverage(model, decay=0.5)
    expected = torch.ones(2)
    for step in range(1, 13):
        model.weight.data.fill_(step)
        average.update()
        memory = max(0.5, 9 / (9 + step))
        expected = expected + memory * (step - expected)
    torch.testing.assert_close(average.network.weight, expected)
    assert not average.network.training and average.network.weight.grad is None
    average.apply()
    torch.testing.assert_close(model.weight.data, expected)
    assert model.weight.requires_grad and model.num_batches_tracked == 0


def test_moving_average_is_updated_once_a_step_and_leaves_training_alone():
    images, labels = toy()
    plain, losses = fitted(epochs=2)
    watched = models.build("LazyCNN", 1)
    average = training.MovingAverage(watched)
    optimizer = torch.optim.Adam(watched.parameters(), lr=3e-3)
    found = training.fit(watched, images, labels, optimizer=optimizer, epochs=2, batch_size=50, average=average)
    assert average.steps == 2 * len(labels) // 50
    assert found == losses and same(watched, plain) and not same(average.network, watched)


def test_one_step_is_plain_gradient_descent():
    images, labels = toy(20)
    model = models.build("LazyCNN", 1)
    plain = copy.deepcopy(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    (loss,) = training.fit(model, images, labels, optimizer=optimizer, epochs=1, batch_size=20)
    expected = F.cross_entropy(plain(images), labels)
    gradients = torch.autograd.grad(expected, list(plain.parameters()))
    assert loss == pytest.approx(expected.item(), rel=1e-5)
    for new, old, gradient in zip(model.parameters(), plain.parameters(), gradients, strict=True):
        assert torch.allclose(new, old - 0.1 * gradient, atol=1e-6)


def test_a_seed_repeats_to_the_last_bit_and_another_differs(global_random_state):
    (first, losses), (again, losses_again), (other, _) = fitted(5), fitted(5), fitted(6)
    assert same(first, again) and losses == losses_again
    assert not same(first, other)


def test_augmentation_gets_the_runs_own_generator(global_random_state):
    def noisy(images, generator):
        return images + 0.1 * torch.rand(images.shape, generator=generator)

    (first, _), (again, _), (without, _) = fitted(augment=noisy), fitted(augment=noisy), fitted()
    assert same(first, again) and not same(first, without)


def test_every_image_is_seen_once_an_epoch_with_its_own_label_and_index():
    images, labels = toy(130)
    seen = []

    def watch(model, batch):
        assert torch.equal(batch.images, images[batch.index]) and torch.equal(batch.labels, labels[batch.index])
        seen.append(batch.index)
        return training.cross_entropy(model, batch)

    model = models.build("LazyCNN")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    training.fit(model, images, labels, optimizer=optimizer, epochs=2, batch_size=50, loss=watch)
    assert [len(index) for index in seen] == [50, 50, 30] * 2
    epochs = torch.cat(seen[:3]), torch.cat(seen[3:])
    assert all(torch.equal(epoch.sort().values, torch.arange(130)) for epoch in epochs)
    assert not torch.equal(*epochs)


def test_an_order_decides_what_is_seen():
    seen = []

    def watch(model, batch):
        seen.extend(batch.index.tolist())
        return training.cross_entropy(model, batch)

    fitted(epochs=1, loss=watch, order=lambda generator: torch.tensor([7, 7, 3]))
    assert seen == [7, 7, 3]


def test_the_scheduler_steps_after_every_batch():
    model = models.build("LazyCNN")
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.5)
    training.fit(model, *toy(100), optimizer=optimizer, epochs=2, batch_size=50, scheduler=scheduler)
    assert scheduler.get_last_lr() == pytest.approx([1e-3 * 0.5**4])


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_divergence_gives_back_the_last_finished_epochs_weights(bad):
    snapshots = []

    def breaks_in_epoch_3(model, batch):
        loss = training.cross_entropy(model, batch)
        return loss * bad if len(snapshots) == 2 else loss

    model = models.build("RobustCNN", 1)
    optimizer = torch.optim.Adam(model.parameters())
    settings = {"loss": breaks_in_epoch_3, "on_epoch": lambda _: snapshots.append(copy.deepcopy(model))}
    with pytest.raises(DivergedError, match=r"epoch 3, step 1.*weights of epoch 2"):
        training.fit(model, *toy(100), optimizer=optimizer, epochs=5, batch_size=50, **settings)
    assert same(model, snapshots[-1]) and not model.training


def test_a_learning_rate_far_too_high_diverges_clearly():
    model = models.build("LazyCNN", 1)
    with pytest.raises(DivergedError, match="lower the learning rate"):
        optimizer = torch.optim.SGD(model.parameters(), lr=1e6)
        training.fit(model, *toy(), optimizer=optimizer, epochs=5, batch_size=50)
    assert all(torch.isfinite(parameter).all() for parameter in model.parameters())


@pytest.mark.parametrize(
    "settings", [{"epochs": 0}, {"batch_size": 0}, {"precision": "float16"}], ids=lambda s: next(iter(s))
)
def test_impossible_settings_are_refused_before_any_work(settings):
    with pytest.raises(ClearError):
        fitted(**settings, loss=lambda *_: pytest.fail("training began"))


def test_on_epoch_sees_evaluation_mode_and_may_stop():
    epochs = []
    model = models.build("LazyCNN")

    def watch(epoch):
        assert not model.training
        epochs.append(epoch)
        return epoch == 2

    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    losses = training.fit(model, *toy(50), optimizer=optimizer, epochs=9, batch_size=50, on_epoch=watch)
    assert epochs == [1, 2] and len(losses) == 2


def test_early_stopping_keeps_the_best_weights():
    model = nn.Linear(1, 1)
    stopping = training.EarlyStopping(model, patience=2)
    stops = []
    for epoch, score in enumerate((0.5, 0.7, 0.6, 0.7), start=1):
        nn.init.constant_(model.weight, epoch)
        stops.append(stopping.update(epoch, score))
    assert stops == [False, False, False, True]
    assert (stopping.best_epoch, stopping.best_score) == (2, 0.7)
    stopping.restore()
    assert model.weight.item() == 2


@pytest.mark.parametrize("was_training", [True, False])
def test_predict_is_evaluation_in_batches_and_restores_the_mode(was_training):
    model = models.build("RobustCNN").train(was_training)
    images, _ = toy(7)
    before = copy.deepcopy(model)
    logits = training.predict(model, images, batch_size=3)
    assert model.training == was_training and same(model, before) and not logits.requires_grad
    assert torch.allclose(logits, before.eval()(images), atol=1e-5)


def test_batched_keeps_its_outputs_in_the_dtype_asked_for():
    images, _ = toy(7)
    outputs = [training.batched(lambda x: x.mean((1, 2)), images, 3, dtype=t) for t in (torch.float32, torch.bfloat16)]
    assert [part.dtype for part in outputs] == [torch.float32, torch.bfloat16]
    assert torch.equal(outputs[0].bfloat16(), outputs[1]) and outputs[0].shape == (7, 28)


def test_accuracy_curves_note_each_epoch():
    images, labels = toy(100)
    digits = data.ColoredDigits(images, labels, labels, images[:, 0] > 0.5)
    model = models.build("LazyCNN", 1)
    watch = training.AccuracyCurves(model, {"all": digits, "half": digits[:50]})
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    training.fit(model, images, labels, optimizer=optimizer, epochs=2, batch_size=50, on_epoch=watch)
    assert {name: len(values) for name, values in watch.values.items()} == {"all": 2, "half": 2}
    assert watch.values["all"][-1] == (training.predict(model, images).argmax(1) == labels).double().mean().item()


def test_cached_frozen_layers_train_as_recomputed_ones_do():
    """ResNet-18's recipe, twice: features kept, and the plain loop with the frozen half in evaluation mode."""
    images, labels = toy(24)
    model, _ = models.pretrained_resnet18(32, seed=1, weights="random")
    plain = copy.deepcopy(model)
    untouched = copy.deepcopy(model.eval())
    features = training.batched(model.frozen, images)
    half = models.TunedHalf(model)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.01)
    losses = training.fit(half, features, labels, optimizer=optimizer, epochs=2, batch_size=12, seed=3)

    plain.eval()
    optimizer = torch.optim.SGD([p for p in plain.parameters() if p.requires_grad], lr=0.01)
    generator, expected = torch.Generator().manual_seed(3), []
    for _ in range(2):
        plain.net.layer4.train()
        steps = []
        for index in torch.randperm(24, generator=generator).split(12):
            loss = F.cross_entropy(plain(images[index]), labels[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            steps.append(loss.item())
        expected.append(sum(steps) / 2)
    assert losses == pytest.approx(expected, rel=1e-3)
    for name, value in model.state_dict().items():
        if "layer4" in name or "fc" in name:
            assert torch.allclose(value.float(), plain.state_dict()[name].float(), atol=2e-3), name
        else:
            assert torch.equal(value, untouched.state_dict()[name]), f"{name} is frozen and changed"
