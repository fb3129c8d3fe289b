# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Task 2: The Prober
#
# **What do the cheaters of [Task 1](task1_lazycnn) see, layer by layer?** Pictures of a network's inside are easy to
# make and easy to misread. We make all the usual ones, and give each a number that could have come out differently.
#
# - You will see filters, feature maps, recovered images, dreams, and what each neuron would most like to see.
# - You will see how much of each neuron's answer colour explains, and how much the digit does.
# - You will see in which layers the digit can still be read, in a network that prefers the colour.

# %% tags=["bootstrap"]
try:
    import lazyutils  # noqa: F401
except ModuleNotFoundError:
    raise SystemExit("The book's package is not installed: run `pip install .` in the book's folder first") from None

# %% [markdown]
# ## Parameters

# %% tags=["parameters"]
steps: "int[1, 2000]" = 96  # of each activation maximisation
unit_seeds: "list[int[0, 999999]]" = [0, 1, 2]  # starting noises of LazyCNN's preferred images
resnet_units: "int[1, 128]" = 12  # channels looked at in each of ResNet-18's layers
resnet_steps: "int[1, 2000]" = 40  # of their maximisation
resnet_seeds: "list[int[0, 999999]]" = [0, 1]  # its starting noises
inversion_steps: "int[1, 5000]" = 60  # of each inversion
inversion_size: "int[2, 1000]" = 64  # images recovered from LazyCNN
inversion_resnet: "int[2, 1000]" = 16  # images recovered from ResNet-18
tv_weight: "float[0, 1000]" = 0.1  # how much smoothness an inversion is asked for
dream_steps: "int[2, 100]" = 24  # frames of the deep dream
dream_target: "int[0, 9]" = 3  # the class that the dreams run towards
probe_size: "int[200, 20000]" = 2000  # images to fit a probe on
answer_size: "int[200, 10000]" = 1000  # images on which units and probes are judged
resnet_sweep: "int[10, 10000]" = 100  # digits that ResNet-18 is asked about on all ten backgrounds
twin_size: "int[100, 50000]" = 6000  # of LazyCNN's training digits, at most, to train the honest twin with
twin_epochs: "int[1, 100]" = 8  # passes over them
seed: "int[0, 999999]" = 0  # of untrained networks and of backgrounds
run_dir: "str" = "runs/quick"  # where this run's files go
threads: "int[1, 64]" = 1  # processor threads

# %%
import torch
from IPython.display import Markdown, display

from lazyutils import checkpoints, data, hooks, interrogation, inversion, models, plots, prober, probes, run, units
from lazyutils import plots_prober as figures
from lazyutils import visualize, widgets, words_interrogation, words_prober
from lazyutils.parametrization import Parametrization, color_statistics

task = run.start("task2_prober", globals())
plots.use_style()

# %% [markdown]
# ## The networks, and one fair set of images
# The two cheaters come from Task 1. Two controls stand beside LazyCNN: an *untrained* network of the same kind, and an
# *honest twin*: LazyCNN's architecture, its initial weights, digits from its training, but backgrounds drawn at random,
# so that only the stroke paid. Task 1's gradient descent, at its default settings, is too slow for that. So the twin
# has Adam and the steps named below, and differs from LazyCNN in its training, too. What both controls show as well is
# no finding about cheating; where they differ from LazyCNN, it may be one.
#
# In the data sets colour and digit go together, so what answers to one seems to answer to the other. So we measure on
# *balanced* images: real digits repainted so that each wears each colour equally often.

# %%
path = task.require("data/colored_mnist.safetensors", "task0_biased_canvas")
lazy, made = checkpoints.load(task.require("models/lazycnn.safetensors", "task1_lazycnn"))
resnet, _ = checkpoints.load(task.require("models/resnet18.safetensors", "task1_resnet18"))
look = {**data.look(path), "seed": seed}
palette = data.palette_tensor(look["palette"])
twin = interrogation.honest_twin(path, made, look, task.device, size=twin_size, epochs=twin_epochs)
lazy, resnet = lazy.to(task.device), resnet.to(task.device)
untrained = models.build("LazyCNN", seed + 1).to(task.device)
untrained_resnet = models.build("ResNet18", seed + 1, image_size=resnet.image_size).to(task.device)
fair, fair_train = (prober.balanced(path, *part, look) for part in (("hard", answer_size), ("easy", probe_size)))
judges, teachers = fair.to(task.device), fair_train.to(task.device)
display(Markdown(words_interrogation.twin(made, twin_size, twin_epochs)))

# %% [markdown]
# ## The first filters
# LazyCNN's six 9 x 9 filters, each in three channels. A filter that looks the same in all three rows sees brightness
# and no hue. The eye sees differences everywhere, but random filters differ between channels too. So split each
# filter's energy into four orthogonal parts: chromatic (what the channels don't share) or grey, flat (the mean) or
# patterned.

# %%
plots.show(
    figures.filters(lazy.conv1.weight),
    caption="LazyCNN's first filters; one scale for all. Red weights add, blue ones take away.",
    alt="Each filter in a column, each of its three channels in a row, as squares of red and blue weights.",
)
first = {"LazyCNN": lazy, "untrained": untrained, "honest twin": twin, "ResNet-18": resnet}
energy = prober.filter_energies(first, task.path("models/robust_best.safetensors"))
plots.show(
    figures.energy_bars(energy),
    caption="Mean shares over the filters. Chance: two thirds chromatic; flat 1 / (pixels of the kernel).",
    alt="One stacked bar a network: chromatic and grey, flat and patterned shares. The text below gives the sums.",
)
display(Markdown(words_prober.filters(energy)))

# %% [markdown]
# ## Feature maps
# One zero on its own colour, on another, and on grey. All channels of a layer share one scale, so that silence shows
# as silence.

# %%
trio = prober.trio(path, 0, look)
stages = ["conv1", "relu1", "conv2", "relu2", "conv3", "relu3"]
plots.show(
    figures.feature_maps(
        trio, ["own colour", "other colour", "grey"], hooks.collect(lazy, trio.to(task.device), stages)
    ),
    caption="Every channel of every layer for three images of one zero; brighter is higher, one scale a layer.",
    alt="A row of three images; below it a row a layer, and under each image all the layer's channels side by side.",
    colors=256,
)

# %% [markdown]
# ## What can be recovered
# Take a layer's activations of an image, and search from noise for an image with the same activations
# ([Mahendran and Vedaldi](https://arxiv.org/abs/1412.0035)). What comes back, the layer kept. What doesn't come back is
# lost, or the search missed it: compare with the probes below. All images and all layers of a network are recovered in
# one optimisation.

# %%
hard = data.load(path, "hard", range(inversion_size)).to(task.device)
references = {"LazyCNN": hard, "ResNet-18": hard[:inversion_resnet]}
blocks = [f"net.layer{block}" for block in (1, 2, 3, 4)]
options = {"steps": inversion_steps, "lr": 0.2, "tv_weight": tv_weight, "seed": seed}
recovered = {
    "LazyCNN": inversion.invert(lazy, hard.images, stages, **options),
    "ResNet-18": inversion.invert(resnet, references["ResNet-18"].images, blocks, **options),
}
kept = {network: inversion.scores(found, references[network]) for network, found in recovered.items()}
plots.show(
    figures.inversion_grid(recovered, {network: digits.images for network, digits in references.items()}),
    caption="Top row: the references. Below: images recovered from each layer's activations (and asked to be smooth).",
    alt="Rows of small images for each of two networks: references on top, below them a row for each layer.",
    colors=256,
)
plots.show(
    figures.inversion_curves(kept),
    caption="How much colour and shape come back, by layer; means over the references.",
    alt="Lines over the layers of each network: colour and shape that came back, and the chance level of shape.",
)

# %% [markdown]
# ## Deep dreams
# From real images, we climb towards one class: each step adds the gradient of its logit. Move the slider (arrow keys
# work too), and watch what the network thinks is missing.

# %%
real = hard[(hard.labels != dream_target).nonzero()[:5, 0]]
towards = torch.full((len(real),), dream_target, device=task.device)  # any class
dreams = visualize.dream(lazy, real.images, towards, steps=dream_steps)
sure = [lazy(frame).softmax(1).gather(1, towards[:, None]).mean().item() for frame in dreams]
labels = [f"{step}: sure of it {plots.percent(share)}" for step, share in enumerate(sure)]
titles = [f"{data.COLOR_NAMES[color]} {label}" for color, label in zip(real.colors, real.labels, strict=True)]
alt = f"{len(real)} digits that change step by step towards class {dream_target}."
display(widgets.frame_slider(dreams, labels, titles=titles, alt=alt))
worn = prober.dream_readouts(first, hard, palette, dream_steps)
nearest = ", ".join(f"{network} {plots.percent(share, 0)}" for network, share in worn.items())
display(
    Markdown(
        f"Over {len(hard)} images, each towards another class than its own: how often does the dream's background come "
        f"nearest to the colour of the class it runs to? {nearest}; chance 10%."
    )
)

# %% tags=["skip-execution"]
display(widgets.live_player(dreams, labels))  # with a live kernel: the same frames, with a Play button

# %% [markdown]
# ## What each neuron would like to see
# Activation maximisation: from one shared noise image, change pixels until one neuron is as active as it can be. The
# study had three aims: the sum of the neuron's map, its mean, and its central unit. All neurons run in one batch, which
# changes nothing: no image of a batch influences another.

# %% tags=["hide-input"]
display(Markdown(plots.source(visualize.ascend)))

# %%
layers, settings = ["conv1", "conv2", "conv3"], {"steps": steps, "lr": 0.1, "jitter": 1}
aims = {}
for aim in visualize.REDUCTIONS:
    asked = [unit for layer in layers for unit in visualize.layer_units(lazy, layer, aim)]
    aims[aim] = units.study_units(lazy, asked, judges, unit_seeds, palette, **settings)
study = aims["mean"]
plots.show(
    figures.unit_sheet(study, layers, fair, {"center": aims["center"]}),
    caption="Each neuron's preferred image for its mean and its central unit, and the nine balanced images that "
    "activate it most. Percentages: variance explained by colour and by digit. Colour worn: the palette's nearest to "
    "the mean of the first row's image; colour liked: that of the balanced images with the highest mean activation.",
    alt="One column a neuron: two preferred images, nine natural ones as a square, and the five readings below.",
    colors=256,
)
alike = (aims["sum"].images - study.images).abs().mean().item()
text = "A sum is the mean times a constant, and Adam does not see constants: the two sets of images differ by"
display(Markdown(f"{text} {alike:.4f} a pixel on average (of a range of 1). We go on with the mean."))

# %% [markdown]
# ## Colour neuron or digit neuron?
# A picture of a coloured patch proves no colour neuron. The share of variance that a factor explains (eta squared, on
# balanced images) does: 100% by colour means that nothing but the background's colour decides.
#
# In the table, a unit *answers* to a colour or digit when its mean there is at least half way from its lowest to its
# highest. A count means something only where the factor explains a fair share of the variance; elsewhere it counts
# noise, and it is left out. *Preferred / natural* is the activation on the preferred image (1: the highest natural one,
# 0: the median); *left without colour* is what survives when that image turns grey; *wears the liked colour*: how often
# the preferred image's nearest palette colour is the one that the neuron likes best on balanced images (chance 10%).

# %%
controls = {
    name: units.study_units(model, study.units, judges, unit_seeds, palette, **settings)
    for name, model in {"honest twin": twin, "untrained": untrained}.items()
}
plots.show(
    figures.eta_scatter({"LazyCNN": study, **controls}),
    caption="Every neuron's mean activation: how much of its variance over images colour and digit explain. Dotted: "
    "together 100%.",
    alt="A panel of dots for each of three networks, one a neuron: colour's share across, the digit's up.",
)
display(figures.unit_table({"LazyCNN": study, **controls}))

# %% [markdown]
# ## The same in ResNet-18
# Channels of `layer2` and `layer3`, with the parametrisation of the literature: Fourier coefficients, jitter, and
# colours decorrelated by the statistics of the balanced training images (ImageNet's would smuggle in foreign colours).
# A unit that answers to one colour has one meaning; to call one that answers to several *polysemantic* takes more than
# the count, since a unit that is only graded, from dark to bright colours, say, counts several as well.

# %%
style = Parametrization(fourier=True, colors=color_statistics(fair_train.images))
chosen = [visualize.Unit(layer, channel) for layer in blocks[1:3] for channel in range(resnet_units)]
fourier = {"steps": resnet_steps, "jitter": 2, "redirect_steps": 8, "parametrization": style}
resnet_study = units.study_units(resnet, chosen, judges, resnet_seeds, palette, **fourier)
resnet_control = units.study_units(untrained_resnet, chosen, judges, resnet_seeds[:1], palette, **fourier)
plots.show(
    figures.unit_sheet(resnet_study, blocks[1:3], fair),
    caption="Channels of two layers of ResNet-18: the preferred image of each, and the nine that activate it most.",
    alt="One column a channel: its preferred image, nine natural ones as a square, and the five readings below.",
    colors=256,
)
display(figures.unit_table({"ResNet-18": resnet_study, "untrained": resnet_control}))

# %% [markdown]
# ## What each class would like to see
# The same for the ten outputs, with two yes-or-no questions: does the image wear its class's colour, and is it still
# answered with its class once it is grey?

# %%
outputs = {"LazyCNN": (lazy, "fc"), "honest twin": (twin, "fc"), "untrained": (untrained, "fc")}
outputs |= {"ResNet-18": (resnet, "net.fc"), "untrained ResNet-18": (untrained_resnet, "net.fc")}
classes = {
    name: units.class_images(model, output, palette, resnet_seeds, **{**settings, "steps": resnet_steps})
    for name, (model, output) in outputs.items()
}
plots.show(
    figures.class_sheet(classes),
    caption="The image that each class's output likes best, first starting noise.",
    alt="Ten abstract images a network, one a class.",
    colors=256,
)
display(figures.class_table(classes))

# %% [markdown]
# ## Where is the digit thrown away?
# A linear probe asks what a layer *could* tell: a linear reader is fitted to the layer's activations of balanced
# images, once for colour, once for digit, and judged on others. What has more than 800 numbers an image, such as the
# pixels, is averaged to a coarser grid first. Untrained networks of the same kind show what comes for free.

# %%
reading = {"LazyCNN": [*stages, "fc"], "ResNet-18": [*blocks, "net.fc"]}
probed = prober.probe_all({"LazyCNN": lazy, "ResNet-18": resnet}, reading, teachers, judges)
free = prober.probe_all({"LazyCNN": untrained, "ResNet-18": untrained_resnet}, reading, teachers, judges)
plots.show(
    figures.probe_curves(probed, free),
    caption="Accuracy of linear probes on balanced images; dotted: an untrained network of the same kind. Grey line: "
    "chance.",
    alt="Lines over the layers of each network: probes for colour and for digit, trained and untrained.",
)

# %% [markdown]
# ## One digit, ten backgrounds
# Last, no more looking inside. Repaint one digit in all ten colours and ask: does the answer change? Then the four
# corners: both cues, only the colour, only the digit (on grey), neither. Each cell of the second table: share answered
# with the colour's digit / with the stroke's digit · mean confidence, on images whose cues conflict.

# %%
asked = {"LazyCNN": (lazy, len(fair)), "honest twin": (twin, len(fair)), "ResNet-18": (resnet, resnet_sweep)}
sweeps, corners = prober.counterfactuals(asked, fair, look)
plots.show(
    figures.sweep_strip(fair[:3], sweeps, look),
    caption="Three digits on ten backgrounds, and each network's answer. Bold blue: correct.",
    alt="Three digits in rows, ten backgrounds in columns, and below each image every network's answer.",
    colors=256,
)
display(figures.sweep_table(sweeps))
plots.show(
    figures.corners_strip(probes.four_corners(fair[fair.conflicting], seed)),
    caption="The four corners for three images whose cues conflict.",
    alt="Digits on colours; colour cards; digits on grey; grey cards.",
    colors=256,
)
display(figures.corner_table(corners))

# %% [markdown]
# ## Try it
# - `-p tv_weight 0`, then `-p tv_weight 5`: how much of a recovered digit did the smoothness prior draw?
# - `-p dream_target 7`: do the dreams turn magenta?
# - `-y 'unit_seeds: [0, 1, 2, 3, 4, 5]'`: does a neuron ask for the same image from every noise?
#
# ## What we found

# %%
found = (
    words_prober.neurons(study, controls),
    words_prober.digit(probed["LazyCNN"], free["LazyCNN"]),
    words_prober.repainting(sweeps),
)
display(Markdown(words_prober.bullets(*found)))

# %% tags=["hide-input"]
results = {"probe_accuracy": probed, "probe_accuracy_untrained": free, "inversion": kept, "filter_energy": energy}
results |= {"units": {**study.summary(), **resnet_study.summary()}, "classes": classes, "dream_own_colour": worn}
results |= {"units_twin": controls["honest twin"].summary(), "corners": corners}
results |= {"units_untrained": {**controls["untrained"].summary(), **resnet_control.summary()}}
results |= {"hue_sweep": {network: swept.summary() for network, swept in sweeps.items()}}
task.finish(prober.plain(results))

# %% [markdown]
# ## What did not work

# %%
unproven = (
    words_prober.eye(study, controls["untrained"]),
    words_prober.climbs(worn, classes, sweeps["LazyCNN"]),
    words_prober.inversions(kept["LazyCNN"], probed["LazyCNN"]),
    words_prober.decorrelation(style.colors),
)
display(Markdown(words_prober.bullets(*unproven)))

# %% [markdown]
# ## References
# - A. Mahendran, A. Vedaldi: *Understanding deep image representations by inverting them*, CVPR 2015,
#   [arXiv:1412.0035](https://arxiv.org/abs/1412.0035).
# - C. Olah, A. Mordvintsev, L. Schubert: *Feature visualization*, Distill 2017,
#   [doi:10.23915/distill.00007](https://doi.org/10.23915/distill.00007).
# - G. Alain, Y. Bengio: *Understanding intermediate layers using linear classifier probes*, 2016,
#   [arXiv:1610.01644](https://arxiv.org/abs/1610.01644).
# - J. Borowski et al.: *Exemplary natural images explain CNN activations better than state-of-the-art feature
#   visualization*, ICLR 2021, [arXiv:2010.12606](https://arxiv.org/abs/2010.12606).
# - R. Geirhos et al.: *Don't trust your eyes: on the (un)reliability of feature visualizations*, 2023,
#   [arXiv:2306.04719](https://arxiv.org/abs/2306.04719).
