"""One contract: classes, arguments, results, prompts, prelude, markers and docs say the same."""

from __future__ import annotations

import ast
import asyncio
import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from workflow_host import Host, run

from aflow_grpo.errors import ConfigError
from aflow_grpo.llm.session import LLMSession, Reply, Request
from aflow_grpo.llm.simulator.wire import operator_of
from aflow_grpo.operators.base import Arguments
from aflow_grpo.operators.registry import TEN_CLASSES, OperatorKit
from aflow_grpo.records import DOMAINS, Domain, Usage, VisibleProblem
from aflow_grpo.sandbox.pool import Sandbox
from aflow_grpo.workflow.binding import bind
from aflow_grpo.workflow.contract import OPERATORS, TEN_OPERATORS, OperatorSet
from aflow_grpo.workflow.contract_page import operator_sections, operator_table, signature
from aflow_grpo.workflow.policy_prompt import full_prompt
from aflow_grpo.workflow.prelude import prelude_code
from aflow_grpo.workflow.scopes import PRELUDE_NAMES
from aflow_grpo.workflow.spec import OperatorSpec, Parameter, ReturnKey

ROOT = Path(__file__).resolve().parents[2]
SAMPLES: dict[str, Any] = {"str": "text", "int": 2, "bool": True, "list[str]": ["one", "two"]}
WRONG_CODE = "```python\ndef solve():\n    return 1 / 0\n```"
UNTESTED = VisibleProblem("c/1", "sample", "code", "Write f.", public_tests=("assert f(1) == 1",))
BY_ATTRIBUTE = pytest.mark.parametrize("spec", OPERATORS, ids=lambda spec: spec.attribute)


class Watched(Arguments):
    """Arguments that know which of them were read."""

    def __init__(self, values: dict[str, Any]) -> None:
        super().__init__(values)
        self.read: set[str] = set()

    def text(self, name: str) -> str:
        self.read.add(name)
        return super().text(name)

    def number(self, name: str) -> int:
        self.read.add(name)
        return super().number(name)

    def texts(self, name: str) -> list[str]:
        self.read.add(name)
        return super().texts(name)


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="module")
def sandbox(runner: asyncio.Runner) -> Iterator[Sandbox]:
    sandbox = Sandbox(workers=1)
    runner.run(sandbox.start())
    yield sandbox
    runner.run(sandbox.aclose())


def sample(spec: OperatorSpec) -> dict[str, Any]:
    """An argument of its type for every parameter."""
    return {p.name: SAMPLES[p.type] for p in spec.parameters}


@BY_ATTRIBUTE
def test_class_reads_its_parameters_and_returns_its_keys(
    runner: asyncio.Runner, sandbox: Sandbox, spec: OperatorSpec
) -> None:
    requests: list[Request] = []

    async def ask(request: Request) -> Reply:
        requests.append(request)
        return Reply(WRONG_CODE, Usage(calls=1))

    operator = OperatorKit().build(sandbox=sandbox, problem=UNTESTED)[spec.attribute]
    given = Watched({**sample(spec), "instruction": "Be brief."})
    main = runner.run(operator.run(LLMSession(ask, seed=1), given))
    assert {key.name for key in spec.main_returns} == set(main)
    assert given.read == {p.name for p in spec.shown_parameters} | {"instruction"}
    result = runner.run(operator(LLMSession(ask, seed=1), **sample(spec)))
    types = {"str": str, "bool": bool}
    assert [(name, type(value)) for name, value in result.items()] == [
        (key.name, types[key.type]) for key in spec.returns
    ]
    for key in spec.returns:
        if key.alias_of:
            assert result[key.name] == result[key.alias_of]
    fewest, most = spec.llm_calls
    assert fewest <= len(requests) / 2 <= most
    for request in requests:
        assert operator_of(request.system, TEN_OPERATORS.markers) == spec.attribute


def test_classes_and_specs_go_by_the_same_names_in_the_same_order() -> None:
    assert tuple(operator.spec for operator in TEN_CLASSES) == OPERATORS
    assert [operator.__name__ for operator in TEN_CLASSES] == [spec.name for spec in OPERATORS]


PUBLISHED_CALLS: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = [
    ("custom", ("p", "do it"), {}),
    ("custom", (), {"input": "p", "instruction": "do it"}),
    ("answer_generate", ("p",), {}),
    ("answer_generate", ("p", None), {}),
    ("answer_generate", (), {"input": "p", "mode": "xml_fill"}),
    ("custom_code_generate", ("p", "f", "do it"), {}),
    ("custom_code_generate", (), {"problem": "p", "entry_point": "f", "instruction": ""}),
    ("sc_ensemble", (["a", "b"], "p"), {}),
    ("sc_ensemble", (["a", "b"],), {}),
    ("sc_ensemble", (), {"solutions": ["a", "b"], "problem": "p"}),
    ("sc_ensemble", (), {"solutions": ["a", "b"]}),
    ("programmer", ("p",), {}),
    ("programmer", ("p", "None"), {}),
    ("programmer", (), {"problem": "p", "analysis": "a"}),
    ("test", ("p", "s", "f"), {}),
    ("test", ("p", "s", "f", 3), {}),
    ("test", (), {"problem": "p", "solution": "s", "entry_point": "f", "test_loop": 1}),
    ("format", ("p", "s"), {}),
    ("format", ("p", "s", None), {}),
    ("format", (), {"problem": "p", "solution": "s", "mode": None}),
    ("review", ("p", "s"), {}),
    ("review", (), {"problem": "p", "solution": "s", "mode": "xml_fill"}),
    ("revise", ("p", "s", "mend"), {}),
    ("revise", (), {"problem": "p", "solution": "s", "feedback": "mend", "mode": None}),
    ("md_ensemble", (["a"], "p"), {}),
    ("md_ensemble", (["a"], "p", None), {}),
    ("md_ensemble", (), {"solutions": ["a"], "problem": "p", "mode": None}),
]


@pytest.mark.parametrize(("attribute", "positional", "keywords"), PUBLISHED_CALLS)
def test_published_signature_is_accepted(
    attribute: str, positional: tuple[Any, ...], keywords: dict[str, Any]
) -> None:
    spec = TEN_OPERATORS.by_attribute[attribute]
    bound = bind(spec, positional, keywords)
    assert list(bound) == [p.name for p in spec.parameters]
    assert bound.items() >= {k: v for k, v in keywords.items() if v is not None}.items()


@pytest.mark.parametrize(("attribute", "positional", "keywords"), PUBLISHED_CALLS)
def test_published_signature_runs_in_a_workflow(
    attribute: str, positional: tuple[Any, ...], keywords: dict[str, Any]
) -> None:
    arguments = ", ".join([*map(repr, positional), *(f"{k}={v!r}" for k, v in keywords.items())])
    host = Host()
    code = (
        "class Workflow:\n    async def __call__(self, problem):\n"
        f"        r = await self.{attribute}({arguments})\n"
        '        return "|".join(sorted(r)), 0\n'
    )
    outcome = run(code, host)
    assert outcome.fault is None
    assert outcome.answer is not None
    assert set(outcome.answer.split("|")) == PUBLISHED_KEYS[attribute]
    assert [call[1] for call in host.calls] == [attribute]


PUBLISHED_KEYS = {
    "custom": {"response"},
    "answer_generate": {"thought", "answer"},
    "custom_code_generate": {"response", "code"},
    "sc_ensemble": {"response", "solution"},
    "programmer": {"code", "output"},
    "test": {"result", "solution"},
    "format": {"solution", "response"},
    "review": {"review_result", "feedback"},
    "revise": {"solution", "response"},
    "md_ensemble": {"solution", "response"},
}


def test_keys_of_all_published_systems_are_there_and_booleans_are_booleans() -> None:
    assert {spec.attribute: {key.name for key in spec.returns} for spec in OPERATORS} == (
        PUBLISHED_KEYS
    )
    booleans = {key.name for spec in OPERATORS for key in spec.returns if key.type == "bool"}
    assert booleans == {"result", "review_result"}


@pytest.mark.parametrize("domain", DOMAINS)
def test_prompt_shows_main_keys_of_what_is_offered_and_nothing_else(domain: Domain) -> None:
    problem = VisibleProblem("p", "sample", domain, "Why?", entry_point="f")
    shown = full_prompt(problem)[1]["content"].split("# Rules")[0]
    calls = {}
    for line in shown.splitlines():
        if line.startswith("- await self."):
            call, _, returned = line.removeprefix("- await self.").partition(" -> ")
            definition = ast.parse(f"def {call}: pass").body[0]
            assert isinstance(definition, ast.FunctionDef)
            names = [argument.arg for argument in definition.args.args]
            calls[definition.name] = (names, json.loads(_quoted(returned)))
    assert calls == {
        spec.attribute: (
            [p.name for p in spec.shown_parameters],
            {key.name: key.type for key in spec.main_returns},
        )
        for spec in TEN_OPERATORS.offered(domain)
    }


def _quoted(returned: str) -> str:
    return returned.replace(": bool", ': "bool"').replace(": str", ': "str"')


@pytest.mark.parametrize("domain", DOMAINS)
def test_two_or_three_are_recommended_and_all_of_them_offered(domain: Domain) -> None:
    recommended = [spec for spec in OPERATORS if domain in spec.recommended]
    assert 2 <= len(recommended) <= 3
    assert set(recommended) <= set(TEN_OPERATORS.offered(domain))


def test_test_is_forbidden_where_there_is_nothing_to_test() -> None:
    test = TEN_OPERATORS.by_attribute["test"]
    assert [domain for domain in DOMAINS if test in TEN_OPERATORS.allowed(domain)] == ["code"]
    programmer = TEN_OPERATORS.by_attribute["programmer"]
    assert programmer in TEN_OPERATORS.allowed("qa")
    assert programmer not in TEN_OPERATORS.offered("qa")


def test_prelude_defines_the_classes_and_what_the_validator_knows() -> None:
    own = OperatorSet(
        (dataclasses.replace(OPERATORS[0], name="Own", attribute="own", marker="[own]"),)
    )
    for operators in (TEN_OPERATORS, own):
        defined = {
            name.id
            for node in ast.parse(prelude_code(operators)).body
            if isinstance(node, ast.Assign)
            for name in node.targets
            if isinstance(name, ast.Name) and not name.id.startswith("_")
        } | {"create_llm_instance"}
        assert defined == PRELUDE_NAMES | set(operators.by_class)


@BY_ATTRIBUTE
def test_prelude_offers_each_operator_under_every_name(spec: OperatorSpec) -> None:
    required = ", ".join(f"{p.name}={SAMPLES[p.type]!r}" for p in spec.parameters if p.required)
    code = f"""
class Workflow:
    def __init__(self, name, llm_config, dataset):
        self.llm = create_llm_instance(llm_config)
        self.one = operator.{spec.name}(self.llm)
        self.two = {spec.name}(llm=self.llm, name="two")

    async def __call__(self, problem):
        await self.one({required})
        await self.two({required})
        return "done", 0
"""
    host = Host()
    assert run(code, host).answer == "done"
    assert [(attribute) for _, attribute, _ in host.calls] == [spec.attribute] * 2


def test_docs_page_is_what_the_contract_says() -> None:
    page = (ROOT / "docs" / "operators.md").read_text()
    assert f"\n\n{operator_table(TEN_OPERATORS)}\n\n" in page
    assert f"\n\n{operator_sections(TEN_OPERATORS)}\n<!-- end -->\n" in page
    example = (ROOT / "tests" / "operators" / "own_operator.py").read_text()
    assert f"```python\n{example}```\n" in page


@BY_ATTRIBUTE
def test_documented_signature_is_python(spec: OperatorSpec) -> None:
    definition = ast.parse(f"async def {signature(spec)}: ...").body[0]
    assert isinstance(definition, ast.AsyncFunctionDef)
    assert [argument.arg for argument in definition.args.args] == [p.name for p in spec.parameters]
    defaults = [ast.literal_eval(default) for default in definition.args.defaults]
    assert defaults == [p.default for p in spec.parameters if not p.required]


REVIEW = TEN_OPERATORS.by_attribute["review"]
TEXT = Parameter("text", "str", "a text")
HINT = Parameter("hint", "str", "a hint", required=False, default="")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "print"}, "name='print' is no free class name"),
        ({"name": "asyncio"}, "is no free class name"),
        ({"name": "_Own"}, "is no free class name"),
        ({"name": "two words"}, "is no free class name"),
        ({"attribute": "llm"}, "attribute='llm' is no free name on self.*dataset, llm, name"),
        ({"attribute": "class"}, "is no free name on self"),
        ({"attribute": "__call__"}, "is no free name on self"),
        ({"summary": ""}, "expected one sentence"),
        ({"marker": " "}, r"marker is empty.*'\[review\]'"),
        ({"parameters": (TEXT, TEXT)}, "parameter 'text' is doubled"),
        ({"parameters": (HINT, TEXT)}, "'text' is required but follows 'hint'"),
        ({"parameters": (Parameter("n", "int", "", False, "3"),)}, "a default belongs"),
        ({"parameters": (Parameter("n", "int", "", True, 3),)}, "a default belongs"),
        ({"parameters": (Parameter("a b", "str", ""),)}, "no Python name"),
        ({"returns": ()}, "expected at least one"),
        ({"returns": (ReturnKey("a", "str", ""), ReturnKey("a", "str", ""))}, "each once"),
        ({"returns": (ReturnKey("a", "str", "", alias_of="b"),)}, "'a' is an alias of 'b'"),
        ({"domains": ()}, "domains="),
        ({"domains": ("maths",), "recommended": ()}, "expected some of math, code, qa"),
        ({"domains": ("qa",)}, r"recommended=\('math',\).*only of domains=\('qa',\)"),
        ({"discouraged": ("math",)}, "each domain at most once"),
        ({"llm_calls": (3, 1)}, "0 <= fewest <= most"),
    ],
)
def test_contract_that_contradicts_itself_is_refused(changes: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=f"contract of operator .*{message}"):
        dataclasses.replace(REVIEW, **changes)
