"""docs/security.md names tests that exist; and what it says of checkpoints and limits is so."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
import torch

from aflow_grpo.errors import ConfigError
from aflow_grpo.sandbox.jail import _PROBE_EXPRESSIONS
from aflow_grpo.training.checkpoint import AtomicCheckpointIO
from aflow_grpo.workflow.limits import InterpreterLimits

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs/security.md").read_text(encoding="utf-8")


def test_every_test_that_the_page_names_exists() -> None:
    full = re.findall(r"`(tests/[\w/]+\.py)`", PAGE)
    bare = re.findall(r"`(test_\w+\.py)`", PAGE)
    assert len(full) >= 8 and len(bare) >= 3
    assert [path for path in full if not (ROOT / path).is_file()] == []
    assert [name for name in bare if not list((ROOT / "tests").rglob(name))] == []


def test_the_limits_on_the_page_are_the_defaults() -> None:
    limits = InterpreterLimits()
    told = (
        f"{limits.max_feed_s:g} s of computing",
        f"{limits.max_memory_mb} MiB",
        f"depth {limits.max_recursion}",
        f"{limits.max_operator_calls} operator calls",
        f"{limits.max_argument_chars:,} characters per call",
        f"{limits.max_answer_chars:,} characters of answer",
    )
    page = " ".join(PAGE.split())
    assert [words for words in told if words not in page] == []
    assert len(_PROBE_EXPRESSIONS) == 6 and "tries six things" in page


class Hostile:
    """Unpickled, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("options", [{}, {"weights_only": None}, {"map_location": "cpu"}])
def test_a_checkpoint_from_elsewhere_runs_nothing(
    tmp_path: Path, options: dict[str, object]
) -> None:
    made, path = tmp_path / "made", tmp_path / "hostile.ckpt"
    torch.save({"state_dict": {}, "more": Hostile(made)}, path)
    with pytest.raises(ConfigError, match="UnpicklingError"):
        AtomicCheckpointIO().load_checkpoint(path, **options)
    assert not made.exists()
    torch.load(path, weights_only=False)  # the checkpoint would do it
    assert made.exists()
