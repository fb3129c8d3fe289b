"""Checkpoints: safetensors with a JSON sidecar, written whole or not at all, verified when read."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load as parse
from safetensors.torch import save as serialize
from torch import nn

from lazyutils.errors import DamagedFileError, MissingArtefactError
from lazyutils.files import write_atomically
from lazyutils.models import ARCHITECTURES, build


def save(path: str | Path, model: nn.Module, metadata: dict[str, Any], **options: int) -> None:
    """Write ``path`` (safetensors) and its sidecar ``path`` with suffix ``.json``.

    Args:
        path: ends in ``.safetensors``.
        model: an instance of a class in ``models.ARCHITECTURES``.
        metadata: parameters, data fingerprint, metrics: anything JSON can hold.
        options: the arguments the architecture was built with.
    """
    path = Path(path)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    content = serialize(tensors)
    sidecar = {
        "architecture": type(model).__name__,
        "options": options,
        "sha256": hashlib.sha256(content).hexdigest(),
        **metadata,
    }
    write_atomically(path, content)
    write_atomically(path.with_suffix(".json"), json.dumps(sidecar, indent=2, sort_keys=True).encode())


def load(path: str | Path) -> tuple[nn.Module, dict[str, Any]]:
    """The model in evaluation mode, and its sidecar.

    Raises:
        MissingArtefactError: checkpoint or sidecar is not there.
        DamagedFileError: the checksum does not fit, or the file is not one of this book's.
    """
    path = Path(path)
    sidecar = read_sidecar(path)
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != sidecar["sha256"]:
        raise DamagedFileError(f"{path} is damaged (wrong SHA-256): delete it and run its task again")
    if sidecar["architecture"] not in ARCHITECTURES:
        raise DamagedFileError(f"{path} holds an unknown architecture {sidecar['architecture']!r}")
    try:
        model = build(sidecar["architecture"], **sidecar["options"])
        model.load_state_dict(parse(content))
    except (SafetensorError, RuntimeError, TypeError) as error:
        raise DamagedFileError(f"{path} is no {sidecar['architecture']} checkpoint: {error}") from None
    return model.eval(), sidecar


def read_sidecar(path: Path) -> dict[str, Any]:
    """The JSON beside a checkpoint, with the keys that ``save`` always writes."""
    for needed in (path, path.with_suffix(".json")):
        if not needed.is_file():
            raise MissingArtefactError(f"no checkpoint {needed}: run the task that makes it")
    try:
        sidecar = json.loads(path.with_suffix(".json").read_bytes())
        return {**{key: sidecar[key] for key in ("architecture", "options", "sha256")}, **sidecar}
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedFileError(f"{path.with_suffix('.json')} is no sidecar of a checkpoint ({error!r})") from None
