"""Stand-ins for decorated methods, exceptions of one's own and small classes (see `builtin_parts`).

An exception class of the workflow's own becomes a plain class. Raising its instance raises a
builtin exception in its place, a carrier, which handlers turn back into the instance.
"""

from __future__ import annotations

from collections import namedtuple
from typing import Any

_namedtuple = namedtuple


class _Static:
    def __init__(self, function: Any) -> None:
        self.function = function

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **kwargs)


class _ClassMethod:
    def __init__(self, function: Any, owner: Any) -> None:
        self.function = function
        self.owner = owner

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(self.owner, *args, **kwargs)


_carried: list[Any] = []


def _raisable(error: Any) -> Any:
    if hasattr(error, "_carrier"):
        if type(error).__name__ == "type":
            error = error()
        carrier = error._carrier(str(error))
        _carried.append((carrier, error))
        return carrier
    return error


def _original(error: Any) -> Any:
    for carrier, original in _carried:
        if carrier is error:
            return original
    return error


def _own_text(error: Any) -> str:
    arguments = error.args
    if not arguments:
        return ""
    return str(arguments[0]) if len(arguments) == 1 else str(arguments)


def _own_repr(error: Any) -> str:
    inside = ", ".join([repr(argument) for argument in error.args])
    return f"{type(error).__name__}({inside})"


class _types_SimpleNamespace:
    def __init__(self, **values: Any) -> None:
        for name, value in values.items():
            setattr(self, name, value)


class _contextlib_suppress:
    def __init__(self, *kinds: Any) -> None:
        self.kinds = kinds

    def __enter__(self) -> Any:
        return None

    def __exit__(self, kind: Any, error: Any, trace: Any) -> bool:
        return error is not None and isinstance(error, self.kinds)


class _contextlib_nullcontext:
    def __init__(self, value: Any = None) -> None:
        self.value = value

    def __enter__(self) -> Any:
        return self.value

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        return None


class _io_StringIO:
    def __init__(self, text: str = "") -> None:
        self.parts = [text] if text else []

    def write(self, text: str) -> int:
        self.parts.append(text)
        return len(text)

    def getvalue(self) -> str:
        return "".join(self.parts)


class _Member:
    def __init__(self, kind: str, name: str, value: Any) -> None:
        self.kind = kind
        self.name = name
        self.value = value

    def __str__(self) -> str:
        return f"{self.kind}.{self.name}"

    def __repr__(self) -> str:
        return f"<{self.kind}.{self.name}: {self.value!r}>"


class _Enum:
    def __init__(self, kind: str, pairs: Any) -> None:
        self._kind = kind
        self._members = [_Member(kind, name, value) for name, value in pairs]
        for member in self._members:
            setattr(self, member.name, member)

    def __call__(self, value: Any) -> Any:
        for member in self._members:
            if member.value == value or member is value:
                return member
        raise ValueError(f"{value!r} is not a valid {self._kind}")

    def __getitem__(self, name: str) -> Any:
        for member in self._members:
            if member.name == name:
                return member
        raise KeyError(name)

    def __iter__(self) -> Any:
        return iter(self._members)


def _write(owner: Any, setter: str, name: str, value: Any) -> None:
    if hasattr(owner, setter):
        getattr(owner, setter)(value)
    else:
        setattr(owner, name, value)


def _matches(raised: Any, original: Any, kinds: Any) -> bool:
    for kind in kinds if isinstance(kinds, (tuple, list)) else (kinds,):
        if isinstance(kind, tuple):
            if _matches(raised, original, kind):
                return True
        elif isinstance(original, kind) or isinstance(raised, kind):
            return True
    return False
