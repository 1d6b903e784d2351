"""Standalone workflow files, run as a stranger would, beside the same workflows in the program."""

import ast
import asyncio
import json
import re
import subprocess
import sys

import pytest
from executed_world import COST, body, opened
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scripted_endpoint import completion as reply
from scripted_endpoint import error, scripted
from standalone_world import openai_alone, recording, run_file

from aflow_grpo.assets import shipped_path
from aflow_grpo.data.jsonl import read_problems
from aflow_grpo.errors import ConfigError
from aflow_grpo.llm.simulator.host import Simulator
from aflow_grpo.llm.tiers import Tier
from aflow_grpo.records import DOMAINS, WorkflowSource
from aflow_grpo.workbench.exporting.quoting import quoted, quoted_mapping
from aflow_grpo.workbench.exporting.safety import refusals
from aflow_grpo.workbench.exporting.workflows import export_workflow
from aflow_grpo.workflow.contract import OPERATORS, TEN_OPERATORS
from aflow_grpo.workflow.library import library

MODEL = "simulated/gpt-4o-mini"
SEED = 11
ROWS = {row.domain: row for row in read_problems(shipped_path("data/sample/val.jsonl"))}

EVERY_MATH = body(
    "notes = await self.custom(input=problem, instruction='List what is given.')",
    "drafts = await asyncio.gather(*[self.answer_generate(problem) for _ in range(3)])",
    "texts = [draft['answer'] + ' / ' + draft['thought'] for draft in drafts]",
    "chosen = await self.sc_ensemble(solutions=texts + ['none'], problem=problem)",
    "better = await self.md_ensemble(solutions=texts + ['none'], problem=problem)",
    "program = await self.programmer(problem=problem, analysis=notes['response'])",
    "review = await self.review(problem=problem, solution=program['output'])",
    "revised = await self.revise(problem=problem, solution=chosen['response'],",
    "                            feedback=review['feedback'] + better['solution'])",
    "final = await self.format(problem=problem, solution=revised['solution'])",
    "return final['solution'], COST",
)
EVERY_CODE = body(
    "draft = await self.custom_code_generate(problem=problem, entry_point=entry_point)",
    "tested = await self.test(problem=problem, solution=draft['response'],",
    "                         entry_point=entry_point)",
    "return tested['solution'], COST",
)


def source(code, **prompts):
    return WorkflowSource("import asyncio\n\n" + code, prompts, hybrid=True)


@pytest.fixture(scope="module")
def simulator():
    with Simulator(list(ROWS.values()), TEN_OPERATORS.markers) as running:
        yield running


async def both(workflow, problem, server, path, *, model=MODEL, options=()):
    """(execution, requests) of the program, and (code, JSON, stderr, requests) of the file."""
    export_workflow(workflow, path, model=model, overwrite=True)
    tests = path.with_name("tests.json")
    tests.write_text(json.dumps(problem.public_tests))
    given_ = [
        "--problem", problem.question, "--context", problem.context, "--seed", str(SEED),
        "--entry-point", problem.entry_point, "--tests", str(tests), "--run-code", *options,
    ]  # fmt: skip
    tier = Tier(model=model, base_url=server.base_url, api_key="x", api_key_env="", max_attempts=1)
    async with opened(tier) as world:
        execution = await world.executor.run(workflow, problem.visible, seed=SEED)
    own = server.taken()
    code, told, stderr = await run_file(path, server.base_url, *given_)
    return execution, own, code, told, stderr, server.taken()


@pytest.mark.parametrize(
    ("domain", "code"), [("math", EVERY_MATH), ("qa", EVERY_MATH), ("code", EVERY_CODE)]
)
def test_a_file_asks_what_the_program_asks_and_answers_alike(domain, code, simulator, tmp_path):
    prompts = {"answer_generate": 'Say "hello" first.\n\tThen \\think\\.', "Review": "Be strict."}

    async def run():
        async with recording(simulator.base_url) as server:
            return await both(source(code, **prompts), ROWS[domain], server, tmp_path / "solve.py")

    execution, own, code_, told, stderr, theirs = asyncio.run(run())
    assert execution.answer is not None, execution.message
    assert (code_, told["error"]) == (0, ""), stderr
    assert told["answer"] == execution.answer
    assert theirs == own  # byte by byte
    assert told["cost_usd"] == pytest.approx(execution.usage.cost_usd, abs=1e-12)
    assert len(told["calls"]) == execution.usage.calls
    for spec in OPERATORS:
        asked = [call for call in execution.calls if call.operator == spec.attribute]
        counted = [call for call in told["calls"] if call["operator"] == spec.attribute]
        assert len(counted) == sum(call.usage.calls for call in asked)
        assert sum(c["prompt_tokens"] for c in counted) == sum(
            call.usage.prompt_tokens for call in asked
        )


def test_every_operator_is_in_one_of_these_workflows():
    for spec in OPERATORS:
        assert f"self.{spec.attribute}(" in EVERY_MATH + EVERY_CODE


COMPUTE = ("found = await self.programmer(problem)", "return found['output'], COST")
FAILING = "```python\ndef solve():\n    return 1 / len([])\n```"
ENDLESS = "```python\ndef solve():\n    import os\n    return [os.environ, os.getcwd()][2]\n```"
RIGHT = "```python\ndef solve():\n    return 6.0 * 7\n```"
WRONG = "```python\ndef total(values):\n    return sum(values) + 1\n```"
MENDED = "```python\ndef total(values):\n    return sum(values)\n```"


@pytest.mark.parametrize(
    ("domain", "lines", "replies", "answer"),
    [
        pytest.param(
            "math",
            ["found = await self.programmer(problem)", "return found['output'], COST"],
            [reply("no program at all"), reply(FAILING), reply(ENDLESS)],
            None,
            id="programs that fail",
        ),
        pytest.param(
            "math",
            ["found = await self.programmer(problem)", "return found['output'], COST"],
            [reply(FAILING), reply(RIGHT)],
            "42",
            id="a program that is mended",
        ),
        pytest.param(
            "code",
            ["found = await self.test(problem, 'def total(v): return 0', entry_point)",
             "return found['solution'] + str(found['result']), COST"],
            [reply(WRONG), reply(MENDED)],
            "def total(values):\n    return sum(values)True",
            id="code that is mended",
        ),
        pytest.param(
            "math",
            ["found = await self.format(problem, 'x')", "return found['response'], COST"],
            [error(400, "bad", "no schema here"), reply("It is\nThe answer is 5")],
            "5",
            id="an endpoint without JSON schemas",
        ),
        pytest.param(
            "math",
            ["best = await self.sc_ensemble(['a', 'b', 'a'], problem)",
             "return best['response'], COST"],
            [reply("I like them all"), reply('{"choice": "B"}')],
            "b",
            id="a choice that is asked for again",
        ),
        pytest.param(
            "math",
            ["found = await self.review(problem, 'x')", "return found['feedback'], COST"],
            [reply('{"verdict": "wr'), reply('{"verdict": "wrong"')],
            None,
            id="an object that is cut twice",
        ),
    ],
)  # fmt: skip
def test_replies_that_go_wrong_lead_to_the_same_requests(domain, lines, replies, answer, tmp_path):
    problem = ROWS[domain]
    if domain == "code":
        tests = ("assert total([1, 2]) == 3", "assert total([]) == 0")
        problem = replace_tests(problem, tests)

    async def run():
        results = []
        for kind in ("program", "file"):
            async with scripted(replies) as upstream, recording(upstream.base_url) as server:
                if kind == "program":
                    tier = Tier(base_url=server.base_url, api_key="x", api_key_env="")
                    async with opened(tier) as world:
                        made = source(body(*lines))
                        results.append(await world.executor.run(made, problem.visible, seed=SEED))
                else:
                    export_workflow(source(body(*lines)), tmp_path / "solve.py")
                    tests_file = tmp_path / "tests.json"
                    tests_file.write_text(json.dumps(problem.public_tests))
                    options = ["--problem", problem.text, "--entry-point", problem.entry_point]
                    options += ["--tests", str(tests_file), "--seed", str(SEED), "--run-code"]
                    results.append(await run_file(tmp_path / "solve.py", server.base_url, *options))
                results.append(server.bodies)
        return results

    execution, own, (code, told, stderr), theirs = asyncio.run(run())
    assert theirs == own
    assert len(own) == len(replies)
    assert told["answer"] == execution.answer, stderr
    if answer is not None:
        assert execution.answer == answer
        assert code == 0
    elif execution.answer is None:
        assert code == 1
        assert "malformed twice" in told["error"]
    else:
        assert execution.answer.startswith("Error: ")


def replace_tests(problem, tests):
    from dataclasses import replace

    return replace(problem, entry_point="total", public_tests=tests)


def test_programs_run_only_on_request(tmp_path):
    workflow = source(
        body("found = await self.programmer(problem)", "return found['output'], COST")
    )
    export_workflow(workflow, tmp_path / "solve.py")

    async def run(*options):
        async with scripted([reply(RIGHT)]) as server:
            result = await run_file(
                tmp_path / "solve.py", server.base_url, "--problem", "?", *options
            )
            return result, len(server.requests)

    (code, told, _), asked = asyncio.run(run())
    assert (code, told["answer"], asked) == (1, None, 0)
    assert "--run-code" in told["error"]
    (code, told, _), asked = asyncio.run(run("--run-code"))
    assert (code, told["answer"], asked) == (0, "42", 1)


HOSTILE_PROGRAM = """```python
import os, subprocess
def solve():
    seen = sorted(os.environ)
    child = subprocess.Popen(["sleep", "300"])
    return f"{seen} {os.listdir('.')} {child.pid}"
```"""


def test_a_program_sees_an_empty_environment_and_leaves_nothing_running(tmp_path):
    workflow = source(
        body("found = await self.programmer(problem)", "return found['output'], COST")
    )
    export_workflow(workflow, tmp_path / "solve.py")

    async def run():
        async with scripted([reply(HOSTILE_PROGRAM)]) as server:
            options = ("--problem", "?", "--run-code")
            return await run_file(tmp_path / "solve.py", server.base_url, *options)

    code, told, stderr = asyncio.run(run())
    assert code == 0, stderr + str(told)
    seen, here, pid = re.fullmatch(r"(\[.*?\]) (\[.*?\]) (\d+)", told["answer"]).groups()
    assert set(ast.literal_eval(seen)) <= {"PYTHONHASHSEED", "LC_CTYPE"}
    assert here == "[]"
    state = subprocess.run(["ps", "-o", "stat=", "-p", pid], capture_output=True, text=True).stdout
    assert not state.strip() or state.startswith("Z")


@pytest.mark.parametrize(
    ("program", "told"),
    [("while True: pass", "did not finish"), ("x = 'a' * (1 << 33)", "MemoryError"),
     ("print('x' * (1 << 21))", "printed more than"), ("import os; os._exit(3)", "exit code 3")],
)  # fmt: skip
def test_a_program_has_limits(program, told, tmp_path):
    from aflow_grpo.workbench.exporting.standalone import code_runs

    export_workflow("programmer", tmp_path / "solve.py")
    text = (tmp_path / "solve.py").read_text()
    (tmp_path / "solve.py").write_text(text.replace("timeout_s=10.0", "timeout_s=1.0"))
    assert code_runs.CODE_LIMITS.timeout_s == 10.0
    script = (
        "import asyncio, sys; sys.path.insert(0, '.'); import solve\n"
        "box = solve.Sandbox(allowed=True)\n"
        f"print(asyncio.run(box.evaluate({program!r}, ['1'])))"
    )
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=60)
    assert told in done.stdout, done.stdout + done.stderr


def test_the_executor_is_asked_again_and_then_given_up(tmp_path):
    workflow = source(
        body(
            "try:",
            "    found = await self.custom(problem, 'x')",
            "except Exception:",
            "    return 'swallowed', COST",
            "return found['response'], COST",
        )
    )
    export_workflow(workflow, tmp_path / "solve.py")

    async def run(replies):
        async with scripted(replies) as server:
            result = await run_file(tmp_path / "solve.py", server.base_url, "--problem", "?")
            return result, len(server.requests)

    soon = {"retry_after_ms": "1"}
    (code, told, _), asked = asyncio.run(run([error(500, **soon), reply("yes")]))
    assert (code, told["answer"], asked) == (0, "yes", 2)
    (code, told, _), asked = asyncio.run(run([error(500, **soon)]))
    assert (code, told["answer"], asked) == (1, None, 4)
    assert "gave no answer" in told["error"]


def test_a_file_stops_at_its_budget_of_calls(tmp_path):
    workflow = source(
        body(
            "for _ in range(40):",
            "    try:",
            "        found = await self.custom(problem, 'x')",
            "    except Exception:",
            "        pass",
            "return found['response'], COST",
        )
    )
    (tmp_path / "w.py").write_text(workflow.graph_code.replace("range(40)", "problem.split()"))
    export_workflow(tmp_path / "w.py", tmp_path / "solve.py")

    async def run():
        async with scripted([reply("yes")]) as server:
            options = ("--problem", "a " * 40)
            result = await run_file(tmp_path / "solve.py", server.base_url, *options)
            return result, len(server.requests)

    (code, told, _), asked = asyncio.run(run())
    assert (code, told["answer"], asked) == (1, None, 32)
    assert "more than 32 operator calls" in told["error"]


# Forms of workflows


AFLOW = """
from typing import Literal
import workspace.GSM8K.workflows.template.operator as ops
import workspace.GSM8K.workflows.round_1.prompt as prompt_custom
from scripts.async_llm import create_llm_instance
from scripts.evaluator import DatasetType


class Workflow:
    def __init__(self, name: str, llm_config, dataset: DatasetType) -> None:
        self.name = name
        self.dataset = dataset
        self.llm = create_llm_instance(llm_config)
        self.ask = ops.Custom(self.llm)

    async def __call__(self, problem: str):
        found = await self.ask(input=problem, instruction=prompt_custom.SOLVE)
        kind = f"{self.name}/{self.dataset}"
        return kind + found["response"], self.llm.get_usage_summary()["total_cost"]
"""
HOSTILE = "'''\"\"\"\\\\ \\N{DASH} {x} %s \x00 \u202e \r\n\t end\\"


def test_aflows_own_form_runs_with_its_imports_dropped(tmp_path):
    workflow = WorkflowSource(AFLOW, {"SOLVE": HOSTILE}, hybrid=False)
    export_workflow(workflow, tmp_path / "solve.py")
    text = (tmp_path / "solve.py").read_text()
    assert "workspace" not in text
    assert "ops = operator" in text

    async def run():
        async with scripted([reply("yes")]) as server:
            result = await run_file(tmp_path / "solve.py", server.base_url, "--problem", "2+2?")
            return result, server.requests

    (code, told, stderr), requests = asyncio.run(run())
    assert (code, told["answer"]) == (0, "workflow/GSM8Kyes"), stderr
    assert requests[0]["messages"][1]["content"] == f"{HOSTILE}\n\n2+2?"


def test_names_of_the_workflow_are_its_own(tmp_path):
    """Helpers that are called as the file's own code is."""
    code = (
        "import re\n\n"
        "class Choice:\n    pass\n\n"
        "PROMPTS = {'x': 'y'}\n\n"
        "def contract(text):\n    return text.upper()\n\n"
        "def solve(text):\n    return contract(text) + re.sub('a', 'b', 'a')\n\n"
        "def main():\n    return 'not this one'\n\n"
    ) + body("found = await self.format(problem, solve('x'))", "return found['solution'], COST")
    export_workflow(source(code), tmp_path / "own.py")

    async def run():
        async with scripted([reply('{"answer": "fine"}')]) as server:
            result = await run_file(tmp_path / "own.py", server.base_url, "--problem", "?")
            return result, server.requests

    (code_, told, stderr), requests = asyncio.run(run())
    assert (code_, told["answer"]) == (0, "fine"), stderr
    assert "Xb" in requests[0]["messages"][1]["content"]


@pytest.mark.parametrize("name", ["max", "json", "Decimal"])
def test_names_that_cannot_be_told_apart_are_refused(name, tmp_path):
    code = f"def {name}(x):\n    return x\n\n" + body(
        f"found = await self.custom({name}(problem), 'x')", "return found['response'], COST"
    )
    with pytest.raises(ConfigError, match=f"`{name}`.*Call it otherwise"):
        export_workflow(source(code), tmp_path / "solve.py")
    assert not (tmp_path / "solve.py").exists()


def test_every_fixed_workflow_becomes_a_file_that_ruff_takes_and_openai_suffices(tmp_path):
    for domain in DOMAINS:
        for name in library(domain):
            exported = export_workflow(name, tmp_path / f"{domain}_{name}.py", domain=domain)
            text = exported.path.read_text()
            compile(text, name, "exec")
            assert exported.runs_programs == ("Sandbox(" in text and "_run_process" in text)
            assert "aflow_grpo" not in text.replace("aflow_grpo.json", "")
    files = sorted(tmp_path.glob("*.py"))
    assert len(files) > 40
    check = ["check", "--isolated", "--select", "E4,E7,E9,F,I"]
    ruff = [sys.executable, "-m", "ruff"]
    done = subprocess.run([*ruff, *check, str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    form = ["format", "--isolated", "--line-length", "100", "--check"]
    written = [str(tmp_path / f"{name}.py") for name in ("qa_sc3", "code_code_test")]
    done = subprocess.run([*ruff, *form, *written], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (openai_alone() / "openai").exists()
    assert not (openai_alone() / "aflow_grpo").exists()


# What is refused


@pytest.mark.parametrize(
    "line",
    [
        "open('/etc/passwd')", "__import__('os')", "eval('1')", "input()",
        "().__class__.__base__", "self.__dict__", "getattr(self, 'a' + 'b')",
        "getattr(self, '__dict__')", "'{0.__init__.__globals__}'.format(self)",
        "setattr(self, problem, 1)", "random._os.system('ls')", "self.run.__globals__",
        "asyncio.create_subprocess_shell('ls')", "asyncio.subprocess", "x.gi_frame",
        "datetime.sys", "typing.sys", "globals()", "breakpoint()",
        "operator.attrgetter('a.b')(self)", "operator.methodcaller('x')(self)",
        "from operator import attrgetter", "x = [getattr][0]", "reduce(getattr, [], self)",
        "getattr(x, 'gi_frame')", "getattr(operator, 'attrgetter')", "typing.get_type_hints(x)",
        "typing.ForwardRef('os')", "def f(x: '__import__(1)'): pass", "x = '{0' + '.__globals__}'",
        "match x: \n  case object(__globals__=y): pass", "x.get_loop()",
    ],
)  # fmt: skip
def test_what_leads_out_of_computing_is_refused(line):
    code = f"import asyncio, random, datetime, typing\n{line}\n"
    assert {each.line for each in refusals(code)} in ({2}, {3})


def test_a_prompt_that_would_read_attributes_as_a_format_text_is_refused():
    assert refusals("x = 1\n", ["{0.__init__.__globals__[os].environ}"])
    assert refusals("x = 1\n", ["Say {problem}, then {0} and {}."]) == []


@pytest.mark.parametrize("name", ["asyncio", "json", "print"])
def test_prompts_that_hide_what_the_file_needs_are_refused(name, tmp_path):
    code = "from prompt import *\n\n" + body(
        f"found = await self.custom(problem, {name})", "return found['response'], COST"
    )
    with pytest.raises(ConfigError, match=f"`{name}`.*Call it otherwise"):
        export_workflow(WorkflowSource(code, {name: "Solve."}), tmp_path / "solve.py")


def test_a_prompt_may_be_called_as_a_definition_of_the_file(tmp_path):
    code = "from prompt import *\n\n" + body(
        "found = await self.custom(problem, Executor)", "return found['response'], COST"
    )
    exported = export_workflow(WorkflowSource(code, {"Executor": "Solve."}), tmp_path / "solve.py")
    text = exported.path.read_text()
    assert "Executor = prompt_custom.Executor" in text
    assert "class Executor2" in text


@pytest.mark.parametrize("module", ["os", "sys", "subprocess", "socket", "importlib", "ctypes"])
def test_modules_that_lead_out_are_refused(module):
    assert refusals(f"import {module}")
    assert refusals(f"from {module} import path")


def test_invisible_characters_are_refused_in_code():
    (found,) = refusals("x = 1\ny = 'a\u202eb'\n")
    assert found.line == 2
    assert "U+202E" in found.message


def test_the_fixed_workflows_are_not_refused():
    for domain in DOMAINS:
        for workflow in library(domain).values():
            assert refusals(workflow.graph_code) == []


def test_a_guarded_open_is_valid_for_the_interpreter_and_refused_here(tmp_path):
    code = body(
        "try:", "    open('x')", "except NameError:", "    pass",
        "found = await self.custom(problem, 'x')", "return found['response'], COST",
    )  # fmt: skip
    with pytest.raises(ConfigError, match=r"line 6: `open`|line \d+: .*`?open"):
        export_workflow(source(code), tmp_path / "solve.py")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("class Workflow:\n    pass\n", "no valid workflow"),
        ("print('hello')\n", "no valid workflow"),
        ("class Workflow:\n  async def __call__(self, problem):\n    return self.nothing(), 0\n",
         "line 3"),
    ],
)  # fmt: skip
def test_invalid_workflows_are_refused_with_their_line(text, told, tmp_path):
    (tmp_path / "w.py").write_text(text)
    with pytest.raises(ConfigError, match=told):
        export_workflow(tmp_path / "w.py", tmp_path / "solve.py")
    assert [path.name for path in tmp_path.iterdir()] == ["w.py"]


def test_an_earlier_file_stays_without_overwrite(tmp_path):
    path = tmp_path / "solve.py"
    path.write_text("mine")
    with pytest.raises(ConfigError, match="--overwrite"):
        export_workflow("custom", path)
    assert path.read_text() == "mine"
    export_workflow("custom", path, overwrite=True)
    assert "class Workflow" in path.read_text()


# Texts


@settings(deadline=None, max_examples=200)
@given(st.text(max_size=300))
@example(HOSTILE)
@example("'")
@example("\"'")
@example("\ud800")
@example("x" * 500)
def test_any_text_is_quoted_so_that_python_reads_it_back(text):
    assert ast.literal_eval(quoted(text)) == text
    assert quoted(text).isprintable()
    assert ast.literal_eval(quoted_mapping({text: text, "a": "b"})) == {text: text, "a": "b"}


def test_the_cost_word_is_what_this_file_thinks():
    assert COST in EVERY_MATH
