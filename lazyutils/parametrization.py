"""An image as free numbers for an optimiser: pixels or a spectrum, in plain or decorrelated colours."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class ColorStatistics:
    """Mean and correlation of the colours of a set of pixels.

    Attributes:
        mean: ``float32 [3]``, in [0, 1].
        root: ``float32 [3, 3]``, square root of the covariance, scaled so that its longest column is 1.
    """

    mean: Tensor
    root: Tensor


def color_statistics(images: Tensor) -> ColorStatistics:
    """Colour statistics of ``images [N, 3, H, W]``: the training set's own, never ImageNet's.

    ImageNet's colour matrix, built into the usual libraries, would bring foreign colours into the very thing that is
    studied here.
    """
    pixels = images.transpose(0, 1).flatten(1).double()
    values, vectors = torch.linalg.eigh(torch.cov(pixels))
    root = vectors @ torch.diag(values.clamp(min=0).sqrt()) @ vectors.T
    return ColorStatistics(pixels.mean(1).float(), (root / root.norm(dim=0).max()).float())


@dataclass(frozen=True)
class Parametrization:
    """From free numbers to pixels in [0, 1] (Olah, Mordvintsev and Schubert 2017, "Feature Visualization").

    Attributes:
        fourier: optimise the spectrum instead of the pixels.
        decay: a frequency f is scaled by 1 / f^decay, so that coarse structure moves first.
        colors: optimise decorrelated colours with these statistics, from their mean; None: plain RGB, from grey.
    """

    fourier: bool = False
    decay: float = 1.0
    colors: ColorStatistics | None = None

    def start(self, size: int, seed: int, sd: float = 0.01) -> Tensor:
        """One random starting point: ``[3, size, size]``, or the spectrum ``[3, size, size // 2 + 1, 2]``."""
        shape = (3, size, size // 2 + 1, 2) if self.fourier else (3, size, size)
        return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * sd

    def render(self, free: Tensor, size: int) -> Tensor:
        """Images ``float32 [U, 3, size, size]`` in [0, 1] from the free numbers of U images."""
        canvas = torch.fft.irfft2(self.spectrum(free, size), s=(size, size), norm="ortho") if self.fourier else free
        if self.colors is not None:
            center = torch.logit(self.colors.mean.to(free), eps=1e-3).view(3, 1, 1)
            canvas = center + torch.einsum("cd,udhw->uchw", self.colors.root.to(free), canvas)
        return torch.sigmoid(canvas)

    def spectrum(self, free: Tensor, size: int) -> Tensor:
        """Complex coefficients ``[U, 3, size, size // 2 + 1]``, scaled by frequency."""
        vertical, horizontal = torch.fft.fftfreq(size), torch.fft.rfftfreq(size)
        frequency = (vertical[:, None] ** 2 + horizontal[None, :] ** 2).sqrt().clamp(min=1 / size)
        return torch.view_as_complex(free.contiguous()) * (frequency**-self.decay).to(free.device)


PIXELS = Parametrization()
"""The pixels themselves, squeezed into [0, 1]."""
