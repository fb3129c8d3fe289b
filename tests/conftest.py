"""What every test shares: one thread a process, repeatable hypothesis examples, real MNIST, a small data set."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import settings

from lazyutils import data, mnist

ROOT = Path(__file__).resolve().parent.parent

torch.set_num_threads(1)
settings.register_profile("repeatable", derandomize=True, deadline=None, max_examples=25)
settings.load_profile("repeatable")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "end_to_end: runs whole notebooks; started first")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.get_closest_marker("end_to_end") is None)


@pytest.fixture(scope="session")
def digits() -> dict[str, torch.Tensor]:
    """Real MNIST, all 70,000; fetched into ``data/`` where it isn't there yet."""
    return mnist.load(ROOT / "data")


@pytest.fixture(scope="session")
def few(digits) -> dict[str, torch.Tensor]:
    """The first 3,000 training and 2,000 test digits of MNIST, as ``mnist.load`` gives them."""
    sizes = {"train": 3000, "test": 2000}
    return {name: tensor[: sizes[name.split("_")[0]]] for name, tensor in digits.items()}


@pytest.fixture(scope="session")
def splits(few) -> dict[str, dict[str, torch.Tensor]]:
    """``few`` painted with the study's recipe."""
    return data.colored_mnist(few)


@pytest.fixture
def global_random_state():
    """Fails the test if it leaves torch's global random state changed."""
    before = torch.random.get_rng_state()
    yield
    assert torch.equal(torch.random.get_rng_state(), before), "the global random state changed"
