"""The league: which combinations are refused, that a point is made once, and how runs become a table."""

import json
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from scipy import stats

from lazyutils import critics, data, league, plots_league, points, standings, sweep, training
from lazyutils.errors import ClearError
from lazyutils.league import Point

TINY = Point("erm", train_size=200, validation_size=100, hard_size=100, epochs=1, batch_size=50)
PARAMETERS = {
    "methods": ["logit_correction"],
    "brackets": ["colour_only"],
    "seeds": [0, 1],
    "method_seeds": [0],
    "epochs": 12,
    "study_epochs": 9,
    "strengths": [1.0, 10.0],
    "critic": "lazy",
    "sweep_methods": ["erm", "corrected_resampling"],
    "bias_seeds": [0],
    "size_methods": ["erm", "corrected_resampling"],
    "size_seeds": [0],
    "biases": [0.5, 0.95, 1.0],
    "sizes": [2000, 12000, 57000],
    "train_size": 12000,
    "validation_size": 3000,
    "hard_size": 10000,
}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """A small data set of noise strokes on study colours."""
    generator = torch.Generator().manual_seed(0)
    splits = {}
    for split, n, bias in (("easy", 600, 0.9), ("hard", 200, 0.0)):
        gray = (torch.rand(n, 28, 28, generator=generator) > 0.9).to(torch.uint8) * 200
        labels = torch.arange(n) % 10
        colors = data.draw_colors(labels, bias, 0)
        splits[split] = {
            "images": data.paint(gray, colors),
            "labels": labels,
            "colors": colors,
            "masks": gray > 0,
        }
    path = tmp_path_factory.mktemp("league") / "colored.safetensors"
    data.save(path, splits, {"bias": "0.9", "palette": "study", "noise": "20.0"})
    return path


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "magic"}, "unknown method 'magic': choose one of erm"),
        ({"critic": "friend"}, "unknown critic"),
        ({"method": "logit_correction", "bias": 1.0}, "with bias 1.0 there are none"),
        ({"method": "conflict_only", "bias": 1.0}, "with bias 1.0 there are none"),
        ({"strength": 3.0}, "erm has no strength"),
        ({"method": "study_penalty", "strength": 0.0}, "switches study_penalty off"),
    ],
)
def test_impossible_points_are_refused_before_training(changes, message, tmp_path):
    with pytest.raises(ClearError, match=message):
        sweep.cached(replace(TINY, **changes), tmp_path / "not there", tmp_path)


def test_only_brackets_see_colours(dataset, monkeypatch):
    seen = {}

    def spy(model, material, method, easy, on_epoch):
        seen[material.point.method] = material.colors

    monkeypatch.setattr(league, "train_network", spy)
    for method in ("corrected_resampling", "learning_from_failure", "group_labels"):
        league.run(replace(TINY, method=method), dataset)
    assert seen["corrected_resampling"] is None and seen["learning_from_failure"] is None
    assert seen["group_labels"] is not None


@pytest.mark.parametrize(
    ("changes", "own_bias", "message"),
    [
        ({"method_seeds": [1]}, 0.95, "must be the first of seeds"),
        ({"methods": ["group_labels"]}, 0.95, "methods: 'group_labels' is none of erm, "),
        ({"brackets": ["erm"]}, 0.95, "brackets: 'erm' is none of oracle, "),
        ({"sizes": [59000]}, 0.95, "59000 images to train on and validation_size = 3000 are more than"),
        ({}, 1.0, "with bias 1.0 there are none"),
    ],
)
def test_plans_that_would_fail_late_are_refused_at_once(changes, own_bias, message):
    with pytest.raises(ClearError, match=message):
        sweep.plan({**PARAMETERS, **changes}, own_bias)


# --- training --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", sorted(league.ENTRIES))
def test_every_entry_trains_and_is_judged(method, dataset):
    model, figures = league.run(replace(TINY, method=method), dataset)
    assert not model.training
    for key in ("easy_accuracy", "hard_accuracy", "worst_digit", "unseen_colours", "balanced_validation"):
        assert 0 <= figures[key] <= 1
    shares = figures["digit_share"] + figures["colour_share"] + figures["neither_share"]
    assert shares == pytest.approx(1)
    assert figures["seconds"] > 0


def test_the_same_point_gives_the_same_figures(dataset):
    first, second = (league.run(replace(TINY, method="corrected_teacher"), dataset)[1] for _ in range(2))
    first.pop("seconds"), second.pop("seconds")
    assert first == second


def test_methods_with_the_same_images_are_scored_by_one_critic(dataset, monkeypatch):
    trained = []
    whole = critics.train_whole
    monkeypatch.setattr(league.critics, "train_whole", lambda *args: trained.append(args) or whole(*args))
    league.validation_critic.cache_clear()
    for point in (TINY, replace(TINY, method="colour_only"), replace(TINY, method="oracle", epochs=2)):
        league.run(point, dataset)
    assert len(trained) == 1
    for other in ({"seed": 1}, {"bias": 0.5}, {"train_size": 210}):
        league.run(replace(TINY, **other), dataset)
    assert len(trained) == 4


def test_the_oracle_and_the_shifts_wear_the_data_sets_own_look(monkeypatch, tmp_path, dataset):
    splits = {split: vars(data.load(dataset, split)) for split in data.SPLITS}
    for tensors in splits.values():
        tensors["images"] = (tensors["images"] * 255).to(torch.uint8)
    path = tmp_path / "other.safetensors"
    data.save(path, splits, {"palette": "tab10", "noise": "5.0"})
    asked, recolor = [], data.recolor

    def spy(digits, colors, palette="study", noise=20.0, seed=0):
        asked.append((palette, noise))
        return recolor(digits, colors, palette, noise, seed)

    monkeypatch.setattr(data, "recolor", spy)
    league.run(replace(TINY, method="oracle"), path)
    assert asked == [("tab10", 5.0), ("study", 20.0), ("tab10", 15.0)]


def test_batch_normalisation_is_all_that_the_unnormalised_row_lacks():
    with_it, without = league.robust(3), league.Unnormalized(3).net
    kept = {name: tensor for name, tensor in with_it.state_dict().items() if not name.startswith("bn")}
    assert without.state_dict().keys() == kept.keys()
    assert all(torch.equal(without.state_dict()[name], tensor) for name, tensor in kept.items())


def test_a_point_of_another_bias_is_recoloured(dataset):
    train, _ = league.biased_subsets(replace(TINY, bias=0.0), dataset, "cpu")
    assert train.conflicting.all()
    train, _ = league.biased_subsets(replace(TINY, bias=1.0), dataset, "cpu")
    assert not train.conflicting.any()


# --- points that are made once ---------------------------------------------------------------------------------------


def test_a_finished_point_is_read_and_not_trained_again(dataset, tmp_path, monkeypatch):
    figures = sweep.cached(TINY, dataset, tmp_path)
    monkeypatch.setattr(league, "run", lambda *arguments: pytest.fail("trained again"))
    assert sweep.cached(TINY, dataset, tmp_path) == figures
    answers = sweep.network(TINY, dataset, tmp_path)(data.load(dataset, "hard").images)
    assert answers.shape == (200, 10)
    made = json.loads((tmp_path / f"{sweep.name(TINY)}.json").read_text())["made"]
    assert made["versions"]["torch"] == torch.__version__.split("+")[0]
    (machine,) = sweep.machines([TINY, TINY], tmp_path)
    assert machine.startswith("cpu (") and machine.endswith(training.PRECISIONS)


def test_points_travel_in_one_file_and_are_taken_up_again(dataset, tmp_path, monkeypatch):
    here, there, file = tmp_path / "here", tmp_path / "there", tmp_path / "book/points.jsonl"
    figures = sweep.cached(TINY, dataset, here)
    assert points.main(["pack", str(here), str(file)]) == 0
    assert points.unpack(file, there) == 1
    assert points.unpack(file, there) == 0
    assert sweep.record_file(TINY, there).stat().st_mtime == 0
    again = sweep.network(TINY, dataset, there).state_dict()
    monkeypatch.setattr(league, "run", lambda *arguments: pytest.fail("trained again"))
    assert sweep.cached(TINY, dataset, there) == figures
    before = sweep.network(TINY, dataset, here).state_dict()
    assert all(torch.equal(tensor, again[name]) for name, tensor in before.items())


@pytest.mark.parametrize(
    ("content", "complaint"), [("{}", "holds no points"), ("[", "holds no points"), (None, "points pack makes it")]
)
def test_what_is_no_file_of_points_is_refused(tmp_path, capsys, content, complaint):
    file = tmp_path / "points.jsonl"
    if content is not None:
        file.write_text(content)
    assert points.main(["unpack", str(file), str(tmp_path / "out")]) == 2
    assert complaint in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_an_empty_folder_has_no_points_to_pack(tmp_path):
    with pytest.raises(ClearError, match="make sweep makes them"):
        points.pack(tmp_path, tmp_path / "points.jsonl")


def test_a_point_of_other_code_or_data_is_made_again(dataset, tmp_path, monkeypatch):
    sweep.cached(TINY, dataset, tmp_path)
    monkeypatch.setattr(sweep, "fingerprint", lambda path: "other")
    made = []
    run = league.run
    monkeypatch.setattr(league, "run", lambda *arguments: made.append(1) or run(*arguments))
    trained = []
    train = league.train
    monkeypatch.setattr(league, "train", lambda *arguments: trained.append(1) or train(*arguments))
    sweep.network(TINY, dataset, tmp_path)
    assert trained == [1]
    sweep.cached(TINY, dataset, tmp_path)
    assert made == [1]


def test_command_line_makes_a_point_and_names_what_is_wrong(dataset, tmp_path, capsys):
    where = ["--data", str(dataset), "--folder", str(tmp_path)]
    assert sweep.main([json.dumps(asdict(TINY)), *where]) == 0
    assert (tmp_path / f"{sweep.name(TINY)}.json").is_file()
    for point, said in (
        ('{"methd": "erm"}', "is no point"),
        ("{", "is no point"),
        ('{"method": "x"}', "unknown method"),
    ):
        assert sweep.main([point, *where]) == 2
        assert said in capsys.readouterr().err
    assert sweep.main(['{"method": "erm"}', "--data", "nowhere", "--folder", str(tmp_path)]) == 2
    assert "task0_biased_canvas makes it" in capsys.readouterr().err


def test_plan_shares_points_and_leaves_out_impossible_ones():
    plan = sweep.plan(PARAMETERS, own_bias=0.95)
    rows = [(point.method, point.seed) for point in plan["league"]]
    assert {("erm", 1), ("study_penalty", 1), (league.BEST, 1)} < set(rows)
    assert ("logit_correction", 0) in rows and ("logit_correction", 1) not in rows
    league_points = set(plan["league"])
    assert {p.method for p in league_points} == {*sweep.ALWAYS, "logit_correction"}
    assert {p for p in plan["strength"] if p.strength == 10} <= league_points
    assert {p for p in plan["bias"] if p.bias is None} <= league_points
    assert {p for p in plan["size"] if p.train_size == 12000} <= league_points
    assert [p.method for p in plan["bias"] if p.bias == 1] == ["erm"]
    assert {(p.method, p.epochs) for p in plan["size"] if p.train_size == 57000} == {("erm", 8), (league.BEST, 12)}
    best = {p.train_size: (p.weight_decay, p.strength) for p in plan["size"] if p.method == league.BEST}
    assert best == {2000: (0.6124, 3.3), 12000: (0.5, 8.0), 57000: (0.2294, 8.0)}
    names = [sweep.name(p) for part in plan.values() for p in set(part)]
    assert len(set(names)) == len({p for part in plan.values() for p in part})
    with pytest.raises(ClearError, match="'magic' is none of erm"):
        sweep.plan(PARAMETERS | {"methods": ["magic"]}, 0.95)


def test_figures_along_a_setting():
    points = [league.Point("erm", seed, train_size=size) for size in (2000, 500) for seed in (0, 1)]
    points += [league.Point(league.BEST, 0, train_size=2000)]
    figures = [
        {"hard_accuracy": value, "easy_accuracy": 0.99, "unseen_colours": value / 2}
        for value in (0.8, 0.6, 0.5, 0.3, 0.97)
    ]
    grid = standings.along(points, figures, "train_size", 2000)
    assert list(grid["erm"]) == [500, 2000] and grid["erm"][500]["hard_accuracy"]["values"] == [0.5, 0.3]
    assert list(standings.along(points[:1], figures[:1], "bias", 0.95)["erm"]) == [0.95]
    *_, few, many, best = standings.grid_table(grid, "training images").splitlines()
    assert few == "| 500 | ERM + BatchNorm (study) | 40.0 ± 14.1 | 99.0 ± 0.0 | 20.0 ± 7.1 |"
    assert many == "| 2,000 | ERM + BatchNorm (study) | 70.0 ± 14.1 | 99.0 ± 0.0 | 35.0 ± 7.1 |"
    assert best == "| 2,000 | Logit correction + resampling | 97.0 | 99.0 | 48.5 |"
    figure = plots_league.curves_over(grid, "training images", "Title", log=True)
    lines = {line.get_label(): list(line.get_ydata()) for line in figure.axes[0].lines}
    assert lines["ERM + BatchNorm (study)"] == pytest.approx([60, 30])
    figure = plots_league.curves_over(grid, "share", "Title", log=False)
    lines = {line.get_label(): line for line in figure.axes[0].lines}
    assert list(lines["ERM + BatchNorm (study)"].get_ydata()) == pytest.approx([40, 70])
    places = [lines[league.ENTRIES[method].title].get_xdata()[-1] for method in ("erm", league.BEST)]
    assert 0 < places[1] - places[0] < 0.1


def test_slurm_dry_run(tmp_path):
    root = Path(__file__).parent.parent
    for folder in ("profiles", "notebooks", "lazyutils", "sweep"):
        (tmp_path / folder).symlink_to(root / folder)
    artefact = tmp_path / "runs/smoke/data/colored_mnist.safetensors"
    artefact.parent.mkdir(parents=True)
    artefact.touch()
    command = [sys.executable, "-m", "snakemake", "-s", "sweep/Snakefile", "--profile", "sweep/slurm", "-n"]
    found = subprocess.run(
        [*command, "--config", "profile=smoke"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stderr
    assert "rule point" in found.stdout + found.stderr


# --- from runs to a table --------------------------------------------------------------------------------------------


def test_paired_difference_is_students():
    values, baseline = [0.91, 0.93, 0.90, 0.95], [0.88, 0.91, 0.89, 0.90]
    found = standings.paired(values, baseline)
    reference = stats.ttest_rel(values, baseline)
    interval = reference.confidence_interval()
    assert (found["low"], found["high"]) == pytest.approx((interval.low, interval.high))
    assert found["p"] == pytest.approx(reference.pvalue)
    assert standings.paired([0.9], [0.8])["low"] is None


def test_gap_closed_runs_from_erm_to_oracle():
    runs = {"erm": [{"hard_accuracy": 0.8}, {"hard_accuracy": 0.9}], "x": [{"hard_accuracy": 0.9}] * 2}
    table = standings.league(runs, [{"hard_accuracy": 0.95}])
    assert table["erm"]["gap_closed"]["mean"] == pytest.approx(0)
    assert table["x"]["gap_closed"]["mean"] == pytest.approx(0.5)
    assert table["x"]["hard_difference"]["mean"] == pytest.approx(0.05)


def test_shifts_are_told_with_what_the_recoloring_penalty_is_worth():
    def row(*unseen):
        runs = [{"hard_accuracy": 0.9, "unseen_colours": value, "texture_shift": 0.8} for value in unseen]
        return standings.collect_seeds(runs)

    table = {"x": row(0.1), "erm": row(0.5, 0.6), league.BEST: row(0.80, 0.81, 0.7)}
    plain = standings.shift_table(table, row(0.9)).splitlines()
    assert plain[2] == "| ERM + BatchNorm (study) | 90.0 ± 0.0 | 55.0 ± 7.1 | 80.0 ± 0.0 |"
    assert plain[-1] == "| Oracle | 90.0 | 90.0 | 80.0 |" and len(plain) == 5
    told = standings.shift_table(table | {standings.RECOLORED: row(0.90, 0.92)}, row(0.9)).splitlines()
    assert told[4].startswith("| Logit correction + resampling + recolouring | 90.0")
    pair = standings.verdict(standings.paired([0.90, 0.92], [0.80, 0.81]))
    assert told[-1].endswith(f"beside the correction {pair}.") and "+10.5" in pair


def test_selection_on_the_hard_set_takes_the_luckiest_run():
    runs = {
        "a": [
            {"hard_accuracy": 0.5, "easy_accuracy": 0.99, "balanced_validation": 0.6},
            {"hard_accuracy": 0.99, "easy_accuracy": 0.99, "balanced_validation": 0.6},
        ],
        "b": [{"hard_accuracy": 0.9, "easy_accuracy": 0.9, "balanced_validation": 0.9}] * 2,
    }
    found = standings.selections(runs)
    assert found["easy validation accuracy"]["method"] == "a"
    assert found["balanced validation accuracy"] == {"method": "b", "hard_accuracy": pytest.approx(0.9)}
    assert found["the hard set itself (best run of all)"] == {"method": "a", "hard_accuracy": 0.99}


def test_verdict_says_what_the_interval_allows():
    one = standings.paired([0.9], [0.8])
    assert "decides nothing" in standings.verdict(one)
    assert standings.verdict(standings.paired([0.9, 0.92, 0.91], [0.8, 0.81, 0.82])).startswith("helps")
    assert standings.verdict(standings.paired([0.8, 0.81, 0.82], [0.9, 0.92, 0.91])).startswith("harms")
    assert standings.verdict(standings.paired([0.8, 0.9, 0.85], [0.82, 0.86, 0.87])).startswith("makes no difference")
