"""The operators that write something new: Custom, AnswerGenerate, CustomCodeGenerate."""

from __future__ import annotations

from aflow_grpo.operators.base import LLM, Arguments, Operator, Result, contract
from aflow_grpo.operators.prompts import answer_prompt, code_prompt, custom_prompt
from aflow_grpo.operators.replies import PartsReader, last_line
from aflow_grpo.sandbox.code_text import extract_code

__all__ = ["AnswerGenerate", "Custom", "CustomCodeGenerate"]


class Custom(Operator):
    """The workflow's own instruction on the workflow's own input; the reply as it is."""

    spec = contract("custom")

    async def run(self, llm: LLM, given: Arguments) -> Result:
        prompt = custom_prompt(given.text("input"), given.text("instruction"))
        return {"response": await llm(prompt.user, system=prompt.system)}


class AnswerGenerate(Operator):
    """Reasoning, then a concise answer.

    A text without tags is all thought, and its last line the answer: both keys are always there.
    """

    spec = contract("answer_generate")

    async def run(self, llm: LLM, given: Arguments) -> Result:
        prompt = answer_prompt(given.text("input"), given.text("instruction"))
        reader = PartsReader("thought", "answer")
        reply, parts = await llm.call_with_format(
            prompt.user, reader, system=prompt.system, form=prompt.form
        )
        thought, answer = parts["thought"], parts["answer"]
        return {
            "thought": reply.strip() if thought is None else thought,
            "answer": last_line(reply) if answer is None else answer,
        }


class CustomCodeGenerate(Operator):
    """A program with the given entry point: code only, without fences and talk."""

    spec = contract("custom_code_generate")

    async def run(self, llm: LLM, given: Arguments) -> Result:
        entry_point = given.text("entry_point").strip()
        entry_point = "" if entry_point == "None" else entry_point
        prompt = code_prompt(given.text("problem"), entry_point, given.text("instruction"))
        reply = await llm(prompt.user, system=prompt.system)
        return {"response": extract_code(reply) or reply.strip()}
