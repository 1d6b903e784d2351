r"""AFlow's own math scorers: their verdicts, defects included, are what we must reproduce."""

from __future__ import annotations

import asyncio

import pytest

from aflow_grpo.scoring.equivalence import Equivalence
from aflow_grpo.scoring.math_aflow import aflow_answer, score_gsm8k_aflow, score_math_aflow

GSM8K = [
    ("Final answer: 54", "54.0", 1.0),
    ("54", "He gets 54.\n#### 54", 1.0),
    ("it costs $1,234.50", "1234.5", 1.0),
    ("18.0000001", "18", 1.0),
    ("18.001", "18", 0.0),
    # defects kept
    ("18 dollars, that is 3 more than 15", "15", 1.0),
    ("1.5e3", "1500", 0.0),
    ("1.5e3", "3", 1.0),
    (".5", "0.5", 0.0),
    (".5", "5", 1.0),
    (r"She runs \boxed{50} miles in 7 hours.", "50", 0.0),
    ("", "5", 0.0),
    ("no number", "5", 0.0),
]

MATH = [
    (r"so \boxed{5}", r"hence \boxed{5}", 1.0),
    (r"\boxed{5}", "5", 1.0),
    (r"\boxed{1} \boxed{2}", "2", 1.0),
    (r"\boxed{1,234}", "1234", 1.0),
    (r"\boxed{10\%}", "0.1", 1.0),
    (r"\boxed{0.3331}", "0.333", 1.0),
    (r"\boxed{1/2}", "0.5", 1.0),
    (r"\boxed{x+1}", "1+x", 1.0),
    ("It is as follows! 5", "5", 1.0),
    # defects kept
    (r"\boxed{\frac{1}{2}}", "0.5", 0.0),
    (r"\boxed{\dfrac{1}{2}}", r"\frac{1}{2}", 0.0),
    (r"\boxed{10\%}", "10", 0.0),
    (r"\boxed{(1,2)}", "(1, 2)", 0.0),
    (r"\boxed{12 \text{ cm}}", "12", 0.0),
    (r"\boxed{14 + 7\sqrt{2}}", r"14+7\sqrt{2}", 0.0),
    ("The answer is 5.", "5", 0.0),
]


@pytest.mark.parametrize(("answer", "gold", "value"), GSM8K)
def test_gsm8k_verdicts(answer: str, gold: str, value: float) -> None:
    score = asyncio.run(score_gsm8k_aflow(answer, gold))
    assert (score.value, score.correct) == (value, value == 1.0), score.detail


def test_math_verdicts() -> None:
    async def scenario() -> None:
        async with Equivalence() as equivalence:
            for answer, gold, value in MATH:
                score = await score_math_aflow(answer, gold, equivalence)
                assert (score.value, score.correct) == (value, value == 1.0), score.detail

    asyncio.run(scenario())


def test_one_level_of_braces_is_all_that_is_seen() -> None:
    assert aflow_answer(r"\boxed{\frac{1}{2}}") == r"\frac{1}{2}"
    deep = r"so \boxed{\frac{\sqrt{3}}{2}}"
    assert aflow_answer(deep) == deep
