# own_operator.py
"""An operator of one's own, in one file: its contract and what it does."""

from aflow_grpo.operators.base import LLM, Arguments, Operator, Result
from aflow_grpo.workflow.spec import OperatorSpec, Parameter, ReturnKey


class Summarise(Operator):
    """Shortens a text."""

    spec = OperatorSpec(
        name="Summarise",
        attribute="summarise",
        summary="Shortens a text to its main points.",
        parameters=(
            Parameter("text", "str", "what to shorten"),
            Parameter("sentences", "int", "how many to keep", required=False, default=2),
        ),
        returns=(ReturnKey("summary", "str", "the short text"),),
        llm_calls=(1, 1),
        domains=("math", "code", "qa"),
        recommended=(),
        marker="[summarise]",
    )

    async def run(self, llm: LLM, given: Arguments) -> Result:
        """One call; the reply as it is."""
        system = f"{self.spec.marker} You shorten texts and keep every number."
        prompt = f"Keep {given.number('sentences')} sentences of this:\n\n{given.text('text')}"
        return {"summary": await llm(prompt, system=system)}
