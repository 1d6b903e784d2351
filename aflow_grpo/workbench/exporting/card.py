"""The model card: what an exported policy is, how it was trained, how good it is, how to ask it.

The example is code that runs as it stands, with the folder as the working directory. What it fills
in is in `prompts.json` beside the card, rendered by the policy's own prompt functions. The
metadata are those of the Hugging Face hub. Not here: where the facts come from (`facts`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from huggingface_hub import ModelCardData

from aflow_grpo.policy.policy import Policy
from aflow_grpo.records import DOMAINS, VisibleProblem
from aflow_grpo.workbench.exporting.facts import Row, RunFacts
from aflow_grpo.workbench.figures import Figure
from aflow_grpo.workflow.policy_prompt import compact_prompt, full_prompt

__all__ = ["EXAMPLE", "Card", "Kind", "model_card", "prompt_templates"]

Kind = Literal["adapter", "merged"]
EXAMPLE = "A shop sells pens at 3 dollars each. How many dollars do 7 pens cost?"
"""The problem that the card asks the policy to write a workflow for."""

_PROBLEM, _ENTRY_POINT = "{problem}", "{entry_point}"
_LICENSE = "unknown"
_NOT_ON_THE_HUB = {"sample", "generated", "jsonl"}
_HEADERS = {
    "direct_execution_rate": "runs as written",
    "accuracy": "right",
    "reward": "reward",
    "cost_usd_per_problem": "USD per problem",
}
_ABOUT = """\
This model answers a problem with a *workflow*: JSON with `prompts` and `graph_code`, a short Python
class that calls operators (generate, test, review, vote …), each of them backed by another language
model, the executor. It does not solve problems itself. It was trained with aflow-grpo, by GRPO:
workflows are rewarded for running, for right answers, and for being cheap and simple."""
_LIMITS = """\
- A workflow is a program that a model wrote. Read it, or run it in a sandbox such as aflow-grpo's
  interpreter, before you let it do anything.
- It writes for the operators that its prompt lists and for problems like those it was trained on.
  Other prompts than those in `prompts.json` were never seen in training.
- Nothing was done to keep it from writing what a base model might write."""


@dataclass(frozen=True)
class Card:
    """What a card is about."""

    kind: Kind
    base_model: str
    dtype: str
    """Of the weights in the folder, or of the base that the adapter belongs to."""
    policy: Policy
    facts: RunFacts


def prompt_templates(policy: Policy) -> dict[str, Any]:
    """Domain -> the prompt, with ``{problem}`` and, for code, ``{entry_point}`` to be replaced.

    A text for the compact form, chat messages for the full one.
    """
    templates: dict[str, Any] = {}
    for domain in DOMAINS:
        entry_point = _ENTRY_POINT if domain == "code" else ""
        problem = VisibleProblem("", "", domain, _PROBLEM, entry_point=entry_point)
        if policy.prompt_form == "compact":
            templates[domain] = compact_prompt(problem)
        else:
            templates[domain] = full_prompt(problem, operators=policy.operators)
    return templates


def model_card(card: Card) -> str:
    """The card as Markdown, with the hub's metadata on top."""
    title = "LoRA adapter" if card.kind == "adapter" else "model"
    sections = [
        f"---\n{_metadata(card)}\n---",
        f"# A workflow-writing {title} on {_cell(card.base_model)}",
        _ABOUT,
        f"## How to use it\n\n{_usage(card)}",
        f"## How it was trained\n\n{_training(card)}",
        f"## Data\n\n{_data(card.facts)}",
        f"## How good it is\n\n{_evaluation(card.facts)}",
        f"## Limits\n\n{_limits(card)}",
        f"## Versions\n\n{_versions(card.facts)}",
    ]
    return "\n\n".join(sections) + "\n"


def _metadata(card: Card) -> str:
    trained_on = {data.dataset for data in card.facts.data if data.role == "train"}
    datasets = sorted(trained_on - _NOT_ON_THE_HUB)
    data = ModelCardData(
        base_model=card.base_model,
        license=_LICENSE,
        library_name="peft" if card.kind == "adapter" else "transformers",
        pipeline_tag="text-generation",
        tags=["aflow-grpo", "grpo", "agent-workflows", *(["lora"] if card.policy.lora else [])],
        datasets=datasets or None,
    )
    relation = "adapter" if card.kind == "adapter" else "finetune"
    return f"{data.to_yaml()}\nbase_model_relation: {relation}"


# How to use it


def _usage(card: Card) -> str:
    full = card.policy.prompt_form == "full"
    told = [
        f"```python\n{_example(card)}```",
        f"For other domains take another template: {', '.join(f'`{d}`' for d in DOMAINS)}. "
        "`code` also has `{entry_point}`, the name of the function to write. A problem with a "
        "context is asked as `Context: …`, an empty line, `Question: …`.",
    ]
    sampling = card.policy.sampling
    shape = "chat" if full else "text"
    told.append(
        f"The prompt is a {shape} of at most {sampling.max_prompt_tokens} tokens; the answer ends "
        f"by itself, after at most {sampling.max_new_tokens}. The generation settings beside this "
        "card are greedy. In training it was sampled with "
        f"`do_sample=True, temperature={sampling.temperature:g}, top_p={sampling.top_p:g}, "
        "top_k=0`."
    )
    if card.kind == "adapter":
        told.append(_which_base(card))
    return "\n\n".join(told)


def _which_base(card: Card) -> str:
    told = f"`BASE` is the model that the adapter was trained on, in {card.dtype}"
    if card.policy.quantization == "nf4":
        told += " and 4 bits (NF4, double quantisation)"
    if card.policy.source == "tiny":
        told += ": the folder `data/tiny-policy` of aflow-grpo"
    return f"{told}. On another base the adapter means nothing."


def _example(card: Card) -> str:
    adapter, full = card.kind == "adapter", card.policy.prompt_form == "full"
    four_bits = adapter and card.policy.quantization == "nf4"
    names = ["AutoModelForCausalLM", "AutoTokenizer", "GenerationConfig"]
    lines = ["import json", "from pathlib import Path", "", "import torch"]
    lines += ["from peft import PeftModel"] if adapter else []
    if four_bits:
        names.insert(2, "BitsAndBytesConfig")
    lines += [f"from transformers import {', '.join(names)}", ""]
    lines += [f"BASE = {json.dumps(card.base_model)}"] if adapter else []
    lines += ['FOLDER = "."  # where this card lies', ""]
    lines += ["tokenizer = AutoTokenizer.from_pretrained(FOLDER)"]
    lines += list(_loading(card, four_bits=four_bits))
    lines += [
        "settings = GenerationConfig.from_pretrained(FOLDER)",
        'templates = json.loads(Path(FOLDER, "prompts.json").read_text(encoding="utf-8"))',
        "",
        f"problem = {json.dumps(EXAMPLE)}",
    ]
    if full:
        lines += [
            'messages = [{**m, "content": m["content"].replace("{problem}", problem)}'
            ' for m in templates["math"]]',
            "prompt = tokenizer.apply_chat_template("
            "messages, add_generation_prompt=True, tokenize=False)",
        ]
    else:
        lines += ['prompt = templates["math"].replace("{problem}", problem)']
    lines += [
        'inputs = tokenizer(prompt, add_special_tokens=False, return_tensors="pt")',
        "with torch.no_grad():",
        "    output = model.generate(**inputs.to(model.device), generation_config=settings)",
        'workflow = output[0, inputs["input_ids"].shape[1] :]',
        "print(tokenizer.decode(workflow, skip_special_tokens=True))",
    ]
    return "\n".join(lines) + "\n"


def _loading(card: Card, *, four_bits: bool) -> Iterator[str]:
    dtype = f"dtype=torch.{card.dtype}"
    if card.kind == "merged":
        yield f"model = AutoModelForCausalLM.from_pretrained(FOLDER, {dtype}).eval()"
        return
    if four_bits:
        yield "in_4_bits = BitsAndBytesConfig("
        yield '    load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,'
        yield f"    bnb_4bit_compute_dtype=torch.{card.dtype},"
        yield ")"
        dtype += ", quantization_config=in_4_bits"
    yield f"base = AutoModelForCausalLM.from_pretrained(BASE, {dtype})"
    yield "model = PeftModel.from_pretrained(base, FOLDER).eval()"


# How it was trained, and on what


def _training(card: Card) -> str:
    policy, facts = card.policy, card.facts
    what = str(policy.lora) if policy.lora else "every weight"
    lines = [f"- trained: {what}, on {_cell(card.base_model)} in {policy.dtype}"]
    if policy.quantization != "none":
        lines[0] += f" ({policy.quantization})"
        if card.kind == "merged":
            lines.append(
                "- the base weights in this folder are the 4-bit ones as numbers, which the "
                "adapter was trained on"
            )
    lines.append(f"- {facts.iterations} iterations")
    if facts.loss:
        lines.append(f"- loss preset: `{facts.loss}`")
    lines += [f"- {name}: {value}" for name, value in facts.settings.items()]
    lines.append(f"- executor: {_executor(facts)}")
    lines.append(f"- list cost of the executor's calls, evaluations included: {_usd(facts)}")
    if facts.run_id:
        lines.append(f"- MLflow run: `{facts.run_id}`")
    return "\n".join(lines)


def _executor(facts: RunFacts) -> str:
    if facts.simulated:
        return (
            "a simulator of gpt-4o-mini. No real model executed a workflow in training: how well "
            "the workflows do with one is not known from this card"
        )
    return ", then ".join(facts.executors) or "not recorded"


def _usd(facts: RunFacts) -> str:
    if facts.simulated:
        return f"{facts.cost_usd:.4f} USD at the price of what it imitates; nothing was paid"
    return f"{facts.cost_usd:.4f} USD"


def _data(facts: RunFacts) -> str:
    if not facts.data:
        return "Not recorded."
    lines = ["| part | source | problems | SHA-256 of the problems |", "|---|---|---|---|"]
    for data in facts.data:
        known = data.sha256 != ""
        digest = f"`{data.sha256[:16]}`" if known else "source not available at export"
        lines.append(
            f"| {data.role} | {_cell(data.name)} | {data.problems if known else '–'} | {digest} |"
        )
    return "\n".join(lines)


def _cell(text: str) -> str:
    """A name as it may stand in a table: no line of it is Markdown or HTML."""
    plain = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
    for sign in "\\`*_[]<>|#":
        plain = plain.replace(sign, f"\\{sign}")
    return plain


def _evaluation(facts: RunFacts) -> str:
    if not facts.rows:
        return "No full evaluation of this checkpoint is stored in its run."
    told = "with the simulated executor" if facts.simulated else "with the executor above"
    names = [name for name in _HEADERS if any(name in row.figures for row in facts.rows)]
    head = ["part", "decoding", "domain", "n", *(_HEADERS[name] for name in names)]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for row in facts.rows:
        cells = [row.split, row.decoding, row.domain, str(_problems(row))]
        cells += [_figure(name, row.figures.get(name)) for name in names]
        lines.append(f"| {' | '.join(cells)} |")
    return (
        f"Figures of this very checkpoint, {told}; in brackets the 95 % interval over problems, n "
        "the number of problems. *Runs as written* counts workflows that ran without repair or "
        "fallback; the reward is between -10 and 10.\n\n" + "\n".join(lines)
    )


def _problems(row: Row) -> int:
    return max(figure.problems for figure in row.figures.values())


def _figure(name: str, figure: Figure | None) -> str:
    if figure is None:
        return "–"
    form = {"reward": "{:.2f}", "cost_usd_per_problem": "{:.6f}"}.get(name, "{:.1%}")
    told = form.format(figure.value)
    if figure.low is not None and figure.high is not None:
        told += f" [{form.format(figure.low)}, {form.format(figure.high)}]"
    return told


def _limits(card: Card) -> str:
    told = _LIMITS
    if card.facts.simulated:
        told += "\n- Its figures are of a simulated executor, not of a language model."
    return (
        f"{told}\n- The license is that of the base model, if it allows this; it was not checked."
    )


def _versions(facts: RunFacts) -> str:
    told = ", ".join(f"{name} {number}" for name, number in facts.versions.items())
    return f"Exported with {told}."
