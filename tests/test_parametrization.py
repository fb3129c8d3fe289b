"""Colour statistics are those of the pixels they were taken from."""

import pytest
import torch

from lazyutils.parametrization import color_statistics


def test_color_statistics_give_back_the_covariance():
    pixels = torch.randn(5000, 3, generator=torch.Generator().manual_seed(0)) @ torch.tensor(
        [[0.1, 0.05, 0.0], [0.0, 0.1, 0.02], [0.0, 0.0, 0.05]]
    )
    images = (0.5 + pixels).T.reshape(3, 50, 100).unsqueeze(0)
    found = color_statistics(images)
    square = found.root @ found.root
    covariance = torch.cov(pixels.T)
    torch.testing.assert_close(square / square.trace(), covariance / covariance.trace(), rtol=1e-3, atol=1e-4)
    assert found.root.norm(dim=0).max().item() == pytest.approx(1)
