"""Fixed workflows per domain, in the language that the policy writes: fallbacks and baselines.

They run by the same path as the policy's own. Every one is valid for its domain; the first of a
domain is its cheapest (one operator call), and `fallback_workflow` names the one that answers when
the policy's does not run.
"""

from __future__ import annotations

from aflow_grpo.records import Domain, WorkflowSource

__all__ = ["fallback_workflow", "library"]

_COST = 'self.llm.get_usage_summary()["total_cost"]'
_HEADER = "class Workflow:\n    async def __call__(self, problem, entry_point=None):\n"

_FALLBACK: dict[Domain, str] = {"math": "direct", "code": "code_test", "qa": "answer_format"}

_BODIES: dict[Domain, dict[str, str]] = {
    "math": {
        "direct": """
result = await self.answer_generate(input=problem)
return result["answer"], COST
""",
        "custom": """
result = await self.custom(
    input=problem, instruction="Solve step by step. End with the final answer alone."
)
return result["response"], COST
""",
        "programmer": """
result = await self.programmer(problem=problem)
return result["output"], COST
""",
        "review_revise": """
result = await self.answer_generate(input=problem)
answer = result["answer"]
review = await self.review(problem=problem, solution=answer)
if not review["review_result"]:
    revised = await self.revise(
        problem=problem, solution=answer, feedback=review["feedback"]
    )
    answer = revised["solution"]
return answer, COST
""",
        "sc3": """
solutions = []
for _ in range(3):
    result = await self.answer_generate(input=problem)
    solutions.append(result["answer"])
chosen = await self.sc_ensemble(solutions=solutions, problem=problem)
return chosen["response"], COST
""",
        "cascade": """
program = await self.programmer(problem=problem)
direct = await self.answer_generate(input=problem)
if program["output"] == direct["answer"]:
    return direct["answer"], COST
third = await self.answer_generate(input=problem)
solutions = [program["output"], direct["answer"], third["answer"]]
chosen = await self.sc_ensemble(solutions=solutions, problem=problem)
return chosen["response"], COST
""",
        "analyse_program": """
plan = await self.custom(input=problem, instruction="Plan the computation in short steps.")
result = await self.programmer(problem=problem, analysis=plan["response"])
return result["output"], COST
""",
    },
    "code": {
        "direct": """
result = await self.custom_code_generate(problem=problem, entry_point=entry_point)
return result["response"], COST
""",
        "code_test": """
result = await self.custom_code_generate(problem=problem, entry_point=entry_point)
tested = await self.test(
    problem=problem, solution=result["response"], entry_point=entry_point
)
return tested["solution"], COST
""",
        "plan_code": """
plan = await self.custom(input=problem, instruction="Plan the function in short steps.")
result = await self.custom_code_generate(
    problem=problem, entry_point=entry_point, instruction=plan["response"]
)
return result["response"], COST
""",
        "review_revise": """
result = await self.custom_code_generate(problem=problem, entry_point=entry_point)
code = result["response"]
review = await self.review(problem=problem, solution=code)
if not review["review_result"]:
    revised = await self.revise(
        problem=problem, solution=code, feedback=review["feedback"]
    )
    code = revised["solution"]
return code, COST
""",
        "sc3_test": """
solutions = []
for _ in range(3):
    result = await self.custom_code_generate(problem=problem, entry_point=entry_point)
    solutions.append(result["response"])
chosen = await self.sc_ensemble(solutions=solutions, problem=problem)
tested = await self.test(
    problem=problem, solution=chosen["response"], entry_point=entry_point
)
return tested["solution"], COST
""",
        "test_revise": """
result = await self.custom_code_generate(problem=problem, entry_point=entry_point)
tested = await self.test(
    problem=problem, solution=result["response"], entry_point=entry_point, test_loop=1
)
if tested["result"]:
    return tested["solution"], COST
again = await self.custom_code_generate(
    problem=problem, entry_point=entry_point, instruction="Mind the edge cases."
)
last = await self.test(
    problem=problem, solution=again["response"], entry_point=entry_point
)
return last["solution"], COST
""",
    },
    "qa": {
        "direct": """
result = await self.answer_generate(input=problem)
return result["answer"], COST
""",
        "custom": """
result = await self.custom(
    input=problem, instruction="Answer from the context with a few words, no sentence."
)
return result["response"], COST
""",
        "answer_format": """
result = await self.answer_generate(input=problem)
final = await self.format(problem=problem, solution=result["answer"])
return final["solution"], COST
""",
        "sc3": """
solutions = []
for _ in range(3):
    result = await self.answer_generate(input=problem)
    solutions.append(result["answer"])
chosen = await self.sc_ensemble(solutions=solutions, problem=problem)
return chosen["response"], COST
""",
        "sc3_format": """
results = await asyncio.gather(*[self.answer_generate(input=problem) for _ in range(3)])
solutions = [result["answer"] for result in results]
chosen = await self.sc_ensemble(solutions=solutions, problem=problem)
final = await self.format(problem=problem, solution=chosen["response"])
return final["solution"], COST
""",
        "cascade": """
first = await self.answer_generate(input=problem)
second = await self.answer_generate(input=problem)
if first["answer"].lower() == second["answer"].lower():
    return first["answer"], COST
third = await self.answer_generate(input=problem)
solutions = [first["answer"], second["answer"], third["answer"]]
chosen = await self.sc_ensemble(solutions=solutions, problem=problem)
return chosen["response"], COST
""",
        "review_revise": """
result = await self.answer_generate(input=problem)
answer = result["answer"]
review = await self.review(problem=problem, solution=answer)
if not review["review_result"]:
    revised = await self.revise(
        problem=problem, solution=answer, feedback=review["feedback"]
    )
    short = await self.format(problem=problem, solution=revised["solution"])
    answer = short["solution"]
return answer, COST
""",
    },
}


def _source(body: str) -> WorkflowSource:
    lines = body.strip().replace("COST", _COST).splitlines()
    imports = "import asyncio\n\n" if "asyncio." in body else ""
    code = imports + _HEADER + "".join(f"        {line}\n" for line in lines)
    return WorkflowSource(graph_code=code, prompts={}, hybrid=True)


def library(domain: Domain) -> dict[str, WorkflowSource]:
    """The fixed workflows of a domain by name, from the cheapest to richer ones."""
    return {name: _source(body) for name, body in _BODIES[domain].items()}


def fallback_workflow(domain: Domain) -> WorkflowSource:
    """The fixed workflow that answers when the policy's own does not run."""
    return _source(_BODIES[domain][_FALLBACK[domain]])
