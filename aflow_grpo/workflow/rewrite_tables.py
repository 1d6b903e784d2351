"""Which builtins and methods are rewritten, as data; see `rewrite_code`."""

from __future__ import annotations

__all__ = [
    "ALIASES",
    "BUILTINS",
    "CLASS_METHODS",
    "ERRORS",
    "ERROR_FIELDS",
    "LISTS",
    "METHODS",
    "TASKS",
    "TYPE_NAMES",
    "VALUES",
]

BUILTINS = frozenset({"hasattr", "callable", "ascii", "compile"})
"""Builtins with a part of their own."""
ALIASES = {
    "IOError": "OSError", "EnvironmentError": "OSError", "ConnectionError": "OSError",
    "UnicodeError": "ValueError", "EOFError": "RuntimeError", "SystemError": "RuntimeError",
    "StopAsyncIteration": "StopIteration", "Warning": "Exception", "UserWarning": "Exception",
    "DeprecationWarning": "Exception", "RuntimeWarning": "Exception",
}  # fmt: skip
"""Exceptions that the interpreter lacks -> the nearest that it has."""
ERRORS = frozenset(
    {
        "Exception", "ValueError", "TypeError", "KeyError", "IndexError", "RuntimeError",
        "AttributeError", "NotImplementedError", "OSError", "TimeoutError", "ArithmeticError",
        "LookupError", "AssertionError", "ZeroDivisionError", "NameError", "StopIteration",
    }
)  # fmt: skip
METHODS = frozenset(
    {
        "is_integer", "bit_length", "bit_count", "format_map", "maketrans", "translate", "sub",
        "move_to_end",
    }
)  # fmt: skip
"""Methods that are called through a part wherever they occur."""
VALUES = frozenset(
    {
        "append", "add", "count", "discard", "endswith", "extend", "find", "format", "get",
        "index", "isalnum", "isalpha", "isdigit", "islower", "isnumeric", "isspace", "isupper",
        "items", "join", "keys", "lower", "lstrip", "pop", "remove", "replace", "rstrip",
        "setdefault", "split", "splitlines", "startswith", "strip", "title", "union", "update",
        "upper", "values", "capitalize", "intersection", "difference", "casefold",
        "removeprefix", "removesuffix", "isdecimal", "swapcase", "zfill", "__getitem__",
        "__contains__", "__len__", "match", "search", "findall", "fullmatch", "group", "insert",
    }
)  # fmt: skip
"""Methods of builtin types that are worth passing around as values."""
ERROR_FIELDS = frozenset({"msg", "lineno", "colno", "pos"})
"""Attributes of errors that the interpreter tells in their text only."""
TYPE_NAMES = frozenset(
    {"str", "list", "dict", "set", "frozenset", "tuple", "int", "float", "bytes"}
)
CLASS_METHODS = frozenset({"fromkeys", "maketrans", "fromhex", "from_bytes"})
LISTS = frozenset({"map", "filter", "zip", "enumerate", "reversed"})
"""Builtins that return a list in the interpreter and an iterator in Python."""
TASKS = frozenset({"create_task", "ensure_future", "TaskGroup", "wait", "as_completed", "shield"})
"""Functions whose use makes tasks, which only `_awaited` can await."""
