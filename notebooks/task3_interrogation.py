# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Task 3: The Interrogation
#
# **Where do the cheaters of [Task 1](task1_lazycnn) look, and does the answer prove anything?** We build Grad-CAM from
# scratch, check it against two libraries, and then put the witness itself on trial.
#
# - You will see heat maps of the same zero on red and on green, through three networks.
# - You will see, over the hard set, how much heat lies on the background, and how much would lie there anyway.
# - You will see a network that reads digits honestly, and which methods can tell the cheater's images from its own.

# %% tags=["bootstrap"]
try:
    import lazyutils  # noqa: F401
except ModuleNotFoundError:
    raise SystemExit("The book's package is not installed: run `pip install .` in the book's folder first") from None

# %% [markdown]
# ## Parameters

# %% tags=["parameters"]
hard_size: "int[200, 10000]" = 10000  # hard images for the small networks, the first ones
resnet_size: "int[20, 10000]" = 300  # hard images for ResNet-18
compared_size: "int[20, 10000]" = 120  # of them, images on which all methods are compared
compared_resnet: "int[8, 10000]" = 16  # the same for ResNet-18
resnet_methods: "list[str]" = ["Grad-CAM", "Grad-CAM++", "Input gradients", "Edges (no network)"]  # compared on it
validation_size: "int[2, 10000]" = 40  # images a class for the comparison with the libraries
validation_resnet: "int[2, 10000]" = 4  # the same for ResNet-18
steps: "int[2, 784]" = 7  # portions in which pixels are deleted and inserted
image_sizes: "list[int[28, 512]]" = [28, 64, 112, 224]  # at which ResNet-18's maps are compared
sized_images: "int[2, 10000]" = 24  # images for that comparison
twin_size: "int[100, 50000]" = 6000  # of LazyCNN's training digits, at most, to train the honest twin with
twin_epochs: "int[1, 100]" = 6  # passes over them
seed: "int[0, 999999]" = 0  # of the twin's backgrounds and of counterfactual textures
run_dir: "str" = "runs/quick"  # where this run's files go
threads: "int[1, 64]" = 1  # processor threads

# %%
from IPython.display import Markdown, display

from lazyutils import checkpoints, data, evidence, gradcam, gradcam_peers, interrogation, localization, plots, run
from lazyutils import plots_interrogation as figures
from lazyutils import words_interrogation as words
from lazyutils.hooks import captured
from lazyutils.saliency import METHODS

task = run.start("task3_interrogation", globals())
plots.use_style()

# %% [markdown]
# ## The suspects, and an alibi
# Two suspects come from Task 1: LazyCNN and ResNet-18. A method that accuses them should also acquit the innocent. So
# we train an *honest twin*: LazyCNN's architecture, its initial weights, digits from its training, but backgrounds
# drawn at random, so that colour says nothing and only the stroke pays. Task 1's gradient descent, at its default
# settings, is too slow for that. So the twin has Adam and the steps named below, and differs from LazyCNN in its
# training, too.

# %%
path = task.require("data/colored_mnist.safetensors", "task0_biased_canvas")
lazy, made = checkpoints.load(task.require("models/lazycnn.safetensors", "task1_lazycnn"))
resnet, sidecar = checkpoints.load(task.require("models/resnet18.safetensors", "task1_resnet18"))
hard = data.load(path, "hard", range(hard_size))
look = {**data.look(path), "seed": seed}
twin = interrogation.honest_twin(path, made, look, task.device, size=twin_size, epochs=twin_epochs)
display(Markdown(words.twin(made, twin_size, twin_epochs)))

# %%
cases = {
    "lazycnn": evidence.open_case(lazy.to(task.device), "conv3", hard, **look),
    "twin": evidence.open_case(twin, "conv3", hard, **look),
    "resnet18": evidence.open_case(resnet.to(task.device), "net.layer4", hard[:resnet_size], **look),
}
display(figures.answers_table(cases))

# %% [markdown]
# ## Grad-CAM in a page
# Grad-CAM asks one convolutional layer. Let $A^k$ be its $k$-th map and $y^c$ the logit of class $c$. The gradient of
# $y^c$, averaged over space, says how much the class likes the map; the maps are added with those weights, and what
# speaks *against* the class is cut off:
#
# $$\alpha_k^c = \frac{1}{Z}\sum_{i,j}\frac{\partial y^c}{\partial A^k_{ij}},\qquad
# L^c = \mathrm{ReLU}\Big(\sum_k \alpha_k^c A^k\Big).$$
#
# A hook cuts the network at the layer. What lies before it runs without gradients, so that only the part behind it is
# back-propagated; the hook goes away with the block, whatever happens inside; and the rest of the network works on a
# copy, so that an operation in place can't change what was recorded.

# %% tags=["hide-input"]
parts = (gradcam.layer_gradients, captured, gradcam.weighted_sum, gradcam.to_display)
display(Markdown("\n\n".join(plots.source(part) for part in parts)))

# %% [markdown]
# ## Four exhibits, and the twin's
# The study's four cases are one zero on red, its own colour, and on green, the colour of 1, before both networks. We
# take a green zero of the hard set and repaint its background, so that nothing but the colour differs. Beside each
# image: the map of the class that was answered, and the map of the true class, with their probabilities. The white line
# is the stroke's outline. The honest twin looks at the same two images.

# %%
exhibits = interrogation.exhibits(cases, figures.NETWORKS, interrogation.zeros(hard, look))
cold = sum(bool(heat.max() == 0) for exhibit in exhibits for heat in exhibit["maps"])
plots.show(
    figures.exhibits(exhibits),
    caption="One zero on two backgrounds: each with the map of the answer, the map of the truth, and the probability.",
    alt="Three networks in rows. A red and a green zero, each followed by two heat maps with the stroke's outline. "
    f"Maps without heat: {cold} of {2 * len(exhibits)}.",
)
layers = {"lazycnn": ("conv1", "conv2", "conv3"), "resnet18": ("net.layer2", "net.layer3", "net.layer4")}
rows, shares, zero_share = interrogation.locations(cases, {**layers, "twin": layers["lazycnn"]})
display(Markdown(words.empty(zero_share)))

# %% [markdown]
# It is tempting to stop here: heat beside the stroke, so the network reads colour, case closed. But compare the twin's,
# and mind that ReLU can leave nothing of a map: where the weighted sum speaks against the class everywhere, the map is
# empty, however sure the network is. (So is a map of a single cell: it has no place to point at.) Two questions come
# first. Are the maps right? And are a few pictures typical?
#
# ## Are the maps right?
# Two libraries have their own Grad-CAM. captum gives the sum before ReLU; the `grad-cam` package gives what is shown.
# We compare every place of every map of every class, at several layers. *Raw* is the largest difference to captum (and
# *largest* the largest value, to judge it by), *displayed* the largest difference to the package, once in the networks'
# own float32 and once in double precision. In float32 rounding shows: where the evidence for a class nearly cancels,
# scaling the rest to 0-1 magnifies it. *rounding* is how far that throws the package's float32 maps off its own in
# double precision: the yardstick for *float32*.

# %%
suspects = {key: cases[key] for key in ("lazycnn", "resnet18")}
asked = {"lazycnn": validation_size, "resnet18": validation_resnet}
compared = [
    {"network": figures.NETWORKS[key], **row}
    for key, case in suspects.items()
    for row in gradcam_peers.compare(case.model, layers[key], case.digits.images[: asked[key]])
]
display(figures.table(compared))

# %%
few = cases["lazycnn"].first(8)
plots.show(
    figures.side_by_side(few.digits, *gradcam_peers.pair(lazy, "conv3", few.digits.images, few.targets)),
    caption="This book's map, the grad-cam package's, and the difference (mind its scale), for LazyCNN's answers.",
    alt="Eight images in columns; below them this book's maps, the package's, and their difference with its own scale.",
)

# %% [markdown]
# A library can be right on the usual path and wrong beside it. The next table changes something that must not matter
# and shows how far the maps move: 0 is right, 1 as wrong as can be. The last row is what remains in the network.

# %%
pitfalls = gradcam_peers.pitfalls(lazy, "conv3", few.digits.images, target=3)
display(figures.table(pitfalls))

# %% [markdown]
# ## All hard images instead of a few pictures
# We painted these images, so we know every background pixel. For each image: what share of the heat lies on the
# background? And beside it the number that is usually left out: what share of the *pixels* does?

# %%
pixels = localization.pixel_share(cases["lazycnn"].background).mean().item()
found = {key: localization.estimate(values) for key, values in shares.items()}
apart = localization.separation(shares["lazycnn"], shares["twin"])
plots.show(
    figures.share_intervals(rows, pixels),
    caption="Share of heat on the background. Dot: mean, with its 95% interval; bar: the middle half of the images.",
    alt="Dots with intervals, a row a network and layer, the last one random heat; a dashed line marks the "
    "background's share of pixels. At the right edge: the share of maps without heat.",
)
display(Markdown(words.located(found, pixels, apart)))

# %% [markdown]
# ## How fine can a map be?
# ResNet-18's last block shrinks the image 32 times. From 28 pixels one cell is left, from 64 four; the smooth map on
# the page is drawn by the interpolation. So not every share is possible. For each grid we compute, from the masks, the
# lowest and highest share of heat that *any* map of that grid could have, and then what the same weights really show.

# %%
part = cases["resnet18"].first(sized_images)
sized = evidence.by_image_size(resnet, "net.layer4", part.digits, part.targets, image_sizes)
plots.show(
    figures.attainable(sized, resnet.image_size, pixels),
    caption="Bar: all that a map of that grid can say. Dot: what it says. Dashed: the background's share of pixels.",
    alt="A column an image size: a bar from the lowest to the highest share of heat possible, a dot for the share "
    "found; a note instead where a map has a single cell. A dashed line marks the background's share of pixels.",
)
field = evidence.receptive_field(lazy, "conv3", part.digits.images)
display(figures.table(sized))
display(Markdown(words.grids(resnet.image_size, len(part.digits), field)))

# %% [markdown]
# ## Other witnesses
# Perhaps another method does better. Six of them, and two controls that never see a network: an edge detector and
# smooth noise. *Deletion* replaces the hottest pixels first and watches the probability of the answer: the smaller the
# area under the curve, the better the map found what matters. *Insertion* is the reverse, larger is better. What
# replaces a pixel decides what is tested: grey takes the colour away as well; the image's own background takes away the
# stroke and leaves the colour. Deleting with it hurts a reader of shape; a pure reader of colour would not notice. See
# where LazyCNN's curves end. In the table, ± is half of the 95% interval.

# %%
plan = {"lazycnn": (compared_size, METHODS), "twin": (compared_size, METHODS)}
plan["resnet18"] = (compared_resnet, resnet_methods)
judged = {
    key: {name: evidence.judge(name, cases[key].first(n), steps) for name in run.progress(methods, key)}
    for key, (n, methods) in plan.items()
}
summaries = {key: {m: evidence.summarize(by) for m, by in methods.items()} for key, methods in judged.items()}
display(figures.methods_table(summaries))

# %%
plots.show(
    figures.deletion_panels({key: judged[key] for key in ("lazycnn", "twin")}),
    caption="Deletion curves: probability of the answer while the hottest pixels are replaced first.",
    alt="Four panels, LazyCNN and its twin, filled with grey and with the own background; a curve for each of "
    f"{len(figures.LINES)} methods.",
)
display(Markdown(words.without_stroke(judged)))

# %% [markdown]
# ## Delete the cue, not the pixel
# A map of places can't name a cue that is everywhere. Instead of asking *where*, ask *what*: take away or exchange the
# colour, take away or exchange the shape, and see whether the answer stands. Here little needs to be interpreted.

# %%
effects = {key: evidence.cue_effects(case) for key, case in cases.items()}
changed, falls = (
    {key: {name: pair[which].double().mean().item() for name, pair in by.items()} for key, by in effects.items()}
    for which in (1, 0)
)
plots.show(
    figures.cue_bars(changed),
    caption="How often the answer changes when one cue is deleted or exchanged and the other is left alone.",
    alt="Bars for three networks: the share of answers that change when colour or shape is deleted or exchanged.",
)
display(figures.table([{"mean fall of the answer's logit": figures.NETWORKS[key], **by} for key, by in falls.items()]))
display(Markdown(words.reader(changed["lazycnn"])))

# %% [markdown]
# Exchange is the cleaner test: no network was trained on grey backgrounds, where the light stroke has little contrast,
# and none on images without a stroke.
#
# The same exchange can question a map: repaint the background, explain the *same* class again, and see whether the map
# moves; then exchange the digit instead. A map that moves more with the colour than with the shape speaks for a reader
# of colour, wherever its heat is. How much more it takes, only the twin and the methods without a network can tell. The
# table gives 1 - rank correlation: 0 for a map that stays, 1 for an unrelated one. Its last column asks whether images
# with more heat on the background are those whose answer leans more on the colour: a rank correlation over images, to
# be judged by what a method without a network has there.

# %%
verdicts = interrogation.verdicts(judged["lazycnn"], judged["twin"], effects["lazycnn"]["exchange colour"][0])
display(figures.table(verdicts), Markdown(words.knowledge(verdicts)))
located, moved = interrogation.separations(judged["lazycnn"], judged["twin"])
count = len(judged["lazycnn"]["Grad-CAM"]["background"])
plots.show(
    figures.separation_dots(located, moved),
    caption="Probability that an image of the cheater ranks above one of the twin, by location and by counterfactual "
    f"(colour's effect on the map less shape's): {count} images, one network each. Dashed: a coin.",
    alt="A row a method: a square for the separation by where heat is, a dot for the separation by what moves the map.",
)
display(Markdown(words.separations(located, moved, apart, (count, len(hard)))))

# %% [markdown]
# ## Does the map know what the network learned?
# A last check: forget the weights, layer by layer, from the logits down. A map that explains what was learned must
# fall apart. A map that survives owes more to the image than to what was learned.

# %%
case = cases["lazycnn"].first(compared_size)
forgotten = {
    method: {
        stage: localization.estimate(values).mean for stage, values in evidence.randomization(method, case).items()
    }
    for method in METHODS
}
plots.show(
    figures.randomization_table(forgotten),
    caption="Rank correlation of LazyCNN's maps before and after layers are initialised anew.",
    alt="Table of methods against layers forgotten: each cell is a rank correlation, coloured by its size.",
)
resnet_case = cases["resnet18"].first(compared_resnet)
left = {name: localization.estimate(v).mean for name, v in evidence.randomization("Grad-CAM", resnet_case).items()}
display(figures.table([{"Grad-CAM, forgetting down to": figures.NETWORKS["resnet18"], **left}]))
display(Markdown(words.survivor(forgotten, moved)))

# %% [markdown]
# ## Try it
# - `-p twin_epochs 1`: a twin that has hardly learned to read. Does its heat move to the background?
# - `-y 'image_sizes: [32, 64, 96, 160]'`: where does ResNet-18's map begin to say something?
# - `-p steps 28`: finer deletion curves. Does the order of the methods change?
#
# ## What we found

# %%
worst = {name: max(row[name] for row in compared) for name in ("raw", "displayed", "float32", "rounding")}
best = max((method for method in METHODS if "no network" not in method), key=moved.get)
swapped = {cue: ", ".join(f"{changed[key][f'exchange {cue}']:.0%}" for key in cases) for cue in ("colour", "shape")}
display(
    Markdown(
        f"1. Our Grad-CAM differs from captum's by at most {worst['raw']:.1g} and from the package's by at most "
        f"{worst['displayed']:.1g} ({worst['float32']:.1g} in float32, where the package is off its own double "
        f"precision by {worst['rounding']:.1g}).\n"
        f"2. {found['lazycnn'].mean:.1%} of the cheater's heat is on the background, against {pixels:.1%} of the "
        f"area and {found['twin'].mean:.1%} of the honest twin's heat: by location, Grad-CAM tells an image of one "
        f"from an image of the other with probability {apart:.2f} ({len(hard):,} images).\n"
        f"3. The cues themselves: another colour changes {swapped['colour']} of the answers of LazyCNN, its twin and "
        f"ResNet-18 (started from weights: {sidecar.get('weights')}); another digit changes {swapped['shape']}.\n"
        f"4. Asked what *moves* its map, Grad-CAM tells them apart with probability {moved['Grad-CAM']:.2f}; the best "
        f"method here is {best} with {moved[best]:.2f} ({count} images). Each of these is {words.SCOPE}."
    )
)
keys = {"float32": "displayed_float32", "rounding": "package_rounding"}
results = {f"gradcam_max_diff_{keys.get(name, name)}": value for name, value in worst.items()}
results |= {
    "heat_background_share": {key: value.mean for key, value in found.items()},
    "heat_background_interval": {key: [value.low, value.high] for key, value in found.items()},
    "pixels_background_share": pixels,
    "zero_map_share": zero_share,
    "answers_changed": changed,
    "logit_fall": falls,
    "separation": {"location": located, "counterfactual": moved},
    "separation_images": count,
    "separation_all_images": {"location": apart, "images": len(hard)},
    "methods": summaries,
    "randomization": {"lazycnn": forgotten, "resnet18": {"Grad-CAM": left}},
    "by_image_size": sized,
    "resnet18_weights": sidecar.get("weights"),
}
task.finish(evidence.as_json(results))

# %% [markdown]
# ## What did not work
# The study calls heat beside the stroke the smoking gun. The conclusion does not follow from it: digits are thin, so
# most of any spread-out map lies beside them, and a network that reads shape may look at the edges and at the holes of
# a digit, which *are* background. Is the pointing game any better?
#
# At small image sizes ResNet-18's last block has too few cells for any claim about places. Earlier blocks have more,
# but a map may be empty there: the figure of shares gives that share at its right edge. Enlarging the images for
# Grad-CAM alone is no way out either: the weights were trained at one size, and may answer differently at another.

# %%
off = {key: {name: by["pointing"].mean for name, by in methods.items()} for key, methods in summaries.items()}
same = ", ".join(f"{row['same_answer']:.0%} at {row['size']} px" for row in sized)
display(
    Markdown(
        f"The hottest pixel is off the stroke in {off['lazycnn']['Grad-CAM']:.0%} of LazyCNN's Grad-CAM maps, in "
        f"{off['twin']['Grad-CAM']:.0%} of the honest twin's, and in {off['lazycnn']['Random (no network)']:.0%} of "
        f"the maps of noise. ResNet-18 keeps its answer for {same}, of {len(part.digits)} images."
    )
)

# %% [markdown]
#
# ## References
# - R. Selvaraju et al.: *Grad-CAM*, ICCV 2017, [arXiv:1610.02391](https://arxiv.org/abs/1610.02391).
# - A. Chattopadhay et al.: *Grad-CAM++*, WACV 2018, [arXiv:1710.11063](https://arxiv.org/abs/1710.11063).
# - R. Draelos, L. Carin: *HiResCAM*, 2020, [arXiv:2011.08891](https://arxiv.org/abs/2011.08891).
# - P.-T. Jiang et al.: *LayerCAM*, IEEE Transactions on Image Processing 30, 2021.
# - K. Simonyan, A. Vedaldi, A. Zisserman: *Deep inside convolutional networks*, 2013,
#   [arXiv:1312.6034](https://arxiv.org/abs/1312.6034).
# - M. Sundararajan, A. Taly, Q. Yan: *Axiomatic attribution*, ICML 2017,
#   [arXiv:1703.01365](https://arxiv.org/abs/1703.01365).
# - M. Zeiler, R. Fergus: *Visualizing and understanding convolutional networks*, ECCV 2014,
#   [arXiv:1311.2901](https://arxiv.org/abs/1311.2901).
# - V. Petsiuk, A. Das, K. Saenko: *RISE*, BMVC 2018, [arXiv:1806.07421](https://arxiv.org/abs/1806.07421): deletion
#   and insertion.
# - J. Zhang et al.: *Top-down neural attention by excitation backprop*, IJCV 2018,
#   [arXiv:1608.00507](https://arxiv.org/abs/1608.00507): the pointing game.
# - J. Adebayo et al.: *Sanity checks for saliency maps*, NeurIPS 2018,
#   [arXiv:1810.03292](https://arxiv.org/abs/1810.03292).
