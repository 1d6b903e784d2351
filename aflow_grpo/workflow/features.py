"""What the interpreter has of Python's library and what it lacks, as data.

Measured by running each name (`tests/workflow/test_workflow_features.py` runs them again), adapter
and prelude included: when one of them learns something, the test says which line to change here.
Not covered: methods of objects that a module returns.
"""

from __future__ import annotations

from aflow_grpo.workflow.inside import PROVIDED, part_name

__all__ = [
    "BUILTINS",
    "FORBIDDEN_NAMES",
    "KNOWN_MODULES",
    "MISSING_METHODS",
    "NATIVE_MEMBERS",
    "PRELUDE_NAMES",
    "STANDARD_MODULES",
    "STDIN_NAMES",
    "has_member",
]

_STANDARD = """
    asyncio collections copy dataclasses datetime decimal functools itertools json math random re
    time typing __future__
"""
STANDARD_MODULES = frozenset(_STANDARD.split())
"""Modules of the standard library that the interpreter has by itself."""

_OTHERS = {"abc", "bisect", "enum", "numbers", "sys", "typing_extensions"}
KNOWN_MODULES = STANDARD_MODULES | PROVIDED | _OTHERS
"""Modules that a workflow may use; of some only a part is there (`has_member`)."""

_NATIVE = {
    "asyncio": "gather run sleep TimeoutError",
    "collections": "Counter abc defaultdict deque namedtuple",
    "copy": "copy deepcopy",
    "dataclasses": "FrozenInstanceError MISSING dataclass field is_dataclass",
    "functools": "cache lru_cache partial reduce",
    "json": "JSONDecodeError dump dumps load loads",
    "re": """A ASCII DOTALL I IGNORECASE M MULTILINE Match NOFLAG Pattern S VERBOSE X compile error
        escape findall finditer fullmatch match search split sub""",
}
NATIVE_MEMBERS: dict[str, frozenset[str]] = {
    module: frozenset(names.split()) for module, names in _NATIVE.items()
}
"""Module -> the members that the interpreter has by itself, where some in use are missing."""


def has_member(module: str, name: str) -> bool:
    """Whether a known module has a member of this name; True where nobody has counted."""
    if module in NATIVE_MEMBERS:
        return name in NATIVE_MEMBERS[module] or part_name(module, name) is not None
    return module not in PROVIDED or part_name(module, name) is not None


MISSING_METHODS: dict[str, str] = {
    "as_integer_ratio": "",
    "conjugate": "",
    "difference_update": "Write `a -= b`.",
    "intersection_update": "Write `a &= b`.",
    "symmetric_difference_update": "Write `a ^= b`.",
    "to_bytes": "",
}
"""Methods that Python's builtin types have and the interpreter's lack -> what to write instead."""

_BUILTINS = """
    ArithmeticError AssertionError AttributeError BaseException ConnectionError DeprecationWarning
    EOFError Ellipsis EnvironmentError Exception False FileExistsError FileNotFoundError IOError
    ImportError IndexError IsADirectoryError KeyError KeyboardInterrupt LookupError MemoryError
    ModuleNotFoundError NameError None NotADirectoryError NotImplemented NotImplementedError OSError
    OverflowError PermissionError RecursionError RuntimeError RuntimeWarning StopAsyncIteration
    StopIteration SyntaxError SystemError SystemExit TimeoutError True TypeError UnboundLocalError
    UnicodeDecodeError UnicodeEncodeError UnicodeError UserWarning ValueError Warning
    ZeroDivisionError __debug__ __doc__ __name__ abs all any ascii bin bool bytes callable chr
    classmethod compile complex dict divmod enumerate filter float format frozenset getattr hasattr
    hash hex id int isinstance iter len list map max min next object oct ord pow print property
    range repr reversed round set setattr slice sorted staticmethod str sum super tuple type zip
"""
BUILTINS = frozenset(_BUILTINS.split())
"""Builtins that exist."""

_PRELUDE = "operator prompt_custom create_llm_instance DatasetType CostManager"
PRELUDE_NAMES = frozenset(_PRELUDE.split())
"""Names that the prelude defines in AFlow's stead, operator classes aside."""

STDIN_NAMES = frozenset({"input", "raw_input"})
"""Builtins that read the standard input."""

FORBIDDEN_NAMES: dict[str, str] = {
    "open": "A workflow has no files.",
    "eval": "Text is never run as code; use the programmer operator.",
    "exec": "Text is never run as code; use the programmer operator.",
    "__import__": "Imports are statements here.",
    "globals": "There is no introspection.",
    "locals": "There is no introspection.",
    "vars": "There is no introspection.",
    "breakpoint": "There is no debugger.",
    "exit": "Return the answer instead.",
    "quit": "Return the answer instead.",
}
"""Builtins outside the language -> what to do instead."""
