"""What is known to go wrong in AFlow's own operators, one by one: here it must not."""

from __future__ import annotations

import asyncio
import builtins
import dataclasses
import json
import time
from collections.abc import Mapping
from typing import Any

import pytest

from aflow_grpo.llm.session import LLMSession, Reply, Request
from aflow_grpo.operators import programs
from aflow_grpo.operators.base import Operator
from aflow_grpo.operators.registry import OperatorKit, run_operator
from aflow_grpo.records import OperatorCall, Problem, Usage, to_dict
from aflow_grpo.sandbox.pool import Sandbox

ADD = Problem(
    "c/1",
    "sample",
    "code",
    "Write add(a, b).",
    "",
    entry_point="add",
    public_tests=("assert add(1, 2) == 3",),
    hidden_tests=("assert add(5, 5) == 10",),
)
GOOD = "def add(a, b):\n    return a + b"
BAD = "def add(a, b):\n    return a - b"


def fenced(code: str) -> str:
    return f"```python\n{code}\n```"


class Scene:
    """Calls operators through their entrance, with replies from a script."""

    def __init__(self, runner: asyncio.Runner, sandbox: Sandbox) -> None:
        self._runner = runner
        self._sandbox = sandbox
        self.requests: list[Request] = []

    def __call__(
        self, attribute: str, replies: list[str], about: Problem = ADD, /, **arguments: Any
    ) -> Mapping[str, Any]:
        operators = OperatorKit().build(sandbox=self._sandbox, problem=about.visible)
        call = self._runner.run(self.call(operators[attribute], replies, arguments))
        assert call.fault_kind is None, call.message
        json.dumps(to_dict(call))  # whatever an operator returns can be logged
        return call.result

    async def call(
        self, operator: Operator, replies: list[str], arguments: Mapping[str, Any]
    ) -> OperatorCall:
        asked = len(self.requests)

        async def ask(request: Request) -> Reply:
            self.requests.append(request)
            return Reply(replies[min(len(self.requests) - asked, len(replies)) - 1], Usage(calls=1))

        name = operator.spec.attribute
        session = LLMSession(ask, seed=1)
        return await run_operator(0, name, arguments, session, {name: operator})


@pytest.fixture
def scene(runner: asyncio.Runner, sandbox: Sandbox) -> Scene:
    return Scene(runner, sandbox)


def test_programmer_finds_the_code_in_its_reply(scene: Scene) -> None:
    code = "def solve():\n    return 6 * 7"
    assert scene("programmer", [fenced(code)], problem="p") == {"code": code, "output": "42"}


def test_programmers_numpy_number_can_be_serialised(scene: Scene) -> None:
    code = "import numpy as np\ndef solve():\n    return np.int64(4)"
    assert scene("programmer", [fenced(code)], problem="p")["output"] == "4"


@pytest.mark.parametrize(
    "code",
    [
        "def solve():\n    return __import__('os').listdir('/root')",
        "import os\ndef solve():\n    return os.environ['PATH']",
        "def solve():\n    return open('/etc/passwd').read()",
    ],
)
def test_programmers_code_reaches_nothing_and_says_so(scene: Scene, code: str) -> None:
    result = scene("programmer", [fenced(code)], problem="p")
    assert result["output"].startswith("Error: ")


@pytest.mark.parametrize(
    ("reply", "chosen"),
    [("", "one"), ("A.", "one"), ("B.", "two"), (" b ", "two"), ("The answer is Q", "one")],
)
@pytest.mark.parametrize("problem", [{}, {"problem": "p"}])
def test_sc_ensemble_takes_any_reply_under_both_signatures(
    scene: Scene, reply: str, chosen: str, problem: dict[str, str]
) -> None:
    result = scene("sc_ensemble", [reply], solutions=["one", "two"], **problem)
    assert result == {"response": chosen, "solution": chosen}


def test_md_ensemble_tells_duplicates_apart_by_their_place(scene: Scene) -> None:
    # The vote goes to a letter that shows the second of two equal candidates.
    replies = ["<choice>B</choice>"] * 5
    result = scene("md_ensemble", replies, solutions=["x", "x", "x", "y"], problem="p")
    assert result["solution"] in {"x", "y"}
    shown = [request.prompt.count('<candidate letter="') for request in scene.requests]
    assert shown == [4] * 5
    by_letter = [_at_letter(request.prompt, "B") for request in scene.requests]
    most = max(("x", "y"), key=by_letter.count)
    assert result["solution"] == most


def _at_letter(prompt: str, letter: str) -> str:
    return prompt.split(f'<candidate letter="{letter}">\n')[1].split("\n</candidate>")[0]


def test_md_ensemble_without_a_valid_vote_takes_the_first(scene: Scene) -> None:
    result = scene("md_ensemble", ["none", "", "Z", "7", "A or B"], solutions=["one", "two"])
    assert result["solution"] == "one"


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("<answer>4</answer>", {"thought": "<answer>4</answer>", "answer": "4"}),
        (
            "<thought>2 and 2</thought>",
            {"thought": "2 and 2", "answer": "<thought>2 and 2</thought>"},
        ),
        ("It is 4.", {"thought": "It is 4.", "answer": "It is 4."}),
        ("", {"thought": "", "answer": ""}),
    ],
)
def test_reply_with_a_missing_field_still_has_every_key(
    scene: Scene, reply: str, expected: dict[str, str]
) -> None:
    assert scene("answer_generate", [reply], input="2+2?") == expected


@pytest.mark.parametrize("attribute", ["answer_generate", "format", "review", "revise"])
@pytest.mark.parametrize("reply", ["", "<", "<answer>", "</answer>", "<solution></solution>", "x"])
def test_no_reply_takes_a_key_away(scene: Scene, attribute: str, reply: str) -> None:
    spec = OperatorKit().contract.by_attribute[attribute]
    arguments = {p.name: "text" for p in spec.parameters if p.required}
    result = scene(attribute, [reply], **arguments)
    assert list(result) == [key.name for key in spec.returns]


def test_review_says_no_with_a_falsy_value(scene: Scene) -> None:
    reply = "<verdict>wrong</verdict><feedback>sign</feedback>"
    result = scene("review", [reply], problem="p", solution="s")
    assert result == {"review_result": False, "feedback": "sign"}


def test_format_answers_under_the_keys_of_both_versions(scene: Scene) -> None:
    result = scene("format", ["<answer>Paris</answer>"], problem="p", solution="s")
    assert result == {"solution": "Paris", "response": "Paris"}


def test_test_leaves_nothing_behind_here_or_for_the_next_problem(scene: Scene) -> None:
    leaking = f"import builtins\nbuiltins.helper = lambda a, b: a + b\nleft = 1\n{GOOD}"
    assert scene("test", [""], problem="p", solution=leaking, entry_point="add")["result"] is True
    assert not hasattr(builtins, "helper")
    using = "def add(a, b):\n    return helper(a, b)"
    result = scene("test", [""], problem="p", solution=using, entry_point="add", test_loop=0)
    assert result == {"result": False, "solution": using}


@pytest.mark.parametrize(
    "entry_point",
    ["find_zero", "decode_cyclic", "decode_shift", "by_length", "add", "triangle_area", "poly"],
)
def test_every_entry_point_has_its_tests_run(scene: Scene, entry_point: str) -> None:
    problem = dataclasses.replace(
        ADD, entry_point=entry_point, public_tests=(f"assert {entry_point}(1, 2) == 3",)
    )
    for code, passes in ((GOOD, True), (BAD, False)):
        named = code.replace("add", entry_point)
        result = scene("test", [""], problem, problem="p", solution=named, entry_point=entry_point)
        assert result["result"] is passes


def test_unknown_entry_point_is_a_failed_test(scene: Scene) -> None:
    result = scene("test", [""], problem="p", solution="x = 1", entry_point="nothing")
    assert result == {"result": False, "solution": "x = 1"}


def test_only_public_tests_decide_and_are_told(scene: Scene) -> None:
    passes_public_only = "def add(a, b):\n    return 3"
    arguments = {"problem": "p", "solution": passes_public_only, "entry_point": "add"}
    assert scene("test", [""], **arguments)["result"] is True
    fails = {**arguments, "solution": BAD}
    assert scene("test", [fenced(GOOD)], **fails) == {"result": True, "solution": GOOD}
    assert scene.requests
    for request in scene.requests:
        assert "add(5, 5)" not in request.prompt + request.system


def test_endless_loop_dies_and_does_not_hold_up_the_event_loop(
    runner: asyncio.Runner, scene: Scene, sandbox: Sandbox
) -> None:
    async def main() -> tuple[OperatorCall, int]:
        ticks = 0
        arguments = {
            "problem": "p",
            "solution": "def add(a, b):\n    while True: pass",
            "entry_point": "add",
            "test_loop": 0,
        }
        operator = programs.Test(sandbox, ADD.visible, timeout_s=1.0)
        calling = asyncio.ensure_future(scene.call(operator, [""], arguments))
        while not calling.done():
            await asyncio.wait([calling], timeout=0.05)
            ticks += 1
        return await calling, ticks

    start = time.monotonic()
    call, ticks = runner.run(main())
    assert call.result["result"] is False
    assert ticks >= 10
    assert time.monotonic() - start < 30
