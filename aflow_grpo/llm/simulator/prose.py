"""The imitated model's manner: wordy explanations around an answer, long where a problem is hard.

Texts only; their length decides what a reply costs (recorded: GSM8K about 285 completion tokens,
MATH about 900, MBPP 320, short QA answers 25 to 65).
"""

from __future__ import annotations

import random

__all__ = ["CODE_INTRO", "CODE_OUTRO", "UNKNOWN_VALUE", "steps", "thought"]

UNKNOWN_VALUE = "not enough information"
"""Said of problems that the simulator does not know."""

CODE_INTRO = (
    "To solve this task we go through the input, keep track of what is needed and return the "
    "result in the form that the task describes. Here is an implementation in Python:"
)
CODE_OUTRO = (
    "### Explanation\n"
    "1. The function takes the arguments that the task names.\n"
    "2. It handles the special cases first, then does the main work.\n"
    "3. Finally it returns the result, so that the given tests can check it directly."
)

_OPENINGS = (
    "Let's work through this step by step.",
    "To find the requested quantity, we break the problem into smaller parts.",
    "We start by writing down what is given and what is asked for.",
)
_STEPS = (
    "First, identify the quantities that the statement gives us and name them clearly.",
    "Next, write the relation between the known quantities and the one that is asked for.",
    "Substituting the given values into this relation, we simplify each side in turn.",
    "Collecting like terms leaves a simpler expression that can be evaluated directly.",
    "We then check that the units agree on both sides before carrying on.",
    "Now evaluate the intermediate result and keep it for the following step.",
    "Taking the remaining condition into account, we restrict the possible cases.",
    "Each case is treated separately, and the cases that contradict the statement are dropped.",
    "Combining the partial results gives the total that the question is about.",
    "As a check, we put the result back into the statement and see that it is consistent.",
    "Note that the order of the two operations matters here, so we keep it as given.",
    "Finally, we simplify the expression to its lowest terms.",
)
_STEPS_BY_LEVEL = (4, 7, 12)


def steps(rng: random.Random, level: int) -> str:
    """A numbered derivation; longer for a higher `level` (1 to 3)."""
    count = min(len(_STEPS), _STEPS_BY_LEVEL[level - 1] + rng.randint(-1, 1))
    start = rng.randint(0, len(_STEPS) - 1)
    lines = [f"{i + 1}. {_STEPS[(start + i) % len(_STEPS)]}" for i in range(count)]
    return "\n".join((_OPENINGS[start % len(_OPENINGS)], "", *lines))


def thought(rng: random.Random, level: int) -> str:
    """A short line of thought, a third as long as a derivation."""
    count = 1 + level
    start = rng.randint(0, len(_STEPS) - 1)
    return " ".join(_STEPS[(start + i) % len(_STEPS)] for i in range(count))
