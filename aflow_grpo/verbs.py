"""The verbs of the command line: one table, which help, completion and documentation read.

Light, because `--help` is answered from it. Not here: their options, which each verb's parser has.
"""

from __future__ import annotations

import difflib
from typing import NamedTuple

__all__ = ["TRAINER_VERBS", "VERBS", "Verb", "usage", "verb_like"]

TRAINER_VERBS = ("fit", "validate", "test", "predict")
"""Those that Lightning's Trainer runs, whose options are the settings of `configs/`. Each of the
others has a module in `commands/` with its name and functions `make_parser` and `run_<name>`."""


class Verb(NamedTuple):
    """One verb."""

    name: str
    group: str
    """What a person is about to do."""
    summary: str
    example: str
    """Its arguments."""


VERBS = (
    Verb("fit", "Train", "train a policy", "--config configs/quickstart.yaml"),
    Verb("validate", "Train", "judge it on data.val", "--config … --ckpt_path last"),
    Verb("test", "Train", "judge it on data.test", "--config … --ckpt_path last"),
    Verb("predict", "Use", "answer data.predict in bulk", "--config … --ckpt_path last"),
    Verb("infer", "Use", "answer a problem, or a file", '--problem "1+1?" --domain math'),
    Verb("export", "Use", "adapter, model, one workflow", "workflow math --output a.py"),
    Verb("report", "Look", "a run as one HTML page", "RUN"),
    Verb("compare", "Look", "runs, with intervals", "RUN RUN"),
    Verb("journal", "Look", "a run's calls and their cost", "RUN --by tier"),
    Verb("rescore", "Look", "a run by other rewards", "RUN --reward.preset additive"),
    Verb("experiment", "Look", "repeat an experiment", "direct_execution --short"),
    Verb("describe", "Look", "a loss; a workflow, drawn", "workflow FILE --svg OUT"),
    Verb("data", "Data", "get data sets, check them", "prepare gsm8k --source hub"),
    Verb("score", "Data", "judge recorded outputs", "outputs.jsonl --profile aflow"),
    Verb("doctor", "Tools", "is this machine ready?", "--config …"),
    Verb("simulate", "Tools", "serve the simulated LLM", "--port 8000"),
    Verb("warmstart", "Tools", "make the tiny policy anew", "--output_dir DIR"),
    Verb("completion", "Tools", "TAB completion for a shell", "bash"),
)
"""In the order of the help."""

_OTHER_NAMES = {"train": "fit", "inference": "infer", "evaluate": "validate", "eval": "validate"}


def usage() -> str:
    """The page that `aflow-grpo --help` prints, in 80 columns."""
    lines = ["usage: aflow-grpo VERB [options]"]
    group = ""
    for verb in VERBS:
        if verb.group != group:
            group = verb.group
            lines += ["", group]
        lines.append(f"  {verb.name:<11}{verb.summary:<29} {verb.name} {verb.example}")
    return "\n".join(
        [
            *lines,
            "",
            "aflow-grpo VERB --help explains a verb. With every verb: --quiet, --debug.",
            "aflow-grpo fit --config … --preflight tries one step, forecasts time and cost.",
            "Exit codes: 0 done, 1 failed, 2 usage, 3 limit, 4 diverged, 130/143 stopped.",
        ]
    )


def verb_like(name: str) -> str | None:
    """The verb that `name` was probably meant for."""
    if name in _OTHER_NAMES:
        return _OTHER_NAMES[name]
    near = difflib.get_close_matches(name, [verb.name for verb in VERBS], n=1)
    return near[0] if near else None
