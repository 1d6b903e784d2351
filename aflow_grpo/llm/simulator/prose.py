"""The imitated model's manner: wordy explanations around an answer.

Texts only; their length decides what a reply costs, and the profile says how long they are. No
sentence here holds a phrase that `instructions` reads, so a reply that is handed on does not
instruct anybody, and none states an answer.
"""

from __future__ import annotations

import random

__all__ = ["CODE_INTRO", "UNKNOWN_VALUE", "aside", "code_notes", "derivation", "spoken"]

UNKNOWN_VALUE = "not enough information"
"""Said of problems that the simulator does not know."""

CODE_INTRO = (
    "To do this we go through the input, keep track of what is needed and return the "
    "result in the shape that the task names. Here is how that looks:"
)

_DERIVATION = (
    "First, we name the quantities that the statement gives us and note how they are related.",
    "Next, we set up the relation between the known quantities and the one that is asked for.",
    "Substituting the given values into this relation, we simplify each side in turn.",
    "Collecting like terms leaves a simpler expression that can be read off at once.",
    "The dimensions agree on both sides, so we may carry on with the same symbols.",
    "Now we compute the intermediate result and keep it for what follows.",
    "Taking the remaining condition into account, we restrict the possible cases.",
    "Each case is treated separately, and the cases that contradict the statement are dropped.",
    "Combining the partial results gives the total that the question is about.",
    "Putting the result back into the statement, we see that it is consistent throughout.",
    "Note that the order of the two operations matters here, so we keep it as given.",
    "Factoring the left side shows which values are possible at all.",
    "By symmetry, the second half of the cases contributes the same amount as the first half.",
    "We compare this with the bound from before and find that both hold at the same time.",
    "The remaining unknown now stands by itself on one side of the equation.",
    "Dividing both sides by the common factor, the expression takes a familiar shape.",
    "The two expressions stand for the same quantity, so we may set them equal.",
    "From here on, the computation is routine, and we carry it out line by line.",
)
_CODE_NOTES = (
    "It takes the arguments that the task names and leaves them unchanged.",
    "It handles the special inputs first, then does the main work in one pass.",
    "The loop keeps a running result, so that nothing has to be computed twice.",
    "Built-in functions are used where they make the intent clear.",
    "The time it takes grows linearly with the size of the input.",
    "The memory that it needs is that of the result itself.",
    "Finally it returns the result, so that the given tests can compare it at once.",
    "The same idea carries over to longer inputs without any change.",
    "Each branch returns a value of the same type, which keeps the callers simple.",
    "Names were chosen so that it all reads like the statement of the task.",
)
_SPOKEN = (
    "One line of it says so, and no other line is at odds with it, as far as one can see.",
    "It also tells of what came soon after, but that is about some one else and has no say here.",
    "What is said next to it names those who took part and how it went on for them.",
    "There is more in it on years long gone by, yet all of that is of no use to us now.",
    "If one goes by what is told of it, not much room is left for any other view.",
)


def _filled(
    sentences: tuple[str, ...],
    rng: random.Random,
    chars: int,
    lead: str = "\n",
    first: int | None = None,
) -> str:
    """Sentences from `first`, else from a random one on, about `chars` characters."""
    # The spread of real lengths; the mean stays.
    wanted = chars * (0.75 + 0.5 * rng.random())
    start = rng.randrange(len(sentences)) if first is None else first
    parts: list[str] = []
    size = 0.0
    while not parts or size + 45 < wanted:
        sentence = sentences[(start + len(parts)) % len(sentences)]
        parts.append(sentence)
        size += len(sentence) + len(lead)
    return lead.join(parts)


def derivation(rng: random.Random, chars: int, first: int | None = None) -> str:
    """A written derivation of about `chars` characters, a line per step.

    Args:
        rng: Of the call.
        chars: Its mean length.
        first: Names its opening; None: any.
    """
    return _filled(_DERIVATION, rng, chars, first=first)


def aside(rng: random.Random, chars: int) -> str:
    """A thought of about `chars` characters in one line."""
    return _filled(_DERIVATION, rng, chars, " ")


def code_notes(rng: random.Random, chars: int) -> str:
    """An explanation of code, about `chars` characters, in one line: who looks for the program
    in a text by lines finds it soon."""
    return _filled(_CODE_NOTES, rng, chars, " ")


def spoken(rng: random.Random, chars: int) -> str:
    """What a spoken answer adds, about `chars` characters; empty for fewer than 20."""
    if chars < 20:
        return ""
    text = _filled(_SPOKEN, rng, 2 * chars, " ")
    return text[:chars].rpartition(" ")[0].rstrip(",") + "."
