"""The short help of the trainer verbs: what most people set, on one page, without importing torch.

The complete list comes from the parser (`cli`), on request. A test checks that every option named
here is one of the parser's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

__all__ = ["ALIASES", "OPTIONS", "short_help"]

ALIASES: Mapping[str, str] = {"--steps": "--trainer.max_steps"}
"""Short forms, and those of the source documents."""

_WHAT = {
    "fit": "Train a policy that writes workflows; data.val judges it before and after.",
    "validate": "Judge the policy on data.val: greedy and sampled, every workflow executed.",
    "test": "Judge the policy on data.test: greedy and sampled, every workflow executed.",
    "predict": "Answer the problems of data.predict (else data.test), one JSON line for each.",
}
_ALL = ("fit", "validate", "test", "predict")
OPTIONS: Sequence[tuple[str, str, Sequence[str]]] = (
    ("--config FILE", "settings over configs/base.yaml; repeatable", _ALL),
    ("--ckpt_path last|FILE", "continue from this checkpoint", ("fit",)),
    ("--ckpt_path last|FILE", "the checkpoint that is judged", ("validate", "test")),
    ("--ckpt_path last|FILE", "the checkpoint that writes", ("predict",)),
    ("--preflight", "one step, and a forecast of hours and USD", ("fit",)),
    ("--trainer.max_steps N", "GRPO iterations; also --steps N", ("fit",)),
    ("--trainer.default_root_dir DIR", "where the run keeps everything", _ALL),
    ("--trainer.devices N", "devices; several: --trainer.strategy ddp", _ALL),
    ("--seed_everything N", "one seed for everything", _ALL),
    ("--model.policy.model NAME", "tiny, a Hugging Face id, or a folder", _ALL),
    ("--model.policy.lora.rank N", "train LoRA adapters of this rank", ("fit",)),
    ("--model.grpo.group_size N", "workflows per problem", ("fit",)),
    ("--model.grpo.loss.preset NAME", "see aflow-grpo describe loss NAME", ("fit",)),
    ("--model.optimizer.learning_rate X", "learning rate", ("fit",)),
    ("--model.evaluation.samples N", "samples per problem when judging", _ALL[:3]),
    ("--data.batch_size N", "problems per iteration", ("fit",)),
    ("--data.mix.math X", "share of a domain; also .code, .qa", ("fit",)),
    ("--rollout.reward.preset NAME", "ordered, additive, v1, literal, custom", _ALL[:3]),
    ("--rollout.overlap NAME", "none, group, step (docs/training.md)", ("fit",)),
    ("--llm.budget_usd X", "what the run may pay", _ALL),
    ("--progress.every_n_iterations N", "how often a log gets a line", ("fit",)),
    ("--print_config", "the resolved settings, and nothing else", _ALL),
    ("--quiet, --debug", "say less; say everything", _ALL),
)
"""Option with its value, what it means, and for which verbs."""


def short_help(verb: str) -> str:
    """One page about a trainer verb, in 80 columns."""
    rows = [(option, text) for option, text, verbs in OPTIONS if verb in verbs]
    width = max(len(option) for option, _ in rows)
    return "\n".join(
        [
            f"usage: aflow-grpo {verb} --config FILE [--config FILE …] [--KEY VALUE …]",
            "",
            _WHAT[verb],
            "",
            *(f"  {option:<{width}}  {text}" for option, text in rows),
            "",
            "Every setting is a key of configs/base.yaml, which explains them, and an option.",
            f"aflow-grpo {verb} --help all         lists every option",
            f"aflow-grpo {verb} --help model.grpo  those that begin with model.grpo",
        ]
    )
