"""Programs as the imitated model writes them: real Python, right or with a real bug.

Wrong solutions of a code problem are mutants of its reference (a constant off by one, a swapped
comparison, a wrong operator, a dropped branch, `return None`), so the problem's own hidden tests
decide. Nothing here is ever run in this process: it is parsed, changed and printed.
"""

from __future__ import annotations

import ast
import random
import re
from fractions import Fraction
from functools import lru_cache

from aflow_grpo.llm.simulator.values import canonical

__all__ = ["code_in", "fingerprint", "mutants", "solver"]

_FENCE = re.compile(r"```(?:python|py)?\s*\n(.*?)```", re.DOTALL)
_INTEGER = re.compile(r"(?<![\w.])\d{1,6}(?![\w.])")
_COMPARED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
_COMPUTED: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Add,
    ast.FloorDiv: ast.Mult,
    ast.Div: ast.FloorDiv,
    ast.Mod: ast.FloorDiv,
}


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
def mutants(reference: str) -> tuple[str, ...]:
    """Every single-change mutant of `reference`, in source order; `return None` comes last.

    Loops with `while` are left as they are: their mutants tend not to end.
    """
    try:
        tree = ast.parse(reference)
    except (SyntaxError, ValueError):
        return ("def solution(*args):\n    return None",)
    original = ast.unparse(tree)
    found: list[str] = []
    for index in range(len(_sites(tree))):
        copy = ast.parse(reference)
        _change(_sites(copy)[index])
        text = ast.unparse(ast.fix_missing_locations(copy))
        if text != original and text not in found:
            found.append(text)
    return (*found, _returns_none(tree))


def _sites(tree: ast.AST) -> list[ast.AST]:
    """Nodes that `_change` can change, in a fixed order."""
    sites: list[ast.AST] = []
    queue = list(ast.iter_child_nodes(tree))
    while queue:
        node = queue.pop(0)
        if isinstance(node, ast.While):
            continue
        if _changeable(node):
            sites.append(node)
        queue.extend(ast.iter_child_nodes(node))
    return sites


def _changeable(node: ast.AST) -> bool:
    match node:
        case ast.Compare(ops=[op]):
            return type(op) in _COMPARED
        case ast.BinOp(op=operator) | ast.AugAssign(op=operator):
            return type(operator) in _COMPUTED
        case ast.Constant(value=value):
            return isinstance(value, int)
        case ast.If(orelse=[]):
            return True
        case _:
            return isinstance(node, ast.BoolOp)


def _change(node: ast.AST) -> None:
    match node:
        case ast.Compare(ops=[op]):
            node.ops = [_COMPARED[type(op)]()]
        case ast.BinOp(op=operator) | ast.AugAssign(op=operator):
            node.op = _COMPUTED[type(operator)]()
        case ast.Constant(value=bool(value)):
            node.value = not value
        case ast.Constant(value=int(value)):
            node.value = value + 1
        case ast.BoolOp(op=ast.And()):
            node.op = ast.Or()
        case ast.BoolOp():
            node.op = ast.And()
        case ast.If():  # the edge case that was forgotten
            node.test = ast.Constant(value=False)


def _returns_none(tree: ast.Module) -> str:
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    lines = [f"def {f.name}({ast.unparse(f.args)}):\n    return None" for f in functions]
    return "\n\n".join(lines) or "def solution(*args):\n    return None"


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
