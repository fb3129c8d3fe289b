"""Which images Task 5 attacks, and which radii it picks."""

from __future__ import annotations

import torch

from lazyutils import attacks, cloak, cloak_beyond, data
from lazyutils.data import stratified_split
from lazyutils.goals import LOSS_FUNCTIONS

INFINITE = torch.inf


def test_easy_images_are_the_ones_never_trained_on(tmp_path, monkeypatch, splits):
    monkeypatch.setattr(cloak, "SPLIT", (200, 100, 0))
    path = tmp_path / "easy.safetensors"
    data.save(path, splits, {})
    labels = splits["easy"]["labels"]
    train, validation = stratified_split(labels, 200, 100, 0)
    sevens = cloak.unseen_easy(path, 1000, 7)
    assert (sevens.labels == 7).all() and len(sevens) == (labels[validation] == 7).sum() > 0
    assert torch.equal(cloak.unseen_easy(path, 30).labels, labels[validation][:30])
    assert torch.equal(cloak.trained_on(path, 50), train[:50])


def test_strongest_is_the_least_median_within_reach():
    radii = {"a": {"x": torch.tensor([0.1, 0.2, 0.4]), "y": torch.tensor([0.3, 0.1, 0.1])}}
    radii["b"] = {"x": torch.full((3,), INFINITE)}
    found = cloak.strongest(radii, 0.6)
    assert abs(found["a"] - 0.1) < 1e-6 and found["b"] == 0.6


def test_telling_radius_is_nearest_to_half():
    curves = {"a": [{"answer": 0.0}, {"answer": 0.4}, {"answer": 0.9}], "b": [{"answer": 0.0}] * 2 + [{"answer": 0.1}]}
    assert cloak_beyond.telling(curves, [0.1, 0.2, 0.3]) == {"a": 0.2, "b": 0.3}


def test_search_gives_hopeless_images_up():
    class Stubborn(torch.nn.Module):
        """The same answer to everything."""

        def forward(self, x):
            return 5 * torch.eye(10)[:1] + 0 * x.flatten(1)[:, :10]

    images, labels = torch.full((2, 3, 4, 4), 0.5), torch.zeros(2, dtype=torch.int64)
    batch = attacks.prepared(Stubborn(), images, labels, 3, 0.05)

    def wander(batch, _value, _gradient):
        return batch._replace(delta=batch.delta + 0.001)

    settings = {"confidence": 0.9, "steps": 30}
    objective = LOSS_FUNCTIONS["margin"](0.9)
    _, taken, missed = attacks.search(Stubborn(), batch, objective, wander, patience=5, **settings)
    assert missed.all() and (taken == 6).all()
    _, taken, _ = attacks.search(Stubborn(), batch, objective, wander, **settings)
    assert (taken == 30).all()
