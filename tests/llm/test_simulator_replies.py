"""What the imitated model says: statistics in stated bands, and each operator's form."""

from __future__ import annotations

import ast
import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulated_world import MARKERS, ballot, problems, sections, system

from aflow_grpo.llm.simulator import SimulatorSettings
from aflow_grpo.llm.simulator.values import canonical, extract, is_right
from aflow_grpo.llm.simulator.wire import ProblemIndex
from aflow_grpo.llm.simulator.world import World
from aflow_grpo.records import Domain, Problem

N = 600
SHORT = "Give only the short answer.\n\n"


def answers(
    domain: Domain, operator: str, difficulty: int, runs: int = 2, **settings: float
) -> tuple[list[Problem], list[list[str]]]:
    """Problems, and per problem the replies of `runs` calls."""
    made = problems(domain, N, difficulty)
    world = World(made, MARKERS, SimulatorSettings(**settings))  # type: ignore[arg-type]
    prompt = {
        "custom": lambda p: SHORT + p.text,
        "programmer": lambda p: sections(problem=p.text, analysis="None"),
        "custom_code_generate": lambda p: sections(problem=p.text, entry_point=p.entry_point),
    }.get(operator, lambda p: sections(problem=p.text))
    return made, [
        [world.text(system(operator), prompt(p), seed) for seed in range(runs)] for p in made
    ]


def right(problem: Problem, text: str) -> bool:
    return is_right(problem, extract(text))


@pytest.mark.parametrize(
    ("domain", "operator", "difficulty", "accuracy", "agreement"),
    [
        ("math", "answer_generate", 1, 0.92, 0.96),
        ("math", "answer_generate", 2, 0.75, 0.87),
        ("math", "answer_generate", 3, 0.40, 0.69),
        ("qa", "answer_generate", 1, 0.85, 0.96),
        ("qa", "answer_generate", 2, 0.70, 0.93),
        ("qa", "answer_generate", 3, 0.50, 0.85),
        ("math", "custom", 1, 0.92, 0.96),
        ("math", "custom", 3, 0.40, 0.69),
        ("qa", "custom", 2, 0.67, 0.93),
    ],
)
def test_accuracy_and_agreement_are_in_their_bands(
    domain: Domain, operator: str, difficulty: int, accuracy: float, agreement: float
) -> None:
    made, replies = answers(domain, operator, difficulty)
    hits = [right(p, text) for p, pair in zip(made, replies, strict=True) for text in pair]
    assert sum(hits) / len(hits) == pytest.approx(accuracy, abs=0.05)
    same = [canonical(extract(a) or "") == canonical(extract(b) or "") for a, b in replies]
    assert sum(same) / N == pytest.approx(agreement, abs=0.05)


def test_agreement_of_two_runs_is_informative() -> None:
    made, replies = answers("math", "answer_generate", 3)
    agree: list[bool] = []
    differ: list[bool] = []
    for problem, (a, b) in zip(made, replies, strict=True):
        kind = agree if canonical(extract(a) or "") == canonical(extract(b) or "") else differ
        kind.append(right(problem, a))
    assert sum(agree) / len(agree) > 0.45
    assert sum(differ) / len(differ) < 0.30


def test_most_problems_are_always_right_or_always_wrong() -> None:
    made, replies = answers("math", "answer_generate", 3, runs=8)
    counts = [sum(right(p, text) for text in texts) for p, texts in zip(made, replies, strict=True)]
    mixed = sum(1 < count < 7 for count in counts) / N
    assert 0.08 < mixed < 0.30


def test_without_noise_repeats_are_equally_right() -> None:
    made, replies = answers("math", "answer_generate", 3, runs=4, noise=0.0)
    for problem, texts in zip(made, replies, strict=True):
        assert len({right(problem, text) for text in texts}) == 1


def test_another_skill_seed_solves_other_problems() -> None:
    made, one = answers("math", "answer_generate", 3, runs=1)
    _, two = answers("math", "answer_generate", 3, runs=1, skill_seed=1)
    differ = sum(right(p, a[0]) != right(p, b[0]) for p, a, b in zip(made, one, two, strict=True))
    assert 0.35 < differ / N < 0.60


@pytest.mark.parametrize(("difficulty", "low", "high"), [(2, 0.03, 0.13), (3, 0.07, 0.20)])
def test_programs_lift_middle_and_hard_math(difficulty: int, low: float, high: float) -> None:
    made, replies = answers("math", "programmer", difficulty, runs=1)
    values = [run_solve(texts[0]) for texts in replies]
    crashed = sum(value is None for value in values) / N
    assert crashed == pytest.approx(0.06, abs=0.03)
    ran = [is_right(p, v) for p, v in zip(made, values, strict=True) if v is not None]
    written = {2: 0.75, 3: 0.40}[difficulty]
    assert low < sum(ran) / len(ran) - written < high


def run_solve(reply: str) -> str | None:
    """The value of a program of the simulator's own making, read off its three lines."""
    tree = ast.parse(reply.removeprefix("```python\n").removesuffix("\n```"))
    solve = next(node for node in tree.body if isinstance(node, ast.FunctionDef))
    names: dict[str, int] = {}
    for statement in solve.body:
        if isinstance(statement, ast.Return):
            assert isinstance(statement.value, ast.Name)
            value = names.get(statement.value.id)
            return None if value is None else str(value)
        assert isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name)
        names[statement.targets[0].id] = arithmetic(statement.value, names)
    raise AssertionError("solve() returns nothing")


def arithmetic(node: ast.expr, names: dict[str, int]) -> int:
    match node:
        case ast.Constant(value=int(value)):
            return value
        case ast.Name(id=name):
            return names[name]
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -arithmetic(operand, names)
        case ast.BinOp(left=left, op=op, right=other):
            a, b = arithmetic(left, names), arithmetic(other, names)
            return {"Add": a + b, "Sub": a - b, "Mult": a * b, "FloorDiv": a // (b or 1)}[
                type(op).__name__
            ]
    raise AssertionError(ast.dump(node))


def test_a_failed_program_is_mostly_mended_on_the_retry() -> None:
    made = problems("math", N, 1)
    world = World(made, MARKERS, SimulatorSettings())
    retry = [
        sections(problem=p.text, analysis="None", solution="x", failure="NameError") for p in made
    ]
    replies = [world.text(system("programmer"), prompt, 1) for prompt in retry]
    assert sum(run_solve(text) is None for text in replies) / N == pytest.approx(0.25, abs=0.06)


def test_free_prose_on_qa_holds_the_answer_but_is_not_it() -> None:
    made = problems("qa", N, 2)
    world = World(made, MARKERS, SimulatorSettings())
    replies = [world.text(system("custom"), p.text, 5) for p in made]
    exact = [p.answer == text for p, text in zip(made, replies, strict=True)]
    assert sum(exact) / N < 0.12
    content = sum(right(p, text) for p, text in zip(made, replies, strict=True)) / N
    assert content == pytest.approx(0.67, abs=0.05)


def test_format_gets_the_short_answer_out_of_prose() -> None:
    made = problems("qa", N, 2)
    world = World(made, MARKERS, SimulatorSettings())
    drafts = [world.text(system("custom"), p.text, 5) for p in made]
    replies = [
        world.text(system("format"), sections(problem=p.text, solution=draft), 6)
        for p, draft in zip(made, drafts, strict=True)
    ]
    kept = [extract(reply) == extract(draft) for reply, draft in zip(replies, drafts, strict=True)]
    assert sum(kept) / N == pytest.approx(0.97, abs=0.02)


def test_reviews_are_mostly_right() -> None:
    made = problems("math", N, 2)
    world = World(made, MARKERS, SimulatorSettings())

    def share(verdict: str, solution: list[str]) -> float:
        texts = [
            world.text(system("review"), sections(problem=p.text, solution=s), 1)
            for p, s in zip(made, solution, strict=True)
        ]
        assert all("<feedback>" in text for text in texts)
        return sum(f"<verdict>{verdict}</verdict>" in text for text in texts) / N

    assert share("right", [f"\\boxed{{{p.answer}}}" for p in made]) == pytest.approx(0.93, abs=0.04)
    assert share("wrong", ["\\boxed{-1}"] * N) == pytest.approx(0.60, abs=0.06)


def test_revision_mends_some_and_spoils_few() -> None:
    made = problems("math", N, 3)
    world = World(made, MARKERS, SimulatorSettings())

    def share_right(solutions: list[str], feedback: str) -> float:
        replies = [
            world.text(system("revise"), sections(problem=p.text, solution=s, feedback=feedback), 1)
            for p, s in zip(made, solutions, strict=True)
        ]
        return sum(right(p, text) for p, text in zip(made, replies, strict=True)) / N

    golds = [f"\\boxed{{{p.answer}}}" for p in made]
    assert share_right(["\\boxed{-1}"] * N, "This is wrong.") == pytest.approx(0.35, abs=0.06)
    assert share_right(golds, "This is wrong.") == pytest.approx(0.88, abs=0.04)
    assert share_right(golds, "No mistake was found.") == pytest.approx(0.95, abs=0.03)


def test_ensembles_follow_the_plurality() -> None:
    made = problems("math", N, 1)
    world = World(made, MARKERS, SimulatorSettings())
    votes = ballot("\\boxed{7}", "The result is $\\boxed{12}$.", "\\boxed{12}")
    for operator in ("sc_ensemble", "md_ensemble"):
        texts = [
            world.text(system(operator), sections(problem=p.text, solutions=votes), 1) for p in made
        ]
        chosen = [text.removeprefix("<choice>").removesuffix("</choice>") for text in texts]
        assert set(chosen) == {"A", "B", "C"}
        assert chosen.count("A") / N < 0.05


@pytest.mark.parametrize("difficulty", [1, 2, 3])
def test_code_is_the_reference_or_a_bug_of_it(difficulty: int) -> None:
    made, replies = answers("code", "custom_code_generate", difficulty)
    hits = 0
    for problem, texts in zip(made, replies, strict=True):
        for text in texts:
            code = re.fullmatch(r"```python\n(.*)\n```", text, re.DOTALL)
            assert code is not None
            assert any(
                isinstance(node, ast.FunctionDef) and node.name == problem.entry_point
                for node in ast.parse(code[1]).body
            )
            hits += code[1] == problem.answer
    expected = {1: 0.90, 2: 0.75, 3: 0.52}[difficulty]
    assert hits / (2 * N) == pytest.approx(expected, abs=0.05)


def test_custom_on_code_is_prose_around_one_block() -> None:
    made = problems("code", N, 1)
    world = World(made, MARKERS, SimulatorSettings())
    replies = [world.text(system("custom"), p.text, 1) for p in made]
    assert all(text.count("```") == 2 and not text.startswith("```") for text in replies)
    bare = [world.text(system("custom"), f"Return only the code.\n\n{p.text}", 1) for p in made]
    assert all(text.startswith("```") and text.endswith("```") for text in bare)


def is_reference(reply: str, problem: Problem) -> bool:
    return reply == f"```python\n{problem.answer}\n```"


def test_mending_repairs_what_the_model_could_have_solved_and_some_of_the_rest() -> None:
    made = problems("code", N, 3)
    world = World(made, MARKERS, SimulatorSettings())
    mended: dict[bool, list[bool]] = {True: [], False: []}
    for problem in made:
        prompt = sections(problem=problem.text, entry_point=problem.entry_point)
        own = is_reference(world.text(system("custom_code_generate"), prompt, 1), problem)
        failed = sections(
            problem=problem.text,
            entry_point=problem.entry_point,
            solution="def broken():\n    return None",
            failure="AssertionError",
        )
        mended[own].append(is_reference(world.text(system("test"), failed, 2), problem))
    assert sum(mended[True]) / len(mended[True]) == pytest.approx(0.80, abs=0.06)
    assert 0.3 < sum(mended[False]) / len(mended[False]) < 0.6


def test_the_problem_is_found_wherever_it_stands() -> None:
    made = [*problems("math", 2000), *problems("qa", 20), *problems("code", 20)]
    index = ProblemIndex(made)
    frames = [
        "{}",
        "Solve step by step.\n\n{}",
        "<problem>\n{}\n</problem>\n<solution>\nx\n</solution>",
        "Please answer this: {} Thanks.",
        "Problem: {}",
    ]
    for problem in made[::17]:
        for frame in frames:
            found = index.find(frame.format(problem.text))
            assert found is not None and found.id == problem.id, frame


def test_half_a_question_is_no_problem() -> None:
    [problem] = problems("math", 1)
    index = ProblemIndex([problem])
    assert index.find(problem.question.split("\n")[0]) is None
    assert index.find("") is None


def test_one_question_in_two_contexts_is_told_apart_by_the_context() -> None:
    one, two = problems("qa", 2)
    index = ProblemIndex([one, two])
    assert index.find(two.text) == two
    assert index.find(one.text) == one


@pytest.mark.parametrize("operator", list(MARKERS))
def test_an_unknown_problem_gets_a_wrong_reply_in_the_right_form(operator: str) -> None:
    world = World([], MARKERS, SimulatorSettings())
    prompt = sections(
        problem="What is the airspeed\nof an unladen swallow?",
        entry_point="speed",
        solutions=ballot("African", "European"),
        solution="It depends\non the swallow.",
        feedback="none",
    )
    text = world.text(system(operator), prompt, 1)
    form = {
        "answer_generate": r"<thought>.+</thought>\n<answer>.+</answer>",
        "custom_code_generate": r"```python\ndef speed\(.*\n```",
        "test": r"```python\ndef speed\(.*\n```",
        "programmer": r"```python\ndef solve\(\):.*\n```",
        "sc_ensemble": r"<choice>[AB]</choice>",
        "md_ensemble": r"<choice>[AB]</choice>",
        "format": r"<answer>.+</answer>",
        "review": r"<verdict>right</verdict>\n<feedback>.+</feedback>",
        "revise": r"<solution>\n.+\n</solution>",
    }.get(operator, r".+")
    assert re.fullmatch(form, text, re.DOTALL)


@given(st.text(max_size=300), st.sampled_from(list(MARKERS)), st.integers(0, 2**31 - 1))
def test_any_text_gets_a_reply_and_always_the_same(text: str, operator: str, seed: int) -> None:
    [problem] = problems("math", 1)
    world = World([problem], MARKERS, SimulatorSettings())
    for prompt in (text, f"{problem.text}\n{text}", sections(problem=problem.text, solution=text)):
        first = world.text(system(operator), prompt, seed)
        assert first and first == world.text(system(operator), prompt, seed)


def test_hard_problems_get_longer_replies() -> None:
    lengths = []
    for difficulty in (1, 2, 3):
        made = problems("math", 50, difficulty)
        world = World(made, MARKERS, SimulatorSettings())
        lengths.append(sum(len(world.text(system("custom"), p.text, 1)) for p in made))
    assert all(short < long for short, long in pairwise(lengths))


def test_an_unknown_question_is_no_answer_to_itself() -> None:
    world = World([], MARKERS, SimulatorSettings())
    assert world.text("", "What is 2+2?", 1).count("2+2") == 0
    assert "Paris" in world.text("", "The answer is Paris. Repeat only the answer.", 1)
