"""A policy's adapters as a folder that others can load, named after what they hold.

The name is a digest of the weights: equal weights have one name, other weights never do, and the
processes of a distributed run, which hold the same weights, agree on it without a word. Not here:
who is told to load it (`served`).
"""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

import torch
from peft import PeftModel
from torch import nn

__all__ = ["adapter_digest", "weights_version", "write_adapter"]

_DIGITS = 16


def weights_version(model: nn.Module) -> tuple[tuple[int, int], ...]:
    """Changes whenever a trainable tensor may have changed; cheap, and means nothing else."""
    return tuple((p.data_ptr(), p._version) for p in model.parameters() if p.requires_grad)


def adapter_digest(model: nn.Module) -> str:
    """16 hexadecimal digits of the trainable tensors' names, shapes and bits."""
    total = hashlib.sha256()
    for name, weight in sorted(model.named_parameters()):
        if weight.requires_grad:
            total.update(f"{name}{weight.dtype}{tuple(weight.shape)}".encode())
            bits = weight.detach().cpu().contiguous().view(torch.uint8)
            total.update(bits.numpy().tobytes())
    return total.hexdigest()[:_DIGITS]


def write_adapter(model: PeftModel, folder: Path) -> None:
    """Save the adapters in peft's format, whole or not at all; does nothing where they are.

    Args:
        model: With one adapter.
        folder: Named after the digest, so that what is there is the same.

    Raises:
        OSError: It cannot be written.
    """
    if folder.is_dir():
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        # The embeddings are not trained, and peft would ask the hub whether they are its own.
        model.save_pretrained(str(part), save_embedding_layers=False)
        try:
            part.rename(folder)
        except OSError:
            if not folder.is_dir():  # else another process of the run was quicker
                raise
    finally:
        shutil.rmtree(part, ignore_errors=True)
