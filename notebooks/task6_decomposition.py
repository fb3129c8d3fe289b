# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Task 6: The Decomposition
#
# **Can the cheater's hidden state be taken apart into features, and which of them carry the cheating?** We split the
# last hidden layer of [Task 1](task1_lazycnn)'s LazyCNN with sparse autoencoders, name the features, and then switch
# them off to see whether the names were true.
#
# - You will see hidden units draw what they like best, and how far those drawings can be trusted.
# - You will see what the same network answers when its most coloured features are switched off.
# - You will see whether losing the shortcut is enough to gain the digit.

# %% tags=["bootstrap"]
try:
    import lazyutils  # noqa: F401
except ModuleNotFoundError:
    raise SystemExit("The book's package is not installed: run `pip install .` in the book's folder first") from None

# %% [markdown]
# ## Parameters

# %% tags=["parameters"]
seeds: "list[int[0, 999999]]" = [0, 1, 2]  # one dictionary each: initial weights, order of states
train_size: "int[500, 50000]" = 12000  # easy images whose states the autoencoders learn
validation_size: "int[100, 10000]" = 3000  # easy images to question the network on
hard_size: "int[100, 10000]" = 10000  # hard images to question it on, the first ones
balanced_size: "int[200, 50000]" = 4000  # training digits recoloured, every digit in every colour
width: "int[32, 4096]" = 128  # latents
k: "int[1, 512]" = 16  # latents that stay for each image (TopK)
epochs: "int[1, 500]" = 50  # passes over the states
pareto_k: "list[int[1, 32]]" = [2, 4, 8, 16, 32]  # sparsities compared
pareto_epochs: "int[1, 500]" = 20  # passes for that comparison
pareto_states: "int[200, 50000]" = 6000  # states for that comparison
switched: "int[1, 512]" = 32  # features switched off together
draws: "int[19, 9999]" = 199  # random sets of as many features, for the control
dose_draws: "int[1, 999]" = 20  # random orders for the dose curve
pixel_size: "int[100, 50000]" = 12000  # images for the pixel autoencoder
steps: "int[1, 2000]" = 300  # of gradient ascent to a preferred input
other_size: "int[200, 50000]" = 6000  # images of each kind for RobustCNN
resnet_size: "int[100, 50000]" = 3000  # images of each kind for ResNet-18
run_dir: "str" = "runs/quick"  # where this run's files go
threads: "int[1, 64]" = 1  # processor threads

# %%
import torch
from IPython.display import HTML, Markdown, display

from lazyutils import ablation, checkpoints, data, feature_browser, feature_catalogue, models, plots
from lazyutils import decomposition as decompose
from lazyutils import run, sae, sae_metrics, splice
from lazyutils import plots_decomposition as figures
from lazyutils import words_decomposition as words
from lazyutils.metrics import collect_seeds, followed
from lazyutils.selectivity import eta_squared, levels_answered
from lazyutils.training import predict

task = run.start("task6_decomposition", globals())
plots.use_style()

# %% [markdown]
# ## The hidden state
# LazyCNN's third convolution, after its ReLU, leaves 784 numbers; a linear head turns them into ten logits. All that
# the network knows when it answers is in them. We read them for biased training images (to learn from), for easy and
# hard images (to question the network), and for *balanced* images: training digits painted so that every digit wears
# every colour equally often. On those a feature that answers to colour can't hide behind the digit.

# %%
path = task.require("data/colored_mnist.safetensors", "task0_biased_canvas")
lazy, _ = checkpoints.load(task.require("models/lazycnn.safetensors", "task1_lazycnn"))
robust, _ = checkpoints.load(task.require("models/robust_best.safetensors", "task4_intervention"))
resnet, _ = checkpoints.load(task.require("models/resnet18.safetensors", "task1_resnet18"))
train, easy = data.easy_subsets(path, train_size, validation_size, seeds[0])
hard = data.load(path, "hard", torch.arange(hard_size))
look = data.look(path)
palette = look["palette"]
balanced = decompose.balanced_images(train[:balanced_size], seeds[0], **look)
state = decompose.material(splice.site(lazy, "relu3"), train, balanced, easy, hard)
original = state.judged.measure()

# %% [markdown]
# ## First the ceiling
# Before asking what surgery can save, ask what is there to be saved. For each layer we teach one linear reader the
# digit and one the colour, on balanced images, and test both on the hard set. No linear edit at a layer can be
# expected to beat its digit reader by much.

# %%
few = (train[:100], balanced, easy[:100], hard)
places = {layer: splice.site(lazy, layer) for layer in ("relu1", "relu2")}
ceilings = {layer: decompose.ceiling(decompose.material(place, *few)) for layer, place in places.items()}
ceilings["relu3"] = decompose.ceiling(state)
plots.show(
    figures.ceilings(ceilings, original["hard"]),
    caption="Linear probes taught on balanced colours, tested on the hard set; dashed: the network's own accuracy.",
    alt="Two bars for each of three layers: the shares of colours and of digits that a linear reader finds.",
)
display(Markdown(words.ceiling(ceilings, original)))

# %% [markdown]
# ## The study's autoencoders
# 784 → 128 → 784 on the hidden states and 2352 → 128 → 2352 on the pixels: ReLU, sigmoid, MSE + 0.001 × KL sparsity
# with target 0.05. As written the recipe isn't defined here: a sigmoid stays below 1, a ReLU's states need not, and
# KL(0.05 ‖ ρ) needs a mean activation between 0 and 1, which a ReLU doesn't promise. We divide each entry by its
# largest training value, and let the penalty alone see tanh of the activations. Pixels are judged by looking, and by
# Task 4's network; for hidden states there is a sharper test: put the reconstruction back and read the answers.

# %% tags=["hide-input"]
display(Markdown(plots.source(sae.StudyAutoencoder)))

# %%
study = decompose.train_dictionary(state.train, "study", width, epochs=epochs, seed=seeds[0])
pixel_states, shown = train.images.flatten(1)[:pixel_size], hard[:1000]
pixels = decompose.train_dictionary(pixel_states, "study", width, epochs=epochs, seed=seeds[0])
with torch.no_grad():
    rebuilt = pixels(shown.images.flatten(1)).view_as(shown.images)
judge = {
    name: followed(predict(robust, images).argmax(1), shown.labels, shown.colors)
    for name, images in (("image", shown.images), ("rebuilt", rebuilt))
}
plots.show(
    figures.paired_rows({"image": shown.images[:10], "rebuilt": rebuilt[:10]}),
    caption="Hard images and what the pixel autoencoder makes of them.",
    alt="Two rows of ten images: coloured digits above, each one's reconstruction below.",
    colors=128,
)
study_report = decompose.report(study, state)
beyond = (state.judged.hard > study.scale).double().mean().item()
display(Markdown(words.rebuilt(judge) + words.study(study_report, original, beyond)))

# %% [markdown]
# ## What the units like best
# Gradient ascent from noise finds the input that raises each unit most; all units share one batch. The study calls a
# unit COLOUR if its preferred input is flat (standard deviation over space below 0.15), SHAPE otherwise. We set that
# beside a measurement: η², the share of a unit's variance that the colour explains on balanced images. The study
# probed its pixel autoencoder. We draw the units of the hidden-state one, and put the rule to both.

# %%
place = state.judged.site
liked = splice.preferred_inputs(place, study, steps=steps).images
study_mean = study.encode(state.train).mean(0).detach()
plots.show(
    figures.verdict_grid(liked, splice.spatial_sd(liked), study_mean),
    colors=128,
    caption="Preferred inputs of the hidden-state autoencoder; in each half the largest mean activation comes first.",
    alt="Two grids of small coloured images: the flattest on the left, the most textured on the right.",
)

# %%
lengths = sorted({5, 10, 20, 40, steps})
probed = {"hidden states": (place, study, state.balanced), "pixels": (None, pixels, balanced.images.flatten(1))}
measured = {name: eta_squared(one.encode(x).detach(), state.colors) > 0.5 for name, (_, one, x) in probed.items()}
rules = {name: decompose.rule_over_steps(*probed[name][:2], measured[name], lengths) for name in probed}
plots.show(
    figures.rule(study_mean, measured["hidden states"], rules["hidden states"]),
    colors=128,
    caption="Units of the hidden-state autoencoder. Left: mean activation in training. Right: the study's verdict "
    "after ascents of several lengths.",
    alt="Left: bars in falling order, coloured by the measured verdict. Right: the rule's figures over the steps.",
)
display(Markdown(words.rule({name: (rules[name], measured[name]) for name in rules})))

# %% [markdown]
# ## A modern dictionary
# TopK keeps the k largest latents of each image and nothing else; BatchTopK spends k on average. Decoder columns keep
# unit length; latents that fall silent are trained on what the others leave over, and start anew at badly explained
# states where that doesn't wake them. Quality is the variance explained per active latent, and the answers after
# splicing, all on images that no autoencoder learnt from; a latent that never fires on those easy images is dead.
#
# After the comparison comes one fully trained dictionary for each seed. Is it the data that speaks, or the seed?
# Features are matched one to one with another seed's, with random directions, and with an untrained network's (from
# fewer states and passes).

# %%
grid = [(kind, width, {"k": one}) for kind in ("topk", "batchtopk") for one in pareto_k]
grid += [("topk", 4 * width, {"k": one}) for one in pareto_k[1::2]]
grid += [("study", width, {"weight": weight}) for weight in (0.0, 1e-3, 1e-2)]
rows = decompose.pareto(state, grid, epochs=pareto_epochs, states=pareto_states)
plots.show(
    figures.pareto(rows, original),
    caption="Each point is one autoencoder. Left: the variance of the state that it explains. Right: the network's "
    "hard accuracy from its reconstruction; dashed, from the state itself.",
    alt="Two scatter plots over the number of active latents, one marker for each kind of autoencoder.",
)
display(Markdown(words.pareto(rows, original)))

# %%
dictionaries = [decompose.train_dictionary(state.train, "topk", width, epochs=epochs, seed=seed, k=k) for seed in seeds]
meanings = [decompose.describe(dictionary, state) for dictionary in dictionaries]
quality = decompose.quality_over_seeds(dictionaries, state)
blank = splice.site(models.build("LazyCNN", seeds[0] + 1), "relu3").read(train.images[:pareto_states])
untrained = decompose.train_dictionary(blank, "topk", width, epochs=pareto_epochs, seed=seeds[0], k=k)
directions = [one.decoder.weight.detach().T for one in (*dictionaries, untrained)]
rivals = {"another seed": directions[1]} if len(seeds) > 1 else {}
rivals |= {
    "random directions": sae_metrics.random_directions(width, place.size, seeds[0]),
    "an untrained network": directions[-1],
}
cosines = {name: sae_metrics.matched_cosines(directions[0], rival) for name, rival in rivals.items()}
plots.show(
    figures.trust(meanings[0].density, cosines),
    caption="The first dictionary. Left: how often its features fire on balanced images. Right: cosine of matched "
    "features, cumulative.",
    alt="A histogram of firing densities, and cumulative curves of cosines; the text below has their medians.",
)
display(Markdown(words.quality(quality, original, cosines)))

# %% [markdown]
# ## What each feature means, measured
# The same question to every feature, to the raw neurons, and to as many random directions as features. If neurons are
# colour already, a dictionary adds nothing by being coloured; it adds something if its units are about *one* colour.

# %%
units = {
    "TopK features": dictionaries[0].encode(state.balanced).detach(),
    "raw neurons": state.balanced,
    "random directions": state.balanced @ rivals["random directions"].T,
}
groups = {name: (eta_squared(z, state.colors), eta_squared(z, state.labels)) for name, z in units.items()}
answered = {name: levels_answered(z, state.colors) for name, z in units.items()}
plots.show(
    figures.selectivity(groups),
    colors=128,
    caption="Each dot is a unit. To the right: answers to colour; up: to the digit. Dotted: both equally.",
    alt="Three scatter plots of digit η² over colour η²: features, neurons, random directions; medians follow below.",
)
display(Markdown(words.selectivity(groups, answered)))

# %% [markdown]
# ## Switch them off
# Names are cheap. We set the colour features (those whose colour η² most exceeds their digit η²) to their mean, keep
# the autoencoder's error (so an edit that changes nothing changes no answer), put the state back, and ask the *same*
# network. Controls: as many of the features with most digit; random sets of as many, from all features; and random
# sets of the other features that carry as much variance. The rival needs no autoencoder: projecting out the nine
# directions between the colours' mean states, a simpler relative of LEACE. Then heads refitted on the edited *biased*
# training states: no hard label is used, but the colours are known: features and directions are chosen with true
# colours on repainted images. Task 4's network, asked about every fifth hard image, had no such help.

# %%
trained = list(zip(dictionaries, meanings, seeds, strict=True))
how = {"count": switched, "draws": draws}
proofs = [ablation.prove(state, *pair, seed=seed, **how) for *pair, seed in trained]
matched = [ablation.match_variance(state, *pair, seed=seed, **how) for *pair, seed in trained]
headed = [ablation.edits_with_heads(state, *pair, switched) for *pair, _ in trained]
fixed = splice.subject(splice.site(robust, "relu3"), easy[:2000], hard[::5]).measure()
runs, names = ablation.runs_by_edit(proofs, headed), words.row_names(switched)
table = {"untouched": [original]} | {title: runs[key] for key, title in names.items()}
marks = {"hard: a linear reader of this layer": ceilings["relu3"]["digit"], "hard: Task 4's network": fixed["hard"]}
plots.show(
    figures.edits(table, marks),
    colors=128,
    caption="The same network after each edit; marks are means, bars the range over seeds (random: over all sets).",
    alt="A row of dots for each edit: easy accuracy, hard accuracy and colour answers; the tests are listed below.",
)
tests = {key: ablation.against_random(proofs, "colour", key) for key in ("colour_share", "hard", "easy")}
equals = {key: ablation.against_random(proofs, "colour", key, [one.answers for one in matched]) for key in tests}
display(Markdown(words.effects(tests, equals, proofs, matched)))

# %%
doses = [dose for dose in (0, 2, 4, 8, 16, 32, 48, 64, 96, 128) if dose <= width]
curves = ablation.dose_curves(state, dictionaries[0], meanings[0], doses, draws=dose_draws, seed=seeds[0])
plots.show(
    figures.dose(curves, doses, fixed["hard"]),
    caption="Features of the first dictionary set to their means one after another: most coloured first, most digit "
    "first, or at random.",
    alt="Three panels over the number of features switched off: colour answers, hard and easy accuracy.",
)
display(Markdown(words.dose(curves, doses, fixed["hard"])))

# %% [markdown]
# ## Push them
# The opposite test: leave everything in place and *add* a colour. First one feature, chosen by what it answers to and
# not by what it does; then all colour features, each by its own contrast. Does the answer follow? The control adds
# the same length along another colour's feature.

# %%
pushed = [0.0, 1.0, 2.0, 4.0, 6.0, 8.0]
steered = decompose.steering(state.judged, dictionaries[0], meanings[0], pushed, switched)
plots.show(
    figures.steering(steered, pushed, palette),
    colors=128,
    caption="Hard images answered with a colour's digit while that colour is added; first dictionary.",
    alt="Panels of ten lines, one a colour: the share of images answered with its digit, over the dose.",
)
display(Markdown(words.steering(steered, pushed, data.color_names(palette))))

# %% [markdown]
# ## The other networks
# A dictionary of the same kind, from fewer images and passes, for Task 4's RobustCNN (flattened third convolution) and
# for ResNet-18 (layer4, averaged as its head does). Does the fixed network still carry colour, and does it still
# matter?

# %%
shared = {"count": switched, "draws": 49, "seed": seeds[0], "epochs": pareto_epochs}
subjects = {"RobustCNN": (robust, "relu3", other_size), "ResNet-18": (resnet, "layer4", resnet_size)}
examined = {}
for name, (model, layer, size) in subjects.items():
    sets = (train[:size], balanced[: size // 2], easy[: size // 4], hard[: size // 2])
    examined[name] = ablation.examine(decompose.material(splice.site(model, layer), *sets), width, k, **shared)
compared = {"LazyCNN": (meanings[0], proofs[0])}
compared |= {name: (one.features, one.proof) for name, one in examined.items()}
plots.show(
    figures.networks(compared),
    caption="Left: each dot is a feature. Right: hard images answered with their colour's digit. LazyCNN: its first "
    "dictionary.",
    alt="Left: a row of dots and a box for each network. Right: bars of colour answers, untouched and with features "
    "off.",
)
display(Markdown(words.carried(examined)))

# %% [markdown]
# ## Browse the features
# Three with the most colour and three with the most digit; then all of them: choose an order and move the slider (the
# arrow keys work) to see what a feature prefers, where it is strongest, its profiles, and what it does to the answer.

# %%
preferred = splice.preferred_inputs(place, dictionaries[0], steps=steps).images
described = state, dictionaries[0], meanings[0]
catalogue = feature_catalogue.catalogue(*described, preferred=preferred, images=balanced.images, palette=palette)
chosen = torch.cat([meanings[0].colored(3), meanings[0].shaped(3)])
plots.show(
    figures.exhibits(preferred[chosen], catalogue.examples[chosen], [meanings[0].title(one) for one in chosen]),
    colors=128,
    caption="Preferred input and strongest balanced images of six features.",
    alt="Six rows of images: the three features with most colour first, then the three with most digit.",
)
display(HTML(feature_browser.render(catalogue, "features")))

# %% [markdown]
# ## Try it
# - `-p switched 64`: half of the features off. How many colour answers are left, and what happens to easy accuracy?
# - `-p k 4`: four latents an image. Are the features more, or less, about one thing?
# - `-p width 512`: four times the features. Is there a digit feature now?

# %% [markdown]
# ## What we found

# %%
edits = {name: collect_seeds(one) for name, one in runs.items()}
ablated = {name: edits[name] for name in (*proofs[0].edits, "random")} | {"linear": headed[0]["linear"]}
found = {
    "study": study_report | {"rule": rules["hidden states"]},
    "pixels": sae_metrics.quality(pixels, easy.images.flatten(1)) | {"judged_by_task4": judge, "rule": rules["pixels"]},
    "topk": quality,
    "pareto": rows,
    "spliced": {key: quality[f"spliced_{key}"] for key in ("easy", "hard", "colour_share")},
    "original": original,
    "ablation": ablated,
    "against_random": tests,
    "against_equal_variance": equals | {"sets": [{"features": one.size, "variance": one.share} for one in matched]},
    "heads": {name: edits[name] for name in headed[0]},
    "probe_ceiling": ceilings["relu3"]["digit"],
    "ceilings": ceilings,
    "fixed_network": fixed,
    "dose": {"doses": doses, **curves},
    "steering": {name: shares.tolist() for name, shares in steered.items()},
    "networks": {name: one.proof.edits | one.report | {"ceiling": one.ceiling} for name, one in examined.items()},
}

limits = {"a linear reader of the layer": ceilings["relu3"]["digit"], "Task 4's network": fixed["hard"]}
display(Markdown(words.summary(original, edits, names, limits)))
task.finish(found)

# %% [markdown]
# ## What did not work
# We hoped that a head refitted on what is left would find the digit, but it is taught on biased labels and may take
# whatever colour it is left. And we expected a dictionary to be a finer scalpel than nine mean differences. What both
# came to:

# %%
display(Markdown(words.disappointments(original, edits, names)))

# %% [markdown]
# ## References
# - L. Gao et al.: *Scaling and evaluating sparse autoencoders*, 2024,
#   [arXiv:2406.04093](https://arxiv.org/abs/2406.04093): TopK.
# - B. Bussmann et al.: *BatchTopK sparse autoencoders*, 2024, [arXiv:2412.06410](https://arxiv.org/abs/2412.06410).
# - S. Marks et al.: *Sparse feature circuits*, 2024, [arXiv:2403.19647](https://arxiv.org/abs/2403.19647): SHIFT.
# - N. Belrose et al.: *LEACE: Perfect linear concept erasure in closed form*, 2023,
#   [arXiv:2306.03819](https://arxiv.org/abs/2306.03819). Our erasure is a simpler relative.
# - A. Ng: *Sparse autoencoder*, CS294A lecture notes, Stanford, 2011.
