"""The networks. Each takes images in [0, 1], ``[N, 3, 28, 28]``, normalises inside, returns logits ``[N, 10]``."""

from __future__ import annotations

import hashlib
import os
import pickle
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lazyutils.errors import ClearError, DamagedFileError
from lazyutils.fold import replaced

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_SD = (0.229, 0.224, 0.225)
TINY = 9
"""Positions of a map, up to which a convolution in bfloat16 is fastest as a matrix product."""
UNREADABLE = (RuntimeError, EOFError, pickle.UnpicklingError)
"""What ``torch.load`` raises for a file that is cut short or no checkpoint."""


class Normalize(nn.Module):
    """Channel-wise ``(x - mean) / sd`` with constants that travel with the model."""

    def __init__(self, mean: tuple[float, ...], sd: tuple[float, ...]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("sd", torch.tensor(sd).view(1, -1, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.sd


class LazyCNN(nn.Module):
    """The study's cheater: three convolutions and a linear layer, no BatchNorm, no pooling (12,842 parameters)."""

    def __init__(self) -> None:
        super().__init__()
        self.normalize = Normalize(IMAGENET_MEAN, IMAGENET_SD)
        self.conv1 = nn.Conv2d(3, 6, 9)  # 28 -> 20
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(6, 8, 7)  # 20 -> 14
        self.relu2 = nn.ReLU()
        self.conv3 = nn.Conv2d(8, 16, 3, stride=2, padding=1)  # 14 -> 7
        self.relu3 = nn.ReLU()
        self.fc = nn.Linear(16 * 7 * 7, 10)

    def features(self, x: Tensor) -> Tensor:
        """Output of the last convolution after ReLU, ``[N, 16, 7, 7]``."""
        x = self.relu1(self.conv1(self.normalize(x)))
        x = self.relu2(self.conv2(x))
        return self.relu3(self.conv3(x))

    def classify(self, features: Tensor) -> Tensor:
        """Logits from ``features``."""
        return self.fc(features.flatten(1))

    def forward(self, x: Tensor) -> Tensor:
        return self.classify(self.features(x))


class RobustCNN(nn.Module):
    """The study's remedy: wider, with BatchNorm and max pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.normalize = Normalize((0.5,) * 3, (0.5,) * 3)
        self.conv1 = nn.Conv2d(3, 32, 5, padding=2)
        self.bn1 = nn.BatchNorm2d(32)
        self.relu1 = nn.ReLU()
        self.pool1 = nn.MaxPool2d(2)  # 28 -> 14
        self.conv2 = nn.Conv2d(32, 64, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(64)
        self.relu2 = nn.ReLU()
        self.pool2 = nn.MaxPool2d(2)  # 14 -> 7
        self.conv3 = nn.Conv2d(64, 128, 3, padding=1)
        self.bn3 = nn.BatchNorm2d(128)
        self.relu3 = nn.ReLU()
        self.fc = nn.Linear(128 * 7 * 7, 10)

    def features(self, x: Tensor) -> Tensor:
        """Output of the last convolution after BatchNorm and ReLU, ``[N, 128, 7, 7]``."""
        x = self.pool1(self.relu1(self.bn1(self.conv1(self.normalize(x)))))
        x = self.pool2(self.relu2(self.bn2(self.conv2(x))))
        return self.relu3(self.bn3(self.conv3(x)))

    def classify(self, features: Tensor) -> Tensor:
        """Logits from ``features``."""
        return self.fc(features.flatten(1))

    def forward(self, x: Tensor) -> Tensor:
        return self.classify(self.features(x))


class ColorCritic(nn.Module):
    """1x1 convolutions and global average pooling: it can read colour and cannot see shape."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.normalize = Normalize((0.5,) * 3, (0.5,) * 3)
        self.conv1 = nn.Conv2d(3, width, 1)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(width, width, 1)
        self.relu2 = nn.ReLU()
        self.fc = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu1(self.conv1(self.normalize(x)))
        return self.fc(self.relu2(self.conv2(x)).mean(dim=(2, 3)))


class ResNet18(nn.Module):
    """torchvision's ResNet-18 with a new 10-class head; resizes to ``image_size`` and normalises inside.

    ``frozen`` (everything up to layer3) and ``tuned`` (layer4, pooling, fc) are its two halves: the
    study trains the second only, so the first can be computed once.
    """

    def __init__(self, image_size: int = 224) -> None:
        from torchvision.models import resnet18  # noqa: PLC0415 seconds, which small networks save

        super().__init__()
        self.image_size = image_size
        self.normalize = Normalize(IMAGENET_MEAN, IMAGENET_SD)
        self.net = resnet18()
        self.net.fc = nn.Linear(self.net.fc.in_features, 10)

    def frozen(self, x: Tensor) -> Tensor:
        """Output of layer3, ``[N, 256, image_size / 16, image_size / 16]``."""
        size = (self.image_size, self.image_size)
        x = self.normalize(F.interpolate(x, size=size, mode="bilinear", align_corners=False))
        x = self.net.maxpool(self.net.relu(self.net.bn1(self.net.conv1(x))))
        return self.net.layer3(self.net.layer2(self.net.layer1(x)))

    def features(self, x: Tensor) -> Tensor:
        """Output of layer4, ``[N, 512, image_size / 32, image_size / 32]``."""
        return self.net.layer4(self.frozen(x))

    def classify(self, features: Tensor) -> Tensor:
        """Logits from ``features``."""
        return self.net.fc(self.net.avgpool(features).flatten(1))

    def tuned(self, x: Tensor) -> Tensor:
        """Logits from the output of layer3."""
        return self.classify(self.net.layer4(x))

    def forward(self, x: Tensor) -> Tensor:
        return self.tuned(self.frozen(x))


class TunedHalf(nn.Module):
    """A ResNet-18's trainable half as a network of its own: the output of layer3 in, logits out.

    Takes features in bfloat16 as well. Computes in autocast's precision, outside of it in float32.
    """

    def __init__(self, model: ResNet18) -> None:
        super().__init__()
        self.model = model

    def forward(self, features: Tensor) -> Tensor:
        device = features.device.type
        precision = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else torch.float32
        with by_columns(self.model.net.layer4) if device == "cpu" else nullcontext():
            return self.model.tuned(features.to(precision))


class ColumnConv2d(torch.autograd.Function):
    """A convolution whose weight gradient is one matrix product over the image's columns.

    As in Chellapilla, Puri, Simard, "High performance convolutional neural networks for document processing" (2006).
    On maps as small as layer4's, oneDNN's own weight gradient takes several times as long on a processor; on
    ``tiny`` ones so do the rest of its convolution's steps, which then are products as well.
    """

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, stride: tuple[int, int], padding: tuple[int, int]) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.place = stride, padding
        height, width = ((x.shape[i] + 2 * padding[i - 2] - weight.shape[i]) // stride[i - 2] + 1 for i in (2, 3))
        ctx.tiny = x.dtype == torch.bfloat16 and height * width <= TINY
        if not ctx.tiny:
            return F.conv2d(x, weight, None, stride, padding)
        out = columns(x, weight.shape[2:], stride, padding) @ kernel_rows(weight).t()
        return out.unflatten(0, (len(x), height, width)).permute(0, 3, 1, 2)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        rows = gradient.permute(0, 2, 3, 1).flatten(0, 2)
        to_x = None
        if ctx.needs_input_grad[0] and ctx.tiny:
            to_x = from_columns(rows @ kernel_rows(weight), x.shape, weight.shape[2:], *ctx.place)
        elif ctx.needs_input_grad[0]:
            to_x = torch.nn.grad.conv2d_input(x.shape, weight, gradient, *ctx.place)
        to_weight = rows.t() @ columns(x, weight.shape[2:], *ctx.place)
        return to_x, to_weight.unflatten(1, (*weight.shape[2:], -1)).permute(0, 3, 1, 2), None, None


def kernel_rows(weight: Tensor) -> Tensor:
    """A kernel ``[O, C, k, k]`` as one row each output channel, ``[O, k k C]``."""
    return weight.permute(0, 2, 3, 1).flatten(1)


def columns(x: Tensor, size: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int]) -> Tensor:
    """What a kernel of ``size`` sees at each position of ``x [N, C, H, W]``: ``[N positions, size size C]``."""
    padded = F.pad(x, (padding[1], padding[1], padding[0], padding[0]))
    windows = padded.unfold(2, size[0], stride[0]).unfold(3, size[1], stride[1])
    return windows.permute(0, 2, 3, 4, 5, 1).flatten(3).flatten(0, 2)


def from_columns(
    rows: Tensor, shape: torch.Size, size: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int]
) -> Tensor:
    """The transpose of ``columns``: each position's window added to where it came from, ``[N, C, H, W]``."""
    n, channels, height, width = shape
    padded = rows.new_zeros(n, height + 2 * padding[0], width + 2 * padding[1], channels)
    windows = padded.unfold(1, size[0], stride[0]).unfold(2, size[1], stride[1])  # [N, h, w, C, size, size], a view
    parts = rows.view(*windows.shape[:3], *size, channels)
    for i in range(size[0]):
        for j in range(size[1]):
            windows[..., i, j] += parts[..., i, j, :]
    return padded[:, padding[0] : padding[0] + height, padding[1] : padding[1] + width].permute(0, 3, 1, 2)


def by_columns(block: nn.Module) -> AbstractContextManager[None]:
    """Inside, the convolutions of ``block`` (no bias, no groups) are ``ColumnConv2d`` in their input's precision."""

    def columnwise(conv: nn.Conv2d) -> Callable[[Tensor], Tensor]:
        return lambda x: ColumnConv2d.apply(x, conv.weight.to(x.dtype), conv.stride, conv.padding)

    return replaced({conv: columnwise(conv) for conv in block.modules() if isinstance(conv, nn.Conv2d)})


ARCHITECTURES: dict[str, Callable[..., nn.Module]] = {
    model.__name__: model for model in (LazyCNN, RobustCNN, ColorCritic, ResNet18)
}


def build(architecture: str, seed: int = 0, **options: int) -> nn.Module:
    """A freshly initialised network; the global random state is left as it was.

    Raises:
        ClearError: the architecture is not in ``ARCHITECTURES``.
    """
    if architecture not in ARCHITECTURES:
        raise ClearError(f"unknown architecture {architecture!r}: choose one of {', '.join(ARCHITECTURES)}")
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return ARCHITECTURES[architecture](**options)


def pretrained_resnet18(
    image_size: int = 224, seed: int = 0, weights: str | Path = "imagenet", report: Callable[[str], None] = print
) -> tuple[ResNet18, str]:
    """ResNet-18 with ImageNet weights, all frozen but layer4 and fc.

    Args:
        image_size: side to which images are resized, in pixels.
        seed: initialisation of what the weights do not supply.
        weights: ``"imagenet"`` (torchvision's, from ``$TORCH_HOME`` or downloaded), ``"random"``, or
            the path of a torchvision state dict.
        report: receives the warning when ImageNet weights can't be had.

    Returns:
        The model and the origin of its weights: ``"IMAGENET1K_V1"``, ``"random"``, or the first 16
        digits of the file's SHA-256.
    """
    model = build("ResNet18", seed, image_size=image_size).to(memory_format=torch.channels_last)
    state, origin = None, "random"
    if weights == "imagenet":
        state, origin = imagenet_state(report)
    elif weights != "random":
        state, origin = state_from_file(Path(weights))
    if state is not None:
        load_backbone(model, state, weights)
    model.requires_grad_(False)
    model.net.layer4.requires_grad_(True)
    model.net.fc.requires_grad_(True)
    return model, origin


def load_backbone(model: ResNet18, state: dict[str, Tensor], source: str | Path) -> None:
    """Put all of a torchvision ResNet-18 state dict but its head into ``model``.

    Raises:
        DamagedFileError: it is another network's, or none.
    """
    try:
        backbone = {name: value for name, value in state.items() if not name.startswith("fc.")}
        outcome = model.net.load_state_dict(backbone, strict=False)
        fits = not outcome.unexpected_keys and set(outcome.missing_keys) <= {"fc.weight", "fc.bias"}
    except (AttributeError, RuntimeError):
        fits = False
    if not fits:
        raise DamagedFileError(f"{source} holds no torchvision ResNet-18 state dict")


def imagenet_state(report: Callable[[str], None]) -> tuple[dict[str, Tensor] | None, str]:
    """torchvision's ImageNet weights, or None with a loud warning where they can't be had."""
    from torchvision.models import ResNet18_Weights  # noqa: PLC0415 as above

    weights = ResNet18_Weights.IMAGENET1K_V1
    try:
        return weights.get_state_dict(progress=False, check_hash=True), weights.name
    except (OSError, *UNREADABLE) as error:
        report(
            f"WARNING: no ImageNet weights ({error}). This ResNet-18 starts from RANDOM weights: its frozen "
            "layers know nothing about images. To use the real ones, connect to the internet or pass weights=PATH."
        )
        return None, "random"


def state_from_file(path: Path) -> tuple[dict[str, Tensor], str]:
    """A torchvision state dict from a file, and the first 16 digits of the file's SHA-256."""
    if not path.is_file():
        raise ClearError(f"no weights file {os.fspath(path)!r}: give a path, 'imagenet' or 'random'")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except UNREADABLE:
        raise DamagedFileError(f"{path} holds no torchvision ResNet-18 state dict") from None
    return state, hashlib.sha256(path.read_bytes()).hexdigest()[:16]
