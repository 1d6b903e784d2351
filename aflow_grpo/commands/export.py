"""`aflow-grpo export adapter | merged | workflow`: what others can use without this program.

Parses and prints; what is written is `workbench.exporting`'s.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from aflow_grpo.commands.parsing import VerbParser
from aflow_grpo.errors import AFlowError
from aflow_grpo.exits import Exit
from aflow_grpo.problem import Domain

if TYPE_CHECKING:
    from aflow_grpo.workbench.exporting.models import Exported

__all__ = ["make_parser", "run_export"]

_RUN = "A run's directory, meaning its last checkpoint, or a checkpoint file."


def run_export(arguments: Sequence[str]) -> int:
    """Run the verb; returns the exit code: 0 done, 1 the disk does not take it, 2 wrong usage."""
    options = make_parser().parse_args(list(arguments))
    what = options.what
    given = options[what]
    try:
        if what == "workflow":
            return _workflow(given)
        return _model(what, given)
    except AFlowError as error:
        print(f"aflow-grpo export {what}: {error}", file=sys.stderr)
        broken = error.__cause__ is not None and "cannot be written" in str(error)
        return Exit.FAILED if broken else Exit.USAGE


def make_parser() -> VerbParser:
    """The verb's options."""
    parser = VerbParser(
        prog="aflow-grpo export",
        description="aflow-grpo export merged runs/quickstart --output my-policy. A policy for "
        "plain peft or transformers, or one workflow as a Python file.",
    )
    commands = parser.add_subcommands(dest="what", required=True)
    adapter = VerbParser(
        description="aflow-grpo export adapter RUN --output DIR. The LoRA adapter as peft loads "
        "it, with tokenizer, generation settings and a model card."
    )
    _add_model_options(adapter)
    commands.add_subcommand("adapter", adapter, help="the LoRA adapter, for peft")
    merged = VerbParser(
        description="aflow-grpo export merged RUN --output DIR. The whole model as transformers "
        "loads it, adapters merged into its weights, with a model card."
    )
    _add_model_options(merged)
    merged.add_argument(
        "--dtype",
        type=Literal["auto", "float32", "bfloat16"],
        default="auto",
        help="Of the weights; auto: model.policy.dtype.",
    )
    commands.add_subcommand("merged", merged, help="the whole model, for transformers")
    workflow = VerbParser(
        description="aflow-grpo export workflow sc3 --domain math --output solve.py. One workflow "
        "as a Python file that needs only the package openai."
    )
    _add_workflow_options(workflow)
    commands.add_subcommand("workflow", workflow, help="one workflow, as a file")
    return parser


def _add_model_options(parser: VerbParser) -> None:
    parser.add_argument("run", type=Path, help=_RUN)
    parser.add_argument("--output", type=Path, required=True, help="A new folder.")
    parser.add_argument(
        "--config",
        type=str,
        action="append",
        default=[],
        help="YAML layers over the settings that the run recorded, once for each; for a "
        "checkpoint without its run, those that it was trained with.",
    )
    parser.add_argument(
        "--base_model",
        type=str,
        default=None,
        help="What to call the base model, e.g. its Hugging Face id; default: model.policy.model.",
    )
    _add_common_options(parser)


def _add_workflow_options(parser: VerbParser) -> None:
    parser.add_argument(
        "workflow",
        type=str,
        help="A file with a workflow; the name of a fixed workflow (docs/library.md), or a domain "
        "for its fallback; RUN:PROBLEM_ID for what a run's policy wrote last.",
    )
    parser.add_argument("--output", type=Path, required=True, help="The file, e.g. solve.py.")
    parser.add_argument(
        "--domain",
        type=Domain,
        default=None,
        help="Whose rules it is checked by, and which of the fixed workflows of one name is meant.",
    )
    parser.add_argument("--model", type=str, default="gpt-4o-mini", help="The executor.")
    parser.add_argument(
        "--price",
        type=list[float],
        default=None,
        help="Its USD per million input and output tokens, e.g. '[0.15, 0.6]', for a model that "
        "the price table does not have.",
    )
    _add_common_options(parser)


def _add_common_options(parser: VerbParser) -> None:
    parser.add_argument(
        "--overwrite",
        type=bool,
        nargs="?",
        const=True,
        default=False,
        help="Replace an earlier export there.",
    )
    parser.add_argument("--json", action="store_true", help="Print one JSON object.")


def _model(what: str, given: Any) -> int:
    # Here, not above: torch takes seconds to import.
    from transformers.utils import logging as transformers_logging

    from aflow_grpo.workbench.exporting.models import export_adapter, export_merged

    if not sys.stderr.isatty():
        transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    options = {"config": given.config, "base_model": given.base_model, "overwrite": given.overwrite}
    if what == "adapter":
        exported = export_adapter(given.run, given.output, **options)
    else:
        exported = export_merged(given.run, given.output, dtype=given.dtype, **options)
    if given.json:
        print(json.dumps({**vars(exported), "folder": str(exported.folder)}))
    else:
        _show(exported)
    return Exit.DONE


def _show(exported: Exported) -> None:
    print(f"{exported.folder}  ({sum(exported.files.values()) / 1e6:.1f} MB)")
    for name, size_bytes in exported.files.items():
        print(f"  {name:<28}{size_bytes:>14,} bytes")
    if exported.kind == "adapter":
        print(f'PeftModel.from_pretrained(base, "{exported.folder}") on {exported.base_model}')
    else:
        print(f'AutoModelForCausalLM.from_pretrained("{exported.folder}")')
    print("README.md, the model card, has an example that runs as it stands.")


def _workflow(given: Any) -> int:
    from aflow_grpo.workbench.exporting.workflows import export_workflow

    exported = export_workflow(
        given.workflow,
        given.output,
        domain=given.domain,
        model=given.model,
        price=given.price,
        overwrite=given.overwrite,
    )
    if given.json:
        print(json.dumps({**vars(exported), "path": str(exported.path)}))
        return Exit.DONE
    print(f"{exported.path}  ({exported.lines:,} lines, from {exported.origin})")
    print(f"operators: {', '.join(exported.operators) or 'none'}")
    programs = " --run-code" if exported.runs_programs else ""
    print(f'OPENAI_API_KEY=… python {exported.path} --problem "…"{programs}')
    if exported.runs_programs:
        print("--run-code lets it run programs that the executor writes; the file says how.")
    print("Read the workflow in it before you run it: a model may have written it.")
    return Exit.DONE
