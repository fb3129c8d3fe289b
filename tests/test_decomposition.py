"""Task 6's experiments on a planted network, where it is known which features are colour and what they do."""

from __future__ import annotations

import pytest
import torch
from sklearn.metrics import cohen_kappa_score
from test_splice import Planted, identity_autoencoder

from lazyutils import ablation, data, decomposition, feature_browser, feature_catalogue, models, sae_metrics, splice
from lazyutils.decomposition import Material
from lazyutils.selectivity import balanced_colors


def planted(count: int = 600) -> Material:
    """States: ten latents of colour (weight 3), ten of digit (weight 1), ten of noise that the head doesn't read."""
    draw = torch.Generator().manual_seed(0)
    labels = torch.arange(count) % 10
    conflicting = (labels + 1 + torch.randint(9, (count,), generator=draw)) % 10
    independent = balanced_colors(labels)

    def states(colors: torch.Tensor) -> torch.Tensor:
        noise = torch.rand(count, 10, generator=draw)
        return torch.cat([3 * torch.eye(10)[colors], torch.eye(10)[labels], noise], dim=1)

    model = Planted()
    place = splice.Site(model, "planted", (30,), lambda x: x, lambda x: model.fc(x[:, :20]))
    judged = splice.Subject(place, states(labels), labels, states(conflicting), labels, conflicting)
    return Material(judged, states(labels), labels, states(independent), labels, independent)


@pytest.fixture(scope="module")
def made() -> Material:
    return planted()


@pytest.fixture(scope="module")
def features(made) -> decomposition.Features:
    return decomposition.describe(identity_autoencoder(30), made)


def test_planted_features_are_named_rightly(features) -> None:
    assert set(features.colored(10).tolist()) == set(range(10))
    assert set(features.shaped(10).tolist()) == set(range(10, 20))
    torch.testing.assert_close(features.color_eta2[:10], torch.ones(10))
    assert (features.by_color[:10].argmax(1) == torch.arange(10)).all()
    assert features.digit_eta2[:10].max() < 0.01


def test_proof_on_the_planted_network(made, features) -> None:
    proof = ablation.prove(made, identity_autoencoder(30), features, count=10, draws=39, seed=0)
    assert proof.original == {"easy": 1, "hard": 0, "colour_share": 1}
    assert proof.edits["colour"]["hard"] == 1 and proof.edits["colour"]["colour_share"] == 0
    assert proof.edits["digit"] == proof.original and proof.edits["colour_zero"]["hard"] == 1
    test = ablation.against_random([proof, proof], "colour", "colour_share")
    assert test["effect"] == -1 and test["p"] == 1 / 40
    assert test["low"] <= test["random"] <= test["high"]
    assert proof.moved["colour"] > proof.moved["digit"] > 0


def test_a_sets_block_is_the_variance_it_moves(made, features) -> None:
    hard, autoencoder = made.judged.hard, identity_autoencoder(30)
    carried = ablation.carried_variance(autoencoder, hard, features.mean)
    chosen = torch.tensor([0, 3, 12, 25])
    moved = splice.ablate(autoencoder, hard, chosen, features.mean)
    assert ablation.block(carried, chosen) == pytest.approx(1 - sae_metrics.explained_variance(hard, moved))


def test_sets_grow_until_they_carry_as_much(made, features) -> None:
    carried = torch.diag(torch.tensor([0.1, 0.2, 0.3, 0.4]))
    order = torch.tensor([3, 0, 2, 1])
    assert ablation.grown(carried, order, 0.5).tolist() == [3, 0]
    assert ablation.grown(carried, order, 2.0).tolist() == [3, 0, 2, 1]
    enough = ablation.match_variance(made, identity_autoencoder(30), features, count=1, draws=9, seed=0)
    colored = ablation.prove(made, identity_autoencoder(30), features, count=1, draws=9, seed=0).moved["colour"]
    assert enough.reached and enough.share >= colored and enough.size >= 1 and len(enough.answers) == 9
    all_others = ablation.match_variance(made, identity_autoencoder(30), features, count=10, draws=9, seed=0)
    assert not all_others.reached and all_others.size == 20 and len(all_others.answers) == 9
    assert all_others.answers[0]["colour_share"] == 1, "without its digit and noise entries the network sees the colour"


def test_dose_curves_start_at_the_network_and_meet_at_the_end(made, features) -> None:
    curves = ablation.dose_curves(made, identity_autoencoder(30), features, [0, 10, 30], draws=3, seed=0)
    assert {name: curve[0] for name, curve in curves.items()} == dict.fromkeys(curves, made.judged.measure())
    assert curves["colour"][1]["hard"] == 1 and curves["digit"][1]["hard"] == 0
    assert curves["colour"][2] == curves["digit"][2]
    assert curves["random"][2] == pytest.approx(curves["colour"][2])


def test_heads_and_ceiling_of_the_planted_network(made, features) -> None:
    found = ablation.edits_with_heads(made, identity_autoencoder(30), features, 10)
    assert all(figure["hard"] > 0.95 and figure["colour_share"] < 0.05 for figure in found.values())
    assert decomposition.ceiling(made) == {"digit": 1, "colour": 1}
    proof = ablation.prove(made, identity_autoencoder(30), features, count=10, draws=3, seed=0)
    runs = ablation.runs_by_edit([proof, proof], [found, found])
    assert runs["linear+head"] == [found["linear+head"]] * 2 and len(runs["random"]) == 6
    linear = splice.erase_color_means(made.balanced, made.colors)
    assert decomposition.ceiling(made, linear)["colour"] < 0.3


def test_steering_the_planted_network(made, features) -> None:
    shares = decomposition.steering(made.judged, identity_autoencoder(30), features, [0.0, 3.0], 10)
    assert (shares["one"][:, 1] == 1).all() and (shares["all"][:, 1] == 1).all()
    assert (shares["other"][:, 1] == 0).all()
    assert torch.equal(shares["one"][:, 0], shares["all"][:, 0])


def test_pushes_follow_the_head(made, features) -> None:
    pushes = decomposition.pushes(made.judged, identity_autoencoder(30), features)
    torch.testing.assert_close(pushes[:10], torch.diag(features.sd[:10]))
    assert pushes[20:].abs().max() < 1e-6


def test_report_of_a_perfect_dictionary(made) -> None:
    report = decomposition.report(identity_autoencoder(30), made)
    assert report["explained_variance"] == pytest.approx(1) and report["recovered_zero"] == 1
    assert report["spliced_hard"] == 0 and report["spliced_easy"] == 1


def test_agreement_is_cohens_kappa() -> None:
    draw = torch.Generator().manual_seed(0)
    called, measured = (torch.rand(200, generator=draw) < share for share in (0.3, 0.6))
    found = decomposition.agreement(called, measured)
    assert found["kappa"] == pytest.approx(cohen_kappa_score(called.numpy(), measured.numpy()))
    assert found["accuracy"] == pytest.approx((called == measured).double().mean().item())
    assert decomposition.agreement(torch.ones(5).bool(), torch.ones(5).bool())["kappa"] == 0


def test_whole_chain_on_real_images(splits) -> None:
    sets = {
        name: data.ColoredDigits(
            split["images"][:300].float() / 255, *(split[k][:300] for k in ("labels", "colors", "masks"))
        )
        for name, split in splits.items()
    }
    balanced = decomposition.balanced_images(sets["easy"], seed=0)
    assert torch.equal(balanced.labels, sets["easy"].labels)
    counts = torch.bincount(balanced.labels * 10 + balanced.colors, minlength=100).view(10, 10)
    assert (counts.amax(1) - counts.amin(1)).max() <= 1
    other = decomposition.balanced_images(sets["easy"], seed=0, palette="tab10", noise=0.0)
    corner = (other.images[0, :, 0, 0] * 255).round()
    torch.testing.assert_close(corner, data.palette_tensor("tab10")[other.colors[0]].float())
    place = splice.site(models.build("LazyCNN"), "relu3")
    made = decomposition.material(place, sets["easy"], balanced, sets["easy"], sets["hard"])
    found = ablation.examine(made, 32, 4, epochs=1, count=5, draws=5, seed=0)
    assert found.report["l0"] == 4 and len(found.proof.random) == 5
    dictionary = decomposition.train_dictionary(made.train, "topk", 32, epochs=1, k=4)
    preferred = splice.preferred_inputs(place, dictionary, steps=2).images
    features = decomposition.describe(dictionary, made)
    shown = feature_catalogue.catalogue(made, dictionary, features, preferred=preferred, images=balanced.images)
    best = dictionary.encode(made.balanced)[:, 3].argmax()
    assert torch.equal(shown.examples[3, 0], balanced.images[best])
    auroc = sae_metrics.auroc(dictionary.encode(made.balanced).detach(), made.colors)
    assert f"{auroc[3].max():.2f}" in shown.facts["best colour"][3]
    assert "best colour" in feature_browser.render(shown)
    assert shown.palette == "study" and shown.names[0] == "red" and data.color_names("tab10")[3] == "#d62728"
    assert features.title(3).startswith("η² colour 0.")
    rule = decomposition.rule_over_steps(place, dictionary, features.color_eta2 > 0.5, [1, 3])
    assert [row["steps"] for row in rule] == [1, 3]
    assert decomposition.pareto(made, [("topk", 32, {"k": 2})], epochs=1, states=100)[0]["l0"] == 2
