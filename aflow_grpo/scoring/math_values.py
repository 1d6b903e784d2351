r"""Reads one mathematical value, as people and models write it, into a form that compares exactly.

Numbers become `Fraction`s: `.5`, `1/2`, `\dfrac{1}{2}`, `1\frac12`, `1 1/2`, `1,234`, `1{,}234`,
`1.5e3`, `1.5 \times 10^{3}`, `2^{10}`, `10\%`, `\$18`, `12 \text{ cm}`. Tuples, intervals, sets
and bare lists become sequences. Everything else (`2\sqrt{3}`, `x^2+1`, `\text{Evelyn}`) is text,
compared after its notation is normalised.

Nothing is evaluated and no algebra is done: `3+4` is not 7. Not covered: finding the answer in
running text (`math_scorer`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from fractions import Fraction

__all__ = [
    "Number",
    "Text",
    "Value",
    "ValueList",
    "is_prose",
    "known_unit",
    "parse_value",
    "same_value",
]

MAX_VALUE_CHARS = 200
"""What is longer is no value."""
_MAX_EXPONENT = 400
"""Larger powers stay text: `1e999999999` must not cost a gigabyte."""
TOLERANCE = Fraction(1, 10**6)
"""Relative, for decimals against a gold fraction: `.333333` is 1/3."""
FLOAT_NOISE = Fraction(1, 10**10)
"""Relative, for decimals that a program printed: 17.999999999999996 is 18."""


@dataclass(frozen=True)
class Number:
    """An exact number with what was written around it."""

    value: Fraction
    percent: bool = False
    unit: str = ""
    """A unit of measure that we know, normalised; empty for none or for any other word."""
    decimal: str = field(default="", compare=False, repr=False)
    """As it stood, if it was written with a decimal point and nothing else."""


@dataclass(frozen=True)
class ValueList:
    """Several values: a tuple, an interval, a set or a bare list."""

    brackets: str
    """`()`, `[)`, ...; empty for a set or a bare list, whose order does not matter."""
    items: tuple[Value, ...]
    written: str = field(default="", compare=False, repr=False)
    """As it stood, in one spelling."""


@dataclass(frozen=True)
class Text:
    """Anything else, with its notation normalised."""

    text: str
    written: str = field(default="", compare=False, repr=False)
    """As it stood, in one spelling but with its blanks and capitals."""


Value = Number | ValueList | Text

_UNITS = {
    alias: unit
    for unit, aliases in {
        "dollar": "dollar dollars $ usd",
        "cent": "cent cents ¢",
        "euro": "euro euros € eur",
        "pound": "pound pounds £ gbp lb lbs",
        "degree": "degree degrees ° deg",
        "mm": "mm millimeter millimeters millimetre millimetres",
        "cm": "cm centimeter centimeters centimetre centimetres",
        "m": "m meter meters metre metres",
        "km": "km kilometer kilometers kilometre kilometres",
        "in": "in inch inches",
        "ft": "ft foot feet",
        "mi": "mi mile miles",
        "g": "g gram grams",
        "kg": "kg kilogram kilograms",
        "s": "s second seconds sec",
        "min": "min minute minutes mins",
        "h": "h hour hours hr hrs",
        "l": "l liter liters litre litres",
    }.items()
    for alias in aliases.split()
}
_SCALES = {"hundred": 10**2, "thousand": 10**3, "million": 10**6, "billion": 10**9}
_SENTENCE_WORDS = """
    or and not nor to than then minus plus times divided over equals is are was be but if because
    since so as maybe perhaps unknown undefined none no false wrong error i we you pi sqrt squared
    cubed factorial mod infinity dozen half halves third thirds quarter quarters choose
"""
_NOT_A_UNIT = frozenset(_SENTENCE_WORDS.split())
"""Words that make the text a sentence, a hedge, a list or a formula rather than one value."""

_TALK_WORDS = """
    correct incorrect indeed as is are was be been it its this that which therefore thus so since
    because we you not wrong value answer should must can cannot will formatted provided proposed
    confirmed follows given calculated verified unknown error
"""
_TALK = frozenset(_TALK_WORDS.split())
"""Words of which no answer consists."""

_DECIMAL = r"(?:(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d*)?|\.\d+)"
_NUMBER = re.compile(
    rf"""(?P<sign>[+-]?)\s*(?P<currency>(?:US)?\$|[€£])?\s*(?P<sign2>-?)
    (?:
        (?P<whole>\d+)?\s*\\frac\s*(?:\{{\s*(?P<top>-?{_DECIMAL})\s*\}}|(?P<top1>\d))
            \s*(?:\{{\s*(?P<bottom>-?{_DECIMAL})\s*\}}|(?P<bottom1>\d))
      | (?:(?P<mixed>\d+)\s+)?(?P<over>{_DECIMAL})\s*/\s*(?P<under>{_DECIMAL})
      | (?P<base>\d+)\s*(?:\^|\*\*)\s*(?:\{{\s*(?P<power>\d+)\s*\}}|(?P<power1>\d+))
      | (?P<mantissa>{_DECIMAL})
            (?:[eE](?P<exp>[+-]?\d+)
              |\s*(?:\\times|\\cdot|\*|×)\s*10\s*(?:\^|\*\*)
                \s*(?:\{{\s*(?P<exp_braced>-?\d+)\s*\}}|(?P<exp_bare>-?\d+)))?
    )
    (?P<gap>\s*)(?P<percent>%|percent\b)?\s*
    (?P<unit>[$€£¢°]|[a-z][a-z.'/ -]*(?:\^?[23]|\^\{{[23]\}}|[²³])?)?\s*""",
    re.VERBOSE | re.IGNORECASE,
)
_NAME = re.compile(r"(?:[A-Za-z][A-Za-z_ ]{0,20}=|[A-Za-z]\s*\\in\b)\s*(?=[^=\s])")
"""`x =`, `Total =`, `x \\in`: says what the value is of."""
_FRAMED_NUMBER = re.compile(r"^(?:\$([^$\s][^$]*)\$|\\\((.+?)\\\))(?=\s+[A-Za-z])")
"""A value in math signs before its unit: `$5$ apples`."""
_TEXT_COMMAND = re.compile(r"\\(?:text(?:bf|it)?|math(?:rm|bf)|mbox)\s*\{([^{}]*)\}")
_SINGLE = re.compile(r"\{(\w)\}")
_THIN_SPACE = re.compile(r"(?<=\d)\\[,;:](?=\d{3}(?!\d))")
_SPACED_COMMA = re.compile(r"(?<=\d),(?:\s*\\!\s*|\s+(?=000(?!\d)))(?=\d{3}(?!\d))")
"""Thousands apart by a thin space (`10\\,000`) or by a comma and space (`1, \\!234`, `1, 000`)."""
_SPACING = re.compile(r"(?<!\\)\\[,;: ]")
_SPELLINGS = (
    ("\\dfrac", "\\frac"),
    ("\\tfrac", "\\frac"),
    ("\\cfrac", "\\frac"),
    ("\\left", ""),
    ("\\right", ""),
    ("{,}", ","),
    ("\\$", "$"),
    ("\\%", "%"),
    ("^{\\circ}", "°"),
    ("^\\circ", "°"),
    ("\\leq", "\\le"),
    ("\\geq", "\\ge"),
    ("\u2212", "-"),
    ("\u2013", "-"),
    ("\u00a0", " "),
    ("\u202f", " "),
)
"""LaTeX and typography that mean the same, first to second."""
_OPENING, _CLOSING = "([", ")]"


def parse_value(text: str) -> Value | None:
    """The value that `text` as a whole states; None when it is empty, long or several lines."""
    text = text.strip()
    if not text or len(text) > MAX_VALUE_CHARS or "\n" in text:
        return None
    text = _plain(text)
    return _parse(_NAME.sub("", text, count=1) if _NAME.match(text) else text)


def same_value(answer: Value, gold: Value) -> bool:
    """Whether two values are the same; decimals may differ by `TOLERANCE` of the gold value."""
    if isinstance(answer, Number) and isinstance(gold, Number):
        return _same_number(answer, gold)
    if isinstance(answer, ValueList) and isinstance(gold, ValueList):
        return _same_list(answer, gold)
    return answer == gold


def is_prose(value: Text) -> bool:
    """Whether a text reads as words about an answer (`correct and well formatted`), not as one."""
    words = re.findall(r"[A-Za-z]{2,}", re.sub(r"\\[A-Za-z]+", " ", value.written))
    return len(words) > 4 or any(word.lower() in _TALK for word in words)


def _plain(text: str) -> str:
    """One spelling for notations that mean the same, without delimiters and closing full stop."""
    text = _THIN_SPACE.sub("", _SPACED_COMMA.sub(",", text))
    text = _SPACING.sub(" ", text.replace("\\!", ""))
    for written, meant in _SPELLINGS:
        text = text.replace(written, meant)
    text = _TEXT_COMMAND.sub(r" \1 ", text).strip()
    text = _FRAMED_NUMBER.sub(lambda m: m[1] or m[2], text)
    for opening, closing in (("\\(", "\\)"), ("\\[", "\\]"), ("$$", "$$"), ("$", "$"), ("`", "`")):
        inner = text[len(opening) : -len(closing)]
        wrapped = text.startswith(opening) and text.rstrip(".").endswith(closing)
        if wrapped and len(text) > len(opening) + len(closing):
            text = inner if text.endswith(closing) else inner.removesuffix(closing)
    return text.strip().rstrip(".;,").strip()


def _parse(text: str) -> Value | None:
    if not text:
        return None
    number = _parse_number(text)
    if number is not None:
        return number
    inside, brackets = _unwrap(text)
    items = _split(inside)
    if len(items) > 1:
        values = tuple(value for item in items if (value := _parse(item.strip())) is not None)
        if len(values) == len(items):
            return ValueList(brackets, values, text)
    if brackets == "()" and (value := _parse(inside.strip())) is not None:
        return value
    return Text(_canonical(text), text)


def _unwrap(text: str) -> tuple[str, str]:
    """What stands between the outermost brackets, and which brackets they are."""
    if text.startswith("\\{") and text.endswith("\\}"):
        return text[2:-2], ""
    if text[0] in _OPENING and text[-1] in _CLOSING and _closes_at_end(text):
        return text[1:-1], text[0] + text[-1]
    return text, ""


def _closes_at_end(text: str) -> bool:
    depth = 0
    for position, sign in enumerate(text):
        depth += (sign in _OPENING) - (sign in _CLOSING)
        if depth == 0:
            return position == len(text) - 1
    return False


def _split(text: str) -> list[str]:
    """The parts between commas, `and` and `or` that stand outside brackets and braces."""
    text = re.sub(r",?\s+(?:and|or)\s+", ",", text)
    parts, depth = [""], 0
    for sign in text:
        depth += (sign in "([{") - (sign in ")]}")
        if sign == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += sign
    return parts


def _parse_number(text: str) -> Number | None:
    match = _NUMBER.fullmatch(text)
    if match is None:
        return None
    value = _magnitude(match)
    unit_text = (match["unit"] or "").lower().replace(".", "").strip()
    if value is None or not _is_unit(unit_text, spaced=bool(match["gap"] or match["percent"])):
        return None
    words = unit_text.split()
    if words and words[0] in _SCALES:
        value *= _SCALES[words.pop(0)]
    if (match["sign"] == "-") != (match["sign2"] == "-"):
        value = -value
    unit = known_unit(" ".join(words) or (match["currency"] or "").lower().removeprefix("us"))
    decimal = text if re.fullmatch(r"-?\d*\.\d+", text) else ""
    return Number(value, match["percent"] is not None, unit, decimal)


def _magnitude(match: re.Match[str]) -> Fraction | None:
    """The number without sign and unit; None for a division by 0 or a huge power."""

    def part(*names: str) -> str:
        return next((match[name] for name in names if match[name] is not None), "").replace(",", "")

    top, bottom = part("top", "top1", "over"), part("bottom", "bottom1", "under")
    if top:
        if Fraction(bottom) == 0:
            return None
        return Fraction(part("whole", "mixed") or 0) + Fraction(top) / Fraction(bottom)
    exponent = part("power", "power1", "exp", "exp_braced", "exp_bare") or "0"
    if len(exponent) > 4 or abs(int(exponent)) > _MAX_EXPONENT:
        return None
    if base := part("base"):
        return Fraction(base) ** int(exponent)
    return Fraction(part("mantissa")) * Fraction(10) ** int(exponent)


def _is_unit(text: str, *, spaced: bool) -> bool:
    """Whether the words after a number leave it one value: `18 dollars`, not `18 or so`, `5x`."""
    words = text.replace("/", " ").split()
    if len(words) > 5 or any(word.strip("-'") in _NOT_A_UNIT for word in words):
        return False
    first_unknown = bool(words) and words[0].rstrip("^{}23²³") not in _UNITS
    return not (first_unknown and (len(words[0]) == 1 or not spaced))


def known_unit(text: str) -> str:
    """One spelling for a unit of measure; empty for words that are none."""
    power = "²" if "square" in text or re.search(r"\^?\{?2\}?$|²", text) else ""
    power = "³" if "cubic" in text or re.search(r"\^?\{?3\}?$|³", text) else power
    word = re.sub(r"\^?\{?[23]\}?$|[²³]|\b(?:square|cubic|sq)\b", "", text).strip()
    return _UNITS[word] + power if word in _UNITS else ""


def _same_number(answer: Number, gold: Number) -> bool:
    if answer.unit and gold.unit and answer.unit != gold.unit:
        return False
    if answer.percent == gold.percent:
        return _close(answer.value, gold.value)
    # 10 % is written 10 or 0.1 when only one of the two has the sign.
    percent, other = (answer, gold) if answer.percent else (gold, answer)
    readings = (percent.value, percent.value / 100)
    return any(_close(other.value, reading) for reading in readings)


def _close(value: Fraction, gold: Fraction) -> bool:
    """Equal, or a decimal that rounds gold: within `TOLERANCE` where gold has no end as a decimal,
    within `FLOAT_NOISE` where it has one (563.5097 is not 563.51)."""
    if value == gold:
        return True
    if value.denominator == 1:
        return False
    ends = (10**12) % gold.denominator == 0
    return abs(value - gold) <= (FLOAT_NOISE if ends else TOLERANCE) * abs(gold)


def _same_list(answer: ValueList, gold: ValueList) -> bool:
    if answer.brackets != gold.brackets or len(answer.items) != len(gold.items):
        return False
    if gold.brackets:
        return all(map(same_value, answer.items, gold.items))
    left = list(answer.items)
    for item in gold.items:
        match = next((other for other in left if same_value(other, item)), None)
        if match is None:
            return False
        left.remove(match)
    return True


def _canonical(text: str) -> str:
    text = text.replace("\\cdot", "*").replace("\\times", "*").replace("π", "\\pi")
    return _SINGLE.sub(r"\1", "".join(text.split())).casefold()
