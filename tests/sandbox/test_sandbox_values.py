"""The encoding across the sandbox's border: nothing lost that should cross, nothing hostile in."""

from __future__ import annotations

import json
import math
import time
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aflow_grpo.sandbox import values

_SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.complex_numbers(allow_nan=False)
    | st.text(st.characters())  # lone surrogates too
    | st.binary()
    | st.fractions()
    | st.decimals(allow_nan=False)
)
_HASHABLE = st.recursive(
    _SCALARS, lambda inner: st.lists(inner, max_size=3).map(tuple), max_leaves=4
)
_ANY = st.recursive(
    _SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.sets(_HASHABLE, max_size=4)
        | st.frozensets(_HASHABLE, max_size=4)
        | st.dictionaries(_HASHABLE, inner, max_size=4)
    ),
    max_leaves=12,
)


def _same(left: Any, right: Any) -> bool:
    """Equal, and of equal types all the way down (1, 1.0 and True are three values)."""
    if type(left) is not type(right):
        return False
    if isinstance(left, (list, tuple)):
        return len(left) == len(right) and all(map(_same, left, right))
    if isinstance(left, dict):
        return _same(list(left.items()), list(right.items()))
    return bool(left == right)


@given(_ANY)
def test_round_trip_keeps_value_and_type(value: Any) -> None:
    assert _same(values.loads(values.dumps(value)), value)


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(), st.lists, max_leaves=20))
def test_any_json_decodes_or_is_malformed(data: Any) -> None:
    try:
        decoded = values.decode(data)
    except values.MalformedValue:
        return
    assert _same(values.loads(values.dumps(decoded)), decoded)


@pytest.mark.parametrize(
    ("value", "arrives"),
    [
        (2**53, 2**53),
        (math.inf, math.inf),
        (-math.inf, -math.inf),
        (-0.0, -0.0),
        (Counter("aab"), {"a": 2, "b": 1}),
        (defaultdict(list, {1: [2]}), {1: [2]}),
        (OrderedDict([(2, 1), (1, 2)]), {2: 1, 1: 2}),
        (deque([1, 2]), [1, 2]),
        (namedtuple("Point", "x y")(1, 2), (1, 2)),
        (bytearray(b"\x00"), b"\x00"),
        (Decimal("1.10"), Decimal("1.10")),
        (["list", "tuple"], ["list", "tuple"]),
    ],
)
def test_worked_values(value: Any, arrives: Any) -> None:
    assert _same(values.loads(values.dumps(value)), arrives)


def test_integers_of_thousands_of_digits_cross() -> None:
    assert values.loads(values.dumps(-(10**5000))) == -(10**5000)


def test_nan_crosses() -> None:
    assert math.isnan(values.loads(values.dumps(math.nan)))


def test_numpy_scalars_cross_and_arrays_do_not() -> None:
    numpy = pytest.importorskip("numpy")
    assert _same(values.loads(values.dumps(numpy.int64(3))), 3)
    assert _same(values.loads(values.dumps(numpy.float32(0.5))), 0.5)
    with pytest.raises(values.UnsupportedValue, match="unsupported type 'ndarray'"):
        values.dumps(numpy.array([1]))


def _nested(depth: int) -> Any:
    value: Any = 0
    for _ in range(depth):
        value = [value]
    return value


def _doubling(levels: int) -> Any:
    value: Any = 0
    for _ in range(levels):
        value = [value, value]
    return value


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (object(), "unsupported type 'object'"),
        (iter([1]), "unsupported type 'list_iterator'"),
        ({1: print}, "unsupported type 'builtin_function_or_method'"),
        (_nested(values.MAX_DEPTH + 1), "nested deeper than 50"),
        (_doubling(40), "more than 100000 parts"),
        ("x" * (values.MAX_BYTES + 1), "longer than"),
        ([1 << (1 << 21)], "integer of more than"),
        ([Fraction(1, 1 << (1 << 15))], "fraction of more than"),
    ],
    ids=lambda case: case if isinstance(case, str) else "",
)
def test_what_does_not_cross_says_why(value: Any, message: str) -> None:
    with pytest.raises(values.UnsupportedValue, match=message):
        values.dumps(value)


def test_deepest_allowed_nesting_crosses() -> None:
    assert values.loads(values.dumps(_nested(values.MAX_DEPTH))) == _nested(values.MAX_DEPTH)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[]",
        "[1]",
        '["eval","1"]',
        '["list"',
        '["int","0x' + "f" * 300_000 + '"]',
        '["int",5]',
        '["float","1e5"]',
        '["bytes","zz"]',
        '["complex",1,2]',
        '["fraction",1,0]',
        '["fraction",1,["int","0x' + "f" * 10_000 + '"]]',
        '["decimal","abc"]',
        '["set",["list",1]]',
        '["dict",1]',
        '["dict",["dict"],1]',
        '["list",' * 60 + "1" + "]" * 60,
        "[" * 100_000,
        "1" * 10_000,
        '"' + "x" * values.MAX_BYTES + '"',
    ],
    ids=lambda text: text[:20],
)
def test_hostile_text_is_malformed(text: str) -> None:
    with pytest.raises(values.MalformedValue):
        values.loads(text)


@pytest.mark.parametrize("tag", ["set", "frozenset", "dict"])
def test_colliding_hashes_are_refused_quickly(tag: str) -> None:
    """Multiples of 2**61 - 1 all hash to 0: each insertion would look at all before it."""
    keys = [["int", hex(k * (2**61 - 1))] for k in range(1, 6001)]
    data = [tag, *(part for key in keys for part in ([key, 0] if tag == "dict" else [key]))]
    started = time.perf_counter()
    with pytest.raises(values.MalformedValue, match="with one hash"):
        values.loads(json.dumps(data))
    assert time.perf_counter() - started < 2.0
