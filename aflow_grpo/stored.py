"""A rollout as bytes and back, exactly: what the journal keeps of a run.

Compressed JSON with the records' field names. The fields' own types say what is a tuple, an enum
or a record again, so nothing of a stored text chooses a class, and nothing is evaluated. Operator
calls hold values of any type; there, what JSON does not know is an array that opens with its tag.
Texts may hold anything a model wrote, also lone surrogates, which is why this is not pydantic.

Not here: where the bytes lie (`llm.rollout_store`). Not kept: objects of types other than Python's
plain ones, of which the text that `repr` gives comes back, cut to a thousand characters; executor
calls, which the journal has.
"""

from __future__ import annotations

import dataclasses
import json
import types
import typing
import zlib
from collections.abc import Callable, Mapping
from enum import Enum
from functools import cache, lru_cache
from typing import Any, Literal

from aflow_grpo.errors import DataError
from aflow_grpo.records import OperatorCall, Problem, Rollout

__all__ = ["PackedRollout", "pack_rollout", "unpack_rollout"]

_MAX_PARTS = 100_000
_MAX_DEPTH = 50
_MAX_REPR = 1000
_PLAIN_INT = 1 << 1024  # json refuses to write or read integers of more than 4300 digits
_LEVEL = 6
_NOT_STORED: Mapping[type, tuple[str, ...]] = {OperatorCall: ("llm_calls",)}
"""The journal's calls hold the same texts."""
_Decoder = Callable[[Any], Any]


@dataclasses.dataclass(frozen=True)
class PackedRollout:
    """A rollout in two parts."""

    problem: bytes
    """The problem and the prompt's token ids: the same for a whole group."""
    content: bytes
    """Everything else."""


def pack_rollout(rollout: Rollout) -> PackedRollout:
    """A rollout as bytes; `unpack_rollout` gives an equal one, without its executor calls."""
    content = _record(rollout, leave_out=("problem",))
    content["completion"] = _record(rollout.completion, leave_out=("prompt_ids",))
    return PackedRollout(
        _pack_problem(rollout.problem, rollout.completion.prompt_ids), _pack(content)
    )


def unpack_rollout(problem: bytes, content: bytes) -> Rollout:
    """The rollout that `pack_rollout` was given.

    Raises:
        DataError: The bytes are not what it made.
    """
    try:
        asked, prompt_ids = _unpack_problem(problem)
        fields = json.loads(zlib.decompress(content))
        fields["completion"]["prompt_ids"] = ()
        rollout: Rollout = _fields_decoder(Rollout)({**fields, "problem": None})
        completion = dataclasses.replace(rollout.completion, prompt_ids=prompt_ids)
        return dataclasses.replace(rollout, problem=asked, completion=completion)
    except (zlib.error, ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(
            f"a stored rollout cannot be read ({type(error).__name__}: {error}); expected what "
            "this version of the program writes. Rescore it with the version that wrote it."
        ) from error


@lru_cache(maxsize=64)
def _pack_problem(problem: Problem, prompt_ids: tuple[int, ...]) -> bytes:
    return _pack([_record(problem), list(prompt_ids)])


@lru_cache(maxsize=256)
def _unpack_problem(packed: bytes) -> tuple[Problem, tuple[int, ...]]:
    problem, prompt_ids = json.loads(zlib.decompress(packed))
    return _fields_decoder(Problem)(problem), tuple(prompt_ids)


def _pack(plain: Any) -> bytes:
    return zlib.compress(json.dumps(plain, separators=(",", ":")).encode("ascii"), _LEVEL)


# Records


def _record(record: Any, leave_out: tuple[str, ...] = ()) -> dict[str, Any]:
    """A record's fields by name, in plain JSON types."""
    any_typed = _any_fields(record.__class__)
    leave_out += _NOT_STORED.get(record.__class__, ())
    return {
        f.name: _value(getattr(record, f.name), f.name in any_typed)
        for f in dataclasses.fields(record)
        if f.name not in leave_out
    }


def _value(value: Any, free: bool) -> Any:
    """A field's value; `free` where the record does not say what its parts are."""
    if free:
        encode = _FreeValue()
        return {str(key): encode(part) for key, part in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _record(value)
    if isinstance(value, Mapping):
        return {key: _value(part, False) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_value(part, False) for part in value]
    return value.value if isinstance(value, Enum) else value


@cache
def _any_fields(record: type) -> frozenset[str]:
    """Fields that are mappings of any values."""
    hints = typing.get_type_hints(record)
    return frozenset(name for name, hint in hints.items() if Any in typing.get_args(hint))


@cache
def _fields_decoder(record: type) -> _Decoder:
    """Makes a record of its fields; a field that is not there has its default."""
    hints = typing.get_type_hints(record)
    decoders = {f.name: _decoder(hints[f.name]) for f in dataclasses.fields(record)}

    def decode(plain: Any) -> Any:
        if plain is None:  # the caller fills it in
            return None
        return record(**{name: decoders[name](value) for name, value in plain.items()})

    return decode


def _decoder(hint: Any) -> _Decoder:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        inner = [_decoder(arg) for arg in args if arg is not type(None)]
        if len(inner) != 1:
            raise TypeError(f"a record's field has the type {hint}: expected one type or None")
        return lambda value: None if value is None else inner[0](value)
    if origin is tuple:
        part = _decoder(args[0])
        return lambda values: tuple(part(value) for value in values)
    if origin is not None and origin is not Literal and issubclass(origin, Mapping):
        item = _free_value if args[1] is Any else _decoder(args[1])
        return lambda values: {key: item(value) for key, value in values.items()}
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return _fields_decoder(hint)
    if isinstance(hint, type) and issubclass(hint, Enum):
        return hint
    return _same


def _same(value: Any) -> Any:
    return value


# Values of any type


class _FreeValue:
    """Encodes values of any type; the parts of all values it is given are counted together."""

    def __init__(self) -> None:
        self._parts = 0

    def __call__(self, value: Any, depth: int = 0) -> Any:
        self._parts += 1
        if self._parts > _MAX_PARTS or depth > _MAX_DEPTH:
            return ["text", f"(a {type(value).__name__} too big to be kept)"]
        if value is None or isinstance(value, bool | float):
            return value
        if isinstance(value, str):
            return str.__str__(value)
        if isinstance(value, int):
            return int(value) if abs(value) < _PLAIN_INT else ["int", hex(value)]
        return self._container(value, depth + 1)

    def _container(self, value: Any, depth: int) -> Any:
        if isinstance(value, Mapping):
            pairs = ([self(key, depth), self(part, depth)] for key, part in value.items())
            return ["dict", *pairs]
        if isinstance(value, list | tuple):
            tag = "list" if isinstance(value, list) else "tuple"
            return [tag, *(self(part, depth) for part in value)]
        if isinstance(value, set | frozenset):
            tag = "frozenset" if isinstance(value, frozenset) else "set"
            parts = [self(part, depth) for part in value]
            return [tag, *sorted(parts, key=lambda part: json.dumps(part))]
        if isinstance(value, bytes):
            return ["bytes", value.hex()]
        if isinstance(value, complex):
            return ["complex", value.real, value.imag]
        return ["text", repr(value)[:_MAX_REPR]]


def _free_value(plain: Any) -> Any:
    """What `_FreeValue` encoded."""
    if not isinstance(plain, list):
        return plain
    tag, parts = plain[0], plain[1:]
    if tag == "text":
        return parts[0]
    if tag == "int":
        return int(parts[0], 16)
    if tag == "bytes":
        return bytes.fromhex(parts[0])
    if tag == "complex":
        return complex(*parts)
    if tag == "dict":
        return {_free_value(key): _free_value(value) for key, value in parts}
    kinds: dict[str, Callable[[Any], Any]] = {
        "list": list, "tuple": tuple, "set": set, "frozenset": frozenset
    }  # fmt: skip
    return kinds[tag](_free_value(part) for part in parts)
