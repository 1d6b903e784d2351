"""Expressions and statements that the interpreter lacks or runs otherwise, in terms of the parts.

Bound methods of builtin types as values (`key=counts.get`), lazy generator expressions, missing
builtins and methods, `del`, `async with`, tasks and plain generator functions. What a workflow
writes in full plainness is left alone.
"""

from __future__ import annotations

import ast
from typing import Any, cast

from aflow_grpo.workflow.grammar import is_tried_import
from aflow_grpo.workflow.inside import part_name
from aflow_grpo.workflow.rewrite_blocks import collecting, entered_and_left, is_finite_generator
from aflow_grpo.workflow.rewrite_classes import ClassRewriter
from aflow_grpo.workflow.rewrite_errors import expression, with_heirs
from aflow_grpo.workflow.rewrite_names import Imports, name_node, raised_import, stored_names
from aflow_grpo.workflow.rewrite_tables import (
    ALIASES,
    BUILTINS,
    CLASS_METHODS,
    ERROR_FIELDS,
    ERRORS,
    LISTS,
    METHODS,
    TASKS,
    TYPE_NAMES,
    VALUES,
)

__all__ = ["CodeRewriter"]


class CodeRewriter(ast.NodeTransformer):
    """Rewrites one module; `needed` lists the parts that the result uses.

    Args:
        tree: The module; changed in place.
        classes: What was done to its classes.
    """

    def __init__(self, tree: ast.Module, classes: ClassRewriter) -> None:
        self._classes = classes
        nodes: list[ast.AST] = [tree]
        self._parents: dict[ast.AST, ast.AST] = {}
        for node in nodes:  # grows while it is walked
            for child in ast.iter_child_nodes(node):
                if not isinstance(child, ast.expr_context):
                    nodes.append(child)
                    self._parents[child] = node
        self._stored = stored_names(nodes)
        self._stored |= {"compile"} & {
            n.asname or n.name for n in nodes if isinstance(n, ast.alias)
        }
        self._errors = {n.name for n in nodes if isinstance(n, ast.ExceptHandler)}
        self.imports = Imports(nodes, self._stored)
        self._has_tasks = any(
            (isinstance(n, ast.Attribute) and n.attr in TASKS)
            or (isinstance(n, ast.alias) and n.name in TASKS)
            for n in nodes
        )
        self._has_counter = any(
            isinstance(n, ast.alias) and n.name == "Counter" for n in nodes
        ) or (any(isinstance(n, ast.Attribute) and n.attr == "Counter" for n in nodes))
        defined = {n.name for n in nodes if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef))}
        self._sized = bool(defined & {"__len__", "__bool__"})
        self._defined = defined | {
            n.attr for n in nodes if isinstance(n, ast.Attribute) and isinstance(n.ctx, ast.Store)
        }
        self.needed: set[str] = set()
        self.changed = False
        """Whether anything but annotations differs from what was written."""
        self._fresh = 0

    def _part(self, module: str, name: str) -> ast.Name:
        part = part_name(module, name)
        assert part is not None, (module, name)
        self.needed.add(part)
        return name_node(part)

    def _is_builtin(self, node: ast.expr, name: str) -> bool:
        return isinstance(node, ast.Name) and node.id == name and name not in self._stored

    def visit(self, node: ast.AST) -> Any:
        new = super().visit(node)
        self.changed = self.changed or new is not node
        return new

    # Imports and names

    def visit_Import(self, node: ast.Import) -> ast.stmt | list[ast.stmt]:
        statements = self.imports.rewrite_import(node)
        if is_tried_import(node, self._parents.get(node)):
            return raised_import(node)
        return node if statements == [node] else statements or ast.copy_location(ast.Pass(), node)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.stmt | list[ast.stmt]:
        statements = self.imports.rewrite_from(node)
        if is_tried_import(node, self._parents.get(node)):
            return raised_import(node)
        self.needed |= self.imports.needed
        return node if statements == [node] else statements or ast.copy_location(ast.Pass(), node)

    def visit_Name(self, node: ast.Name) -> ast.expr:
        if not isinstance(node.ctx, ast.Load) or node.id in self._stored:
            return node
        if node.id == "__name__":
            return ast.Constant("workflow")
        if node.id in BUILTINS:
            return self._part("", node.id)
        return name_node(ALIASES[node.id]) if node.id in ALIASES else node

    def visit_Subscript(self, node: ast.Subscript) -> ast.expr:
        if self.imports.is_typing(node.value):
            return ast.Constant(None)
        return cast(ast.expr, self.generic_visit(node))

    def visit_Attribute(self, node: ast.Attribute) -> ast.expr:
        if not isinstance(node.ctx, ast.Load):
            return cast(ast.expr, self.generic_visit(node))
        part = self.imports.part(node)
        if part is not None:
            self.needed.add(part)
            return name_node(part)
        if node.attr in ("VERBOSE", "X") and self.imports.module(node.value) == "re":
            return ast.Constant(0)
        if (value := self.imports.typing_value(node)) is not None:
            return value
        if self.imports.module(node.value) is not None:
            return node
        if node.attr == "__class__":
            return ast.Call(name_node("type"), [self.visit(node.value)], [])
        if node.attr == "__name__":
            return self._read_name(node)
        if node.attr in ERROR_FIELDS and getattr(node.value, "id", None) in self._errors:
            field = [ast.Constant(node.attr), expression(f"lambda _o: _o.{node.attr}")]
            return ast.Call(self._part("", "error_field"), [node.value, *field], [])
        if node.attr in self._classes.getters:
            getter = ast.Constant(f"_property_{node.attr}")
            read = expression(f"lambda _o: _o.{node.attr}")
            return ast.Call(name_node("_read"), [self.visit(node.value), getter, read], [])
        parent = self._parents.get(node)
        called = isinstance(parent, ast.Call) and parent.func is node
        known = node.attr in self._defined and not isinstance(node.value, (ast.Constant, ast.Name))
        if node.attr in VALUES and not called and not known:
            value = self.visit(node.value)
            call = _call_of(node.attr)
            if isinstance(value, ast.Name) and value.id in TYPE_NAMES - self._stored:
                return call
            return ast.Call(self._part("", "bound"), [value, ast.Constant(node.attr), call], [])
        return cast(ast.expr, self.generic_visit(node))

    def _read_name(self, node: ast.Attribute) -> ast.expr:
        value = node.value
        if isinstance(value, ast.Call) and self._is_builtin(value.func, "type"):
            return cast(ast.expr, self.generic_visit(node))
        if isinstance(value, ast.Attribute) and value.attr == "__class__":
            return cast(ast.expr, self.generic_visit(node))
        return ast.Call(self._part("", "name_of"), [self.visit(value)], [])

    # Calls

    def visit_Call(self, node: ast.Call) -> ast.expr:
        function = node.func
        verbose = self._verbose_pattern(node)
        if isinstance(function, ast.Attribute):
            changed = self._method_call(node, function)
            if changed is not None:
                return changed
        elif isinstance(function, ast.Name) and function.id not in self._stored:
            changed = self._builtin_call(node, function.id)
            if changed is not None:
                return changed
        self.generic_visit(node)
        if verbose:
            node.args[0] = ast.Call(self._part("", "verbose"), [node.args[0]], [])
        if self._has_tasks and self._is_gather(function):
            node.func = self._part("asyncio", "gather")
        return node

    def _is_gather(self, function: ast.expr) -> bool:
        if isinstance(function, ast.Attribute):
            return function.attr == "gather" and self.imports.module(function.value) == "asyncio"
        return False

    def _verbose_pattern(self, node: ast.Call) -> bool:
        """Whether the call compiles a verbose pattern; its flag is taken out."""
        found = False
        for outer in [*node.args[1:], *(keyword.value for keyword in node.keywords)]:
            for flag in ast.walk(outer):
                if isinstance(flag, ast.Attribute) and flag.attr in ("VERBOSE", "X"):
                    found = found or self.imports.module(flag.value) == "re"
        return found and bool(node.args)

    def _method_call(self, node: ast.Call, function: ast.Attribute) -> ast.expr | None:
        owner, name = function.value, function.attr
        if self.imports.module(owner) is not None:
            return None
        method = name in METHODS or (name == "get" and self._has_counter)
        # `self.translate(…)` asks an operator of that name.
        method = method and not (isinstance(owner, ast.Name) and owner.id == "self")
        if method and name not in self._defined:
            self.generic_visit(node)
            part = self._part("m", name)
            return ast.Call(part, [function.value, *node.args], node.keywords)
        on_type = isinstance(owner, ast.Name) and owner.id in TYPE_NAMES - self._stored
        if on_type and name not in CLASS_METHODS:
            self.generic_visit(node)
            return ast.Call(_call_of(name), node.args, node.keywords)
        return None

    def _builtin_call(self, node: ast.Call, name: str) -> ast.expr | None:
        arguments = node.args
        if name in ("any", "all", "next") and arguments:
            lazy = self._lazy(arguments[0])
            if lazy is not None:
                function = name_node(name) if name == "next" else self._part("", name)
                return ast.Call(function, [lazy, *map(self.visit, arguments[1:])], [])
        if name in ERRORS | set(ALIASES) and arguments and not _is_one_text(arguments):
            self.generic_visit(node)
            return ast.Call(self._part("", "error"), [node.func, *node.args], [])
        if name in LISTS and not self._consumed(node):
            self.generic_visit(node)
            return ast.Call(name_node("iter"), [node], [])
        return self._replaced_call(node, name, len(arguments))

    def _replaced_call(self, node: ast.Call, name: str, count: int) -> ast.expr | None:
        """A call of a builtin that is missing or differs, as a call of what stands for it."""
        known = {
            "round": count == 2,
            "isinstance": count == 2 and bool(self._classes.descendants),
            "getattr": count in (2, 3) and isinstance(node.args[1], ast.Constant),
            "format": count in (1, 2),
            "delattr": count == 2,
            "len": count == 1 and self._sized,
            "bool": count == 1 and self._sized,
        }
        if not known.get(name):
            return None
        self.generic_visit(node)
        first, *rest = node.args
        if name == "isinstance":
            kinds = with_heirs(rest[0], self._classes.descendants)
            return ast.Call(node.func, [first, kinds], [])
        if name == "getattr":
            call = _call_of(str(cast(ast.Constant, rest[0]).value))
            return ast.Call(self._part("", "getattr"), [first, rest[0], call, *rest[1:]], [])
        if name == "format":
            text = ast.Constant("{:{}}" if rest else "{}")
            return ast.Call(ast.Attribute(text, "format", ast.Load()), node.args, [])
        if name == "delattr":
            return ast.Call(name_node("setattr"), [*node.args, ast.Constant(None)], [])
        part = self._part("", "truth" if name == "bool" else name)
        return ast.Call(part, node.args, node.keywords)

    # Generator expressions are lists in the interpreter

    def visit_GeneratorExp(self, node: ast.GeneratorExp) -> ast.expr:
        consumed = self._consumed(node)
        self.generic_visit(node)
        return node if consumed else ast.Call(name_node("iter"), [node], [])

    def _consumed(self, node: ast.expr) -> bool:
        """Whether the iterator is used up where it stands, so that a list serves as well."""
        parent = self._parents.get(node)
        if isinstance(parent, (ast.Starred, ast.For, ast.comprehension)):
            return True
        if isinstance(parent, ast.Call) and parent.func is not node:
            return not self._is_builtin(parent.func, "next")
        return isinstance(parent, (ast.Expr, ast.YieldFrom, ast.Tuple, ast.Compare)) or (
            isinstance(parent, ast.Assign) and isinstance(parent.targets[0], (ast.Tuple, ast.List))
        )

    def _lazy(self, node: ast.expr) -> ast.expr | None:
        """The generator expression as an iterator that computes one element at a time."""
        if not isinstance(node, ast.GeneratorExp) or len(node.generators) != 1:
            return None
        generator = node.generators[0]
        inner = [node.elt, *generator.ifs]
        stops = (ast.Await, ast.NamedExpr, ast.Yield, ast.YieldFrom)
        if any(isinstance(part, stops) for root in inner for part in ast.walk(root)):
            return None
        unpack = _lambda_arguments(generator.target)
        if unpack is None:
            return None
        names, starred = unpack
        test = (
            ast.Constant(True)
            if not generator.ifs
            else (
                generator.ifs[0]
                if len(generator.ifs) == 1
                else ast.BoolOp(ast.And(), generator.ifs)
            )
        )
        functions = []
        for body in (node.elt, test):
            function: ast.expr = ast.Lambda(_arguments(names), self.visit(body))
            if starred:
                item = ast.Starred(name_node("_item"), ast.Load())
                function = ast.Lambda(_arguments(["_item"]), ast.Call(function, [item], []))
            functions.append(function)
        items = self.visit(generator.iter)
        return ast.Call(self._part("", "Lazy"), [*functions, items], [])

    # Statements

    def visit_Assign(self, node: ast.Assign) -> ast.stmt:
        self.generic_visit(node)
        target = node.targets[0]
        if isinstance(target, ast.Attribute) and target.attr in self._classes.setters:
            names = [ast.Constant(f"_setter_{target.attr}"), ast.Constant(target.attr)]
            call = ast.Call(name_node("_write"), [target.value, *names, node.value], [])
            return ast.copy_location(ast.Expr(call), node)
        return node

    def visit_arg(self, node: ast.arg) -> ast.arg:
        node.annotation = None
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.stmt:
        node.target = self.visit(node.target)
        node.value = self.visit(node.value) if node.value is not None else None
        return node

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.stmt:
        node.returns = None
        return cast(ast.stmt, self.generic_visit(node))

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.stmt:
        node.returns = None
        if is_finite_generator(node):
            collecting(node)
            self.changed = True
        return cast(ast.stmt, self.generic_visit(node))

    def visit_Await(self, node: ast.Await) -> ast.expr:
        value = node.value
        self.generic_visit(node)
        if self._has_tasks and not isinstance(value, ast.Call):
            self.needed.add("_awaited")
            return ast.Await(ast.Call(name_node("_awaited"), [node.value], []))
        return node

    def visit_Delete(self, node: ast.Delete) -> list[ast.stmt]:
        made: list[ast.stmt] = []
        for target in node.targets:
            self.generic_visit(target)
            if isinstance(target, ast.Subscript) and isinstance(target.slice, ast.Slice):
                target.ctx = ast.Store()
                made.append(ast.Assign([target], ast.List([], ast.Load())))
            elif isinstance(target, ast.Subscript):
                call = ast.Call(self._part("", "del_item"), [target.value, target.slice], [])
                made.append(ast.Expr(call))
            elif isinstance(target, (ast.Name, ast.Attribute)):
                target.ctx = ast.Store()
                made.append(ast.Assign([target], ast.Constant(None)))
        return [ast.copy_location(statement, node) for statement in made]

    def visit_AsyncWith(self, node: ast.AsyncWith) -> list[ast.stmt]:
        self.generic_visit(node)
        first = self._fresh
        self._fresh += len(node.items)
        return entered_and_left(node, first)


def _is_one_text(arguments: list[ast.expr]) -> bool:
    """Whether the arguments are a text alone, which the interpreter's exceptions take."""
    (only, *rest) = arguments
    text = isinstance(only, ast.Constant) and isinstance(only.value, str)
    return not rest and (text or isinstance(only, ast.JoinedStr))


def _call_of(name: str) -> ast.expr:
    """``lambda _o, *a, **k: _o.name(*a, **k)``."""
    if not name.isidentifier():
        return ast.Constant(None)
    special = {
        "__len__": "lambda _o: len(_o)",
        "__getitem__": "lambda _o, _k: _o[_k]",
        "__contains__": "lambda _o, _k: _k in _o",
    }
    text = special.get(name, f"lambda _o, *_a, **_k: _o.{name}(*_a, **_k)")
    return expression(text)


def _lambda_arguments(target: ast.expr) -> tuple[list[str], bool] | None:
    """Names that a comprehension binds, and whether they unpack the item; None when nested."""
    if isinstance(target, ast.Name):
        return [target.id], False
    if isinstance(target, ast.Tuple) and all(isinstance(e, ast.Name) for e in target.elts):
        return [cast(ast.Name, element).id for element in target.elts], True
    return None


def _arguments(names: list[str]) -> ast.arguments:
    return ast.arguments([], [ast.arg(name) for name in names], None, [], [], None, [])
