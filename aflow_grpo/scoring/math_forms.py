r"""May two formulas be handed to computer algebra? Not those that it would wrongly call equal.

math-verify answers "is it the same object"; a scorer asks "is it the answer". It takes `ab` for
`ba` and so `Evelyn` for `nylevE`, `2516_8` for `2516_{10}`, `(1, 2)` for `{1, 2}`, drops units, and
evaluates: `3+4`, `\binom{5}{2}` or the sum in the question would earn what 7 or 10 earns. All pure;
not covered: the comparison itself (`equivalence`).
"""

from __future__ import annotations

import re

from aflow_grpo.scoring.math_values import Number, Text, Value, ValueList, known_unit

__all__ = ["formulas"]

_COMMAND = re.compile(r"\\(?:begin|end)\{[^{}]*\}|\\[A-Za-z]+")
_WORD = re.compile(r"[A-Za-z]{3,}")
_BASE = re.compile(r"([0-9A-F]+)_\{?(\d+)\}?")
_LISTED = re.compile(r"\d\s+[\d.]")
"""`16 80 0` is a list, which LaTeX multiplies."""
_OPERATIONS = re.compile(
    r"\\(?:sum|prod|int|lim|d?binom|tbinom|choose|sin|cos|tan|cot|sec|csc|arc\w+|log|ln|lg|exp|gcd"
    r"|lcm|max|min|lfloor|lceil|floor|ceil|pmod|bmod|mod|det|operatorname|div|Re|Im)(?![A-Za-z])|!|\||%"
)
_SUM = re.compile(r"(?<=[\w)}\]])\s*[+-]")
_RELATION = re.compile(r"[<>]|\\(?:le|ge|lt|gt|ne)(?:q|slant)?(?![A-Za-z])")
_UNIT = re.compile(r"(?:(?<=[\d})])|(?<=\\pi))\s+(?P<unit>[A-Za-z][A-Za-z. ]*(?:\^?\{?[23]\}?)?)$")
_LETTER = re.compile(r"[A-Za-z]")
_UNFINISHED = tuple(
    re.compile(pattern)
    for pattern in (
        r"\\sqrt\{[\d\s.]*\d\s*[-+*/^]",
        r"\\sqrt\{[\d\s.]*\d\s*\\(?:cdot|times)",
        r"\d\s*(?:\*|\\times|\\cdot|\\div)\s*\d",
        r"\}\s*(?:\*|\\times|\\cdot)?\s*\\sqrt\{?\d+\}?",
        r"\}\s*\\(?:cdot|times)\s*\\d?frac",
        r"\\end\{\w+\}\s*(?:\\cdot|\\times)?\s*\\begin",
        r"\)\s*(?:\\cdot|\\times|\*)?\s*[\^(]",
    )
)
"""A calculation in a root, a product of numbers, of roots, a power or product of parentheses."""
_RATIONAL = re.compile(r"(?:[-\d.\s/{}^]|\\frac)+")
_NAME = re.compile(r"\\?[A-Za-z][\w\\{} ']*(?:\([^=]*\))?")
_FACTOR = re.compile(r"\([^()]*[\w})]\s*[-+][^()]*\)")
"""A sum in parentheses."""
_MIN_DIGITS = 4
"""Of a decimal that stands for an irrational gold value."""


def formulas(answer: Value, gold: Value) -> tuple[str, str] | None:
    """The LaTeX of both, for the comparison; None where exact comparison has the last word."""
    if isinstance(answer, Number) and isinstance(gold, Number):
        return None
    one, other = _latex(answer), _latex(gold)
    if one is None or other is None or not _kinds_fit(answer, gold, one, other):
        return None
    bare = _without_unit(one), _without_unit(other)
    units = [known_unit(unit.lower()) if unit else "" for _, unit in bare]
    if all(units) and units[0] != units[1]:
        return None
    one, other = _same_base(bare[0][0], bare[1][0])
    if any(_is_words(text) or _BASE.search(text) or _LISTED.search(text) for text in (one, other)):
        return None
    one = _one_side(one, other)
    if not (one and _is_evaluated(answer, gold, one, other)):
        return None
    return one, other


def _latex(value: Value) -> str | None:
    if isinstance(value, (Text, ValueList)):
        return value.written
    if value.percent:
        return None
    top, bottom = value.value.numerator, value.value.denominator
    if value.decimal:
        return value.decimal if len(value.decimal.strip("-0.")) >= _MIN_DIGITS else None
    return str(top) if bottom == 1 else rf"\frac{{{top}}}{{{bottom}}}"


def _kinds_fit(answer: Value, gold: Value, one: str, other: str) -> bool:
    """Lists were compared entry by entry; with a formula, only as its short form or a relation."""
    lists = isinstance(answer, ValueList), isinstance(gold, ValueList)
    if not any(lists):
        return True
    if all(lists):
        return False
    formula, listed = (other, answer) if lists[0] else (one, gold)
    assert isinstance(listed, ValueList)
    if "\\pm" in formula:
        return listed.brackets == ""
    return len(listed.items) == 2 and listed.brackets != "" and _is_solved(formula)


def _is_solved(text: str) -> bool:
    """A relation that says where one variable lies: `1 < x \\le 2`, not `2x < 4` or `x^2 < 4`."""
    sides = _RELATION.split(text)
    names = [side.strip() for side in sides if _LETTER.search(_COMMAND.sub(" ", side))]
    return len(sides) > 1 and len(names) == 1 and len(names[0]) == 1


def _without_unit(text: str) -> tuple[str, str]:
    match = _UNIT.search(text)
    if match is None or not (known_unit(match["unit"].lower()) or _is_words(match["unit"])):
        return text, ""
    return text[: match.start()].strip(), match["unit"]


def _is_words(text: str) -> bool:
    """A name or words rather than a formula; a single letter may be a choice or a name too."""
    rest = _COMMAND.sub(" ", text)
    return bool(_WORD.search(rest)) or bool(re.fullmatch(r"\W*[A-Za-z]\W*", text))


def _same_base(one: str, other: str) -> tuple[str, str]:
    """`2516` may answer `2516_8`, since the question names the base; not the other way round."""
    gold = _BASE.fullmatch(other)
    if gold and "_" not in one and not _COMMAND.search(one):
        return one, gold[1]
    return one, other


def _one_side(answer: str, gold: str) -> str:
    """Of an answer `area = 3x` the right side, where gold is no equation; empty for `12+6=18`."""
    sides = re.split(r"(?<![<>!\\])=", answer)
    if len(sides) == 1 or "=" in gold:
        return answer
    if re.fullmatch(r"\s*[A-Za-z]\s*", sides[-1]):
        return sides[0].strip()
    return sides[-1].strip() if _NAME.fullmatch(sides[0].strip()) else ""


def _is_evaluated(answer: Value, gold: Value, one: str, other: str) -> bool:
    """Whether the answer is worked out as far as gold is: solved, factored, computed."""
    wanted = {match.group() for match in _OPERATIONS.finditer(other)}
    if any(match.group() not in wanted for match in _OPERATIONS.finditer(one)):
        return False
    if _is_solved(other) and not (_is_solved(one) or isinstance(answer, ValueList)):
        return False
    if _RELATION.search(one) and not (_is_solved(one) or _RELATION.search(other)):
        return False
    if isinstance(gold, Number):
        return isinstance(answer, Number) or bool(_RATIONAL.fullmatch(one) and not _SUM.search(one))
    if _LETTER.search(_COMMAND.sub(" ", other)) and _factored(one) != _factored(other):
        return False
    if len(_SUM.findall(one)) > len(_SUM.findall(other)):
        return False
    return not any(sign.search(one) and not sign.search(other) for sign in _UNFINISHED)


def _factored(text: str) -> bool:
    return bool(_FACTOR.search(text))
