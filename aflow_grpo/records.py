"""The frozen records that travel through the program, in the order in which data flows.

Problem -> Completion -> WorkflowSource -> Execution -> Score -> RewardBreakdown -> Rollout.
Plain data: no behaviour beyond derived properties, every field JSON-serialisable by `to_dict`.
Units are in the names: `_s` seconds, `_usd` US dollars, `_tokens` tokens.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal

from aflow_grpo.problem import DOMAINS, Domain, Problem, VisibleProblem

__all__ = [
    "DOMAINS",
    "Completion",
    "Domain",
    "Execution",
    "FaultKind",
    "Finding",
    "LLMCall",
    "OperatorCall",
    "Problem",
    "RewardBreakdown",
    "Rollout",
    "Score",
    "Status",
    "Usage",
    "VisibleProblem",
    "WorkflowSource",
    "to_dict",
]


class Status(StrEnum):
    """How a rollout's execution ended."""

    OK = "ok"
    """The workflow ran and returned an answer."""
    CUT = "cut"
    """The completion hit its length limit, so there is no whole workflow."""
    INVALID = "invalid"
    """The text holds no workflow, or validation rejected it; nothing ran."""
    ERROR = "error"
    """The workflow raised while running."""
    TIMEOUT = "timeout"
    """The workflow's own doing: an endless loop, a spent call budget."""
    UNAVAILABLE = "unavailable"
    """The executor was down or the step's deadline passed: nobody's fault, masked from learning."""


class FaultKind(StrEnum):
    """What precisely went wrong; every kind belongs to one status."""

    LENGTH_LIMIT = "length_limit"
    """cut: the completion ended without an end token."""

    NO_WORKFLOW = "no_workflow"
    """invalid: neither JSON with `graph_code` nor a workflow class was found."""
    SYNTAX_ERROR = "syntax_error"
    """invalid: the graph code does not parse."""
    BAD_STRUCTURE = "bad_structure"
    """invalid: no class, no async `__call__`, or code that the interpreter does not take."""
    BAD_SIGNATURE = "bad_signature"
    """invalid: `__call__` does not take (self, problem[, entry_point])."""
    UNKNOWN_OPERATOR = "unknown_operator"
    """invalid: an awaited attribute is no operator."""
    FORBIDDEN_OPERATOR = "forbidden_operator"
    """invalid: the operator exists but this domain may not use it."""
    BAD_ARGUMENTS = "bad_arguments"
    """invalid: an operator call has an unknown, missing or doubled argument."""
    NOT_AWAITED = "not_awaited"
    """invalid: an operator's result is used without `await`."""
    BAD_RETURN = "bad_return"
    """invalid: `__call__` can end without returning (answer, cost)."""
    UNKNOWN_PROMPT = "unknown_prompt"
    """invalid: the code names a prompt that is not defined."""
    UNDEFINED_NAME = "undefined_name"
    """invalid: the code reads a name that nothing defines."""
    FORBIDDEN_SYNTAX = "forbidden_syntax"
    """invalid: an import or construct outside the workflow language."""
    UNBOUNDED = "unbounded"
    """invalid: a loop that surely never ends, or more operator calls than the budget allows."""

    EXCEPTION = "exception"
    """error: the workflow raised."""
    BAD_ANSWER = "bad_answer"
    """error: the workflow returned something that is not text or a number."""
    BAD_RESULT = "bad_result"
    """error: an operator's result has other keys or types than its contract."""
    MALFORMED_REPLY = "malformed_reply"
    """error: an operator's executor call was answered in no usable form, twice."""
    OUTPUT_LIMIT = "output_limit"
    """error: the answer is longer than allowed."""
    RECURSION_LIMIT = "recursion_limit"
    """error: the workflow's functions called each other deeper than allowed."""
    MEMORY_LIMIT = "memory_limit"
    """error: the workflow used more memory than allowed."""

    TIME_LIMIT = "time_limit"
    """timeout: the workflow computed or slept longer than allowed."""
    CALL_BUDGET = "call_budget"
    """timeout: the workflow made more operator calls than allowed."""
    SPEND_LIMIT = "spend_limit"
    """timeout: the workflow's executor calls consumed more USD or tokens than allowed."""

    ENDPOINT = "endpoint"
    """unavailable: no endpoint answered, the executor's or the one that writes."""
    DEADLINE = "deadline"
    """unavailable: the step's deadline passed while the executor was still working."""

    @property
    def status(self) -> Status:
        """The status that this kind belongs to."""
        return _STATUS_OF.get(self, Status.INVALID)


_STATUS_OF: Mapping[FaultKind, Status] = {
    FaultKind.LENGTH_LIMIT: Status.CUT,
    FaultKind.EXCEPTION: Status.ERROR,
    FaultKind.BAD_ANSWER: Status.ERROR,
    FaultKind.BAD_RESULT: Status.ERROR,
    FaultKind.MALFORMED_REPLY: Status.ERROR,
    FaultKind.OUTPUT_LIMIT: Status.ERROR,
    FaultKind.RECURSION_LIMIT: Status.ERROR,
    FaultKind.MEMORY_LIMIT: Status.ERROR,
    FaultKind.TIME_LIMIT: Status.TIMEOUT,
    FaultKind.CALL_BUDGET: Status.TIMEOUT,
    FaultKind.SPEND_LIMIT: Status.TIMEOUT,
    FaultKind.ENDPOINT: Status.UNAVAILABLE,
    FaultKind.DEADLINE: Status.UNAVAILABLE,
}


@dataclass(frozen=True)
class Usage:
    """What calls of an endpoint consumed; add two with `+`."""

    calls: int = 0
    """Answered calls."""
    attempts: int = 0
    """HTTP attempts, failed ones included; 0 for answers from the journal."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float = 0.0
    """List cost of the successful attempts by the price table: what the reward uses."""
    billed_usd: float = 0.0
    """What was really paid: retries included, 0 for answers from the journal."""

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            *(getattr(self, f.name) + getattr(other, f.name) for f in dataclasses.fields(self))
        )


@dataclass(frozen=True)
class Completion:
    """What the policy sampled for one problem."""

    text: str
    """The decoded completion, without the end token."""
    prompt_ids: tuple[int, ...]
    """The prompt's token ids, exactly as the policy saw them."""
    token_ids: tuple[int, ...]
    """The sampled ids, the end token included; never re-encoded from text."""
    logprobs: tuple[float, ...]
    """Log-probability of each sampled id at the sampling temperature, in nats."""
    finished: bool
    """False when the completion hit its length limit."""
    context_cut: bool = False
    """Whether the prompt held only part of the problem's context."""
    usage: Usage = Usage()
    """What writing it cost where an endpoint did; nothing where the policy is in this process."""
    unavailable: str = ""
    """Why there is no text: the endpoint that should have written it gave no answer."""

    @property
    def prompt_length(self) -> int:
        """Tokens of the prompt; where an endpoint wrote, as that endpoint counted them."""
        return self.usage.prompt_tokens if self.usage.calls else len(self.prompt_ids)

    @property
    def length(self) -> int:
        """Tokens of the completion; where an endpoint wrote, as that endpoint counted them."""
        return self.usage.completion_tokens if self.usage.calls else len(self.token_ids)


@dataclass(frozen=True)
class WorkflowSource:
    """A workflow as the policy wrote it, after parsing and before validation."""

    graph_code: str
    """Python source with one workflow class."""
    prompts: Mapping[str, str] = field(default_factory=dict)
    """Operator name (or prompt name) -> instruction; empty for plain code."""
    hybrid: bool = True
    """True for the JSON form, False for plain code and AFlow's two files."""
    repaired: bool = False
    """True when parsing had to mend the text: it runs, but is not direct and has format 0."""
    lossy: bool = False
    """True when mending may have lost some of the text: it ended inside a string, say."""


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with a workflow, found by validation or when it ran."""

    kind: FaultKind
    message: str
    """What was written, what is expected."""
    line: int | None = None
    """1-based line in the graph code, where one can be named."""
    rule: str = ""
    """Id in `workflow.rules`; empty for what a run showed."""
    severity: Literal["reject", "warn"] = "reject"
    """Only `reject` makes a workflow invalid; a warning rides along."""
    column: int | None = None
    """1-based column in that line, in characters."""
    source: str = ""
    """The line as written, without its indentation; a long one is cut."""
    hint: str = ""
    """What to do, in one sentence."""


@dataclass(frozen=True)
class LLMCall:
    """One executor call inside an operator call: what was asked, who answered, what it cost."""

    place: str
    """Where it belongs in its execution: number of the operator call, number of the call in it."""
    system: str
    prompt: str
    reply: str
    """Empty when there was none."""
    model: str
    tier: str
    """Which tier answered; empty when none did."""
    attempts: int
    """HTTP attempts over all tiers; 0 for an answer from the journal."""
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float
    billed_usd: float
    started_s: float = field(compare=False)
    """Unix time."""
    seconds: float = field(compare=False)
    finish_reason: str = ""
    """As the endpoint said: `stop`, `length`, ...; empty when it said nothing."""
    fault: str = ""
    """Why there is no reply; empty when there is one."""


@dataclass(frozen=True)
class OperatorCall:
    """One operator call inside an execution."""

    operator: str
    """The operator's attribute name, e.g. ``answer_generate``."""
    arguments: Mapping[str, Any]
    """What the workflow passed, by parameter name."""
    result: Mapping[str, Any]
    """What the workflow got back; empty when the call failed."""
    usage: Usage
    seconds: float
    tiers: tuple[str, ...] = ()
    """Which executor tiers answered, in order of the calls."""
    fault_kind: FaultKind | None = None
    """Why the call failed; None when it did not."""
    message: str = ""
    """What went wrong, for a person; empty when nothing did."""
    started_s: float = field(default=0.0, compare=False)
    """Unix time."""
    llm_calls: tuple[LLMCall, ...] = ()
    """In the order in which they were asked; for traces, and not stored with the rollout: the
    journal has them."""


@dataclass(frozen=True)
class Execution:
    """What happened when a completion was run as a workflow."""

    status: Status
    answer: str | None = None
    """The answer of the policy's own workflow; None unless the status is `ok`."""
    fault_kind: FaultKind | None = None
    message: str = ""
    """What went wrong, for a person; empty when nothing did."""
    source: WorkflowSource | None = None
    """The parsed workflow; None when the text holds none."""
    findings: tuple[Finding, ...] = ()
    """What validation found; of a workflow that ran, warnings only."""
    calls: tuple[OperatorCall, ...] = ()
    usage: Usage = Usage()
    """Of the policy's own workflow; the fallback's is separate."""
    seconds: float = 0.0
    fallback_answer: str | None = None
    """The fixed workflow's answer when the policy's own did not run: for the user, not rewarded."""
    fallback_calls: tuple[OperatorCall, ...] = ()
    fallback_usage: Usage = Usage()
    fallback_message: str = ""
    """Why the fixed workflow gave no answer either; empty when it did or was not asked."""

    @property
    def answered_by(self) -> Literal["own", "fallback", "none"]:
        """Which layer the user's answer comes from; the fault fields keep the first fault."""
        if self.status is Status.OK:
            return "own"
        return "none" if self.fallback_answer is None else "fallback"

    @property
    def direct(self) -> bool:
        """The policy's own workflow ran to an answer as written: no repair, no fallback."""
        return self.status is Status.OK and self.source is not None and not self.source.repaired

    @property
    def repaired(self) -> bool:
        """The policy's own workflow ran to an answer after a repair that lost no text of it."""
        source = self.source
        lossless = source is not None and source.repaired and not source.lossy
        return self.status is Status.OK and lossless


@dataclass(frozen=True)
class Score:
    """Whether an answer is right."""

    value: float
    """In [0, 1]; 1 is fully right."""
    correct: bool
    detail: str = ""
    """What was compared, for a person."""
    measures: Mapping[str, float] = field(default_factory=dict)
    """Further figures that are reported and never rewarded, each in [0, 1], e.g. ``f1``."""


@dataclass(frozen=True)
class RewardBreakdown:
    """The reward of one rollout, dimension by dimension; every part and the total in points.

    The five dimensions are in [0, weight] (weights 65/15/10/5/5 by default), `total` in [-10, 10].
    """

    correctness: float
    efficiency: float
    simplicity: float
    format: float
    repetition: float
    penalty: float
    """At most 0; what the fault cost."""
    total: float


@dataclass(frozen=True)
class Rollout:
    """Problem + completion + execution + reward; the K rollouts of one problem are a group."""

    problem: Problem
    completion: Completion
    execution: Execution
    score: Score
    reward: RewardBreakdown
    group: int
    """Index of its problem in the batch (axis P)."""
    member: int
    """Index within its group (axis G)."""

    @property
    def masked(self) -> bool:
        """True when the rollout leaves its group: what happened was nobody's fault."""
        return self.execution.status is Status.UNAVAILABLE


def to_dict(record: Any) -> dict[str, Any]:
    """A record as plain JSON types: enums become their value, tuples lists."""

    def plain(value: Any) -> Any:
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
        if isinstance(value, Mapping):
            return {str(k): plain(v) for k, v in value.items()}
        if isinstance(value, (list, tuple)):
            return [plain(v) for v in value]
        return str(value) if isinstance(value, StrEnum) else value

    if not dataclasses.is_dataclass(record) or isinstance(record, type):
        raise TypeError(
            f"to_dict takes a record (a dataclass instance), not {type(record).__name__}"
        )
    return {f.name: plain(getattr(record, f.name)) for f in dataclasses.fields(record)}
