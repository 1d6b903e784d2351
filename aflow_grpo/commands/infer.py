"""`aflow-grpo infer`: a problem answered, or a file of them, and all that led to the answer.

With a checkpoint its policy writes the workflow; without one a fixed workflow of the library runs,
and torch is not imported. Here are the options and what is printed; who answers is
`workbench.solving`, files are `workbench.answer_file`.
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aflow_grpo.commands.parsing import VerbParser
from aflow_grpo.errors import AFlowError, BudgetSpent, ConfigError, OutageError
from aflow_grpo.exits import Exit
from aflow_grpo.terminal import (
    complain,
    console,
    printable,
    progress,
    show_origin,
    verbosity,
)
from aflow_grpo.training.interrupts import Terminated, unwind_from_here
from aflow_grpo.workbench.executor_settings import add_executor_options

if TYPE_CHECKING:
    from aflow_grpo.data.rows import BadRow
    from aflow_grpo.records import Problem
    from aflow_grpo.workbench.answer_file import AnswerFile
    from aflow_grpo.workbench.solution import Solution
    from aflow_grpo.workbench.solving import Solver

__all__ = ["make_parser", "run_infer"]

_GROUPS = ("llm", "rollout")
_LISTED = 10
"""Bad rows that are shown; the rest is counted."""
_DESCRIPTION = (
    'Answer a problem, e.g.: aflow-grpo infer --checkpoint runs/quickstart --problem "What is 17 + '
    '4?" --domain math --gold 21. Or a file of them: --input problems.jsonl --output '
    "answers.jsonl, which the same command continues where it was stopped."
)


def make_parser() -> VerbParser:
    """The verb's options."""
    usage = "aflow-grpo infer (--problem TEXT | --input FILE --output FILE) [options]"
    parser = VerbParser(prog="aflow-grpo infer", usage=usage, description=_DESCRIPTION)
    add = parser.add_argument
    add("--problem", type=str, default=None, help="The text of one problem.")
    add(
        "--domain", "--problem-type", "--problem_type",
        type=str, default=None, help="math (the default), code or qa; of a file's rows that say "
        "none.",
    )  # fmt: skip
    add(
        "--gold", "--ground-truth", "--ground_truth",
        type=str, default="", help="The right answer, so that the reward is known; for code assert "
        "statements.",
    )  # fmt: skip
    add("--context", type=str, default="", help="Passages that the question is about (qa).")
    add(
        "--entry_point", "--entry-point",
        type=str, default="", help="Name of the function to write (code).",
    )  # fmt: skip
    add(
        "--public_tests", "--public-tests", type=str, nargs="+", default=[],
        help="Assert statements that the workflow may run (code).",
    )  # fmt: skip
    add(
        "--checkpoint", type=str, default=None,
        help="A run's directory or a checkpoint file: its policy writes the workflow, under the "
        "run's own settings. Without it a fixed workflow answers.",
    )  # fmt: skip
    add(
        "--workflow", type=str, default=None,
        help="Without a checkpoint: a fixed workflow by name (docs/library.md), or a file with "
        "one.",
    )  # fmt: skip
    add(
        "--config", type=str, action="append", default=[],
        help="A YAML file as for fit, e.g. configs/llm/openai.yaml for the real executor; again "
        "for more.",
    )  # fmt: skip
    add("--samples", type=int, default=0, help="Sampled workflows; 0: the most probable one.")
    add("--seed", type=int, default=0, help="Of sampled workflows and of executor calls.")
    add("--device", type=str, default="auto", help="auto, cpu or cuda.")
    add("--input", type=Path, default=None, help="A file of problems, see docs/data.md.")
    add("--output", type=Path, default=None, help="Where its answers go, a JSON line for each.")
    add("--json", action="store_true", help="Print JSON, one line per answer, and nothing else.")
    own = list(parser._action_groups)
    add_executor_options(parser)
    # Every one of them would be listed; they are those of `fit`.
    parser._action_groups = own
    parser.epilog = (
        "The settings under llm and rollout are options too, e.g. --llm.budget_usd 1; "
        "`aflow-grpo fit --help llm` lists them."
    )
    return parser


def run_infer(arguments: Sequence[str]) -> int:
    """Run the verb; returns the exit code, one of `exits.Exit`.

    1 where a problem has no answer or a row of the file is bad.
    """
    parser = make_parser()
    given = parser.parse_args(list(arguments))
    # Only what was said: it lies over the run's own settings.
    said = parser.parse_args(list(arguments), defaults=False).as_dict()
    overrides = {group: said[group] for group in _GROUPS if group in said}
    try:
        if (given.problem is None) == (given.input is None):
            raise ConfigError("expected one of --problem TEXT and --input FILE.")
        if (given.input is None) != (given.output is None):
            raise ConfigError("--input and --output go together: problems in, answers out.")
        return _one(given, overrides) if given.input is None else _file(given, overrides)
    except (BudgetSpent, OutageError) as end:
        show_origin(end)
        print(f"aflow-grpo infer: {end}{_continue(given)}", file=sys.stderr)
        return Exit.LIMIT
    except AFlowError as error:
        complain("aflow-grpo infer", error)
        return Exit.USAGE


def _solver(given: Any, overrides: dict[str, Any], journal: Path | None = None) -> Solver:
    if verbosity() != "quiet":
        doing = "starting" if given.checkpoint is None else f"loading {given.checkpoint}"
        print(f"aflow-grpo infer: {doing} …", file=sys.stderr, flush=True)
    # What the libraries under a policy say on import is nothing that a user can act on.
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    from aflow_grpo.workbench.solving import Solver

    solver = Solver(
        given.checkpoint,
        workflow=given.workflow,
        config=given.config,
        settings=overrides,
        seed=given.seed,
        device=given.device,
        journal=journal,
    )
    unwind_from_here()  # from here on there are processes and files to close
    return solver


def _one(given: Any, overrides: dict[str, Any]) -> int:
    from aflow_grpo.workbench.questions import make_problem

    problem = make_problem(
        given.problem,
        given.domain or "math",
        gold=given.gold,
        context=given.context,
        entry_point=given.entry_point,
        public_tests=given.public_tests,
    )
    answered = True
    with _solver(given, overrides) as solver:
        for solution in solver.solve_many([problem], samples=given.samples):
            answered &= solution.answer is not None
            _show(solution, as_json=given.json)
    return Exit.DONE if answered else Exit.FAILED


def _show(solution: Solution, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(solution.row()), flush=True)
    else:
        console().print(solution, crop=False)


def _file(given: Any, overrides: dict[str, Any]) -> int:
    for name in ("gold", "context", "entry_point", "public_tests"):
        if given[name]:
            raise ConfigError(f"--{name} is for --problem; in a file each row has its own.")
    from aflow_grpo.workbench.answer_file import AnswerFile, journal_beside
    from aflow_grpo.workbench.questions import read_questions

    bad: list[BadRow] = []
    problems = read_questions(given.input, bad, domain=given.domain)
    _report_bad([row.message for row in bad])
    with _solver(given, overrides, journal_beside(given.output)) as solver:
        problems, long = _askable(solver, problems)
        _report_bad([f"{given.input}: {text}" for text in long])
        with AnswerFile(solver, problems, given.output, samples=given.samples) as file:
            try:
                _answer(file, as_json=given.json)
            except (KeyboardInterrupt, Terminated):
                print(
                    f"\n{len(file.rows) + file.skipped} of {file.asked} answers are in "
                    f"{given.output}; the same command continues.",
                    file=sys.stderr,
                )
                raise
    if not given.json and verbosity() != "quiet":
        console().print(_summary(file, given.output), soft_wrap=True)
    if file.unanswered:
        print(
            f"aflow-grpo infer: no endpoint answered {len(file.unanswered)} problems, first "
            f"{printable(file.unanswered[0])}. The same command asks again.",
            file=sys.stderr,
        )
    return Exit.FAILED if bad or long or file.unanswered else Exit.DONE


def _answer(file: AnswerFile, *, as_json: bool) -> None:
    spent = 0.0
    with progress("answering", total=file.asked, done=file.skipped) as step:
        for solution in file.answer():
            spent += solution.cost_usd
            step.advance(1, note=f"${spent:.4f}")
            if as_json:
                print(json.dumps(solution.row()), flush=True)


def _askable(solver: Solver, problems: list[Problem]) -> tuple[list[Problem], list[str]]:
    """The problems that fit into the policy's prompt, and what is said of the others."""
    long = solver.too_long(problems)
    told = [
        f"problem {name!r} needs {tokens} prompt tokens, more than "
        "model.policy.sampling.max_prompt_tokens; it is left out"
        for name, tokens in long.items()
    ]
    return [problem for problem in problems if problem.id not in long], told


def _report_bad(messages: Sequence[str]) -> None:
    for message in messages[:_LISTED]:
        print(f"aflow-grpo infer: {printable(message)}", file=sys.stderr)
    if len(messages) > _LISTED:
        print(f"aflow-grpo infer: and {len(messages) - _LISTED} more such rows", file=sys.stderr)


def _summary(done: AnswerFile, output: Path) -> str:
    rows = done.rows
    parts = [f"{len(rows)} answer{'s' * (len(rows) != 1)}"]
    if done.skipped:
        parts[0] += f" and {done.skipped} that were there already"
    if rows:
        parts.append(f"{sum(row['direct'] for row in rows) / len(rows):.0%} ran as written")
    judged = [row["score"]["correct"] for row in rows if row["score"] is not None]
    if judged:
        parts.append(f"{sum(judged) / len(judged):.0%} of {len(judged)} right")
    parts.append(f"${sum(row['cost_usd'] for row in rows):.4f}")
    return f"{', '.join(parts)}: {output}"


def _continue(given: Any) -> str:
    return " The same command continues." if given.output is not None else ""
