"""The operators that work on a solution: Format, Review, Revise."""

from __future__ import annotations

from aflow_grpo.operators.base import LLM, Arguments, Operator, Result, contract
from aflow_grpo.operators.prompts import format_prompt, review_prompt, revise_prompt
from aflow_grpo.operators.replies import PartsReader, last_line, tagged

__all__ = ["Format", "Review", "Revise"]


class Format(Operator):
    """The short final answer of a solution."""

    spec = contract("format")

    async def run(self, llm: LLM, given: Arguments) -> Result:
        prompt = format_prompt(
            given.text("problem"), given.text("solution"), given.text("instruction")
        )
        reply, parts = await llm.call_with_format(
            prompt.user, PartsReader("answer"), system=prompt.system, form=prompt.form
        )
        answer = parts["answer"]
        return {"solution": last_line(reply) if answer is None else answer}


class Review(Operator):
    """A verdict as a real boolean, and what to mend; wrong only when the reply says so."""

    spec = contract("review")

    async def run(self, llm: LLM, given: Arguments) -> Result:
        prompt = review_prompt(
            given.text("problem"), given.text("solution"), given.text("instruction")
        )
        reader = PartsReader("verdict", "feedback")
        reply, parts = await llm.call_with_format(
            prompt.user, reader, system=prompt.system, form=prompt.form
        )
        verdict, feedback = parts["verdict"], parts["feedback"]
        wrong = verdict is not None and verdict.strip(" .*").lower() in ("wrong", "false", "no")
        return {
            "review_result": not wrong,
            "feedback": reply.strip() if feedback is None else feedback,
        }


class Revise(Operator):
    """The solution rewritten under feedback."""

    spec = contract("revise")

    async def run(self, llm: LLM, given: Arguments) -> Result:
        prompt = revise_prompt(
            given.text("problem"),
            given.text("solution"),
            given.text("feedback"),
            given.text("instruction"),
        )
        reply = await llm(prompt.user, system=prompt.system)
        solution = tagged(reply, "solution")
        return {"solution": reply.strip() if solution is None else solution}
