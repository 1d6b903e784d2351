"""Programs as the imitated model writes them: real Python, right or with a real bug.

A wrong solution of a code problem is its reference with every result of its function changed (an
inverted condition, one off, a wrong container, a forgotten `return`), so that no test that looks
at results lets it pass. A bug that hides is the same behind the public tests' own examples, which
such a program answers by heart: it passes them and fails the hidden ones. Nothing here is ever run
in this process: it is parsed, changed and printed.
"""

from __future__ import annotations

import ast
import random
import re
from fractions import Fraction
from functools import lru_cache

from aflow_grpo.llm.simulator.values import canonical

__all__ = ["code_in", "fingerprint", "hidden_bug", "solver", "visible_bugs"]

_FENCE = re.compile(r"```(?:python|py)?\s*\n(.*?)```", re.DOTALL)
_INTEGER = re.compile(r"(?<![\w.])\d{1,6}(?![\w.])")
_HOW_MANY = 3
_ALIAS = "candidate"
"""What tests may call the entry point."""
_TRUTHS = frozenset({"all", "any", "bool", "isinstance", "issubset", "issuperset", "startswith"})
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)


def code_in(text: str) -> str:
    """The code of a reply: its last fenced block, else the text itself."""
    blocks = _FENCE.findall(text)
    return str(blocks[-1]).strip() if blocks else text.strip()


@lru_cache(maxsize=8192)
def fingerprint(code: str) -> str:
    """Equal for programs that differ only in layout and comments; the text when it won't parse."""
    try:
        return ast.dump(ast.parse(code))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return code.strip()


@lru_cache(maxsize=4096)
def visible_bugs(reference: str, entry_point: str) -> tuple[str, ...]:
    """Three wrong versions of `reference`, each wrong in all its results, the likeliest first.

    Args:
        reference: The right program.
        entry_point: The function that is tested; where there is none of that name, the last one.
    """
    found: list[str] = []
    for kind in range(6):
        bug = _slipped(reference, entry_point, kind) if len(found) < _HOW_MANY else None
        if bug is None:
            break
        if bug not in found and fingerprint(bug) != fingerprint(reference):
            found.append(bug)
    name = entry_point if entry_point.isidentifier() else "solution"
    found += [f"def {name}(*args):\n    {line}" for line in ("return None", "pass", "return args")]
    return tuple(found[:_HOW_MANY])


@lru_cache(maxsize=8192)
def hidden_bug(bug: str, entry_point: str, public_tests: tuple[str, ...]) -> str | None:
    """`bug` with the answers of the public tests built in; None where they cannot be.

    That takes a function with plain parameters, and tests that compare one call's result.
    """
    function = _function(bug, entry_point)
    examples = [_example(test, entry_point) for test in public_tests]
    if function is None or not examples:
        return None
    tree, node = function
    names = [argument.arg for argument in (*node.args.posonlyargs, *node.args.args)]
    lines: list[ast.stmt] = []
    for example in examples:
        if example is None or not 0 < len(example[0]) <= len(names):
            return None
        given, expected = example
        condition = " and ".join(
            f"{name} == {value}" for name, value in zip(names, given, strict=False)
        )
        lines += ast.parse(f"if {condition}:\n    return {expected}").body
    start = 1 if ast.get_docstring(node, clean=False) is not None else 0
    node.body[start:start] = lines
    return ast.unparse(ast.fix_missing_locations(tree))


def _example(test: str, entry_point: str) -> tuple[list[str], str] | None:
    """(arguments, expected result) of `assert f(...) == expected` or `assert f(...)`."""
    try:
        [statement] = ast.parse(test.strip()).body
    except (SyntaxError, ValueError):
        return None
    if not isinstance(statement, ast.Assert):
        return None
    match statement.test:
        case ast.Compare(left=ast.Call() as call, ops=[ast.Eq() | ast.Is()], comparators=[value]):
            expected = ast.unparse(value)
        case ast.Call() as call:
            expected = "True"
        case ast.UnaryOp(op=ast.Not(), operand=ast.Call() as call):
            expected = "False"
        case _:
            return None
    called = call.func.id if isinstance(call.func, ast.Name) else ""
    if called not in (entry_point, _ALIAS) or call.keywords:
        return None
    return [ast.unparse(argument) for argument in call.args], expected


def _function(code: str, entry_point: str) -> tuple[ast.Module, ast.FunctionDef] | None:
    """The parsed code and its function of that name, else its last one."""
    try:
        tree = ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    named = [node for node in functions if node.name == entry_point]
    return (tree, (named or functions)[-1]) if functions else None


def _slipped(reference: str, entry_point: str, kind: int) -> str | None:
    """`reference` with the results of its function changed; kinds 0 to 5, None where one fails."""
    function = _function(reference, entry_point)
    if function is None:
        return None
    tree, node = function
    returns = [item for item in _own_nodes(node) if isinstance(item, ast.Return) and item.value]
    recursive = any(isinstance(item, ast.Name) and item.id == node.name for item in ast.walk(node))
    if not returns or any(isinstance(item, ast.Yield | ast.YieldFrom) for item in _own_nodes(node)):
        return None
    natural = _natural_kinds([item.value for item in returns if item.value], recursive)
    for item in returns:
        assert item.value is not None
        item.value = _changed(item.value, natural[kind % len(natural)])
    return ast.unparse(ast.fix_missing_locations(tree))


def _own_nodes(function: ast.FunctionDef) -> list[ast.AST]:
    """The function's nodes without those of functions inside it."""
    nodes: list[ast.AST] = []
    queue: list[ast.AST] = list(function.body)
    while queue:
        node = queue.pop(0)
        nodes.append(node)
        if not isinstance(node, _FUNCTIONS):
            queue.extend(ast.iter_child_nodes(node))
    return nodes


def _natural_kinds(values: list[ast.expr], recursive: bool) -> list[str]:
    """Changes that suit the results; a recursive function gets only those that never cancel."""
    if recursive:
        return ["list", "none", "pair"]
    if any(_is_truth(value) for value in values):
        return ["not", "none", "list"]
    if any(isinstance(value, ast.BinOp | ast.UnaryOp) for value in values):
        return ["plus", "minus", "list", "none"]
    if any(isinstance(value, ast.List | ast.ListComp | ast.Tuple | ast.Dict) for value in values):
        return ["list", "none", "pair"]
    return ["plus", "list", "none", "minus"]


def _is_truth(value: ast.expr) -> bool:
    match value:
        case ast.Compare() | ast.BoolOp() | ast.UnaryOp(op=ast.Not()):
            return True
        case ast.Constant(value=bool()):
            return True
        case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)):
            return name in _TRUTHS
        case _:
            return False


def _changed(value: ast.expr, kind: str) -> ast.expr:
    """One result, changed: for no value the same as before."""
    match kind:
        case "not":
            return ast.UnaryOp(ast.Not(), value)
        case "plus":
            return ast.BinOp(value, ast.Add(), ast.Constant(1))
        case "minus":
            return ast.BinOp(value, ast.Sub(), ast.Constant(1))
        case "list":
            return ast.List([value], ast.Load())
        case "pair":
            return ast.Tuple([value, ast.Constant(None)], ast.Load())
        case _:
            return ast.Constant(None)


def solver(value: str, question: str, rng: random.Random, *, crashes: bool) -> str:
    """A program with a `solve()` that computes `value`, or raises.

    Args:
        value: What it returns: a whole number is computed from numbers of the question.
        question: Where the numbers come from.
        rng: Picks among the ways.
        crashes: It has a bug and raises.
    """
    form = canonical(value)
    if re.fullmatch(r"-?\d{1,15}", form):
        body = _arithmetic(int(form), question, rng)
    elif re.fullmatch(r"-?\d{1,12}/\d{1,12}", form):
        body = _ratio(Fraction(form), value)
    else:
        body = f"    result = {value!r}\n    return result"
    if crashes:
        return "def solve():\n    total = 0\n" + body.replace("return result", "return resultt")
    header = "from fractions import Fraction\n\n\n" if "Fraction(" in body else ""
    return f"{header}def solve():\n{body}"


def _arithmetic(target: int, question: str, rng: random.Random) -> str:
    """`target` as one operation on two numbers of the question, or a sum with a remainder."""
    numbers = [int(text) for text in _INTEGER.findall(question)][:12]
    ways: list[tuple[int, str, int]] = []
    for i, a in enumerate(numbers):
        for j, b in enumerate(numbers):
            if i == j:
                continue
            results = {"+": a + b, "-": a - b, "*": a * b}
            if b and a % b == 0:
                results["//"] = a // b
            ways += [(a, sign, b) for sign, result in results.items() if result == target]
    if not ways:
        first = rng.choice(numbers) if numbers else rng.randint(2, 9)
        ways = [(first, "+" if target >= first else "-", abs(target - first))]
    a, sign, b = rng.choice(ways)
    return f"    first = {a}\n    second = {b}\n    result = first {sign} second\n    return result"


def _ratio(target: Fraction, value: str) -> str:
    top, low = target.numerator, target.denominator
    if "." in value:
        return f"    result = {top} / {low}\n    return result"
    return f"    result = Fraction({top}, {low})\n    return result"
