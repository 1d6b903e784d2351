"""How wide a text will be, without a font: close for common fonts, and rather too wide.

The widths are those of wide common faces (DejaVu), so that a text fits its box in narrower ones,
too. Not covered: ligatures, kerning, scripts that shape their letters.
"""

from __future__ import annotations

import unicodedata

__all__ = ["text_width", "wrapped"]

_MONO = 0.602
_WIDTHS = {
    **dict.fromkeys("ijl|'!.,:;I ", 0.32),
    **dict.fromkeys('frt()[]/\\"`-{}', 0.42),
    **dict.fromkeys("mMW", 0.99),
    **dict.fromkeys("w@%—…", 0.98),
    **dict.fromkeys("+=<>~#&", 0.84),
}
_SMALL, _CAPITAL, _OTHER = 0.62, 0.73, 0.7


def text_width(text: str, size: float, *, mono: bool = False) -> float:
    """Width in pixels of one line.

    Args:
        text: The line.
        size: Font size in pixels.
        mono: Whether the font has one width for all letters.
    """
    return size * sum(_width(character, mono) for character in text)


def _width(character: str, mono: bool) -> float:
    if character.isascii():
        if mono:
            return _MONO
        return _WIDTHS.get(character) or (_CAPITAL if character.isupper() else _SMALL)
    if unicodedata.combining(character):
        return 0.0
    if unicodedata.east_asian_width(character) in "WF":
        return 1.05 if not mono else 1.21
    return _WIDTHS.get(character, _OTHER if not mono else 0.9)


def wrapped(
    text: str, width: float, size: float, most_lines: int, *, mono: bool = False
) -> list[str]:
    """A text in lines no wider than `width`; what does not fit ends in an ellipsis.

    Breaks at spaces, and inside a word that is wider than a line.

    Args:
        text: One paragraph, or several by line feeds.
        width: Of the widest line, in pixels.
        size: Font size in pixels.
        most_lines: How many lines there may be.
        mono: Whether the font has one width for all letters.
    """
    lines: list[str] = []
    for paragraph in text.split("\n"):
        line = ""
        for word in paragraph.split(" "):
            longer = f"{line} {word}" if line else word
            if text_width(longer, size, mono=mono) <= width:
                line = longer
                continue
            if line:
                lines.append(line)
            line = word
            while text_width(line, size, mono=mono) > width and len(line) > 1:
                part = _fitting(line, width, size, mono)
                lines.append(part)
                line = line[len(part) :]
        lines.append(line)
    if len(lines) <= most_lines:
        return lines
    kept = lines[:most_lines]
    last = kept[-1].rstrip()
    while last and text_width(last + "…", size, mono=mono) > width:
        last = last[:-1]
    kept[-1] = last.removesuffix("…") + "…"
    return kept


def _fitting(text: str, width: float, size: float, mono: bool) -> str:
    used = 0.0
    for number, character in enumerate(text):
        used += size * _width(character, mono)
        if used > width:
            return text[: max(number, 1)]
    return text
