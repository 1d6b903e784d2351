"""Builtins and methods of builtin types that the interpreter lacks, in its own language.

Read as text by `inside.parts_code` and fed to the interpreter, so only what it takes may stand
here: functions and classes without inheritance or decorators. The names say what they replace. The
same code runs under CPython, which is how it is tested.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:

    def _host_syntax(source: Any, compiled: bool) -> Any: ...


_UNBOUND = (str, list, dict, set, frozenset, tuple, int, float, bytes)
_TEXT_METHODS = (
    "capitalize casefold center count encode endswith expandtabs find format format_map index "
    "isalnum isalpha isascii isdecimal isdigit isidentifier islower isnumeric isprintable isspace "
    "istitle isupper join ljust lower lstrip maketrans partition removeprefix removesuffix replace "
    "rfind rindex rjust rpartition rsplit rstrip split splitlines startswith strip swapcase title "
    "translate upper zfill __contains__ __getitem__ __iter__ __len__"
)
_LIST_METHODS = (
    "append clear copy count extend index insert pop remove reverse sort __contains__ __getitem__ "
    "__iter__ __len__ __setitem__ __delitem__"
)
_DICT_METHODS = (
    "clear copy fromkeys get items keys pop popitem setdefault update values __contains__ "
    "__getitem__ __iter__ __len__ __setitem__ __delitem__"
)
_SET_METHODS = (
    "add clear copy difference discard intersection isdisjoint issubset issuperset pop remove "
    "symmetric_difference union update __contains__ __iter__ __len__"
)
_OBJECT_METHODS = "__class__ __doc__ __eq__ __hash__ __repr__ __str__ __init__"


def _methods_of(value: Any) -> str:
    if isinstance(value, str):
        return _TEXT_METHODS
    if isinstance(value, list):
        return _LIST_METHODS
    if isinstance(value, dict):
        return _DICT_METHODS
    if isinstance(value, (set, frozenset)):
        return _SET_METHODS
    if isinstance(value, tuple):
        return "count index __contains__ __getitem__ __iter__ __len__"
    if isinstance(value, float):
        return "is_integer as_integer_ratio hex real imag conjugate"
    if isinstance(value, int):
        return "bit_length bit_count to_bytes real imag numerator denominator conjugate"
    return ""


def _hasattr(value: Any, name: str) -> bool:
    if hasattr(value, name):
        return True
    return name in _methods_of(value).split() or name in _OBJECT_METHODS.split()


def _getattr(value: Any, name: str, call: Any, *default: Any) -> Any:
    if hasattr(value, name):
        return getattr(value, name)
    if name in _methods_of(value).split():
        return _bound(value, name, call)
    if default:
        return default[0]
    return getattr(value, name)


def _bound(value: Any, name: str, call: Any) -> Any:
    if hasattr(value, name):
        return getattr(value, name)
    if value in _UNBOUND:
        return call
    if name not in _methods_of(value).split() and type(value).__name__ not in (
        "Counter",
        "defaultdict",
        "deque",
        "Match",
        "Pattern",
        "OrderedDict",
    ):
        return getattr(value, name)

    def method(*args: Any, **kwargs: Any) -> Any:
        return call(value, *args, **kwargs)

    return method


def _read(value: Any, getter: str, read: Any) -> Any:
    if hasattr(value, getter):
        return getattr(value, getter)()
    return read(value)


def _callable(value: Any) -> bool:
    kinds = ("function", "builtin_function_or_method", "type", "method", "partial")
    return type(value).__name__ in kinds or hasattr(value, "__call__")  # noqa: B004


def _ascii(value: Any) -> str:
    parts = []
    for letter in repr(value):
        code = ord(letter)
        if code < 128:
            parts.append(letter)
        elif code < 256:
            parts.append(f"\\x{code:02x}")
        elif code < 65536:
            parts.append(f"\\u{code:04x}")
        else:
            parts.append(f"\\U{code:08x}")
    return "".join(parts)


def _round(number: Any, digits: Any = None) -> Any:
    if digits is None or not isinstance(number, float) or digits < 0:
        return round(number, digits)
    return float(f"{number:.{digits}f}")


def _error(kind: Any, *args: Any) -> Any:
    if not args:
        return kind()
    if len(args) > 1:
        return kind(str(args))
    return kind(args[0] if isinstance(args[0], str) else str(args[0]))


def _name_of(value: Any) -> Any:
    kind = type(value).__name__
    if kind not in ("type", "function", "builtin_function_or_method", "method"):
        return value.__name__
    words = repr(value).replace("'", " ").replace("<", " ").replace(">", " ").split()
    if kind == "type":
        return words[-1].split(".")[-1]
    return words[1] if words[0] in ("function", "built-in") and words[1] != "function" else words[2]


def _truth(value: Any) -> Any:
    if hasattr(value, "__bool__"):
        return value.__bool__()
    if hasattr(value, "__len__"):
        return value.__len__() != 0
    return bool(value)


def _len(value: Any) -> Any:
    if hasattr(value, "__len__"):
        return value.__len__()
    return len(value)


def _del_item(owner: Any, key: Any) -> None:
    if hasattr(owner, "__delitem__"):
        owner.__delitem__(key)
    else:
        owner.pop(key)


class _Parsed:
    def __init__(self, kind: str) -> None:
        self.kind = kind


def _compile(source: Any, filename: Any, mode: str = "exec", *args: Any, **options: Any) -> Any:
    wrong = _host_syntax(source, True)
    if wrong is None:
        return _Parsed("code")
    where = "" if wrong[1] is None else f" ({filename}, line {wrong[1]})"
    raise SyntaxError(wrong[0] + where)


def _ast_parse(source: Any, filename: str = "<unknown>", *args: Any, **options: Any) -> Any:
    wrong = _host_syntax(source, False)
    if wrong is None:
        return _Parsed("tree")
    where = "" if wrong[1] is None else f" ({filename}, line {wrong[1]})"
    raise SyntaxError(wrong[0] + where)


def _error_field(error: Any, name: str, read: Any) -> Any:
    if hasattr(error, name) or not isinstance(error, (SyntaxError, ValueError)):
        return read(error)
    json = re.search(r"^(.*): line (\d+) column (\d+) \(char (\d+)\)$", str(error), re.DOTALL)
    if json:
        groups = json.groups()
        kinds = {"msg": 0, "lineno": 1, "colno": 2, "pos": 3}
        return groups[0] if name == "msg" else int(groups[kinds[name]])
    syntax = re.search(r"^(.*) \([^()]*, line (\d+)\)$", str(error), re.DOTALL)
    if isinstance(error, SyntaxError) and name in ("msg", "lineno"):
        if name == "msg":
            return syntax.group(1) if syntax else str(error)
        return int(syntax.group(2)) if syntax else None
    return read(error)


class _Lazy:
    def __init__(self, element: Any, condition: Any, items: Any) -> None:
        self.element = element
        self.condition = condition
        self.items = items if hasattr(items, "__next__") else iter(items)

    def __iter__(self) -> Any:
        return self

    def __next__(self) -> Any:
        while True:
            item = next(self.items)
            if self.condition(item):
                return self.element(item)


def _any(lazy: Any) -> bool:
    for item in lazy:  # noqa: SIM110
        if item:
            return True
    return False


def _all(lazy: Any) -> bool:
    for item in lazy:  # noqa: SIM110
        if not item:
            return False
    return True


def _m_is_integer(value: Any) -> Any:
    if isinstance(value, int):
        return True
    if isinstance(value, float):
        return value == value and value not in (float("inf"), -float("inf")) and value % 1 == 0
    return value.is_integer()


def _m_bit_length(value: Any) -> Any:
    if isinstance(value, int):
        return 0 if value == 0 else len(bin(abs(value))) - 2
    return value.bit_length()


def _m_bit_count(value: Any) -> Any:
    if isinstance(value, int):
        return bin(abs(value)).count("1")
    return value.bit_count()


def _m_format_map(value: Any, mapping: Any) -> Any:
    if isinstance(value, str):
        return value.format(**mapping)
    return value.format_map(mapping)


def _m_maketrans(kind: Any, *args: Any) -> Any:
    if kind is not str:
        return kind.maketrans(*args)
    table: dict[Any, Any] = {}
    if len(args) == 1:
        for key, value in args[0].items():
            table[ord(key) if isinstance(key, str) else key] = value
        return table
    for old, new in zip(args[0], args[1]):  # noqa: B905
        table[ord(old)] = ord(new)
    if len(args) > 2:
        for letter in args[2]:
            table[ord(letter)] = None
    return table


def _m_translate(value: Any, table: Any) -> Any:
    if not isinstance(value, str):
        return value.translate(table)
    parts = []
    for letter in value:
        new = table.get(ord(letter), letter)
        if new is not None:
            parts.append(chr(new) if isinstance(new, int) else new)
    return "".join(parts)


def _m_get(value: Any, *args: Any, **kwargs: Any) -> Any:
    if type(value).__name__ != "Counter":
        return value.get(*args, **kwargs)
    if args[0] in value:
        return value[args[0]]
    return args[1] if len(args) > 1 else kwargs.get("default")
