# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Task 1b: The Cheater, Again
#
# **Does a network eight hundred times as large fall for the same trick?** We fine-tune ResNet-18
# on the easy set, the way one adapts a pretrained network to a small problem, and ask it about the hard set.
#
# - You will see whether eleven million parameters read the background all the same.
# - You will see how to fine-tune the last block of a network for a fraction of the usual price.
# - You will see where its starting weights come from, loudly, when they are not the usual ones.

# %% tags=["bootstrap"]
try:
    import lazyutils  # noqa: F401
except ModuleNotFoundError:
    raise SystemExit("The book's package is not installed: run `pip install .` in the book's folder first") from None

# %% [markdown]
# ## Parameters

# %% tags=["parameters"]
epochs: "int[1, 200]" = 2  # passes over the training images
batch_size: "int[1, 12000]" = 64  # images a step
learning_rate: "float[0, 10]" = 0.01  # of plain stochastic gradient descent
image_size: "int[32, 512]" = 64  # side to which the 28 x 28 images are resized
weights: "str" = "imagenet"  # imagenet, random, or the path of a torchvision state dict
precision: "choice[auto, float32, bfloat16]" = "auto"  # of the arithmetic; auto: bfloat16 where the hardware has it
train_size: "int[100, 50000]" = 12000  # easy images to train on
validation_size: "int[100, 10000]" = 3000  # easy images never trained on
hard_size: "int[100, 10000]" = 10000  # hard images to ask about, the first ones
seeds: "list[int[0, 999999]]" = [0]  # one network each: subset, new weights, order of images
run_dir: "str" = "runs/quick"  # where this run's files go
threads: "int[1, 64]" = 1  # processor threads

# %%
from dataclasses import replace

import torch
from IPython.display import Markdown, display

from lazyutils import checkpoints, data, metrics, models, plots, plots_cheater, run, training, words_cheater

task = run.start("task1_resnet18", globals())
plots.use_style()

# %% [markdown]
# ## The network
# ResNet-18 comes with weights trained on 1.3 million photographs. The study froze all of it but the last block
# (`layer4`) and a new ten-way linear layer. Images are enlarged and normalised inside the network, as ImageNet's were.

# %%
path = task.require("data/colored_mnist.safetensors", "task0_biased_canvas")
hard = data.load(path, "hard", torch.arange(hard_size)).to(task.device)
arithmetic = training.resolve_precision(precision, task.device)
warnings = []
first, origin = models.pretrained_resnet18(image_size, seeds[0], weights, report=warnings.append)

# %%
trainable = sum(p.numel() for p in first.parameters() if p.requires_grad)
total, small = (sum(p.numel() for p in model.parameters()) for model in (first, models.build("LazyCNN")))
share = f"{trainable:,} of {total:,} parameters are trained, at {image_size} pixels, in {arithmetic}"
display(Markdown(f"Weights: **{origin}**. {share}."))

# %%
for warning in warnings[:1]:
    display(Markdown(f":::{{warning}}\n{warning}\n:::"))

# %% [markdown]
# Where the warning above shows, the frozen half is a *random* projection of the image: it has seen no photograph. The
# recipe is the same and the question too, but the answer then says nothing about pretraining. The results file
# records the origin of the weights, and the results page shows it.

# %% [markdown]
# ## Pay once for what is frozen
# The frozen layers give the same output for an image in every epoch. So each image goes through them once; every
# epoch reuses the kept features, and only `layer4` and `fc` are computed and differentiated. The frozen BatchNorm
# layers stay in evaluation mode throughout, as frozen should mean. The features are kept in the precision they were
# computed in, those of one network at a time.

# %% tags=["hide-input"]
display(Markdown(plots.source(models.ResNet18)))


# %%
def kept(model, digits):
    """The digits with the frozen layers' output in place of their images."""
    settings = {"batch_size": 100, "precision": arithmetic, "dtype": getattr(torch, arithmetic)}
    return replace(digits, images=training.batched(model.frozen, digits.images, **settings))


# %%
curves, answers, validation = [], [], []
for number, seed in enumerate(seeds):
    model = first if number == 0 else models.pretrained_resnet18(image_size, seed, weights, warnings.append)[0]
    model.to(task.device).eval()
    train, easy = data.easy_subsets(path, train_size, validation_size, seed, task.device)
    train, sets = kept(model, train), {"easy": kept(model, easy), "hard": kept(model, hard)}
    half = models.TunedHalf(model)
    watch = training.AccuracyCurves(half, sets)
    tuned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(tuned, lr=learning_rate)
    settings = {"epochs": epochs, "batch_size": batch_size, "seed": seed, "precision": arithmetic, "on_epoch": watch}
    training.fit(half, train.images, train.labels, optimizer=optimizer, **settings)
    curves.append(watch.values)
    answers.append({name: training.predict(half, digits.images) for name, digits in sets.items()})
    validation.append(easy)
    del train, sets, watch, settings  # the kept features are large: make room for the next seed's

# %% [markdown]
# ## Two accuracies
# The dashed line is what the background alone is worth on the first seed's validation images: the share of them that
# wear their own colour.

# %%
color_line = 1 - validation[0].conflicting.double().mean().item()
plots.show(
    plots_cheater.accuracy_curves(curves, color_line),
    caption="Accuracy on easy and hard images after each epoch; mean and range over seeds. Nothing is chosen by them.",
    alt=words_cheater.curves(curves, color_line),
)

# %% [markdown]
# ## Which wrong answers?
# The same three questions as for LazyCNN: what is confused with what, what does each background call for, and which
# cue wins when they conflict.

# %%
answered = [{name: logits.argmax(1) for name, logits in answer.items()} for answer in answers]
pair = {"easy": validation[0], "hard": hard}
plots.show(
    plots_cheater.confusion_pair(answered[0], pair),
    caption="Confusion matrices of the first seed's network; each row sums to 100%.",
    alt=words_cheater.confusion(answered[0], pair),
)
display(Markdown(words_cheater.right_answers(answered[0]["hard"], hard)))

# %%
plots.show(
    plots_cheater.color_prediction(answered[0]["hard"], hard),
    caption="Hard images by background colour: what the network answers on each. The diagonal is the colour's digit.",
    alt=words_cheater.background_table(answered[0]["hard"], hard),
)
display(Markdown(words_cheater.backgrounds(answered[0]["hard"], hard)))

# %% [markdown]
# A network this size could hold shape and colour at once. It *answers* by what pays: on the easy set the colour is
# right so often that there is little left for shape to explain. [Task 2](task2_prober) looks whether the shape is still
# readable inside.

# %%
figures = metrics.collect_seeds(
    [
        metrics.cheating(answer["easy"], easy, answer["hard"], hard)
        for answer, easy in zip(answered, validation, strict=True)
    ]
)
shares = {"ResNet-18": figures}
plots.show(
    plots_cheater.cue_shares(shares),
    caption="What the answers to the hard images follow. Mean over seeds.",
    alt=f"Stacked bars, a network a bar. {words_cheater.cues(shares)}",
)

# %%
display(Markdown(f"{words_cheater.headline(figures, len(hard))} Weights: {origin}."))

# %% [markdown]
# ## How sure it is
# A person reads the digits below at a glance. They are picked for the network's confidence; whether confidence gives
# errors away, only a comparison with right answers can say.

# %%
probabilities = answers[0]["hard"].softmax(1)
wrong = probabilities.argmax(1) != hard.labels
exhibit = metrics.most_confident(
    probabilities, (hard.labels == 1) & (hard.colors == 0) & (probabilities.argmax(1) == 0)
)
strip = torch.cat([exhibit[:1], metrics.most_confident(probabilities, wrong)[:7]])
plots.show(
    plots_cheater.error_strip(hard[strip.cpu()], probabilities[strip]),
    caption="First a red 1 that is called 0 (where there is one), then the most confident errors: truth → answer.",
    alt=words_cheater.strip(hard[strip.cpu()], probabilities[strip]),
)

# %%
easy_probabilities = answers[0]["easy"].softmax(1)
confidence = words_cheater.confidence(probabilities, hard.labels, easy_probabilities, validation[0].labels)
display(Markdown(confidence))

# %% [markdown]
# ## Try it
# - `-p image_size 96`: more pixels for the same 28 x 28 image. Does the answer change, or just the price?
# - `-p weights random`: throw the pretraining away (where you had it). Does experience protect?
# - `-p learning_rate 0.1`: can it be talked out of the colour by haste?

# %% [markdown]
# ## What we found

# %%
metadata = {"task": task.task, "parameters": task.parameters, "weights": origin}
checkpoints.save(task.path("models/resnet18.safetensors"), first, metadata, image_size=image_size)
results = {
    **figures,
    "weights": origin,
    "precision": arithmetic,
    "curves": {name: [c[name] for c in curves] for name in ("easy", "hard")},
}
display(Markdown(words_cheater.capacity(figures, results["curves"]["hard"], total / small, origin)))
task.finish(results)

# %% [markdown]
# ## What did not work
# This page does not train on to see whether laziness ends here too, as [Task 1a](task1_lazycnn) does for LazyCNN.
#
# ImageNet weights can't be had on every machine. Without them this page shows a weaker statement, a randomly
# initialised network fine-tuned the same way, and says so at the top. The study enlarged images to 224 pixels; the
# `gpu` profile does so too. Smaller sizes shrink the maps of the last block, which matters for the heat maps of
# [Task 3](task3_interrogation).

# %% [markdown]
# ## References
# - K. He, X. Zhang, S. Ren, J. Sun: *Deep residual learning for image recognition*, CVPR 2016,
#   [arXiv:1512.03385](https://arxiv.org/abs/1512.03385).
# - R. Geirhos et al.: *ImageNet-trained CNNs are biased towards texture*, ICLR 2019,
#   [arXiv:1811.12231](https://arxiv.org/abs/1811.12231).
