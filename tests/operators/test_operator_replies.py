"""The eight operators that only talk: real sessions, replies from a script."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from aflow_grpo.errors import Unavailable, WorkflowFault
from aflow_grpo.llm.session import LLMSession, Reply, Request
from aflow_grpo.operators.base import Operator
from aflow_grpo.operators.ensembles import MdEnsemble, ScEnsemble
from aflow_grpo.operators.generation import AnswerGenerate, Custom, CustomCodeGenerate
from aflow_grpo.operators.refinement import Format, Review, Revise
from aflow_grpo.records import FaultKind, Usage


class Script:
    """The far end of a session: keeps the requests, gives the replies in order."""

    def __init__(self, *replies: str | Callable[[Request], str]) -> None:
        self.requests: list[Request] = []
        self._replies = list(replies)

    async def ask(self, request: Request) -> Reply:
        self.requests.append(request)
        reply = self._replies.pop(0) if len(self._replies) > 1 else self._replies[0]
        text = reply if isinstance(reply, str) else reply(request)
        return Reply(text, Usage(calls=1, cost_usd=0.001), tier="script")

    def session(self) -> LLMSession:
        return LLMSession(self.ask, seed=1)


def run(operator: Operator, script: Script, **arguments: Any) -> Mapping[str, str | bool]:
    return asyncio.run(operator(script.session(), **arguments))


@pytest.mark.parametrize(
    ("instruction", "expected"),
    [("", "What is 2+2?"), ("Be short.", "Be short.\n\nWhat is 2+2?")],
)
def test_custom_sends_the_workflows_own_words(instruction: str, expected: str) -> None:
    script = Script("4")
    assert run(Custom(), script, input="What is 2+2?", instruction=instruction) == {"response": "4"}
    assert script.requests[0].prompt == expected
    assert script.requests[0].system.startswith("[custom] ")


@pytest.mark.parametrize(
    ("reply", "thought", "answer"),
    [
        ("<thought>2 and 2</thought>\n<answer>4</answer>", "2 and 2", "4"),
        ("<answer> 4 </answer>", "<answer> 4 </answer>", "4"),
        ("<thought>so</thought><answer>1</answer> no, <answer>4</answer>", "so", "4"),
        ("<thought>so</thought><answer>4", "so", "4"),  # cut at its length limit
        ("We add.\nThe answer is: 4", "We add.\nThe answer is: 4", "4"),
        ("<answer>{'x': 1}</answer>", "<answer>{'x': 1}</answer>", "{'x': 1}"),
        ("", "", ""),
    ],
)
def test_answer_generate_always_has_both_keys(reply: str, thought: str, answer: str) -> None:
    result = run(AnswerGenerate(), Script(reply), input="What is 2+2?")
    assert result == {"thought": thought, "answer": answer}


def test_custom_code_generate_keeps_the_code_only() -> None:
    code = "def add(a, b):\n    return a + b"
    script = Script(f"Of course!\n```python\n{code}\n```\nIt adds.")
    result = run(CustomCodeGenerate(), script, problem="Add.", entry_point="add", instruction="Go")
    assert result == {"response": code, "code": code}
    prompt = script.requests[0].prompt
    assert "<problem>\nAdd.\n</problem>" in prompt
    assert "<entry_point>\nadd\n</entry_point>" in prompt
    assert "<instruction>\nGo\n</instruction>" in prompt


def test_format_returns_both_keys_of_aflows_versions() -> None:
    result = run(Format(), Script("<answer>Paris</answer>"), problem="Where?", solution="It is...")
    assert result == {"solution": "Paris", "response": "Paris"}


@pytest.mark.parametrize(
    ("reply", "verdict", "feedback"),
    [
        ("<verdict>right</verdict><feedback>fine</feedback>", True, "fine"),
        ("<verdict>wrong</verdict><feedback>sign</feedback>", False, "sign"),
        ("<verdict> Wrong. </verdict>", False, "<verdict> Wrong. </verdict>"),
        ("<verdict>False</verdict><feedback>x</feedback>", False, "x"),
        ("I am not sure.", True, "I am not sure."),
    ],
)
def test_review_returns_a_real_boolean(reply: str, verdict: bool, feedback: str) -> None:
    result = run(Review(), Script(reply), problem="p", solution="s")
    assert result["review_result"] is verdict
    assert result["feedback"] == feedback


def test_revise_keeps_the_solution_whole() -> None:
    solution = "```python\nx = '<b>'\n```"
    script = Script(f"Mended:\n<solution>\n{solution}\n</solution>")
    result = run(Revise(), script, problem="p", solution="s", feedback="mend it")
    assert result == {"solution": solution, "response": solution}
    assert "<feedback>\nmend it\n</feedback>" in script.requests[0].prompt


@pytest.mark.parametrize(
    ("reply", "chosen"),
    [
        ("<choice>B</choice>", "two"),
        ("<choice>b</choice>", "two"),
        ("B", "two"),
        ("B.", "two"),
        ("(B)", "two"),
        ("**B**", "two"),
        ("I think B: <choice>C.</choice>", "three"),
    ],
)
def test_sc_ensemble_reads_a_letter(reply: str, chosen: str) -> None:
    script = Script(reply)
    assert run(ScEnsemble(), script, solutions=["one", "two", "three"])["response"] == chosen
    assert len(script.requests) == 1


@pytest.mark.parametrize("reply", ["", "D", "<choice>Z</choice>", "A or B", "I like A best", "1"])
def test_sc_ensemble_asks_once_more_then_takes_the_first(reply: str) -> None:
    solutions = ["one", "two", "three"]
    script = Script(reply)
    assert run(ScEnsemble(), script, solutions=solutions)["response"] == "one"
    assert len(script.requests) == 2
    mended = Script(reply, "<choice>C</choice>")
    assert run(ScEnsemble(), mended, solutions=solutions)["response"] == "three"


def test_sc_ensemble_keeps_duplicates_under_their_own_letters() -> None:
    script = Script("<choice>C</choice>")
    assert run(ScEnsemble(), script, solutions=["x", "x", "y"])["response"] == "y"
    for letter in "AB":
        assert f'<candidate letter="{letter}">\nx\n</candidate>' in script.requests[0].prompt


@pytest.mark.parametrize("operator", [ScEnsemble(), MdEnsemble()])
def test_ensemble_of_one_solution_asks_nothing(operator: Operator) -> None:
    script = Script("unused")
    only, same = {"response": "only", "solution": "only"}, {"response": "same", "solution": "same"}
    assert run(operator, script, solutions=["only"]) == only
    assert run(operator, script, solutions=["same", "same"]) == same
    assert script.requests == []


@pytest.mark.parametrize("operator", [ScEnsemble(), MdEnsemble()])
@pytest.mark.parametrize(
    ("solutions", "message"),
    [
        ([], "is an empty list; expected a list of texts"),
        ([str(i) for i in range(27)], "at most 26"),
        ("A", "is the text 'A'; expected a list of texts"),
        (None, "is None; expected a list of texts"),
    ],
)
def test_ensemble_refuses_what_is_no_list_of_candidates(
    operator: Operator, solutions: Any, message: str
) -> None:
    with pytest.raises(WorkflowFault, match=message) as caught:
        run(operator, Script("A"), solutions=solutions)
    assert caught.value.kind is FaultKind.EXCEPTION


def letter_of(solution: str) -> Callable[[Request], str]:
    """A voter for one solution, wherever the shuffle put it."""

    def reply(request: Request) -> str:
        before = request.prompt.split(f"\n{solution}\n</candidate>")[0]
        return f"<choice>{before[-3]}</choice>"

    return reply


def test_md_ensemble_takes_the_majority_of_five_shuffled_votes() -> None:
    votes = [letter_of(name) for name in ("one", "two", "three", "two", "one")]
    votes[4] = letter_of("two")
    script = Script(*votes)
    assert run(MdEnsemble(), script, solutions=["one", "two", "three"])["solution"] == "two"
    assert len(script.requests) == 5
    assert len({request.prompt for request in script.requests}) > 1


def test_md_ensemble_ties_go_to_the_earliest_and_bad_votes_are_dropped() -> None:
    tie = [letter_of("two"), letter_of("one"), letter_of("two"), letter_of("one"), lambda _: "?"]
    assert run(MdEnsemble(), Script(*tie), solutions=["one", "two"])["solution"] == "one"
    no_vote = Script("none of them")
    assert run(MdEnsemble(), no_vote, solutions=["one", "two"])["solution"] == "one"


def test_md_ensemble_counts_the_votes_of_equal_texts_together() -> None:
    votes = [letter_of("y"), letter_of("x"), letter_of("y"), letter_of("x"), letter_of("x")]
    assert run(MdEnsemble(), Script(*votes), solutions=["x", "y", "x"])["solution"] == "x"


def test_md_ensemble_asks_the_same_questions_each_time() -> None:
    first, second = Script("A"), Script("A")
    for script in (first, second):
        run(MdEnsemble(), script, solutions=["one", "two", "three"], problem="p")
    assert first.requests == second.requests


def test_md_ensemble_hands_on_that_the_executor_is_down() -> None:
    async def ask(request: Request) -> Reply:
        fault = Unavailable(FaultKind.ENDPOINT, "down")
        return Reply("", Usage(attempts=1), fault=fault)

    with pytest.raises(Unavailable, match="down"):
        asyncio.run(MdEnsemble()(LLMSession(ask, seed=1), solutions=["one", "two"]))


TALKERS: list[tuple[Operator, dict[str, Any]]] = [
    (Custom(), {"input": "p"}),
    (AnswerGenerate(), {"input": "p"}),
    (CustomCodeGenerate(), {"problem": "p", "entry_point": "f"}),
    (ScEnsemble(), {"solutions": ["a", "b"]}),
    (Format(), {"problem": "p", "solution": "s"}),
    (Review(), {"problem": "p", "solution": "s"}),
    (Revise(), {"problem": "p", "solution": "s", "feedback": "f"}),
    (MdEnsemble(), {"solutions": ["a", "b"]}),
]


@pytest.mark.parametrize(("operator", "arguments"), TALKERS)
def test_every_operator_keeps_its_contract(operator: Operator, arguments: dict[str, Any]) -> None:
    script = Script("<choice>A</choice>")
    result = run(operator, script, **arguments, instruction="Mind the units.")
    types = {key.name: {"str": str, "bool": bool}[key.type] for key in operator.spec.returns}
    assert {name: type(value) for name, value in result.items()} == types
    fewest, most = operator.spec.llm_calls
    assert fewest <= len(script.requests) <= most
    for request in script.requests:
        assert request.system.startswith(operator.spec.marker + " ")
        assert "Mind the units." in request.prompt


@pytest.mark.parametrize(("operator", "arguments"), TALKERS)
def test_numbers_become_text_and_mode_is_ignored(
    operator: Operator, arguments: dict[str, Any]
) -> None:
    changed: dict[str, Any] = {
        n: 42 if isinstance(v, str) else [4, 2.5] for n, v in arguments.items()
    }
    if any(parameter.name == "mode" for parameter in operator.spec.parameters):
        changed["mode"] = None
    script = Script("A")
    run(operator, script, **changed)
    assert ("42" if 42 in changed.values() else "2.5") in script.requests[0].prompt


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, r"custom\(\) misses the argument 'input'"),
        ({"input": None}, r"custom\(\): 'input' is None; expected text"),
        ({"input": ["a"]}, "'input' is a list; expected text"),
        ({"input": {"response": "a"}}, "is a dictionary with 'response'; expected text, e.g. res"),
        ({"input": {}}, "'input' is a dictionary; expected text"),
        ({"input": 10**5000}, "too long a number"),
        ({"input": "a", "text": "b"}, r"custom\(\) has no parameter 'text'; it has input, ins"),
        ({"input": "a", "llm": "b"}, "no parameter 'llm'"),
        ({"input": "a", "self": "b"}, "no parameter 'self'"),
    ],
)
def test_wrong_arguments_are_the_workflows_fault(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(WorkflowFault, match=message) as caught:
        run(Custom(), Script("x"), **arguments)
    assert caught.value.kind is FaultKind.EXCEPTION
