"""What a network weighs as a file."""

from __future__ import annotations

import tempfile
from pathlib import Path

from torch import nn

from nnopt_lab.files import write_tensors


def bytes_on_disk(model: nn.Module) -> int:
    """Return the size in bytes of the safetensors file of the model's parameters and buffers, by writing it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        write_tensors(path, model.state_dict())
        return path.stat().st_size
