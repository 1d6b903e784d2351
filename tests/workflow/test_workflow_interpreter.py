"""Running workflows in the interpreter: answers, faults with lines, budgets, determinism."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from typing import Any

import pytest
from workflow_catalogue import SOUND, call
from workflow_host import Host, run, run_all

from aflow_grpo.errors import ConfigError, Unavailable, WorkflowFault
from aflow_grpo.records import FaultKind, WorkflowSource
from aflow_grpo.workflow.interpreter import Interpreter, InterpreterLimits

K = FaultKind
GATHER = "import asyncio\n"


def test_every_sound_workflow_runs_to_an_answer() -> None:
    outcomes = run_all(list(SOUND.values()))
    faults = {name: o.fault for name, o in zip(SOUND, outcomes, strict=True) if o.fault}
    assert faults == {}


def test_arguments_arrive_by_name_with_defaults() -> None:
    host = Host()
    outcome = run(
        call(
            "a = await self.custom(problem)",
            "b = await self.test(problem, solution=a['response'], entry_point=entry_point)",
            "return b['solution'], COST",
        ),
        host,
    )
    assert outcome.answer == "test#1"
    assert outcome.operator_calls == 2
    assert host.calls == [
        (0, "custom", {"input": "2+3?", "instruction": ""}),
        (
            1,
            "test",
            {"problem": "2+3?", "solution": "custom#0", "entry_point": "solve", "test_loop": 3},
        ),
    ]


@pytest.mark.parametrize("key", ["custom", "Custom"])
def test_prompts_become_the_instruction_unless_the_call_gives_one(key: str) -> None:
    host = Host()
    code = call("await self.custom(problem)", "await self.custom(problem, 'Mine.')", "return 1, 0")
    run(code, host, prompts={key: "Be brief."})
    assert [arguments["instruction"] for _, _, arguments in host.calls] == ["Be brief.", "Mine."]


def test_prompts_reach_operators_without_an_instruction_parameter() -> None:
    host = Host()
    run(call("await self.review(problem, 'x')", "return 1, 0"), host, prompts={"review": "Harsh."})
    assert host.calls[0][2]["instruction"] == "Harsh."


def test_prompts_are_readable_inside() -> None:
    code = call("return self.prompts['a'] + prompt_custom.b, 0")
    assert run(code, prompts={"a": "x", "b": "y"}).answer == "xy"


@pytest.mark.parametrize(
    "read",
    ['get_usage_summary()["total_cost"]', "cost_manager.total_cost"],
    ids=["usage", "manager"],
)
def test_cost_so_far_is_readable_inside(read: str) -> None:
    code = call(
        f"before = self.llm.{read}",
        "await self.custom(problem)",
        "await self.custom(problem)",
        f"return str(before) + '/' + str(self.llm.{read}), 0",
    )
    assert run(code, Host()).answer == "0.0/0.02"


def test_aflow_style_class_with_init() -> None:
    assert run(SOUND["init"]).answer == "custom#0"


@pytest.mark.parametrize(
    ("expression", "answer"),
    [
        ("'a b'", "a b"),
        ("7", "7"),
        ("2.5", "2.5"),
        ("True", "True"),
        ("''", ""),
        ("10 ** 30", "1" + "0" * 30),
    ],
)
def test_answers_become_text(expression: str, answer: str) -> None:
    assert run(call(f"return {expression}, 0")).answer == answer


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("return None, 0", "NoneType"),
        ("return [1], 0", "list"),
        ("return {}, 0", "dict"),
        ("return self.custom, 0", "_Operator"),
        ("return (lambda: 1), 0", "function"),
        ("return 1", "a int; expected (answer, cost)"),
        ("return 1, 2, 3", "a tuple"),
        ("pass", "NoneType"),
    ],
)
def test_other_return_values_are_bad_answers(statement: str, message: str) -> None:
    fault = run(call(statement)).fault
    assert fault is not None
    assert fault.kind is K.BAD_ANSWER
    assert message in fault.message


def test_answer_that_is_too_long() -> None:
    fault = run(call("return 'x' * 200000, 0")).fault
    assert fault is not None
    assert fault.kind is K.OUTPUT_LIMIT
    assert "200000 characters; at most 100000" in fault.message


@pytest.mark.parametrize(
    ("message", "inside"),
    [
        ("no room in /home/ann/runs/a.db", "no room in <path>"),
        ("see https://api.example.com/v1?k=1 now", "see <address> now"),
        ("key sk-abc_DEF1234567 refused", "key <key> refused"),
        ("1/2 of the budget, and/or more", "1/2 of the budget, and/or more"),
        ("x" * 400, "x" * 300 + "..."),
    ],
)
def test_messages_of_the_host_cross_sanitised(message: str, inside: str) -> None:
    code = call(
        "try:", "    await self.custom(problem)", "except Exception as e:", "    return str(e), 0"
    )
    assert run(code, Failing(WorkflowFault(K.EXCEPTION, message))).answer == inside
    uncaught = run(call("await self.custom(problem)"), Failing(WorkflowFault(K.EXCEPTION, message)))
    assert uncaught.fault is not None and inside[:280] in uncaught.fault.message


def test_budget_counts_only_calls_that_were_made() -> None:
    host = Host()
    endless = call("while True:", "    await self.custom(problem)")
    outcome = run(endless, host, limits=InterpreterLimits(max_operator_calls=3))
    assert outcome.operator_calls == len(host.calls) == 3


def test_oversized_argument_is_refused_inside() -> None:
    host = Host()
    code = call("await self.custom('x' * 1000)", "return 1, 0")
    outcome = run(code, host, limits=InterpreterLimits(max_argument_chars=999))
    assert outcome.fault is not None and "at most 999" in outcome.fault.message
    assert host.calls == []


class Failing:
    """Raises the given error on its first call and answers the others."""

    def __init__(self, error: BaseException) -> None:
        self.error = error
        self.ended: list[int] = []

    async def __call__(
        self, index: int, attribute: str, arguments: Mapping[str, Any]
    ) -> dict[str, Any]:
        if index == 0:
            raise self.error
        await asyncio.sleep(0)
        self.ended.append(index)
        return {"response": "fine"}


def test_operator_fault_is_an_exception_inside() -> None:
    caught = call(
        "try:",
        "    await self.custom(problem)",
        "except RuntimeError as error:",
        "    return str(error), 0",
        "return 'none', 0",
    )
    fault = WorkflowFault(K.CALL_BUDGET, "tokens are spent")
    assert run(caught, Failing(fault)).answer == "tokens are spent"
    uncaught = run(call("await self.custom(problem)", "return 1, 0"), Failing(fault)).fault
    assert uncaught is not None
    assert (uncaught.kind, uncaught.line) == (K.CALL_BUDGET, 3)


@pytest.mark.parametrize(
    "error", [Unavailable(K.ENDPOINT, "no tier answered"), KeyError("a bug of ours")]
)
def test_other_errors_propagate_after_the_round(error: Exception) -> None:
    host = Failing(error)
    code = GATHER + call(
        "try:",
        "    await asyncio.gather(*[self.custom('x') for _ in range(3)])",
        "except Exception: pass",
        "return 'swallowed', 0",
    )
    with pytest.raises(type(error)):
        run(code, host)
    assert host.ended == [1, 2]


def test_cancellation_reaches_the_operators() -> None:
    cancelled: list[int] = []

    async def waits(index: int, *_: Any) -> dict[str, Any]:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(index)
            raise
        return {}

    async def main() -> None:
        async with Interpreter(workers=1) as interpreter:
            source = WorkflowSource(
                GATHER
                + call("await asyncio.gather(self.custom('a'), self.custom('b'))", "return 1, 0")
            )
            run_ = interpreter.run(source, problem="", entry_point="", call_operator=waits)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(run_, 0.2)
            again = await interpreter.run(
                WorkflowSource(call("return 1, 0")), problem="", entry_point="", call_operator=waits
            )
            assert again.answer == "1"

    asyncio.run(main())
    assert sorted(cancelled) == [0, 1]


CHAINS = GATHER + call(
    "async def chain(name):",
    "    a = await self.custom(name)",
    "    if name != 'b':",
    "        a = await self.answer_generate(a['response'] + name)",
    "        a = {'response': a['answer']}",
    "    return (await self.custom(a['response']))['response']",
    "parts = await asyncio.gather(*[chain(name) for name in 'abcdef'])",
    "last = await self.sc_ensemble(parts)",
    "return '|'.join(parts) + last['response'] + str(COST), COST",
)


def test_order_of_completion_changes_nothing() -> None:
    def result(seed: int) -> tuple[Any, Any]:
        host, delays = Host(), random.Random(seed)

        async def delayed(index: int, *rest: Any) -> dict[str, Any]:
            await asyncio.sleep(delays.random() * 0.02)
            return await host(index, *rest)

        delayed.cost = host.cost  # type: ignore[attr-defined]
        outcome = run(CHAINS, delayed)
        assert outcome.fault is None, outcome.fault
        return outcome.answer, sorted(host.calls, key=lambda made: made[0])

    first = result(0)
    assert [number for number, _, _ in first[1]] == list(range(18))
    assert all(result(seed) == first for seed in range(1, 6))


def test_calls_of_a_round_run_concurrently() -> None:
    arrived = 0
    everyone = asyncio.Event()

    async def meets(*_: Any) -> dict[str, Any]:
        nonlocal arrived
        arrived += 1
        if arrived == 3:
            everyone.set()
        await everyone.wait()
        return {"response": "met"}

    code = GATHER + call(
        "rs = await asyncio.gather(*[self.custom('x') for _ in range(3)])",
        "return rs[2]['response'], 0",
    )
    assert run(code, meets).answer == "met"


def test_nothing_inside_depends_on_time_or_chance() -> None:
    code = "import random, time, datetime\n" + call(
        "time.sleep(3)",
        "return f'{random.random()} {time.time()} {datetime.datetime.now()} {hash(1)}', 0",
    )
    first, second = run_all([code, code])
    assert first.answer == second.answer
    assert first.seconds < 2


def test_half_surrogates_do_not_raise() -> None:
    code = call("return problem + self.prompts['x'], 0")
    assert run(code, prompts={"x": "\ud800"}, problem="\udfff").answer == "??"


def test_workflows_do_not_see_each_other() -> None:
    leaves = "shared = 1\n" + call("self.custom.trace = 'here'", "return 1, 0")
    looks = call("return hasattr(self.custom, 'trace'), 0")
    assert [o.answer for o in run_all([leaves, looks])] == ["1", "False"]


@pytest.mark.parametrize("change", [{"max_feed_s": 0}, {"max_operator_calls": -1}])
def test_limits_must_be_positive(change: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"interpreter\.max_\w+=.*above 0"):
        InterpreterLimits(**change)
    with pytest.raises(ConfigError, match=r"interpreter\.workers=0"):
        Interpreter(workers=0)


def test_a_closed_interpreter_says_so() -> None:
    async def main() -> None:
        interpreter = Interpreter()
        async with interpreter:
            pass
        await interpreter.aclose()
        with pytest.raises(RuntimeError, match="not open"):
            await interpreter.run(
                WorkflowSource("x"), problem="", entry_point="", call_operator=Host()
            )

    asyncio.run(main())
