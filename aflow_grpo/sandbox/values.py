"""How values cross the border between a job and the host: tagged JSON, never pickle, never eval.

None, booleans, small integers, finite floats and strings are themselves; everything else is an
array that opens with its tag, e.g. `["tuple", 1, 2]`. Subclasses lose their class: Counter,
defaultdict and OrderedDict become dict, deque list, a named tuple tuple. What the host decodes may
have been written by hostile code, so decoding trusts nothing and bounds size, depth, the work of
big numbers and colliding hashes. Objects of any other type do not cross.
"""

from __future__ import annotations

import json
import math
from collections import Counter, deque
from collections.abc import Hashable, Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Any

__all__ = ["MAX_BYTES", "MAX_DEPTH", "MAX_ITEMS", "MalformedValue", "UnsupportedValue"]
__all__ += ["decode", "dumps", "encode", "loads"]

MAX_BYTES = 1 << 18
"""Longest encoding of one value, in bytes."""
MAX_DEPTH = 50
"""Deepest nesting of containers."""
MAX_ITEMS = 100_000
"""Most parts of one value, all levels together."""

_MAX_INT_BITS = 1 << 20
_MAX_FRACTION_BITS = 1 << 14  # reducing a fraction takes quadratic time
_MAX_DECIMAL_DIGITS = 10_000
_MAX_SAME_HASH = 50
_PLAIN_INT = 1 << 53
_CONTAINERS = {"list", "tuple", "set", "frozenset", "dict"}


class UnsupportedValue(ValueError):
    """The value has a type that does not cross, or is too big; the message says which."""


class MalformedValue(ValueError):
    """The text is no encoding that `encode` could have made."""


class _Encoder:
    """Encodes one value; counts its parts on the way."""

    def __init__(self) -> None:
        self._items = 0

    def encode(self, value: Any, depth: int = 0) -> Any:
        self._items += 1
        if self._items > MAX_ITEMS:
            raise UnsupportedValue(f"value with more than {MAX_ITEMS} parts")
        if value is None or value is True or value is False:
            return value
        if isinstance(value, str):
            return str.__str__(value)
        if isinstance(value, (int, float, complex, Fraction, Decimal)):
            return _encode_number(value)
        if isinstance(value, (bytes, bytearray)):
            return ["bytes", bytes(value).hex()]
        if isinstance(value, (dict, list, tuple, set, frozenset, deque)):
            return self._encode_container(value, depth)
        if type(value).__module__ == "numpy" and getattr(value, "shape", None) == ():
            return self.encode(value.item(), depth + 1)
        raise UnsupportedValue(f"unsupported type '{type(value).__name__}'")

    def _encode_container(self, value: Any, depth: int) -> list[Any]:
        if depth >= MAX_DEPTH:
            raise UnsupportedValue(f"value nested deeper than {MAX_DEPTH} levels")
        if isinstance(value, dict):
            pairs = [part for pair in value.items() for part in pair]
            return ["dict", *(self.encode(part, depth + 1) for part in pairs)]
        bases = {tuple: "tuple", set: "set", frozenset: "frozenset"}
        tag = next((tag for base, tag in bases.items() if isinstance(value, base)), "list")
        return [tag, *(self.encode(part, depth + 1) for part in value)]


def _encode_number(value: int | float | complex | Fraction | Decimal) -> Any:
    if isinstance(value, int):
        number = int(value)
        if -_PLAIN_INT < number < _PLAIN_INT:
            return number
        if number.bit_length() > _MAX_INT_BITS:
            raise UnsupportedValue(f"integer of more than {_MAX_INT_BITS} bits")
        return ["int", hex(number)]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else ["float", repr(float(value))]
    if isinstance(value, complex):
        return ["complex", _encode_number(value.real), _encode_number(value.imag)]
    if isinstance(value, Decimal):
        return ["decimal", str(value)]
    if max(value.numerator.bit_length(), value.denominator.bit_length()) > _MAX_FRACTION_BITS:
        raise UnsupportedValue(f"fraction of more than {_MAX_FRACTION_BITS} bits")
    return ["fraction", _encode_number(value.numerator), _encode_number(value.denominator)]


def encode(value: Any) -> Any:
    """`value` as tagged JSON data.

    Raises:
        UnsupportedValue: It has another type, or is too big or too deep.
    """
    return _Encoder().encode(value)


def dumps(value: Any) -> str:
    """`value` as tagged JSON text, ASCII only.

    Raises:
        UnsupportedValue: As `encode`, or the text is longer than `MAX_BYTES`.
    """
    text = json.dumps(encode(value), separators=(",", ":"))
    if len(text) > MAX_BYTES:
        raise UnsupportedValue(f"value longer than {MAX_BYTES} bytes")
    return text


def loads(text: str | bytes) -> Any:
    """The value that `text` encodes.

    Raises:
        MalformedValue: It is no such encoding.
    """
    if len(text) > MAX_BYTES:
        raise MalformedValue(f"longer than {MAX_BYTES} bytes")
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise MalformedValue(f"not JSON: {type(error).__name__}") from None
    return decode(data)


def decode(data: Any) -> Any:
    """The value that tagged JSON `data` stands for; `data` may be hostile.

    Raises:
        MalformedValue: It is nothing that `encode` could have made.
    """
    try:
        return _decode(data, 0)
    except (ArithmeticError, TypeError, ValueError) as error:
        if isinstance(error, MalformedValue):
            raise
        raise MalformedValue(f"{type(error).__name__} in an encoded value") from None


def _decode(data: Any, depth: int) -> Any:
    if data is None or isinstance(data, (bool, int, float, str)):
        return data
    if not isinstance(data, list) or not data or not isinstance(data[0], str):
        raise MalformedValue("neither a plain value nor a tagged array")
    tag, parts = data[0], data[1:]
    if tag not in _CONTAINERS:
        return _decode_scalar(tag, parts)
    if depth >= MAX_DEPTH:
        raise MalformedValue(f"nested deeper than {MAX_DEPTH} levels")
    return _build(tag, [_decode(part, depth + 1) for part in parts])


def _build(tag: str, parts: list[Any]) -> Any:
    if tag == "list":
        return parts
    if tag == "tuple":
        return tuple(parts)
    if tag == "set":
        return set(_checked_keys(parts))
    if tag == "frozenset":
        return frozenset(_checked_keys(parts))
    if len(parts) % 2:
        raise MalformedValue("a dict with a key without value")
    return dict(zip(_checked_keys(parts[::2]), parts[1::2], strict=True))


def _checked_keys(keys: Sequence[Hashable]) -> Sequence[Hashable]:
    """Refuse keys made to collide: building a table of n of them would take n² steps."""
    hashes = Counter(hash(key) for key in keys)
    if hashes and max(hashes.values()) > _MAX_SAME_HASH:
        raise MalformedValue(f"more than {_MAX_SAME_HASH} keys with one hash")
    return keys


def _decode_scalar(tag: str, parts: list[Any]) -> Any:
    match tag, parts:
        case "int", [str(digits)]:
            return _decode_int(digits)
        case "float", [("inf" | "-inf" | "nan") as text]:
            return float(text)
        case "complex", [real, imaginary]:
            return complex(_decode_float(real), _decode_float(imaginary))
        case "bytes", [str(digits)]:
            return bytes.fromhex(digits)
        case "fraction", [numerator, denominator]:
            return Fraction(_fraction_part(numerator), _fraction_part(denominator))
        case "decimal", [str(text)] if len(text) <= _MAX_DECIMAL_DIGITS:
            return Decimal(text)
    raise MalformedValue(f"unknown tag or wrong parts: {tag[:20]!r}")


def _decode_int(digits: str) -> int:
    if len(digits) > _MAX_INT_BITS // 4 + 4:
        raise MalformedValue(f"integer of more than {_MAX_INT_BITS} bits")
    return int(digits, 16)


def _decode_float(data: Any) -> float:
    value = _decode(data, 0)
    if not isinstance(value, float):
        raise MalformedValue("a complex number's part is no float")
    return value


def _fraction_part(data: Any) -> int:
    value = _decode(data, 0)
    if not isinstance(value, int) or value.bit_length() > _MAX_FRACTION_BITS:
        raise MalformedValue("a fraction's part is no integer of acceptable size")
    return value
