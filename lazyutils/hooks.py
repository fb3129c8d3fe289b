"""Look at the layers of a network without leaving a trace: no hook, mode, flag or gradient stays behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from lazyutils.errors import ClearError


def layer_names(model: nn.Module) -> list[str]:
    """Names of all the layers that can be looked at, in the order of definition."""
    return [name for name, _ in model.named_modules() if name]


def find_layer(model: nn.Module, name: str) -> nn.Module:
    """The layer called ``name``.

    Raises:
        ClearError: there is none; the message lists the layers.
    """
    if name not in layer_names(model):
        raise ClearError(f"{type(model).__name__} has no layer {name!r}: choose one of {', '.join(layer_names(model))}")
    return model.get_submodule(name)


def check_images(model: nn.Module, images: Tensor) -> None:
    """Refuse images that a network can't answer to.

    Raises:
        ClearError: not ``[N, 3, H, W]``, none at all, NaN or infinite values, or on another device than the model.
    """
    if images.dim() != 4 or images.shape[1] != 3 or not len(images):
        raise ClearError(f"images have shape {tuple(images.shape)}: give float32 [N, 3, height, width] with N >= 1")
    devices = {parameter.device for parameter in model.parameters()} - {images.device}
    if devices:
        raise ClearError(f"the model is on {devices.pop()}, the images on {images.device}: move one with .to(device)")
    if not torch.stack(images.aminmax()).isfinite().all():  # NaN is passed on; one pass over the pixels
        raise ClearError("the images hold NaN or infinite values: give finite pixels in [0, 1]")


def check_targets(targets: Tensor, count: int, classes: int = 10) -> None:
    """Refuse targets that are not one class in range for each of ``count`` images."""
    if targets.shape != (count,) or targets.is_floating_point():
        raise ClearError(f"targets have shape {tuple(targets.shape)}: give int64 [{count}], one class an image")
    if count and not 0 <= int(targets.min()) <= int(targets.max()) < classes:
        raise ClearError(f"targets run from {targets.min()} to {targets.max()}: classes are 0 to {classes - 1}")


@contextmanager
def captured(model: nn.Module, layers: Sequence[str], cut: bool = False) -> Iterator[dict[str, Tensor]]:
    """Record what ``layers`` put out while the body runs the model; the hooks always go away.

    The recorded tensor is the layer's own output; the rest of the network continues on a clone, so an in-place
    operation behind the layer can't change what was recorded.

    Args:
        layers: names as in ``layer_names``.
        cut: record leaves that require a gradient. A backward pass ends there, and what lies before the layers runs
            without autograd. For one forward pass.

    Yields:
        A dictionary, filled by each forward pass: layer name to activation.

    Raises:
        ClearError: unknown layer; while running, a layer whose output is no tensor, or a cut one that runs again.
    """
    record: dict[str, Tensor] = {}

    def hook_for(name: str) -> Callable[..., Tensor]:
        def hook(_module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
            if not isinstance(output, Tensor):
                raise ClearError(f"layer {name!r} puts out no single tensor: choose another layer")
            if cut and name in record:
                raise ClearError(f"layer {name!r} runs more than once in a forward pass: choose one that runs once")
            record[name] = output.detach().requires_grad_() if cut else output
            if cut:
                torch.set_grad_enabled(True)  # until the body ends
            return record[name].clone()

        return hook

    modules = {name: find_layer(model, name) for name in layers}
    handles = [module.register_forward_hook(hook_for(name)) for name, module in modules.items()]
    try:
        with torch.set_grad_enabled(torch.is_grad_enabled() and not cut):
            yield record
    finally:
        for handle in handles:
            handle.remove()


class _Reached(Exception):
    """Ends a forward pass at the layer that was asked for."""


@contextmanager
def stopping_at(model: nn.Module, layer: str, before: bool = False) -> Iterator[Callable[[Tensor], Tensor]]:
    """A function from images to the output of ``layer`` (``before``: its input) that computes nothing behind that.

    Raises:
        ClearError: unknown layer, or (when called) a layer that the forward pass doesn't use.
    """
    reached: list[Tensor] = []

    def hook(_module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor | None = None) -> None:
        reached.append(inputs[0] if before else output)
        raise _Reached

    def function(images: Tensor) -> Tensor:
        try:
            model(images)
        except _Reached:
            return reached.pop()
        raise ClearError(f"the forward pass of {type(model).__name__} doesn't use {layer!r}: choose another layer")

    module = find_layer(model, layer)
    handle = module.register_forward_pre_hook(hook) if before else module.register_forward_hook(hook)
    try:
        yield function
    finally:
        handle.remove()


@contextmanager
def frozen(model: nn.Module) -> Iterator[nn.Module]:
    """The model in evaluation mode with parameters that take no gradient; both as found afterwards."""
    modes = {module: module.training for module in model.modules()}
    flags = {parameter: parameter.requires_grad for parameter in model.parameters()}
    model.eval()
    model.requires_grad_(False)
    try:
        yield model
    finally:
        for module, mode in modes.items():
            module.training = mode
        for parameter, flag in flags.items():
            parameter.requires_grad_(flag)


def as_maps(activation: Tensor) -> Tensor:
    """``[N, C, H, W]``: a fully connected layer's ``[N, C]`` becomes maps of one pixel."""
    return activation[:, :, None, None] if activation.dim() == 2 else activation


@torch.no_grad()
def collect(
    model: nn.Module,
    images: Tensor,
    layers: Sequence[str],
    reduce: Callable[[Tensor], Tensor] = lambda activation: activation,
    batch_size: int = 500,
) -> dict[str, Tensor]:
    """Activations of several layers over all images, in evaluation mode.

    Args:
        images: ``float32 [N, 3, H, W]`` in [0, 1].
        reduce: applied to each batch's activation, for instance a mean over space, to save memory.

    Returns:
        Layer name to ``[N, ...]``.

    Raises:
        ClearError: unknown layer or unfit images.
    """
    check_images(model, images)
    parts: dict[str, list[Tensor]] = {name: [] for name in layers}
    with frozen(model), captured(model, layers) as record:
        for batch in images.split(batch_size):
            model(batch)
            for name in layers:
                parts[name].append(reduce(record[name]))
    return {name: torch.cat(chunks) for name, chunks in parts.items()}
