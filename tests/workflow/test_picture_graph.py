"""What stands in a graph: worked structures, the data that flows, the library, code that is none.

`picture_outlines.txt` holds the outline of every fixed workflow, read and found right.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from picture_texts import call_of

from aflow_grpo.records import DOMAINS, WorkflowSource
from aflow_grpo.workflow.contract import TEN_OPERATORS, OperatorSet
from aflow_grpo.workflow.library import library
from aflow_grpo.workflow.picture import WorkflowGraph, as_plain, to_outline, workflow_graph
from aflow_grpo.workflow.picture.control import control_edges
from aflow_grpo.workflow.picture.graph import Branch, Frame, Node, every_node
from aflow_grpo.workflow.spec import OperatorSpec, Parameter, ReturnKey

OUTLINES = Path(__file__).with_name("picture_outlines.txt")


def drawn(*lines: str, **prompts: str) -> WorkflowGraph:
    return workflow_graph(WorkflowSource(call_of(*lines), prompts))


def outline(*lines: str) -> list[str]:
    """The outline below the class and the problem."""
    return to_outline(drawn(*lines)).split("\n")[2:]


def flows(graph: WorkflowGraph) -> set[tuple[str, str, str]]:
    """What goes from operator to operator, by title; the problem left out."""
    titles = {node.id: node.title for node in every_node(graph.body)}
    return {
        (titles[flow.source], titles[flow.target], flow.label)
        for flow in graph.flows
        if flow.source != "n0"
    }


def edges(graph: WorkflowGraph) -> set[tuple[str, str, str]]:
    titles = {node.id: node.title for node in every_node(graph.body)}
    return {(titles[e.source], titles[e.target], e.label) for e in control_edges(graph.body)}


def test_every_fixed_workflow_has_the_outline_that_was_read() -> None:
    found = "".join(
        f"=== {domain}/{name}\n{to_outline(workflow_graph(source))}\n"
        for domain in DOMAINS
        for name, source in library(domain).items()
    )
    assert found == OUTLINES.read_text(encoding="utf-8")


def test_a_chain() -> None:
    graph = drawn(
        "plan = await self.custom(input=problem, instruction='Plan it.')",
        "done = await self.programmer(problem=problem, analysis=plan['response'])",
        "return done['output'], 0",
    )
    start, plan, done, answer = graph.body
    assert isinstance(start, Node) and isinstance(plan, Node)
    assert isinstance(done, Node) and isinstance(answer, Node)
    assert (start.kind, plan.kind, answer.kind) == ("start", "operator", "end")
    assert (plan.title, plan.detail, plan.role, plan.line) == ("custom", "Plan it.", "generate", 4)
    assert plan.reads_problem and done.reads_problem and not answer.reads_problem
    assert answer.detail == "done['output']"
    assert flows(graph) == {
        ("custom", "programmer", 'plan["response"]'),
        ("programmer", "answer", 'done["output"]'),
    }
    assert edges(graph) == {
        ("problem", "custom", ""),
        ("custom", "programmer", ""),
        ("programmer", "answer", ""),
    }


def test_a_loop_gives_its_result_to_its_next_round() -> None:
    graph = drawn(
        "text = problem",
        "for i in range(4):",
        "    text = (await self.revise(problem, text, 'x'))['solution']",
        "return text, 0",
    )
    frame = graph.body[1]
    assert isinstance(frame, Frame)
    assert (frame.kind, frame.title, frame.endless) == ("loop", "for i in range(4)", False)
    assert ("revise", "revise", "text") in flows(graph)
    assert ("revise", "revise", "again") in edges(graph)


def test_calls_at_once() -> None:
    gathered = drawn(
        "a, b = await asyncio.gather(self.custom(input=problem), self.review(problem, 'x'))",
        "last = await self.format(problem=problem, solution=a['response'])",
        "return b['feedback'], 0",
    )
    branch = gathered.body[1]
    assert isinstance(branch, Branch) and branch.kind == "parallel" and len(branch.arms) == 2
    assert flows(gathered) == {
        ("custom", "format", 'a["response"]'),
        ("review", "answer", 'b["feedback"]'),
    }
    for lines in (
        ["rs = await asyncio.gather(*[self.custom(problem) for _ in range(3)])"],
        ["rs = [self.custom(problem) for _ in range(3)]", "rs = await asyncio.gather(*rs)"],
        ["rs = []", "for _ in range(3):", "    rs.append(self.custom(problem))",
         "rs = await asyncio.gather(*rs)"],
        ["rs = [asyncio.create_task(self.custom(problem)) for _ in range(3)]"],
    ):  # fmt: skip
        frame = drawn(*lines, "return rs[0]['response'], 0").body[1]
        assert isinstance(frame, Frame)
        assert (frame.kind, frame.title) == ("parallel", "for _ in range(3)"), lines
    one_by_one = drawn("rs = [await self.custom(problem) for _ in range(3)]", "return rs, 0")
    frame = one_by_one.body[1]
    assert isinstance(frame, Frame) and frame.kind == "loop"
    assert ("custom", "answer", "rs") in flows(one_by_one)


def test_branches() -> None:
    lines = outline(
        "a = await self.custom(problem)",
        "if len(a['response']) > 9:",
        "    return a['response'], 0",
        "elif 'x' in a['response']:",
        "    a = await self.review(problem, a['response'])",
        "else:",
        "    raise ValueError(a)",
        "return a['feedback'], 0",
    )
    assert lines == [
        "├─ [1] custom  ← problem",
        "├─ if len(a['response']) > 9",
        "│  ├─ yes:",
        "│  │  └─ answer  a['response']  ← [1] a[\"response\"]",
        "│  └─ no:",
        "│     └─ if 'x' in a['response']",
        "│        ├─ yes:",
        '│        │  └─ [2] review  ← problem, [1] a["response"]',
        "│        └─ no:",
        "│           └─ raise  ValueError(a)",
        "└─ answer  a['feedback']  ← [2] a[\"feedback\"]",
    ]


def test_match_and_try() -> None:
    graph = drawn(
        "try:",
        "    a = await self.programmer(problem)",
        "except (ValueError, KeyError):",
        "    a = await self.custom(problem)",
        "finally:",
        "    print(a)",
        "match a['output']:",
        "    case '1':",
        "        return 1, 0",
        "    case _ if a:",
        "        b = await self.format(problem, a)",
        "return b, 0",
    )
    tried, matched = graph.body[1:3]
    assert isinstance(tried, Branch) and isinstance(matched, Branch)
    assert [arm.label for arm in tried.arms] == ["", "except (ValueError, KeyError)"]
    assert [arm.label for arm in matched.arms] == ["'1'", "_ if a", "else"]
    assert {(s, t) for s, t, _ in flows(graph)} >= {("programmer", "format"), ("custom", "format")}


def test_leaving_loops() -> None:
    graph = drawn(
        "while True:",
        "    a = await self.custom(problem)",
        "    if a == 1:",
        "        break",
        "    if a == 2:",
        "        continue",
        "    b = await self.review(problem, a)",
        "return a, 0",
    )
    assert edges(graph) >= {
        ("a == 1", "break", "yes"),
        ("break", "answer", ""),
        ("continue", "custom", "again"),
        ("review", "custom", "again"),
    }
    assert ("review", "answer", "") not in edges(graph)
    forever = drawn("while True:", "    a = await self.custom(problem)", "return a, 0")
    assert not any(node.kind == "end" for node in every_node(forever.body))


def test_helpers_stand_in_frames_where_they_are_called() -> None:
    code = (
        "class Workflow:\n"
        "    async def _ask(self, text, how='x'):\n"
        "        r = await self.custom(input=text, instruction=how)\n"
        "        return r['response']\n"
        "    async def __call__(self, problem):\n"
        "        async def local(text):\n"
        "            return await self._ask(text)\n"
        "        a = await self._ask(problem, how='y')\n"
        "        b = await local(a)\n"
        "        return self._plain(b), 0\n"
        "    def _plain(self, text):\n"
        "        return text.strip()\n"
    )
    graph = workflow_graph(WorkflowSource(code))
    first, second = graph.body[1:3]
    assert isinstance(first, Frame) and isinstance(second, Frame)
    assert (first.kind, first.title) == ("method", "self._ask(problem, how='y')")
    assert second.title == "local(a)" and isinstance(second.body[0], Frame)
    asked = [node for node in every_node(graph.body) if node.kind == "operator"]
    assert len(asked) == 2
    by_id = [(flow.source, flow.target, flow.label) for flow in graph.flows]
    answer = next(node for node in every_node(graph.body) if node.kind == "end")
    assert (asked[0].id, asked[1].id, "text") in by_id
    assert (asked[1].id, answer.id, "b") in by_id
    recursive = code.replace("return r['response']", "return await self._ask(r['response'])")
    lines = to_outline(workflow_graph(WorkflowSource(recursive))).split("\n")
    assert lines[4] == "│  └─ [2] self._ask(r['response'])  ← [1] r[\"response\"]"


def test_computations_on_results_are_steps() -> None:
    graph = drawn(
        "answers = []",
        "for _ in range(3):",
        "    r = await self.custom(problem)",
        "    answers.append(r['response'].strip())",
        "counts = Counter(answers)",
        "best, n = counts.most_common(1)[0]",
        "if not best:",
        "    best = sorted(answers)[0]",
        "return best, 0",
    )
    step = graph.body[2]
    assert isinstance(step, Node) and step.kind == "step"
    assert step.title == "counts = Counter(answers)"
    assert step.detail.split("\n") == [
        "best, n = counts.most_common(1)[0]",
        "if not best: best = sorted(answers)[0]",
    ]
    assert {("custom", step.title, "answers"), (step.title, "answer", "best")} == flows(graph)


def test_prompts_are_shown_as_far_as_they_are_known() -> None:
    graph = workflow_graph(
        WorkflowSource(
            "PRE = 'Mind this. '\n"
            + call_of(
                "how = 'Be brief.'",
                "a = await self.custom(problem, how)",
                "b = await self.custom(problem, instruction=PRE + prompt_custom.SOLVE)",
                "c = await self.custom(problem, instruction=f'Use {b} and {a[0]!r:>3}.')",
                "d = await self.custom(problem, instruction=self.prompts['p'].format(x=1))",
                "e = await self.custom(problem)",
                "f = await self.test(problem, e, entry_point, test_loop=2)",
                "return f, 0",
            ),
            {"SOLVE": "Solve it.", "p": "For {x}.", "custom": "Mine.\n  Own."},
        )
    )
    details = [node.detail for node in every_node(graph.body) if node.kind == "operator"]
    assert details == [
        "Be brief.",
        "Mind this. Solve it.",
        "Use {b} and {a[0]}.",
        "For {x}.",
        "Mine. Own.",
        "test_loop=2",
    ]


def test_an_operator_of_ones_own_has_a_role_by_its_contract() -> None:
    own = OperatorSpec(
        name="Pick",
        attribute="pick",
        summary="Picks one.",
        parameters=(Parameter("options", "list[str]", "the options"),),
        returns=(ReturnKey("response", "str", "the one"),),
        llm_calls=(1, 1),
        domains=("math",),
        recommended=(),
        marker="[pick]",
    )
    operators: OperatorSet = TEN_OPERATORS.extended([own])
    source = WorkflowSource(call_of("r = await self.pick([problem])", "return r, 0"))
    node = workflow_graph(source, operators).body[1]
    assert isinstance(node, Node) and (node.kind, node.role) == ("operator", "choose")
    unknown = workflow_graph(source).body[1]
    assert isinstance(unknown, Node)
    assert (unknown.kind, unknown.title, unknown.detail) == ("fault", "pick", "no such operator")
    roles = {spec.attribute: "" for spec in TEN_OPERATORS.specs}
    for name in roles:
        call = call_of(f"r = await self.{name}(problem)", "return r, 0")
        found = workflow_graph(WorkflowSource(call)).body[1]
        assert isinstance(found, Node)
        roles[name] = found.role
    assert roles == {
        "custom": "generate",
        "answer_generate": "generate",
        "custom_code_generate": "generate",
        "programmer": "generate",
        "sc_ensemble": "choose",
        "md_ensemble": "choose",
        "test": "check",
        "review": "check",
        "format": "refine",
        "revise": "refine",
    }


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("class Workflow:\n    def f(:\n", "line 2: invalid syntax"),
        ("x = 1", "no class at module level"),
        ("class A:\n    def __call__(self): pass", "not async"),
        ("x = '" + "a" * 200_000, "at most 100000 are read"),
        ("(" * 5000, "nest"),
        ("\ud800", "surrogate"),
        ("\0", "null"),
        ("", "no class at module level"),
    ],
    ids=lambda value: ascii(value)[:20],
)
def test_what_is_no_workflow_says_so(code: str, said: str) -> None:
    graph = workflow_graph(WorkflowSource(code))
    assert said in graph.faults[0]
    (node,) = graph.body
    assert isinstance(node, Node) and node.kind == "fault" and said in node.detail


def test_a_workflow_that_returns_nothing_says_so() -> None:
    graph = drawn("r = await self.custom(problem)")
    last = graph.body[-1]
    assert isinstance(last, Node) and (last.kind, last.title) == ("fault", "no answer")


def test_the_plain_form_names_every_box_once() -> None:
    plain = as_plain(workflow_graph(library("math")["self_refine"]))
    ids = [node["id"] for node in plain["nodes"]]
    assert sorted(re.findall(r"'(n\d+)'", str(plain["tree"]))) == sorted(ids)
    assert {"source": "n4", "target": "n7", "label": ""} in plain["control"]
    assert {"source": "n6", "target": "n2", "label": "answer"} in plain["data"]
