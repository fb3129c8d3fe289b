# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Task 1a: The Cheater
#
# **What does a small network learn when colour and shape both predict the digit?** We train the study's LazyCNN on
# the easy set of [Task 0](task0_biased_canvas) and ask it about the hard set.
#
# - You will see what happens to a network's accuracy when the colours stop telling the truth.
# - You will see *which* wrong answers it gives, and how sure it is of them.
# - You will see what far more patience than the study had does to the cheating.

# %% tags=["bootstrap"]
try:
    import lazyutils  # noqa: F401
except ModuleNotFoundError:
    raise SystemExit("The book's package is not installed: run `pip install .` in the book's folder first") from None

# %% [markdown]
# ## Parameters

# %% tags=["parameters"]
epochs: "int[1, 500]" = 15  # passes over the training images
batch_size: "int[1, 12000]" = 700  # images a step
learning_rate: "float[0, 10]" = 0.01  # of plain stochastic gradient descent
precision: "choice[auto, float32, bfloat16]" = "auto"  # of the arithmetic; auto: bfloat16 where the hardware has it
train_size: "int[100, 50000]" = 12000  # easy images to train on
validation_size: "int[100, 10000]" = 3000  # easy images never trained on
seeds: "list[int[0, 999999]]" = [0]  # one network each: subset, initial weights, order of images
laziness_epochs: "int[1, 1000]" = 40  # until which the first seed's network is trained on
critic_epochs: "int[1, 100]" = 3  # length of the colour critic's training
run_dir: "str" = "runs/quick"  # where this run's files go
threads: "int[1, 64]" = 1  # processor threads

# %%
import copy

import torch
from IPython.display import Markdown, display

from lazyutils import checkpoints, data, metrics, models, plots, plots_cheater, run, training, words_cheater

task = run.start("task1_lazycnn", globals())
plots.use_style()

# %% [markdown]
# ## The data
# The study trained on a quarter of the easy images and validated on another slice of them, both drawn so that every
# digit keeps its share. Each seed draws its own subset. All 10,000 hard images are kept for the question at the end.

# %%
path = task.require("data/colored_mnist.safetensors", "task0_biased_canvas")
hard = data.load(path, "hard").to(task.device)
splits = [data.easy_subsets(path, train_size, validation_size, seed, task.device) for seed in seeds]
arithmetic = training.resolve_precision(precision, task.device)
conflicts = int(splits[0][0].conflicting.sum())
display(Markdown(f"{conflicts} of the first seed's {train_size:,} training images wear a colour that misleads."))

# %% [markdown]
# ## The network
# Three convolutions with ReLU, one linear layer; no BatchNorm, no pooling. The first kernels are 9 x 9, wide enough
# to average a background and wide enough to see a stroke. Nothing forces the network into either.

# %% tags=["hide-input"]
display(Markdown(plots.source(models.LazyCNN)))

# %% [markdown]
# ## Training
# Plain stochastic gradient descent at 0.01 for 15 epochs, as in the study. It names no batch size and no input
# scaling; both decide how many effective steps the network takes, and so how lazy it stays. We take ImageNet's
# scaling, as for ResNet-18, and a batch of 700, both chosen with the hard accuracy in view: this page makes a cheater
# on purpose and tests no method. Its accuracies are a demonstration and not a test. The arithmetic is bfloat16 where
# the hardware has it, which moves the accuracies far less than another seed does. After each epoch we note the accuracy
# on both sets, and pick no epoch by it.

# %%
settings = {"batch_size": batch_size, "loss": training.folded_cross_entropy, "precision": arithmetic}
networks, curves = [], []
for seed, (train, easy) in zip(seeds, splits, strict=True):
    model = models.build("LazyCNN", seed).to(task.device)
    watch = training.AccuracyCurves(model, {"easy": easy, "hard": hard})
    optimizer = torch.optim.SGD(model.parameters(), lr=learning_rate)
    own = {"epochs": epochs, "seed": seed, "on_epoch": watch}
    training.fit(model, train.images, train.labels, optimizer=optimizer, **own, **settings)
    networks.append(model)
    curves.append(watch.values)

# %% [markdown]
# ## A reference that can't see shape
# To know what pure cheating would score, we train a critic of 1 x 1 convolutions and an average over the image. It
# reads colour and is blind to shape by construction: whatever it scores, no stroke was involved.

# %%
train, easy = splits[0]
critic = models.build("ColorCritic", seeds[0]).to(task.device)
optimizer = torch.optim.Adam(critic.parameters(), lr=0.01)
training.fit(critic, train.images, train.labels, optimizer=optimizer, epochs=critic_epochs, batch_size=128)
critic_figures = metrics.cheating(
    training.predict(critic, easy.images).argmax(1), easy, training.predict(critic, hard.images).argmax(1), hard
)

# %%
plots.show(
    plots_cheater.accuracy_curves(curves, critic_figures["easy_accuracy"]),
    caption="Accuracy on easy and hard images after each epoch; mean and range over seeds. Nothing is chosen by them.",
    alt=words_cheater.curves(curves, critic_figures["easy_accuracy"]),
)

# %% [markdown]
# The dashed line is where the critic stops, which knows colours and nothing else; the dotted one is guessing. LazyCNN
# may end a little below the critic, though it has some shape to add: 15 epochs are too few to tell all colours apart.
# Brown lies between red, orange and black. In two runs that we looked into, it had a part in 52% and 88% of the errors
# on images in their digit's own colour.
#
# A hard accuracy near guessing proves little: a guesser, and a cheater who has picked up some shape, look the same in
# one number.
#
# ## Which wrong answers?
# They differ in the confusion matrix. A network that guesses fills the hard matrix evenly; a network that does nothing
# but cheat never hits the diagonal, since no hard image wears its own colour.

# %%
answers = [
    {"easy": training.predict(model, easy.images).argmax(1), "hard": training.predict(model, hard.images).argmax(1)}
    for model, (_, easy) in zip(networks, splits, strict=True)
]
sets = {"easy": splits[0][1], "hard": hard}
plots.show(
    plots_cheater.confusion_pair(answers[0], sets),
    caption="Confusion matrices of the first seed's network; each row sums to 100%.",
    alt=words_cheater.confusion(answers[0], sets),
)
display(Markdown(words_cheater.right_answers(answers[0]["hard"], hard)))

# %% [markdown]
# Now sort the same answers by background instead of by digit. Which colours call for their own digit?

# %%
plots.show(
    plots_cheater.color_prediction(answers[0]["hard"], hard),
    caption="Hard images by background colour: what the network answers on each. The diagonal is the colour's digit.",
    alt=words_cheater.background_table(answers[0]["hard"], hard),
)
display(Markdown(words_cheater.backgrounds(answers[0]["hard"], hard)))

# %% [markdown]
# ## One digit, ten backgrounds
# The plainest experiment of all: take one handwritten 1 and repaint what is behind it. The stroke stays the same.

# %% tags=["hero"]
ten = data.recolor(hard[(hard.labels == 1).nonzero()[[0] * 10, 0]], torch.arange(10), **data.look(path))
called = training.predict(networks[0], ten.images).argmax(1).tolist()
plots.show(
    plots_cheater.repainted(ten, called),
    caption="The same 1 on ten backgrounds and the answers. Orange: the background's digit. Blue: the true one.",
    alt=f"One handwritten 1 on ten backgrounds, {', '.join(data.COLOR_NAMES)}. Answers in this order: {called}.",
)

# %% [markdown]
# ## Digit, colour, or neither
# Every hard image is a conflict of cues: the stroke says one digit, the background another. Counting who wins gives
# the **shape bias** of Geirhos et al.: digit / (digit + colour). It is 1 for a reader of digits, 0 for a cheater.

# %%
figures = metrics.collect_seeds(
    [
        metrics.cheating(answer["easy"], easy, answer["hard"], hard)
        for answer, (_, easy) in zip(answers, splits, strict=True)
    ]
)
shares = {"LazyCNN": figures, "colour critic": metrics.collect_seeds([critic_figures])}
plots.show(
    plots_cheater.cue_shares(shares),
    caption="What the answers to the hard images follow. Mean over seeds.",
    alt=f"Stacked bars, a network a bar. {words_cheater.cues(shares)}",
)

# %%
display(Markdown(words_cheater.headline(figures, len(hard))))

# %% [markdown]
# ## Caught red-handed
# The study's exhibit is a red 1 that is called 0. Here is the one on which our network is surest, if there is one, and
# beside it its most confident errors of all. They are picked for their confidence; whether confidence gives errors
# away, only a comparison with right answers can say.

# %%
probabilities = training.predict(networks[0], hard.images).softmax(1)
wrong = probabilities.argmax(1) != hard.labels
red_one = (hard.labels == 1) & (hard.colors == 0)
exhibit = metrics.most_confident(probabilities, red_one & (probabilities.argmax(1) == 0))
strip = torch.cat([exhibit[:1], metrics.most_confident(probabilities, wrong)[:7]])
plots.show(
    plots_cheater.error_strip(hard[strip.cpu()], probabilities[strip]),
    caption="First the red 1 (where there is one that is called 0), then the most confident errors: truth → answer.",
    alt=words_cheater.strip(hard[strip.cpu()], probabilities[strip]),
)

# %%
called_zero = probabilities[red_one].argmax(1) == 0
easy_probabilities = training.predict(networks[0], easy.images).softmax(1)
confidence = words_cheater.confidence(probabilities, hard.labels, easy_probabilities, easy.labels)
display(Markdown(f"{int(called_zero.sum())} of the {len(called_zero)} red 1s are called 0. {confidence}"))

# %% [markdown]
# ## Has laziness an end?
# The exceptions in the training set are few but they are there. A network that is trained on can start to fit them,
# and with them some shape: then how lazy the cheater is depends on when one stops looking.

# %%
long_model = copy.deepcopy(networks[0])
so_far = {name: list(values) for name, values in curves[0].items()}
long_watch = training.AccuracyCurves(long_model, {"easy": easy, "hard": hard}, so_far)
if laziness_epochs > epochs:
    optimizer = torch.optim.SGD(long_model.parameters(), lr=learning_rate)
    own = {"epochs": laziness_epochs - epochs, "seed": seeds[0], "on_epoch": long_watch}
    training.fit(long_model, train.images, train.labels, optimizer=optimizer, **own, **settings)

# %%
moved = words_cheater.trained_on(long_watch.values, epochs)
plots.show(
    plots_cheater.laziness(long_watch.values, epochs, critic_figures["easy_accuracy"]),
    caption="The first seed's network, trained on. The vertical line is where this page's network stopped.",
    alt=f"Two accuracy curves with a vertical line at epoch {epochs}. {moved}",
)

# %% [markdown]
# ## Try it
# - `-p batch_size 64`: eleven times as many steps. The easy accuracy hardly moves; watch the hard one.
# - `-p epochs 5`: before the network knows its colours well, is it lazier still?
# - `-y 'seeds: [0, 1, 2, 3, 4]'`: how much of all this is luck of the initial weights?

# %% [markdown]
# ## What we found

# %%
checkpoints.save(
    task.path("models/lazycnn.safetensors"), networks[0], {"task": task.task, "parameters": task.parameters}
)
aligned = metrics.over_seeds([1 - easy.conflicting.double().mean().item() for _, easy in splits])
figures |= {
    "precision": arithmetic,
    "aligned_validation": aligned,
    "critic": critic_figures,
    "curves": {name: [seed_curves[name] for seed_curves in curves] for name in ("easy", "hard")},
    "laziness": long_watch.values,
}
display(
    Markdown(
        f"LazyCNN reaches {plots.percent(figures['easy_accuracy']['mean'])} on the easy set and "
        f"{plots.percent(figures['hard_accuracy']['mean'])} on the hard set (means of {len(seeds)} network(s)). "
        f"{moved} The easy images held out for validation have the training set's bias: whoever reads every colour "
        f"rightly and no shape scores {plots.mean_sd(aligned)} on them (over seeds), and "
        f"{plots.percent(aligned['values'][0])} on the first seed's, where the colour critic reaches "
        f"{plots.percent(critic_figures['easy_accuracy'])}."
    )
)
task.finish(figures)

# %% [markdown]
# ## What did not work
# The study reports 7.04% on the hard set, one run. A seed here draws the subset, the initial weights and the order of
# the images, and one run can't say how much hangs on that. We report the range over seeds instead of the best one, and
# vary no other setting on this page but the number of epochs.
#
# Nor could we have both, 95% on the easy set and under 10% on the hard one. We tried six settings with three seeds
# each, with the last weights and with weights averaged over one epoch or three: pixels from 0 to 1, from -1 to 1 and
# in ImageNet's scaling, batches of 64, 256 and 700, a weight decay of 0.03. While the mean hard accuracy was below
# 10%, the mean easy accuracy never passed 94.8%; where it reached 95%, the hard one had passed 15%. Colour alone scores
# 94.8% on the validation images of these seeds, so that more than this takes shape.

# %% [markdown]
# ## References
# - R. Geirhos et al.: *ImageNet-trained CNNs are biased towards texture*, ICLR 2019,
#   [arXiv:1811.12231](https://arxiv.org/abs/1811.12231): cue conflicts and shape bias.
# - H. Shah et al.: *The pitfalls of simplicity bias in neural networks*, NeurIPS 2020,
#   [arXiv:2006.07710](https://arxiv.org/abs/2006.07710).
