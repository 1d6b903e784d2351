"""`export_workflow`: one workflow as one Python file that needs only the package `openai`.

The file holds the workflow as written, and of this program the operators that it uses with their
prompts, the reading of replies and the running of programs, copied definition by definition
(`bundle`), so that it asks what the program asks. Not here: which workflows are too dangerous for
plain Python (`safety`).
"""

from __future__ import annotations

import ast
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from aflow_grpo.errors import ConfigError
from aflow_grpo.execution import ExecutionSettings
from aflow_grpo.llm.prices import PRICES_AS_OF, Price, find_price
from aflow_grpo.llm.tiers import Tier
from aflow_grpo.records import DOMAINS, Domain, Finding, Status, WorkflowSource
from aflow_grpo.sandbox.settings import SandboxSettings
from aflow_grpo.workbench.drawing import read_workflow
from aflow_grpo.workbench.exporting.bundle import Bundle, Key
from aflow_grpo.workbench.exporting.outputs import written_file
from aflow_grpo.workbench.exporting.quoting import quoted, quoted_mapping
from aflow_grpo.workbench.exporting.safety import refusals
from aflow_grpo.workbench.exporting.workflow_code import WorkflowCode, workflow_code
from aflow_grpo.workbench.runs import read_run
from aflow_grpo.workflow.anatomy import find_workflow
from aflow_grpo.workflow.contract import TEN_OPERATORS
from aflow_grpo.workflow.library import FIXED, fallback_workflow
from aflow_grpo.workflow.limits import InterpreterLimits
from aflow_grpo.workflow.spec import OperatorSpec
from aflow_grpo.workflow.syntax import parse_source
from aflow_grpo.workflow.validate import is_valid, rejections

__all__ = ["ExportedWorkflow", "export_workflow", "standalone_text"]

_HERE = "aflow_grpo.workbench.exporting.standalone"
_STAND_INS = {
    "contract": f"{_HERE}.contracts",
    "PROMPTS": f"{_HERE}.found",
    "LLM": f"{_HERE}.executor",
    "FaultKind": f"{_HERE}.executor",
    "WorkflowFault": f"{_HERE}.executor",
    "Request": f"{_HERE}.executor",
    "Tier": f"{_HERE}.executor",
}
_PROGRAMS = ("Sandbox", "ONE_PROGRAM", "run_one_program")
_OF_PROGRAMS = ("CHANNEL", "PACKAGE_ROOT")
_OMITTED = {
    "OperatorSpec": frozenset({"__post_init__", "shown_parameters"}),
}
_TITLES = {
    "found": "What the workflow finds",
    "contracts": "The contracts of its operators, and its start",
    "executor": "The executor",
    "code_runs": "Programs that a model wrote",
    "the_workflow": "The workflow",
    "chat": "Bodies of requests and replies",
    "structured": "Replies as JSON objects",
    "session": "What reads a reply",
    "base": "What an operator is",
    "binding": "Arguments of an operator call",
    "drive": "Words that a workflow may read",
    "spec": "The words of a contract",
    "contract": "Contracts",
    "registry": "All operators",
    "client": "What a process leaves",
    "jail": "What that means",
    "job": "Inside the process",
    "values": "Values on their way out of the process",
    "judge": "Public tests",
    "replay": "Tests that ask as they go",
    "code_text": "Programs in replies",
    "running": "Running it",
}
_RUNS_PROGRAMS = frozenset({"programmer", "test"})


@dataclass(frozen=True)
class ExportedWorkflow:
    """What has been written."""

    path: Path
    origin: str
    """Where the workflow comes from, without a path of this machine."""
    operators: tuple[str, ...]
    """Names on `self`."""
    runs_programs: bool
    """Whether an operator runs programs that a model wrote, which needs `--run-code`."""
    lines: int


@dataclass(frozen=True)
class _Chosen:
    origin: str
    source: WorkflowSource


def export_workflow(
    workflow: str | Path | WorkflowSource,
    output: str | Path,
    *,
    domain: Domain | None = None,
    model: str = "gpt-4o-mini",
    price: Sequence[float] | None = None,
    overwrite: bool = False,
) -> ExportedWorkflow:
    """A workflow as one Python file that runs where only `openai` is installed.

    Args:
        workflow: A file with a workflow in any form; a fixed workflow's name (docs/library.md) or
            a domain, for its fallback; ``RUN:PROBLEM_ID`` for what a run's policy wrote last for a
            problem; or the workflow itself.
        output: The file, e.g. ``solve.py``.
        domain: Whose rules it is checked by, and which of the fixed workflows of one name is meant.
        model: The executor.
        price: Its USD per million input and output tokens, where the price table has none.
        overwrite: Replace an earlier file.

    Raises:
        ConfigError: No such workflow, it is not valid, holds what must not run in plain Python, or
            `output` is taken or cannot be written.
        ExecutorError: The model's price is not known.
    """
    chosen = _choose(workflow, domain)
    found = find_price(model, price, key="--price")
    text, code = standalone_text(chosen.source, chosen.origin, domain or "math", model, found)
    written_file(Path(output), text, overwrite=overwrite)
    names = tuple(spec.attribute for spec in code.operators)
    runs = bool(_RUNS_PROGRAMS & set(names))
    return ExportedWorkflow(Path(output), chosen.origin, names, runs, text.count("\n"))


def _choose(given: str | Path | WorkflowSource, domain: Domain | None) -> _Chosen:
    origin = "a workflow"
    if isinstance(given, str):
        folder, colon, problem = given.partition(":")
        if given in DOMAINS:
            origin, given = f"the fallback for {given}", fallback_workflow(given)
        elif colon and Path(folder).is_dir():
            origin, given = _written(folder, problem)
    read = read_workflow(given, domain)
    if not isinstance(given, WorkflowSource):
        fixed = read.name in FIXED
        origin = f"the fixed {read.name}" if fixed else f"the file {Path(read.name).name}"
    if read.source is None or not is_valid(read.findings):
        faults = list(rejections(read.findings)) or list(read.findings)
        told = "; ".join(f"line {f.line or 1}: {f.message}" for f in faults[:3])
        more = f" (and {len(faults) - 3} more)" if len(faults) > 3 else ""
        raise ConfigError(f"{read.name}: no valid workflow: {told}{more}")
    bad = refusals(_plain_lines(read.source.graph_code), read.source.prompts.values())
    if bad:
        told = "; ".join(f"line {each.line}: {each.message}" for each in bad[:3])
        raise ConfigError(
            f"{read.name}: not for plain Python: {told}. In the interpreter of aflow-grpo it does "
            "no harm; in a file of its own it could."
        )
    return _Chosen(origin, read.source)


def _written(run: str, problem: str) -> tuple[str, WorkflowSource]:
    """The workflow that a run's policy wrote last for a problem, greedily if it ever did."""
    best: tuple[tuple[bool, int, float], WorkflowSource] | None = None
    known: set[str] = set()
    for stored in read_run(run).rollouts():
        rollout = stored.rollout
        known.add(rollout.problem.id)
        execution = rollout.execution
        if rollout.problem.id != problem or execution.source is None:
            continue
        if execution.status is Status.OK:
            place = (stored.part.endswith("/greedy"), stored.step, rollout.reward.total)
            if best is None or place >= best[0]:
                best = (place, execution.source)
    if best is None:
        if problem in known:
            what = "none of the workflows that were written for it ran"
        else:
            what = f"no such problem among its {len(known)} stored ones"
            what += f", e.g. {min(known)}" if known else ""
        raise ConfigError(f"{run}:{problem}: {what}. Expected RUN:PROBLEM_ID.")
    return f"the run {Path(run).resolve().name}, for the problem {problem}", best[1]


def _plain_lines(code: str) -> str:
    return code.replace("\r\n", "\n").replace("\r", "\n")


# The file


def standalone_text(
    source: WorkflowSource, origin: str, domain: Domain, model: str, price: Price
) -> tuple[str, WorkflowCode]:
    """The file's text, and the workflow as it is in it.

    Args:
        source: A valid workflow.
        origin: Where it comes from, in words.
        domain: Of the problems that it is for.
        model: The executor.
        price: The executor's.

    Raises:
        ConfigError: A name of the workflow stands in the way of the file's own code.
    """
    code = _plain_lines(source.graph_code)
    workflow = find_workflow(parse_source(code), TEN_OPERATORS)
    if isinstance(workflow, Finding):
        raise ConfigError(workflow.message)
    prompts = {_whole(name): _whole(text) for name, text in source.prompts.items()}
    own = workflow_code(workflow, code, prompts)
    name = workflow.node.name
    runs = bool(_RUNS_PROGRAMS & {spec.attribute for spec in own.operators})
    texts = _texts(own, prompts, domain, model, price)
    bundle = Bundle(_stand_ins(runs=runs), texts, _OMITTED, outside=[name])
    roots = ["found.operator", "found.prompt_custom", "found.create_llm_instance"]
    roots += ["found.CostManager", "found.DatasetType", "running.main"]
    bundle.add((f"{_HERE}.{root.split('.')[0]}", root.split(".")[1]) for root in roots)
    for bound, module, inner in own.imports:
        known = bundle.origin(bound)
        if known not in (None, (module, inner)):
            raise ConfigError(_in_the_way(bound))
        bundle.add_import(bound, module, inner)
    in_the_way = own.bound - {bound for bound, _, _ in own.imports}
    for bound in sorted(in_the_way):
        if bundle.origin(bound) is not None:
            raise ConfigError(_in_the_way(bound))
    kinds = {spec.name: f"{spec.name}Operator" for spec in own.operators}
    kinds["TEN_CLASSES"] = "ALL_CLASSES"
    bundle.rename(in_the_way, kinds)
    return _assembled(bundle, own, _header(origin, own, model, price, runs=runs)), own


def _in_the_way(name: str) -> str:
    return (
        f"the workflow gives `{name}` a meaning that the file's other code has another one for. "
        "Call it otherwise in the workflow."
    )


def _stand_ins(*, runs: bool) -> dict[str, str]:
    programs = f"{_HERE}.{'code_runs' if runs else 'no_programs'}"
    found = _STAND_INS | dict.fromkeys(_PROGRAMS, programs)
    return found | (dict.fromkeys(_OF_PROGRAMS, programs) if runs else {})


def _texts(
    own: WorkflowCode, prompts: Mapping[str, str], domain: Domain, model: str, price: Price
) -> dict[Key, str]:
    """What is written for this workflow in place of the modules' own definitions."""
    tier, limits, jail = Tier(), InterpreterLimits(), SandboxSettings()
    sampling = f"{tier.temperature!r}, {tier.top_p!r}, {tier.max_tokens}"
    cached = price.usd_per_m_cached_input
    figures = [price.usd_per_m_input, price.usd_per_m_output, *([cached] if cached else [])]
    told = ", ".join(f'Decimal("{figure}")' for figure in figures)
    classes = "".join(f"    {spec.name},\n" for spec in own.operators)
    names = {spec.name: spec.attribute for spec in own.operators}
    running = {
        "DOMAIN": f"DOMAIN: Domain = {quoted(domain)}",
        "MAX_CALLS": f"MAX_CALLS = {limits.max_operator_calls}",
        "MAX_ARGUMENT_CHARS": f"MAX_ARGUMENT_CHARS = {limits.max_argument_chars:_}",
        "MAX_ANSWER_CHARS": f"MAX_ANSWER_CHARS = {limits.max_answer_chars:_}",
        "WORKFLOW_TIMEOUT_S": f"WORKFLOW_TIMEOUT_S = {ExecutionSettings().timeout_s!r}",
    }
    executor = {
        "TIER": f"TIER = Tier({quoted(model)}, {sampling})",
        "PRICE": f"PRICE = Price({told})",
        "TIMEOUT_S": f"TIMEOUT_S = {tier.timeout_s!r}",
        "MAX_RETRIES": f"MAX_RETRIES = {tier.max_attempts - 1}",
    }
    found = {
        "PROMPTS": "PROMPTS: dict[str, str] = " + quoted_mapping(prompts),
        "OPERATOR_NAMES": "OPERATOR_NAMES: dict[str, str] = " + quoted_mapping(names),
    }
    limit = f"timeout_s={jail.timeout_s!r}, memory_mb={jail.memory_mb}"
    programs = {"CODE_LIMITS": f"CODE_LIMITS = SandboxLimits({limit}, max_output_bytes=1_000_000)"}
    texts = {
        f"{_HERE}.running": running,
        f"{_HERE}.executor": executor,
        f"{_HERE}.found": found,
        f"{_HERE}.code_runs": programs,
        f"{_HERE}.contracts": {"start_workflow": own.start.rstrip()},
        "aflow_grpo.operators.registry": {
            "TEN_CLASSES": f"TEN_CLASSES: tuple[type[Operator], ...] = (\n{classes})"
        },
        "aflow_grpo.workflow.contract": {"OPERATORS": _contracts(own.operators)},
    }
    return {(m, name): f"{t}\n" for m, each in texts.items() for name, t in each.items()}


def _contracts(used: Sequence[OperatorSpec]) -> str:
    """Those contracts, as they are written in `workflow.contract`."""
    from aflow_grpo.workflow import contract

    text = Path(str(contract.__file__)).read_text(encoding="utf-8")
    wanted = {spec.attribute for spec in used}
    kept = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "OperatorSpec":
            given = {
                k.arg: k.value.value for k in node.keywords if isinstance(k.value, ast.Constant)
            }
            if given.get("attribute") in wanted:
                kept.append(f"    {ast.get_source_segment(text, node)},\n")
    return f"OPERATORS: tuple[OperatorSpec, ...] = (\n{''.join(kept)})"


def _whole(text: str) -> str:
    """Without half surrogate pairs, as the interpreter's copy of a prompt."""
    return text.encode("utf-8", "replace").decode()


def _assembled(bundle: Bundle, own: WorkflowCode, header: str) -> str:
    first, last = f"{_HERE}.found", f"{_HERE}.running"
    between = [module for module in bundle.modules() if module not in (first, last)]
    imports = "\n".join(bundle.import_lines())
    names = {n: bundle.called(first, n) for n in ("PROMPTS", "executor_usage", "OperatorHandle")}
    given = "\n".join(own.attributes).format(**names)
    parts = [
        f'"""{header}"""\n\nfrom __future__ import annotations\n\n{imports}',
        _titled("found", bundle.text(first)),
        _titled("the_workflow", f"{own.code}\n\n\n{given}"),
        *(_titled(module.rpartition(".")[2], bundle.text(module)) for module in between),
        _titled("running", bundle.text(last)),
        f'if __name__ == "__main__":\n    raise SystemExit({bundle.called(last, "main")}())',
    ]
    head, *rest = (part.strip("\n") for part in parts)
    return head + "\n\n" + "\n\n\n".join(rest) + "\n"


def _titled(module: str, text: str) -> str:
    title = _TITLES.get(module, module.replace("_", " ").capitalize())
    gap = "\n\n" if text.startswith(("class ", "def ", "async ", "@")) else "\n"
    return f"{_rule(title)}\n{gap}{text}"


def _rule(title: str) -> str:
    return f"# {title} {'-' * (77 - len(title))}"


def _header(origin: str, own: WorkflowCode, model: str, price: Price, *, runs: bool) -> str:
    names = ", ".join(spec.name for spec in own.operators) or "none"
    as_of = f" (list price of {price.as_of or PRICES_AS_OF})" if price.as_of else ""
    programs = (
        "Operators in it run programs that the executor writes. They do so only with --run-code, "
        "in processes with an empty environment and limits, but with your files and your network. "
        "That is weaker than the jail of aflow-grpo: use a machine or a container that may be lost."
    )
    paragraphs = [
        "A workflow as one file: it solves a problem by asking a language model.",
        "\n".join(
            [
                "    pip install openai",
                '    OPENAI_API_KEY=… python FILE --problem "…"' + (" --run-code" if runs else ""),
            ]
        ),
        "OPENAI_BASE_URL names another server that speaks the same protocol. With --json the "
        "answer, its cost and every call come as one JSON object.",
        f"Workflow: {_plain(origin)}. Operators: {names}. Executor: {_plain(model)}{as_of}. "
        f"Written by aflow-grpo {version('aflow-grpo')}.",
        "READ THE WORKFLOW BEFORE YOU RUN IT. A model may have written it. It was checked for what "
        "reaches files, processes and the network, but it runs here in plain Python, not in the "
        "interpreter of aflow-grpo, and no such check is a proof.",
        *([programs] if runs else []),
        "Everything below the workflow is copied from aflow-grpo (Apache-2.0): the same prompts, "
        "the same reading of replies, the same seeds.",
    ]
    wrapped = [p if p.startswith("    ") else textwrap.fill(p, 96) for p in paragraphs]
    return "\n\n".join(wrapped) + "\n"


def _plain(text: str) -> str:
    """Words that may stand in the header, whatever somebody called a file or a problem."""
    kept = "".join(c if c.isprintable() and c not in '"\\' else "_" for c in text)
    return kept[:200]
