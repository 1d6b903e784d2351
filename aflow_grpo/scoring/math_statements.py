r"""Where does a text commit to an answer? Finds the places, in the order in which they count.

1. `\boxed{}`; 2. after `####`; 3. stated as final (`The final answer is 5.`, `Correct answer: 5`),
and how the text closes: a last line that is a value, a labelled one (`Total cost: 5`), a displayed
formula or a sentence of conclusion with one number in it (`Therefore, she has **5** left.`);
4. any other statement (`The answer is 5.`); 5. the whole text, when it is a value.

A number that merely occurs in running text is no answer. Answers that the text calls proposed,
previous or wrong are not its own. Not covered: whether several places agree (`math_scorer`).
"""

from __future__ import annotations

import re

from aflow_grpo.scoring.math_values import Number, Text, ValueList, is_prose, parse_value

__all__ = ["stated_answers"]

_BOXED = re.compile(r"\\(?:boxed|fbox)\s*(?:\{|(?=(\w)))")
_HASHES = re.compile(r"####[ \t]*([^\n]+)")
_STATED = re.compile(
    r"(?P<before>(?:\b[A-Za-z]+,?[ \t]+){0,2})\banswer\b(?:\s+(?:to|for)\b[^.:=\n]{0,80}?)?\s*"
    r"(?:\b(?:is|are)\b|[:=])[ \t]*:?[ \t]*(?P<value>[^\n]*?)(?:(?<!\\)[.!](?=\s|$)|\n|$)",
    re.IGNORECASE,
)
_TEXT_AROUND = re.compile(r"\\text(?:bf)?\s*\{([^{}]*\banswer\b[^{}]*)\}", re.IGNORECASE)
_NOT_ITS_OWN = re.compile(
    r"\b(?:proposed|initial|previous|provided|given|original|earlier|other|old|first|second|third"
    r"|wrong|incorrect|expected|your|their|possible|alternative)\b",
    re.IGNORECASE,
)
_AFTERTHOUGHT = re.compile(
    r",\s+(?:which|as|since|because|so|matching|confirming|and\s+(?:this|it|my|our|the))\b.*", re.I
)
_BOLD = re.compile(r"(?<![\d)}])\*\*|\*\*(?![\d({])")
"""Markdown's two stars, but not the power in `2**10`."""
_BULLET = re.compile(r"(?:[-*>#]+[ \t]+|\d+[.)][ \t]+|#+)*")
_HEADING = re.compile(
    r"\b(?:answer|conclusion|final result)\b[\s:.*]*$|^(?:the\s+)?(?:final|correct)\b", re.I
)
_CONCLUDES = re.compile(
    r"(?:therefore|thus|hence|so|in total|in conclusion|consequently|finally|altogether"
    r"|(?:the\s+)?final)\b",
    re.IGNORECASE,
)
_LABEL = re.compile(
    r"(?:[a-z' -]*\b)?(?:final|answer|result|total|solution|conclusion)\b[a-z' -]{0,40}[:=]"
    r"\s*(?P<value>[^:=]+)",
    re.IGNORECASE,
)
_HEDGED = re.compile(
    r"\b(?:or|either|neither|not|cannot|might|may|maybe|perhaps|could|if you|unless|incorrect|wrong"
    r"|between|at least|at most|more than|less than|depends?|error|unknown|what|find|compute"
    r"|suppose|let|evaluate|enter|simplify|express|determine|calculate|round)\b|n't\b|\?",
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z\\*$])")
_SIGN_AND_NUMBER = r"[-\u2212]?\s*\\?\$?\s*(?:\d[\d,]*(?:\.\d+)?|\.\d+)"
_AMOUNT = re.compile(
    rf"(?<![\w.^_{{/])(?P<number>{_SIGN_AND_NUMBER}(?:\s*/\s*\d+)?)(?P<percent>\s*\\?%)?(?![\w/^])"
)
_FORMULA = re.compile(r"\\\((.+?)\\\)|\*\*(.+?)\*\*|(?<![\\$])\$([^$]+?)(?<!\\)\$(?!\d)")
_DISPLAY = re.compile(r"(?s:\\\[(.+?)\\\]|\$\$(.+?)\$\$)")
_MAX_SENTENCE_CHARS = 300


def stated_answers(text: str) -> list[str]:
    r"""The texts to which `text` commits, all of the first kind that it has (module docstring).

    Entries that differ in value mean that the text commits to nothing. A text without any
    commitment states itself.
    """
    boxed = _boxed(text)
    if boxed:
        return boxed
    hashes: list[str] = _HASHES.findall(_BOLD.sub("", text))
    if hashes:
        return hashes
    statements = _statements(_TEXT_AROUND.sub(r"\1", _BOLD.sub("", text)))
    final = [value for kind, value in statements if kind == "final"]
    final = final or [value for kind, value in statements if kind == "correct"]
    closing = _closing(text)
    if closing is None and final:
        return final
    if closing is not None and (final or not statements):
        return [*final, closing]
    if statements:
        return [value for _, value in statements] + ([closing] if closing is not None else [])
    return [text.strip()] if text.strip() else []


def _statements(text: str) -> list[tuple[str, str]]:
    """(`final`, `correct` or nothing, value) of each `answer is ...` of the text's own."""
    found = []
    for match in _STATED.finditer(text):
        before, value = match["before"].replace(",", " "), match["value"]
        if _NOT_ITS_OWN.search(before):
            continue
        if not value.strip():
            value = _next_block(text[match.end() :])
        value = _AFTERTHOUGHT.sub("", value).strip()
        own = value if _is_value(value) else _amount(value)
        if own:
            kinds = [kind for kind in ("final", "correct") if kind in before.lower().split()]
            found.append((kinds[0] if kinds else "", own))
    return found


def _next_block(text: str) -> str:
    """The first line that is not empty, or the displayed formula that starts there."""
    text = text.lstrip()
    if display := _DISPLAY.match(text):
        return _last_side(display[1] or display[2])
    return text.partition("\n")[0].strip()


def _closing(text: str) -> str | None:
    """The value with which `text` ends, if what stands before it makes it a conclusion."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if len(lines) < 2 and not (lines and _CONCLUDES.match(lines[0])):
        return None
    if text.rstrip().endswith(("\\]", "$$")):
        return _closing_display(text.rstrip())
    last = _BULLET.sub("", lines[-1], count=1)
    plain = _BOLD.sub("", last)
    if _is_bare(plain):
        return plain if _only_bare_line(text, plain) else None
    if (label := _LABEL.fullmatch(plain)) and _is_value(label["value"].strip()):
        return label["value"].strip()
    sentence = _SENTENCE_END.split(last)[-1]
    under_heading = len(lines) > 1 and _is_heading(lines[-2])
    concludes = under_heading or _CONCLUDES.match(_BOLD.sub("", sentence))
    return (_amount(sentence) or None) if concludes and "answer" not in plain.lower() else None


def _closing_display(text: str) -> str | None:
    displays = list(_DISPLAY.finditer(text))
    if not displays:
        return None
    before = [line.strip() for line in text[: displays[-1].start()].splitlines() if line.strip()]
    if not before:
        return None
    lead = _BOLD.sub("", _BULLET.sub("", before[-1], count=1))
    if not (_CONCLUDES.match(lead) or _is_heading(before[-1]) or _under_heading(before, lead)):
        return None
    value = _last_side(displays[-1][1] or displays[-1][2])
    return value if _is_value(value) else None


def _under_heading(before: list[str], lead: str) -> bool:
    """A lead-in (`The simplified form is:`) that stands right under a heading of the answer."""
    return lead.endswith(":") and len(before) > 1 and _is_heading(before[-2])


def _last_side(formula: str) -> str:
    return re.split(r"(?<![<>!\\])=", formula)[-1].replace("&", "").strip()


def _is_heading(line: str) -> bool:
    return len(line) <= 80 and bool(_HEADING.search(_BOLD.sub("", _BULLET.sub("", line, count=1))))


def _is_bare(line: str) -> bool:
    """A line that is a number, or a formula between delimiters, and nothing else."""
    value = parse_value(line)
    if isinstance(value, Number):
        return True
    wrapped = line.startswith(("\\(", "$")) and line.rstrip(".").endswith(("\\)", "$"))
    return wrapped and line.count("$") <= 2 and "=" not in line and _is_value(line)


def _only_bare_line(text: str, last: str) -> bool:
    """No other line, displayed formulas aside, is a number of its own: a list is no commitment."""
    others = {
        value
        for line in _DISPLAY.sub("", text).splitlines()
        if isinstance(value := parse_value(_BOLD.sub("", line)), Number)
    }
    mine = parse_value(last)
    return all(isinstance(mine, Number) and other.value == mine.value for other in others)


def _amount(sentence: str) -> str:
    """The one number of a sentence of conclusion, or the one set off as a formula or in bold."""
    if len(sentence) > _MAX_SENTENCE_CHARS or _HEDGED.search(sentence):
        return ""
    set_off = [value for match in _FORMULA.finditer(sentence) if (value := _one(_inside(match)))]
    if len(set_off) == 1:
        return set_off[0]
    return "" if set_off else _one(sentence)


def _inside(match: re.Match[str]) -> str:
    return next(group for group in match.groups() if group is not None)


def _one(text: str) -> str:
    """The only number in `text`, or the formula that it is."""
    if isinstance(parse_value(text), Number):
        return text
    amounts = list(_AMOUNT.finditer(text))
    digits = re.findall(r"\d[\d,.]*", text)
    if len(amounts) != 1 or len(digits) != 1 + ("/" in amounts[0]["number"]):
        return ""
    return amounts[0].group().strip()


def _is_value(text: str) -> bool:
    value = parse_value(text)
    if isinstance(value, ValueList):
        return not any(isinstance(item, Text) and is_prose(item) for item in value.items)
    return value is not None and not (isinstance(value, Text) and is_prose(value))


def _boxed(text: str) -> list[str]:
    """The contents of every outermost `\\boxed{}`; braces may nest, unclosed ones are skipped."""
    found: list[str] = []
    position = 0
    while match := _BOXED.search(text, position):
        if match[1]:  # the brace-less form, \boxed 5
            found.append(match[1])
            position = match.end() + 1
            continue
        end = _closing_brace(text, match.end())
        if end is None:
            return found
        found.append(" ".join(text[match.end() : end].split()))
        position = end + 1
    return found


def _closing_brace(text: str, start: int) -> int | None:
    depth = 1
    for position in range(start, len(text)):
        depth += (text[position] == "{") - (text[position] == "}")
        if depth == 0:
            return position
    return None
