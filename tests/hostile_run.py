"""A run in which everything that a model, an endpoint or a user's file may write is an attack.

Each text tries another way out of where it is shown. Whichever got out would set `window.pwned`,
open a dialog, ask for an address, or add an element with the class `pwned`.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

from journaled_world import FAILED, FIRST
from run_world import make_run, solved, store

from aflow_grpo.llm.journal import Journal
from aflow_grpo.records import FaultKind, Finding, Rollout, WorkflowSource

__all__ = ["ATTACKS", "make_hostile_run"]

ATTACKS = (
    "<script>window.pwned = 1</script>",
    "</script><script>window.pwned = 2</script>",
    "<img src=x onerror='window.pwned = 3' class=pwned>",
    '\'"><svg onload="window.pwned = 4" class=pwned>',
    "</title></style></textarea><script>window.pwned = 5</script>",
    "<!--<script>window.pwned = 6//",
    "<a href='javascript:window.pwned = 7' class=pwned>click</a>",
    "<iframe srcdoc='<script>parent.pwned = 8</script>' class=pwned></iframe>",
    "]]><script>window.pwned = 9</script>",
    "{{ 7 * 7 }}{% include '/etc/passwd' %}",
    "\u2028\u2029\x00\x1b[31m\u202e\ud83d\ud800 end",
    "<meta http-equiv=refresh content='0;url=http://attacker.example/'>",
    "<b class=pwned>bold</b><br>%{x}&lt;b&gt;",
)
ALL = " ".join(ATTACKS)
DRAWN = " ".join(ATTACKS[:10])
"""What may be in code that is drawn: without lone surrogates, which no code may hold."""


def make_hostile_run(root: Path) -> str:
    """The run's id."""
    bad = "<img src=x onerror='window.pwned = 20' class=pwned>"
    run = make_run(
        root,
        name=f"fit {bad}",
        params={f"data.{i}": attack.replace("\x00", "") for i, attack in enumerate(ATTACKS[:10])}
        | {"llm.tiers": "[{'api_key': 'sk-verysecret0123456789'}]"},
        metrics={
            "train/reward": [(1, -5.0), (2, float("nan")), (3, 4.0)],
            "train/reward/correctness": [(1, 10.0), (3, 40.0)],
            "train/fault/bad_signature": [(1, 0.5)],
        },
    )
    store(root, run, {
        ("val/greedy", 4): [_hostile(solved(n, right=n % 2 == 0)) for n in range(8)],
        ("train", 4): [_hostile(solved(n)) for n in range(4)],
    })  # fmt: skip
    journal = Journal(root / "journal.db")
    for entry in (
        replace(FIRST, run=run, tier=bad), replace(FAILED, run=run, tier=bad, fault=ALL),
    ):  # fmt: skip
        asyncio.run(journal.write(entry))
    journal.close()
    return run


def _hostile(rollout: Rollout) -> Rollout:
    number = rollout.group
    problem = replace(
        rollout.problem, id=f"{ATTACKS[number]}/{number}", question=f"{ALL} {number}",
        answer=ALL, context=ALL, dataset=ATTACKS[1],
    )  # fmt: skip
    shown = DRAWN if number % 2 else ALL
    code = (
        f"class Workflow:\n    # {shown}\n    async def __call__(self, problem):\n"
        f"        r = await self.custom(input={shown!r}, instruction={shown!r})\n"
        f"        return r['response'], {number}\n"
    )
    call = replace(
        rollout.execution.calls[0], operator=ATTACKS[2], tiers=(ATTACKS[0],), message=ALL
    )
    finding = Finding(FaultKind.BAD_SIGNATURE, ALL, 2, ATTACKS[1], hint=ALL)
    execution = replace(
        rollout.execution, answer=ALL, message=ALL, calls=(call,), findings=(finding,),
        source=WorkflowSource(code, {ATTACKS[0]: ALL, "custom": ALL}),
    )  # fmt: skip
    return replace(rollout, problem=problem, execution=execution)
