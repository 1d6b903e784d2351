"""A random tiny model folder, made once, that `from_pretrained` loads without a network."""

from __future__ import annotations

import os

# Set before transformers is imported: otherwise the import looks for kernels on the hub.
os.environ["HF_HUB_OFFLINE"] = "1"

import pytest
from random_models import byte_tokenizer, random_qwen2


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory) -> str:
    """The path of a folder with `random_qwen2()` and `byte_tokenizer()`."""
    folder = tmp_path_factory.mktemp("random-qwen2")
    random_qwen2().save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return str(folder)
