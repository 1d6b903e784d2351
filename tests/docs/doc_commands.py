"""What a command of the pages becomes in the tests: shortened, or run as far as a machine goes.

Nothing is left out: a command that cannot run to its end here stands in a table with its reason,
and its options are given to the real parser. A row that no page needs any more fails a test.
"""

from __future__ import annotations

import ast
import itertools
import shlex
import tomllib
from collections.abc import Sequence

from doc_blocks import ROOT

__all__ = [
    "ENDS_WITH",
    "PARSED",
    "PROGRAMS",
    "PYTHON",
    "SHORTER",
    "STANDS_FOR",
    "ends_with",
    "parsed",
    "shorter",
]

SHORTER = {
    "fit": "--trainer.max_steps 1 --trainer.val_check_interval 1 --data.batch_size 2 "
    "--data.quick_val_size 2 --model.grpo.group_size 2 --model.evaluation.samples 1 "
    "--model.evaluation.at_start false --model.policy.init_args.sampling.max_new_tokens 90",
    "validate": "--model.evaluation.samples 1",
    "test": "--model.evaluation.samples 1",
    "warmstart": "--recipe.steps 2 --recipe.tokenizer_pairs 50 --recipe.fresh_problems 10",
}
"""Verb -> options that follow those of the page, and so win: the same thing in seconds."""
FEW = {"val": "0003-distance-held0", "test": "0000-"}
"""Part -> what the first of the sample problems that a command judges on has in its name.

Only these are judged, one of each domain, where a command judges on all of the sample.
"""
RESUMED = "--trainer.max_steps 2"
"""A run that goes on makes some more steps."""

PARSED = {
    "--config configs/policy/qwen2.5-7b.yaml": "a GPU, and weights of the hub",
    "--config configs/policy/vllm.yaml": "a vLLM server, and a GPU",
    "--config configs/policy/openai.yaml": "a paid key",
    "--config configs/llm/openai.yaml": "a paid key",
    "--config configs/llm/tiers.yaml": "two endpoints of the reader's",
    "--config configs/real.yaml": "benchmarks in AFLOW_GRPO_DATA",
    "--config configs/six.yaml": "benchmarks in AFLOW_GRPO_DATA",
    "--config configs/data/": "benchmarks in AFLOW_GRPO_DATA",
    "--config configs/logger/server.yaml": "an MLflow server at the address in that file",
    "--config configs/logger/tensorboard.yaml": "the package tensorboard, which is no dependency",
    "--config configs/logger/wandb.yaml": "the package wandb, which is no dependency",
    "data prepare gsm8k math": "benchmarks, or the hub",
    "experiment ": "minutes to an hour; tests/slow/test_short_experiments.py makes short versions",
    "score recorded_runs/": "the recorded runs in AFLOW_GRPO_DATA",
}
"""Part of a command -> what it needs that a test machine lacks; the parser takes its options."""

ENDS_WITH: dict[str, tuple[int, str]] = {
    "export workflow runs/quickstart:": (2, "after two steps none of its workflows runs"),
}
"""Part of a command -> the exit code that it has here, and why."""

PROGRAMS = {
    "tensorboard": "is no dependency",
    "vllm": "needs a GPU or a build of its own, in an environment of its own",
}
"""Programs that are not called: a stand-in notes that they were."""

STANDS_FOR = {
    "configs/OVERLAY.yaml": "configs/minimal.yaml",
    "--KEY VALUE": "--seed_everything 1 --print_config",
    "my_task.jsonl": "data/sample/val.jsonl",
}
"""Words that show a form, or a file of the reader's, and what they are here."""

PYTHON = {
    "trainer__max_steps=20)": "trainer__max_steps=1, data__batch_size=2, "
    "data__val=[{'dataset': 'sample', 'split': 'val', 'limit': 3}])",
    "trainer__max_steps=2,": "trainer__max_steps=1, data__batch_size=2, "
    "data__val=[{'dataset': 'sample', 'split': 'val', 'limit': 3}],",
    "model__evaluation__samples=0)": "model__evaluation__samples=0, "
    "data__test=[{'dataset': 'sample', 'split': 'test', 'limit': 3}])",
}
"""What of Python blocks is shortened, to the letter."""


def shorter(words: Sequence[str]) -> list[str]:
    """A command of `aflow-grpo` as it runs here."""
    verb = words[0] if words else ""
    extra = SHORTER.get(verb, "")
    if verb == "fit" and "--ckpt_path" in " ".join(words):
        extra = f"{extra} {RESUMED}"
    if "--help" in words or "--print_config" in words or "--preflight" in words:
        extra = ""
    return [*words, *shlex.split(extra)]


def parsed(words: Sequence[str]) -> str | None:
    """The row of `PARSED` that a command falls under."""
    text = " ".join(words)
    return next((part for part in PARSED if part in text), None)


def ends_with(words: Sequence[str]) -> str | None:
    """The row of `ENDS_WITH` that a command falls under."""
    text = " ".join(words)
    return next((part for part in ENDS_WITH if part in text), None)


def check_nox(words: Sequence[str]) -> int:
    """Whether noxfile.py has the sessions that are named; 1 and a message where it has not."""
    tree = ast.parse((ROOT / "noxfile.py").read_text(encoding="utf-8"))
    known = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    named = [b for a, b in itertools.pairwise(words) if a in ("-s", "--session")]
    missing = [name for name in named if name not in known]
    for name in missing:
        print(f"noxfile.py has no session {name!r}")
    return 1 if missing else 0


def check_pip(words: Sequence[str]) -> int:
    """Whether pyproject.toml has the extras that are named; 1 and a message where it has not."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    known = project["optional-dependencies"]
    wanted = [word for word in words if "[" in word and word.startswith((".", project["name"]))]
    named = [extra for word in wanted for extra in word[word.index("[") + 1 : -1].split(",")]
    missing = [extra for extra in named if extra not in known]
    for extra in missing:
        print(f"pyproject.toml has no extra {extra!r}")
    return 1 if missing or words[:1] != ["install"] else 0
