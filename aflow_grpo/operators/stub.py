"""Stand-ins for the operators: the same contracts, fixed results, no executor and no sandbox.

The reward's stage `structure` runs workflows on them, to see whether the code around the calls
holds, at 0 USD and without a network. Arguments are checked as the real operators check them, and
results have every key of the contract, with the contract's types; the values mean nothing.
"""

from __future__ import annotations

from aflow_grpo.operators.base import LLM, Arguments, Operator, Result
from aflow_grpo.operators.registry import OperatorKit
from aflow_grpo.workflow.spec import OperatorSpec

__all__ = ["STUB_FLAG", "STUB_TEXT", "stub_kit"]

STUB_TEXT = "1"
"""Every text that a stub returns: one that workflows can also read as a number."""
STUB_FLAG = True
"""Every flag that a stub returns: tests pass and reviews agree, so that loops end."""


class _Stub(Operator):
    """Answers every call with the same values."""

    async def run(self, llm: LLM, given: Arguments) -> Result:
        """The contract's main keys; aliases are added."""
        return {
            key.name: STUB_FLAG if key.type == "bool" else STUB_TEXT
            for key in self.spec.main_returns
        }


def stub_kit(kit: OperatorKit) -> OperatorKit:
    """Stubs with the contracts of the operators in `kit`, a user's own included."""
    return OperatorKit(tuple(_stub_of(spec) for spec in kit.contract.specs))


def _stub_of(spec: OperatorSpec) -> type[Operator]:
    return type(f"Stub{spec.name}", (_Stub,), {"spec": spec})
