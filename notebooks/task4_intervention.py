# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Task 4: The Intervention
#
# **Can a network learn to read digits from images in which colour is the easier answer?** The training images stay as
# they are: 95 in 100 wear their digit's colour, and nobody tells the network which ones do not.
#
# - You will see the study's two remedies repeated over seeds, and one of them taken apart.
# - You will see a league of interventions on one network, one subset and one budget, between a floor and an oracle.
# - You will see the cheater of [Task 1](task1_lazycnn) become useful: its mistakes point at the images that teach.

# %% tags=["bootstrap"]
try:
    import lazyutils  # noqa: F401
except ModuleNotFoundError:
    raise SystemExit("The book's package is not installed: run `pip install .` in the book's folder first") from None

# %% [markdown]
# ## Parameters

# %% tags=["parameters"]
methods: "list[str]" = ["corrected_resampling"]  # rows of the league; ERM, the study's penalty and the best always are
brackets: "list[str]" = ["colour_only"]  # what holds it, beside the oracle: they see the truth, or other images
seeds: "list[int[0, 999999]]" = [0]  # one network each: subset, initial weights, order of images
method_seeds: "list[int[0, 999999]]" = [0]  # of rows beside ERM, the study's penalty and the best: the first of seeds
epochs: "int[1, 200]" = 5  # of the league's one-cycle schedule
study_epochs: "int[1, 200]" = 3  # of the study's Adam at a constant rate, at most
strengths: "list[float[0.001, 10000]]" = [10.0]  # final weights of the study's penalty
critic: "choice[lazy, color]" = "lazy"  # who finds the images whose cues conflict
critic_epochs: "int[1, 100]" = 2  # how long the critics are watched
sweep_methods: "list[str]" = ["erm", "corrected_resampling"]  # lines of the sweep over biases
biases: "list[float[0, 1]]" = [0.95]  # shares of images in their digit's colour
bias_seeds: "list[int[0, 999999]]" = [0]  # networks at each
sizes: "list[int[100, 59000]]" = [12000]  # numbers of training images
size_methods: "list[str]" = ["erm", "corrected_resampling"]  # lines of the sweep over sizes
size_seeds: "list[int[0, 999999]]" = [0]  # networks at each
train_size: "int[100, 50000]" = 12000  # easy images to train on
validation_size: "int[100, 10000]" = 3000  # easy images never trained on
hard_size: "int[100, 10000]" = 10000  # hard images to judge by
run_dir: "str" = "runs/quick"  # where this run's files go
threads: "int[1, 64]" = 1  # processor threads

# %%
from dataclasses import replace

from IPython.display import Markdown, display

from lazyutils import (
    checkpoints,
    critics,
    data,
    files,
    gradcam,
    interventions,
    league,
    localization,
    metrics,
    penalties,
    plots,
    plots_league,
    probes,
    run,
    standings,
    sweep,
    training,
)

task = run.start("task4_intervention", globals())
plots.use_style()

# %% [markdown]
# ## The plan
# Every number below comes from a *point*: one training run, fixed by its method, seed, data and budget. A finished
# point is kept, so that an interrupted page goes on where it stopped, and `make sweep` can make the same points side
# by side or on a cluster. The hard set judges each network once, after training; it ranks no candidate.

# %%
path = task.require("data/colored_mnist.safetensors", "task0_biased_canvas")
folder = task.path("points/x").parent
own_bias = float(data.metadata(path)["bias"])
plan = sweep.plan(task.parameters, own_bias)
done = {
    part: [sweep.cached(point, path, folder, task.device) for point in run.progress(points, part)]
    for part, points in plan.items()
}
distinct = len({point for points in plan.values() for point in points})
display(Markdown(f"{distinct} points in {', '.join(plan)}."))

# %%
lazy, _ = checkpoints.load(task.require("models/lazycnn.safetensors", "task1_lazycnn"))
hard = data.load(path, "hard")[:hard_size]
train, easy = data.easy_subsets(path, train_size, validation_size, seeds[0])
runs = standings.by_method(plan["league"], done["league"])
first = {
    point.method: sweep.network(point, path, folder, task.device)
    for point in plan["league"]
    if point.seed == seeds[0] and point.method in sweep.ALWAYS
}

# %% [markdown]
# ## The study's two remedies
# RobustCNN adds BatchNorm, pooling and width. The study credits BatchNorm; the league can have a row without it
# (`erm_unnormalized`). The study trains with Adam at 0.001 and early stopping, first plainly, then with a penalty: the
# variance over R, G and B of the predicted class's input gradient, its weight growing linearly from 0 to 10. A network
# that ignores colour would treat the three channels alike.

# %% tags=["hide-input"]
display(Markdown(plots.source(penalties.channel_variance)))

# %%
shown = {"LazyCNN": lazy, "RobustCNN": first["erm"], "RobustCNN + penalty": first["study_penalty"]}
answers = {name: training.predict(network, hard.images).argmax(1) for name, network in shown.items()}
plots.show(
    plots_league.answers_before_after(answers, hard),
    caption="The hard set. Above: confusion matrices. Below: what each background makes a network say.",
    alt="Two rows of three tables, for LazyCNN, RobustCNN and RobustCNN with the penalty: confusion matrices above, "
    "answers by background below.",
)
follows = [f"{name} {plots.percent(metrics.accuracy(found, hard.colors))}" for name, found in answers.items()]
display(Markdown(f"Answers with the background's own digit: {'; '.join(follows)}."))

# %% [markdown]
# The lower row is the one to read. A bright diagonal there is cheating. An honest reader has nothing on the diagonal,
# since no hard image wears its own colour, and about 11% in every other cell.
#
# ## What helps?
# Two single runs can't tell. We train both arms on the same seeds, with the same subset, initial weights and schedule,
# and compare in pairs: with the penalty against without it, and without BatchNorm against with it.

# %%
baseline = [figures["hard_accuracy"] for figures in runs["erm"]]
by_strength = {
    strength: [
        figures["hard_accuracy"]
        for point, figures in zip(plan["strength"], done["strength"], strict=True)
        if point.strength == strength
    ]
    for strength in strengths
}
study = {strength: standings.paired(values, baseline) for strength, values in by_strength.items()}
plots.show(
    plots_league.paired_strengths(by_strength, baseline),
    caption="Each grey dot is a pair of networks of one seed; orange: mean and Student's 95% interval.",
    alt="Differences in hard accuracy between training with and without the study's penalty, for each final weight.",
)
lines = [f"- Penalty, 0 → {strength:g}: {standings.verdict(result)}." for strength, result in study.items()]
if without := [figures["hard_accuracy"] for figures in runs.get("erm_unnormalized", [])]:
    lines.append(f"- No BatchNorm: {standings.verdict(standings.paired(without, baseline[: len(without)]))}.")
display(Markdown("\n".join(lines)))

# %% [markdown]
# ## A better penalty
# The study's measure looks at each pixel by itself, but the shortcut is one colour for the whole image. So pool the
# gradient over space before squaring, and divide by its energy, so that shrinking all gradients gains nothing. Such a
# penalty needs a second derivative. Double backward is exact and slow; a finite difference that repeats the choices of
# ReLU and pooling is nearly as exact, and costs about three plain steps. Its row of the league is `recoloring_penalty`.

# %% tags=["hide-input"]
display(Markdown(plots.source(penalties.recoloring_share)))

# %% [markdown]
# ## The cheater as informer
# A lazy network errs where colour and digit disagree. Generalised cross-entropy keeps it lazy: it dwells on what is
# easy. How well do a critic's errors find the conflicting images? The truth serves this figure only.

# %%
trained = {
    "LazyCNN, cross-entropy": ("lazy", training.cross_entropy),
    "LazyCNN, generalised": ("lazy", None),
    "1x1 critic": ("color", None),
}
watched = {}
for name, (kind, loss) in trained.items():
    settings = replace(critics.CRITICS[kind], epochs=critic_epochs)
    watched[name] = critics.watch(train, settings, loss)
plots.show(
    plots_league.critic_curves(watched),
    caption="Precision and recall of a critic's errors as a detector of conflicting training images. The league's own "
    f"critics stop after {critics.CRITICS['lazy'].epochs} epochs, and {critics.MEMBERS} of them answer together.",
    alt="Two panels, precision and recall over the critic's epochs, with a line for each of three critics.",
)

# %% [markdown]
# The 1x1 critic presumes that the shortcut is a colour. LazyCNN presumes nothing but that the shortcut is easy, and it
# is the critic of the league unless the parameters say otherwise. One of them misses some and accuses others falsely,
# not the same ones each time, so the league asks a committee. A critic that never learns one of the digits, which its
# answers give away, is trained again.
#
# ## The winner
# Logit correction adds log P(label | critic's class) to the logits during training: what the shortcut explains need
# not be learnt. Few images contradict the shortcut, so we also show those more often, and correct for that. This
# presumes nothing about the shortcut but that it is easy. Who knows that it is one colour for the whole image can add
# the recolouring penalty (`corrected_recoloring`).

# %% tags=["hide-input"]
display(Markdown(plots.source(interventions.logit_correction)))

# %% [markdown]
# ## The league
# One network, one subset a seed, one budget. Rows marked *study* keep its optimiser. All others turn, scale, shift,
# slant and bend the digits a little, leave colours alone, and are judged by the average of their last weights. Vertical
# lines are brackets: they see the truth, other images or another input. *Gap closed* counts from the study's plain
# training to the oracle, so it holds what the moving and bending alone are worth.
#
# In the published run the rows that ask a committee of critics were trained later than the others, on a machine of the
# same kind that took half as long again: their core seconds don't compare. Side by side, a committee costs some 15% of
# a training.

# %%
bracket_runs = standings.by_method(plan["brackets"], done["brackets"])
table = standings.league(runs, bracket_runs["oracle"])
held = {name: standings.collect_seeds(figures) for name, figures in bracket_runs.items()}
plots.show(
    plots_league.league_figure(table, held),
    caption="Hard accuracy. Small dots: seeds; large dots and bars: mean and 95% interval; lines: brackets "
    "(those below the axis are in the legend only).",
    alt="A dot plot of methods ordered by hard accuracy, from those near plain training to those near the oracle.",
)

# %%
commands = {method: standings.row_command(task.parameters, method) for method in runs}
display(Markdown(standings.league_table(table, commands)))
machines = "; ".join(sweep.machines(plan["league"], folder))
note = "The study's rows stop by the very images their easy accuracy is measured on, which flatters it a little."
display(Markdown(f"Core seconds: processor time to train one network, critic included, on: {machines}. {note}"))

# %% [markdown]
# ## Choosing without the answer
# Nobody has a hard set before the colours change. Validation images share the bias, so plain validation accuracy
# prefers cheaters. Averaged over cells of (critic's class, label) it does not: the critic's errors count as much as
# its successes. The last line is what a look at the hard set would have let us claim.

# %%
chosen = standings.selections(runs)
rows = [
    f"| {way} | {league.METHODS[pick['method']].title} | {plots.percent(pick['hard_accuracy'])} |"
    for way, pick in chosen.items()
]
display(Markdown("| chosen by | method | hard accuracy it reports |\n|---|---|--:|\n" + "\n".join(rows)))

# %% [markdown]
# ## What changed inside
# The tools of [Task 2](task2_prober) and [Task 3](task3_interrogation) on the lazy and the fixed networks: what a
# linear probe reads off the last convolution, how much of Grad-CAM's heat lies on the background, and how many digits
# get another name when only their background changes.

# %%
some = hard[:1500]
mixed = data.recolor(some, data.draw_colors(some.labels, 0.1, 0), **data.look(path))
inside = {}
for name, network in {"LazyCNN": lazy, "ERM": first["erm"], "best": first[league.BEST]}.items():
    read = probes.probe_layers(network, ["relu3"], mixed[::2], mixed[1::2])["relu3"]
    heat = gradcam.GradCAM(network, "relu3")(some[:500].images).displayed
    share = localization.estimate(localization.heat_share(heat, ~some[:500].masks)).mean
    swept = probes.hue_sweep(network, some[:200], **data.look(path)).summary()
    inside[name] = {
        "colour, by probe": read["colour"],
        "digit, by probe": read["digit"],
        "heat on background": share,
        "answer changes\nwith background": swept["changed_share"],
    }
plots.show(
    plots_league.inside_bars(inside),
    caption="Four measures of three networks, all in percent.",
    alt="The fixed network's answer rarely changes with the background, though colour can still be read off inside.",
)

# %% [markdown]
# ## How far it carries
# The same recipe at other bias ratios, and with more or fewer images. Where not one image contradicts the shortcut,
# there is nothing for a critic to find, and the method is refused instead of failing quietly. A run with one bias or
# one number of images draws no curve. The oracle, where it is asked for, shows what as many images teach when their
# colours say nothing. In the published run our method with 57,000 images, one in twenty of them conflicting, lies
# between the oracle with 3,000 and with 12,000: what counts is the number of exceptions.
#
# Hard digits in ten colours that no training image had are another matter. From 12,000 to 57,000 images of the same old
# colours they got harder to read in the published run, for the oracle and the corrected rows, and least so with the
# recolouring penalty. The last table asks the networks above about them once more, and about a background three times
# as noisy; the penalty's row, where the league has it, is compared in pairs.

# %% tags=["hide-input"]
over_bias = standings.along(plan["bias"], done["bias"], "bias", own_bias)
over_size = standings.along(plan["size"], done["size"], "train_size", train_size)
if len(biases) > 1:
    plots.show(
        plots_league.curves_over(over_bias, "share of images in their digit's colour", "Against the bias", log=False),
        caption="Hard accuracy against the bias of the training images. Dots are single networks.",
        alt="Plain training falls as the bias approaches one; the best method stays high for longer.",
    )
if len(sizes) > 1:
    plots.show(
        plots_league.curves_over(over_size, "training images", "Against the number of images", log=True),
        caption="Errors on hard images against the number of training images, at the data set's own bias (both axes "
        "logarithmic). Small dots are single networks.",
        alt="The error falls with the number of training images for every method.",
    )
    display(Markdown(standings.grid_table(over_size, "training images")))

# %%
best, plain = table[league.BEST], table["erm"]
display(Markdown(standings.shift_table(table, held["oracle"])))

# %% [markdown]
# ## Try it
# - `-p critic color`: a perfect informer. How much was LazyCNN's imperfection costing?
# - `-p epochs 25`: the few conflicting images need time.
# - `-y 'methods: [logit_correction, corrected_recoloring, corrected_teacher]'`: the correction without resampling; with
#   the recolouring penalty; and with a teacher, the moving average of the network itself, whose answers it shall share.
# - `-y 'methods: [erm_augmented, study_penalty_augmented]'`: does the study's penalty help once the digits move?

# %% [markdown]
# ## What we found

# %%
for name, method in (("robust_erm", "erm"), ("robust_best", league.BEST)):
    source = sweep.network_file(next(p for p in plan["league"] if p.method == method), folder)
    for suffix in (".safetensors", ".json"):
        files.write_atomically(task.path(f"models/{name}{suffix}"), source.with_suffix(suffix).read_bytes())
own = standings.paired([run["hard_accuracy"] for run in runs["study_penalty"]], baseline)
informed = "" if critic == "lazy" else " Its critic presumes that the shortcut is a colour."
display(
    Markdown(
        f"The study's network reaches {plots.mean_sd(plain['hard_accuracy'])} on the hard set; the study reports "
        f"80.84%. Its penalty, at its own weight: {standings.verdict(own)}. Our method reaches "
        f"{plots.mean_sd(best['hard_accuracy'])} hard and {plots.mean_sd(best['easy_accuracy'])} easy and closes "
        f"{plots.percent(best['gap_closed']['mean'], 0)} of the gap to an oracle that never saw a bias. In training it "
        f"uses no colour label and no recoloured image.{informed} Its settings were chosen on easy images outside the "
        "subset, partly with their true colours (see below)."
    )
)
results = {"league": table, "brackets": held, "penalty": study, "selection": chosen, "inside": inside}
results["titles"] = {name: league.ENTRIES[name].title for name in [*table, *held]}
task.finish(results | {"bias": over_bias, "size": over_size, "critics": watched})

# %% [markdown]
# ## What did not work
# In tuning runs of one to three seeds, label smoothing with logit correction ruined the easy set; a stronger correction
# than the counts suggest lowered it. Bending the digits twice as much cost a point. Mixing hidden states of two images
# with the critic's same class cost half of one. Sharpness-aware steps doubled the time for a tenth. A teacher was
# part of the best method for a while: with 48,000 images it cost .3 points of the easy ones and got two more of 585
# held-out conflicting ones right, which decides nothing. A short run has one seed: it shows a league and decides none
# of its close calls.
#
# A last search judged each idea by two networks, on 45,000 easy images outside the subset, some 2,200 of them
# conflicting. Halving the logits of the critic's errors, so that they must lie further from the boundary (the VS-loss
# of Kini et al.), won .2 points of the conflicting and .3 of the others; with 48,000 images to train on it won nothing
# of either. Exchanging the statistics of the first layer's maps between images (pAdaIN, Nuriel et al.) won nothing and
# cost .5 of the others. The recolouring penalty on top won .15 for three times the time. True colours instead of the
# critic won .2: the critic is not what is missing. Averaging one network's answers over moved and bent copies of an
# image lost.
#
# Another search trained one network an idea on 24,000 images and judged it on 36,000, some 1,800 of them conflicting:
# dropout, hidden states mixed within a label (LISA, Yao et al.), sharpness-aware steps, 3, 20 or 50 repetitions and
# less weight decay all came within .25 points of the recipe's 97.95% of the conflicting. The VS-loss and a teacher
# together won .3, and nothing with a second network.
#
# With more images the steps grow, and under a constant weight decay weights are forgotten over an ever smaller share of
# a run (Wang & Aitchison). Three networks a line were trained on 48,000 images and judged on 12,000 held-out biased
# ones, in all three 1,707 of them in conflict, as a committee sees it:
#
# | weight decay | repetitions | conflicting: right | negative log-likelihood | others: right |
# |---|--:|--:|--:|--:|
# | 0.5, as with 12,000 images | 8 | 98.07% | .0725 | 98.6% |
# | 0.25, with the square root of the steps | 8 | 98.30% | .0687 | 99.0% |
# | 0.25 | 4 | 98.07% | .0696 | 98.8% |
# | 0.125, in proportion to the steps | 8 | 98.07% | .0703 | 99.2% |
# | 0.125 | 16 | 98.24% | .0805 | 99.2% |
#
# The likelihood was to decide before the second and third line were trained, and it decides little: accuracies differ
# by four images. An average over more steps and true colours as the critic (two networks) gained one image or none.
# The last made the conflicting images likelier all the same, and a second generation of critics comes near them: taught
# the committee's answers in place of the labels, both in as many steps as with 12,000 images, it finds 99% of the
# conflicting images instead of 93 to 97%. The choice was not blind. Earlier editions had shown the last two lines'
# rules on the hard set (98.72% and 98.65% with 57,000 images), and one network of the first had been seen there
# (98.85%).
#
# What do 57,000 images lack? With 48,000, and judged as in the table, half as many epochs again left the conflicting
# images at 98.30% (three networks; others 99.1%), twice the learning rate with less weight decay at the same 98.2% (one
# network), and the mean answer of three to five networks won at most one image a seed: what these get wrong is much the
# same. A last layer taught anew without the correction, on states from which the directions that tell the critic's
# class were removed, found its way back to colour (12,000 images, one network).
#
# The recolouring penalty beside the correction was tried at every second step: on two seeds the conflicting images went
# from 98.2% and 98.4% to 98.2% and 99.1%. With 12,000 images and a penalty at every step they went, on two seeds and by
# their true colours, from 97.1% and 97.6% to 97.6% and 97.7%. Their likelihood did not move. That was enough to make it
# a row. On the hard set it then won nothing; what it won is colours never seen, by which it wasn't chosen. With half or
# a fifth of the correction and a penalty of weight 10 or 30 in place of 3, the others rose from 98.5% to 99.4% and
# 99.7%, but the conflicting ones came to 97.1% and 96.2% (12,000 images, one network each).
#
# The recipe was tuned on easy images outside the subset, partly with their true colours, for the best method; all rows
# share its budget. Results on the hard set that were lower than hoped are why the search went on seven times, though no
# candidate was compared there.
#
# With the literature's q of 0.7, LazyCNN as the critic may never answer one of the digits and call all its images
# conflicting. Its q of 0.5 was chosen on training images. Even so, two of twelve critics gave a digit up, and one of
# them informed a network of an earlier edition: a third of what it called conflicting was. Such a critic is trained
# again now, and three answer together, since a sound one's precision also moves with its seed: .86 and .94 with two
# seeds and 12,000 images, .98 and 1.00 for three together. Both were decided by precision on training images. Between
# the two, the hard set was opened for four networks with 57,000 images that no table shows (98.6 to 98.9).
#
# The recolouring penalty was first held as large as the cross-entropy at every step. That is a penalty on its own
# logarithm, which has no floor: the network collapsed to one answer for every image. It grows to a fixed weight now.
#
# Limits: one data set, one kind of shortcut, one small network; and every method, plain training included, owes its
# success to the few images that contradict the shortcut. The bias sweep shows what is left where they are fewer.

# %% [markdown]
# ## References
# - S. Liu et al.: *Avoiding spurious correlations via logit correction*, ICLR 2023,
#   [arXiv:2212.01433](https://arxiv.org/abs/2212.01433).
# - J. Nam et al.: *Learning from failure*, NeurIPS 2020, [arXiv:2007.02561](https://arxiv.org/abs/2007.02561).
# - A. Tarvainen, H. Valpola: *Mean teachers are better role models*, NeurIPS 2017,
#   [arXiv:1703.01780](https://arxiv.org/abs/1703.01780).
# - O. Ronneberger et al.: *U-Net*, MICCAI 2015, [arXiv:1505.04597](https://arxiv.org/abs/1505.04597) (elastic
#   deformation on a coarse grid).
# - G. Kini et al.: *Label-imbalanced and group-sensitive classification under overparameterization*, NeurIPS 2021,
#   [arXiv:2103.01550](https://arxiv.org/abs/2103.01550).
# - O. Nuriel, S. Benaim, L. Wolf: *Permuted AdaIN*, CVPR 2021, [arXiv:2010.05785](https://arxiv.org/abs/2010.05785).
# - H. Yao et al.: *Improving out-of-distribution robustness via selective augmentation*, ICML 2022,
#   [arXiv:2201.00299](https://arxiv.org/abs/2201.00299).
# - E. Liu et al.: *Just train twice*, ICML 2021, [arXiv:2107.09044](https://arxiv.org/abs/2107.09044).
# - X. Wang, L. Aitchison: *How to set AdamW's weight decay as you scale model and dataset size*, ICML 2025,
#   [arXiv:2405.13698](https://arxiv.org/abs/2405.13698).
# - M. Pezeshki et al.: *Gradient starvation*, NeurIPS 2021, [arXiv:2011.09468](https://arxiv.org/abs/2011.09468).
# - S. Ahn, S. Kim, S. Yun: *Mitigating dataset bias by using per-sample gradient*, ICLR 2023,
#   [arXiv:2205.15704](https://arxiv.org/abs/2205.15704).
# - S. Ioffe, C. Szegedy: *Batch normalization*, ICML 2015, [arXiv:1502.03167](https://arxiv.org/abs/1502.03167).
# - A. Ross et al.: *Right for the right reasons*, IJCAI 2017, [arXiv:1703.03717](https://arxiv.org/abs/1703.03717).
# - Z. Zhang, M. Sabuncu: *Generalized cross entropy loss*, NeurIPS 2018,
#   [arXiv:1805.07836](https://arxiv.org/abs/1805.07836).
