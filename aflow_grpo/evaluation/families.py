"""Workflows in the manner of the recorded ones: the same operators in the same order.

The recorded workflows' instructions are not part of the data, so these say in our words what their
place in the sequence and their effect suggest: solve, plan, refine, format, verify. Each is called
by the round that it stands for, so that the recorded contrasts apply by name; `io` is the one call
with an empty instruction, and `io short` the one call that asks for the short answer, by which
papers report question answering.
"""

from __future__ import annotations

from collections.abc import Sequence

from aflow_grpo.evaluation.simulate import Run, Workflow

__all__ = ["ONE_CALL_WORKFLOW", "SHORT_ONE_CALL", "workflows_for"]

ONE_CALL_WORKFLOW = "io"
SHORT_ONE_CALL = "io short"

_SOLVE = (
    "Solve the problem step by step and give the final answer.",
    "Please think carefully, write down each step of the calculation, and state the result.",
    "Work through the problem: list what is given, what is asked, and compute the answer.",
    "You are an expert mathematician. Derive the solution in numbered steps.",
    "Break the problem into smaller parts, solve each part, and combine them.",
    "Read the question twice. Explain your reasoning, then conclude with the answer.",
    "Set up equations for the unknowns, solve them, and double-check the arithmetic.",
    "Give a detailed solution. Pay attention to units and to what exactly is asked.",
)
_FORMAT_NUMBER = (
    "Extract the final numerical answer from the solution. Give only the number.",
    "State the final answer as a single number, without units or explanation.",
    "Check the result against the problem, then give only the final number.",
)
_WORDY_FORMAT = (
    "Rewrite the solution in a clear and well organised form with headings, explanations, units "
    "and a summary of each step.",
    "Format the solution for the reader: restate the problem, explain each step, then discuss "
    "the result.",
)
_REFINE = (
    "Using the code output, write a complete solution and put the final answer in \\boxed{}.",
    "Refine the solution: check the code result, correct mistakes, box the final answer.",
    "Write the final solution with the answer in \\boxed{}; rely on the computed result where it "
    "is consistent with the problem.",
)
_DIVERSE = (
    "Solve the problem with algebra and put the final answer in \\boxed{}.",
    "Solve the problem by a different approach than usual; put the final answer in \\boxed{}.",
    "Solve the problem step by step, verify each step, and put the final answer in \\boxed{}.",
    "Look for a short, elegant solution and put the final answer in \\boxed{}.",
    "State the problem clearly, list the relevant facts, then solve; box the final answer.",
)
_REWRITE = (
    "Review the code for correctness, edge cases and efficiency, then rewrite it.",
    "Improve the function: handle edge cases, validate the input, make it more robust, and "
    "return the improved code.",
    "Refactor the following solution for readability and efficiency. Return the whole code.",
)
_FIX = "The code failed its tests. Find the mistake and return the corrected code."
_CODE = (
    "",
    "Write a clean Python function that solves the problem.",
    "Think about edge cases, then write the function.",
    "Write an efficient and correct implementation.",
    "Follow the description exactly; mind the types of arguments and results.",
)
_SHORT = (
    "Answer the question with the short answer only, without explanation.",
    "Extract only the final answer from the text: a number, a name or a short phrase. No "
    "explanations.",
    "Give just the concise answer, as short as possible.",
)
_WEAK_SHORT = (
    "Format the answer to the question in a clear way.",
    "Rewrite the answer so that it responds to the question completely.",
)
_MILD_VERIFY = (
    "Check that the answer fits the question. Give only the short final answer.",
    "Compare the answer with the passage and return only the corrected short answer.",
    "Clean the answer: keep only the number or name that is asked for.",
)
_CAREFUL = (
    "Read the passage carefully and count or compute step by step.",
    "List the facts in the passage that matter, then answer.",
    "Mind dates, units and names.",
)
_BAD_VERIFY = (
    "Verify the numerical answer against the passage, explain how it follows, and present the "
    "verified result.",
    "Review the answer, describe any problem with it, and give your assessment in full sentences.",
)


def workflows_for(dataset: str) -> dict[str, Workflow]:
    """The workflows of one dataset by recorded round, and `io`.

    Args:
        dataset: As in the recorded runs, e.g. ``GSM8K``.
    """
    return {
        "GSM8K": _gsm8k,
        "MATH": _math,
        "HumanEval": _humaneval,
        "MBPP": _mbpp,
        "DROP": _drop,
        "HotpotQA": _hotpotqa,
    }[dataset]()


def _plain(instruction: str = "") -> Workflow:
    async def workflow(run: Run) -> str:
        return await run.custom(run.problem, instruction)

    return workflow


def _crash() -> Workflow:
    async def workflow(run: Run) -> str:
        return ""

    return workflow


def _worded(samples: int, solve: str, *, programs: int = 0, final: str = "") -> Workflow:
    """Samples of Custom, the most consistent one, programs that follow it, a formatting Custom."""

    async def workflow(run: Run) -> str:
        drafts = [await run.custom(run.problem, solve) for _ in range(samples)]
        solution = await run.vote(drafts)
        for _ in range(programs):
            solution = await run.program(solution) or solution
        if not final:
            return solution
        return await run.custom(f"Problem: {run.problem}\nSolution: {solution}", final)

    return workflow


def _programmed(refine: str, diverse: Sequence[str] = (), *, again: int = 0) -> Workflow:
    """A program, a refining Custom, further Customs, the most consistent one."""

    async def workflow(run: Run) -> str:
        output = await run.program()
        solution = await run.custom(f"Problem: {run.problem}\nCode output: {output}", refine)
        for _ in range(again):
            text = f"Problem: {run.problem}\nSolution: {solution}"
            solution = await run.custom(text, refine)
        if not diverse:
            return solution
        return await run.vote([solution, *[await run.custom(run.problem, i) for i in diverse]])

    return workflow


def _coded(
    instruction: str = "",
    *,
    samples: int = 1,
    rewrite: str = "",
    test: bool = True,
    fix: str = "",
    again: bool = False,
) -> Workflow:
    """Programs, the most consistent one, a rewriting Custom, Test, and a step for failures."""

    async def workflow(run: Run) -> str:
        codes = [await run.code(instruction) for _ in range(samples)]
        code = await run.vote(codes) if samples > 1 else codes[0]
        if rewrite:
            code = await run.custom(f"Problem: {run.problem}\nCode:\n{code}", rewrite)
        if not test:
            return code
        passed, code = await run.test(code, rounds=1)
        if passed or not (fix or again):
            return code
        if again:
            return await run.code(instruction)
        return await run.custom(f"Problem: {run.problem}\nFailed code:\n{code}", fix)

    return workflow


def _reviewed(instruction: str, review: str) -> Workflow:
    """Code and Test; only after a failed test a review and new code that follows it."""

    async def workflow(run: Run) -> str:
        code = await run.code(instruction)
        passed, code = await run.test(code, rounds=1)
        if passed:
            return code
        advice = await run.custom(f"Problem: {run.problem}\nCode:\n{code}", review)
        return (await run.test(await run.code(advice), rounds=1))[1]

    return workflow


def _read(
    samples: int, finals: Sequence[str], *, instruction: str = "", each: str = ""
) -> Workflow:
    """Answers, a step on each, the most consistent one, further steps on it."""

    async def workflow(run: Run) -> str:
        answers = [await run.answer(instruction) for _ in range(samples)]
        if each:
            answers = [await run.custom(_asked(run, answer), each) for answer in answers]
        answer = await run.vote(answers) if samples > 1 else answers[0]
        for final in finals:
            answer = await run.custom(_asked(run, answer), final)
        return answer

    return workflow


def _asked(run: Run, answer: str) -> str:
    return f"{run.problem}\n\nAnswer: {answer}"


def _gsm8k() -> dict[str, Workflow]:
    found = {
        ONE_CALL_WORKFLOW: _plain(),
        "2": _worded(3, _SOLVE[0]),
        "3": _worded(3, _SOLVE[0], programs=1),
        "4": _worded(3, _SOLVE[1], programs=1),
        "5": _worded(3, _SOLVE[1], programs=1, final=_WORDY_FORMAT[0]),
        "9": _worded(3, _SOLVE[2], programs=2),
        "10": _worded(5, _SOLVE[7], programs=1),
        "13": _worded(5, _SOLVE[3], programs=1),
        "23": _worded(5, _SOLVE[0], programs=1, final=_WORDY_FORMAT[1]),
    }
    for number, round_ in enumerate(("6", "7", "8", "11", "14", "18")):
        found[round_] = _worded(3, _SOLVE[(2, 3, 7, 4, 5, 6)[number]], programs=1)
    for number, round_ in enumerate(("17", "20", "21")):
        found[round_] = _worded(5, _SOLVE[number + 4], programs=1)
    for number, round_ in enumerate(("12", "15", "22")):
        found[round_] = _worded(3, _SOLVE[number + 2], programs=1, final=_FORMAT_NUMBER[number])
    return found


def _math() -> dict[str, Workflow]:
    found = {
        ONE_CALL_WORKFLOW: _plain(),
        "2": _programmed(_REFINE[0]),
        "3": _programmed(_REFINE[0], [_DIVERSE[0]] * 3),
        "4": _crash(),
        "5": _programmed(_REFINE[0], _DIVERSE[:4]),
        "8": _worded(3, _DIVERSE[2]),
    }
    for number, round_ in enumerate(("6", "7", "15", "18", "19")):
        found[round_] = _programmed(_REFINE[number % 3], [_DIVERSE[number]] * 3)
    for number, round_ in enumerate(("9", "10", "11", "13", "14", "16")):
        diverse = [_DIVERSE[number % 5], _DIVERSE[(number + 2) % 5], _DIVERSE[(number + 3) % 5]]
        found[round_] = _programmed(_REFINE[number % 3], diverse, again=1)
    return found


def _humaneval() -> dict[str, Workflow]:
    found = {
        ONE_CALL_WORKFLOW: _coded(test=False),
        "2": _coded(_CODE[1], fix=_FIX),
        "3": _coded(rewrite=_REWRITE[1], test=False),
        "5": _coded(again=True),
        "8": _coded(_CODE[2], fix=_FIX),
        "11": _coded(_CODE[3], fix=_FIX),
        "16": _reviewed("", "Review the code and say what to mend."),
        "17": _coded(_CODE[1], samples=3, rewrite=_REWRITE[0], fix=_FIX),
        "20": _coded(_CODE[2], samples=3, rewrite=_REWRITE[2], fix=_FIX),
        "21": _coded(_CODE[4], fix=_FIX),
        "7": _coded(_CODE[4], samples=3, fix=_FIX),
    }
    for number, round_ in enumerate(("4", "6", "9", "13", "15")):
        found[round_] = _coded(_CODE[number], rewrite=_REWRITE[number % 3], fix=_FIX)
    for number, round_ in enumerate(("10", "12", "14", "19")):
        found[round_] = _reviewed(_CODE[number + 1], "List the edge cases that the code misses.")
    return found


def _mbpp() -> dict[str, Workflow]:
    found = {
        ONE_CALL_WORKFLOW: _coded(test=False),
        "2": _coded(fix=_FIX),
        "4": _coded(rewrite=_REWRITE[0], fix=_FIX),
        "7": _coded(rewrite=_REWRITE[1], fix=_FIX),
        "12": _coded(_CODE[1], rewrite=_REWRITE[2], fix=_FIX),
        "20": _crash(),
    }
    for number, round_ in enumerate(("5", "8", "10", "14", "15", "17")):
        found[round_] = _coded(_CODE[number % 5], samples=3, fix=_FIX)
    for number, round_ in enumerate(("6", "11", "16", "18", "19")):
        found[round_] = _coded(_CODE[number], samples=3, rewrite=_REWRITE[number % 3], fix=_FIX)
    return found


def _drop() -> dict[str, Workflow]:
    found = {
        ONE_CALL_WORKFLOW: _plain(),
        SHORT_ONE_CALL: _plain(_SHORT[0]),
        "2": _read(1, [_SHORT[0]]),
        "3": _read(3, [_SHORT[0]]),
        "4": _read(3, [], each=_SHORT[1]),
        "5": _read(3, [_SHORT[0], _MILD_VERIFY[0]]),
        "6": _read(1, [_WEAK_SHORT[0]]),
        "7": _read(3, [_SHORT[0], _BAD_VERIFY[0]]),
        "8": _read(3, [_SHORT[0], _MILD_VERIFY[1]]),
        "9": _read(1, [_SHORT[0], _BAD_VERIFY[1]]),
        "10": _read(3, [], each=_SHORT[0]),
        "11": _read(3, [_SHORT[1], _BAD_VERIFY[1]]),
        "12": _read(3, [_SHORT[0], _MILD_VERIFY[2]]),
        "13": _read(3, [], each=_SHORT[2]),
        "14": _read(1, [_WEAK_SHORT[1]]),
        "16": _read(3, [_SHORT[1], _MILD_VERIFY[0]]),
    }
    for number, round_ in enumerate(("15", "17", "18", "20")):
        instruction = _CAREFUL[number % 3]
        finals = [_MILD_VERIFY[number % 3]] if number < 3 else []
        found[round_] = _read(3, finals, each=_SHORT[number % 3], instruction=instruction)
    return found


def _hotpotqa() -> dict[str, Workflow]:
    found = {
        ONE_CALL_WORKFLOW: _plain(),
        SHORT_ONE_CALL: _plain(_SHORT[0]),
        "2": _read(1, [_WEAK_SHORT[0]]),
        "3": _read(3, [_SHORT[0]]),
        "18": _read(1, [_BAD_VERIFY[0]]),
    }
    for number, round_ in enumerate(("4", "5", "8", "9", "13")):
        steps = [_SHORT[0], _MILD_VERIFY[number % 3]]
        found[round_] = _read(3, steps, instruction=("", *_CAREFUL)[number % 4])
    for number, round_ in enumerate(("6", "7", "10", "11", "14", "16", "17", "21")):
        steps = [_SHORT[0], *[_MILD_VERIFY[(number + k) % 3] for k in range(2 + number // 2)]]
        found[round_] = _read(3, steps, instruction=("", *_CAREFUL)[number % 4])
    return found
