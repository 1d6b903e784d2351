"""The bodies of the fixed workflows, per domain and name, as data; see `library`.

COST stands for the usage's cost. The order matters: a domain's first is its cheapest.
"""

from __future__ import annotations

from aflow_grpo.records import Domain

__all__ = ["BODIES"]

SAMPLES = """
drafts = await asyncio.gather(*[self.answer_generate(input=problem) for _ in range(COUNT)])
solutions = [draft["answer"] for draft in drafts]
chosen = await self.sc_ensemble(solutions=solutions, problem=problem)
return chosen["response"], COST
"""
"""COUNT answers at once, the most consistent one."""
CODE_SAMPLES = """
drafts = await asyncio.gather(*[
    self.custom_code_generate(problem=problem, entry_point=entry_point) for _ in range(COUNT)
])
solutions = [draft["response"] for draft in drafts]
chosen = await self.sc_ensemble(solutions=solutions, problem=problem)
return chosen["response"], COST
"""
"""COUNT programs at once, the most consistent one."""
SELF_REFINE = """
result = await self.answer_generate(input=problem)
answer = result["answer"]
for _ in range(2):
    review = await self.review(problem=problem, solution=answer)
    if review["review_result"]:
        break
    revised = await self.revise(
        problem=problem, solution=answer, feedback=review["feedback"]
    )
    final = await self.format(problem=problem, solution=revised["solution"])
    answer = final["solution"]
return answer, COST
"""
"""Up to two rounds of review and revision."""
MEDPROMPT = """
drafts = await asyncio.gather(*[self.answer_generate(input=problem) for _ in range(3)])
solutions = [draft["answer"] for draft in drafts]
chosen = await self.md_ensemble(solutions=solutions, problem=problem)
return chosen["solution"], COST
"""
"""Three answers, five shuffled votes."""
AGREEMENT = """
first, second = await asyncio.gather(
    self.answer_generate(input=problem), self.answer_generate(input=problem)
)
if first["answer"].strip().lower() == second["answer"].strip().lower():
    return first["answer"], COST
more = await asyncio.gather(*[self.answer_generate(input=problem) for _ in range(3)])
solutions = [draft["answer"] for draft in [first, second] + more]
chosen = await self.sc_ensemble(solutions=solutions, problem=problem)
return chosen["response"], COST
"""
"""Three more answers only where two differ."""
REVIEW = """
result = await self.answer_generate(input=problem)
review = await self.review(problem=problem, solution=result["answer"])
if review["review_result"]:
    return result["answer"], COST
more = await asyncio.gather(*[self.answer_generate(input=problem) for _ in range(2)])
solutions = [result["answer"]] + [draft["answer"] for draft in more]
chosen = await self.sc_ensemble(solutions=solutions, problem=problem)
return chosen["response"], COST
"""
"""Two more answers only after a failed review."""

BODIES: dict[Domain, dict[str, str]] = {
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
        "io": """
result = await self.custom(input=problem, instruction="Give the final answer alone.")
return result["response"], COST
""",
        "chain_of_thought": """
result = await self.custom(
    input=problem,
    instruction="Think step by step. Then give the final answer alone, on the last line.",
)
return result["response"], COST
""",
        "self_consistency_3": SAMPLES.replace("COUNT", "3"),
        "self_consistency_5": SAMPLES.replace("COUNT", "5"),
        "self_refine": SELF_REFINE,
        "program_of_thought": """
program = await self.programmer(problem=problem)
output = program["output"].strip()
if output and "Error" not in output:
    return output, COST
result = await self.answer_generate(input=problem)
return result["answer"], COST
""",
        "extract_format": """
result = await self.custom(input=problem, instruction="Solve step by step.")
final = await self.format(problem=problem, solution=result["response"])
return final["solution"], COST
""",
        "medprompt": MEDPROMPT,
        "cascade_agreement": AGREEMENT,
        "cascade_review": REVIEW,
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
        "io": """
result = await self.custom_code_generate(problem=problem, entry_point=entry_point)
return result["response"], COST
""",
        "chain_of_thought": """
result = await self.custom_code_generate(
    problem=problem,
    entry_point=entry_point,
    instruction="Think of the approach and the edge cases first, then write the code.",
)
return result["response"], COST
""",
        "self_consistency_3": CODE_SAMPLES.replace("COUNT", "3"),
        "self_consistency_5": CODE_SAMPLES.replace("COUNT", "5"),
        "self_refine": """
result = await self.custom_code_generate(problem=problem, entry_point=entry_point)
code = result["response"]
for _ in range(2):
    review = await self.review(problem=problem, solution=code)
    if review["review_result"]:
        break
    revised = await self.revise(
        problem=problem, solution=code, feedback=review["feedback"]
    )
    code = revised["solution"]
return code, COST
""",
        "generate_test_fix": """
result = await self.custom_code_generate(problem=problem, entry_point=entry_point)
tested = await self.test(
    problem=problem, solution=result["response"], entry_point=entry_point
)
if tested["result"]:
    return tested["solution"], COST
review = await self.review(problem=problem, solution=tested["solution"])
revised = await self.revise(
    problem=problem, solution=tested["solution"], feedback=review["feedback"]
)
last = await self.test(
    problem=problem, solution=revised["solution"], entry_point=entry_point
)
return last["solution"], COST
""",
        "medprompt": """
drafts = await asyncio.gather(*[
    self.custom_code_generate(problem=problem, entry_point=entry_point) for _ in range(3)
])
solutions = [draft["response"] for draft in drafts]
chosen = await self.md_ensemble(solutions=solutions, problem=problem)
return chosen["solution"], COST
""",
        "cascade_test": """
first = await self.custom_code_generate(problem=problem, entry_point=entry_point)
tested = await self.test(
    problem=problem, solution=first["response"], entry_point=entry_point, test_loop=1
)
if tested["result"]:
    return tested["solution"], COST
more = await asyncio.gather(*[
    self.custom_code_generate(problem=problem, entry_point=entry_point) for _ in range(2)
])
solutions = [tested["solution"]] + [draft["response"] for draft in more]
chosen = await self.sc_ensemble(solutions=solutions, problem=problem)
last = await self.test(
    problem=problem, solution=chosen["response"], entry_point=entry_point
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
        "io": """
result = await self.custom(input=problem, instruction="Give the answer alone.")
return result["response"], COST
""",
        "chain_of_thought": """
result = await self.custom(
    input=problem,
    instruction="Find what the context says about it, step by step. Then give the short answer.",
)
final = await self.format(problem=problem, solution=result["response"])
return final["solution"], COST
""",
        "self_consistency_3": SAMPLES.replace("COUNT", "3"),
        "self_consistency_5": SAMPLES.replace("COUNT", "5"),
        "self_refine": SELF_REFINE,
        "extract_format": """
result = await self.custom(
    input=problem, instruction="Quote the sentences of the context that answer the question."
)
final = await self.format(problem=problem, solution=result["response"])
return final["solution"], COST
""",
        "medprompt": MEDPROMPT,
        "cascade_agreement": AGREEMENT,
        "cascade_review": REVIEW,
    },
}
