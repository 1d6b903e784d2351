r"""AFlow's own math scorers, defects included, so that numbers compare with published ones.

After the released evaluation code of AFlow (Zhang et al. 2024, arXiv 2410.10762), written anew.
Known defects kept: GSM8K takes the last number of any text (`18 dollars, that is 3 more than 15`
is 15, `1.5e3` is 3, `.5` is 5); MATH takes the last sentence when nothing is boxed, knows one
level of nested braces, and, since its requirements lack the LaTeX parser's runtime, calls
`\frac{1}{2}` different from `0.5` and from `\dfrac{1}{2}`, `12 \text{ cm}` from `12`. Never train
on this: `math_scorer` is right.

Not covered: formulas with quotes, dunders or attribute access, which AFlow would evaluate; here
they stay text.
"""

from __future__ import annotations

import math
import re

from aflow_grpo.records import Score
from aflow_grpo.scoring.equivalence import Equivalence

__all__ = ["aflow_answer", "last_number", "score_gsm8k_aflow", "score_math_aflow"]

_GSM8K_NUMBER = re.compile(r"[-+]?\d+(?:,\d{3})*(?:\.\d+)?|\d+\.\d+")
_BOXED = re.compile(r"\\boxed{((?:[^{}]|{[^{}]*})*)}", re.DOTALL)
_SENTENCE_END = re.compile(r"(?<!\d)[.!?]\s+")
_GSM8K_TOLERANCE = 1e-6
_MATH_TOLERANCE = 1e-3
_MAX_TEXT_CHARS = 100_000


async def score_gsm8k_aflow(answer: str, gold: str) -> Score:
    """AFlow's GSM8K score: the last number in `answer` is the last number in `gold`.

    Args:
        answer: The workflow's answer, any text.
        gold: The value, or a solution that ends in it (`#### 18`).
    """
    expected, given = last_number(gold), last_number(answer)
    right = expected is not None and given is not None and abs(expected - given) <= _GSM8K_TOLERANCE
    return _score(right, str(given), str(expected))


async def score_math_aflow(answer: str, gold: str, equivalence: Equivalence) -> Score:
    r"""AFlow's MATH score: the same string, or close decimals, or equal for sympy without LaTeX.

    Args:
        answer: The workflow's answer, any text.
        gold: The whole solution with its `\boxed{}`, or the value alone.
        equivalence: Where sympy runs.
    """
    given = aflow_answer(answer)
    expected = aflow_answer(gold) if "\\boxed" in gold else gold.strip()
    if given == expected:
        return _score(True, given, expected)
    numbers = _digits(given), _digits(expected)
    if numbers[0] is not None and numbers[1] is not None:
        right = math.isclose(numbers[0], numbers[1], abs_tol=_MATH_TOLERANCE)
        return _score(right, given, expected)
    right = await equivalence.compare(given, expected, "sympy") == "equal"
    return _score(right, given, expected)


def last_number(text: str) -> float | None:
    """The last number that AFlow's GSM8K pattern finds; None without one."""
    found = _GSM8K_NUMBER.findall(text[-_MAX_TEXT_CHARS:])
    return float(found[-1].replace(",", "")) if found else None


def aflow_answer(text: str) -> str:
    r"""The last `\boxed{}` with at most one level of braces inside, else the last sentence."""
    text = text[-_MAX_TEXT_CHARS:]
    boxed: list[str] = _BOXED.findall(text)
    if boxed:
        return boxed[-1].strip()
    sentences = [part.strip() for part in _SENTENCE_END.split(text) if part.strip()]
    return sentences[-1] if sentences else ""


def _digits(text: str) -> float | None:
    """`1,234.5`, `10\\%` and whatever else `float` takes; None for the rest."""
    text = text.replace(",", "")
    try:
        return float(text)
    except ValueError:
        if not text.endswith("%"):
            return None
    try:
        return float(text.removesuffix("%").removesuffix("\\")) / 100
    except ValueError:
        return None


def _score(right: bool, given: str, expected: str) -> Score:
    detail = f"{given[:80]!r} {'is' if right else 'is not'} {expected[:80]!r} (AFlow's scorer)"
    return Score(float(right), right, detail)
