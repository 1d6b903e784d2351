"""What the expressions of a workflow add to its picture, and where their values come from."""

from __future__ import annotations

import ast
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from aflow_grpo.workflow.anatomy import Function, self_attribute
from aflow_grpo.workflow.calls import argument_pairs
from aflow_grpo.workflow.picture.draft import Draft, Environment, Values, together
from aflow_grpo.workflow.picture.graph import Arm, Branch, Frame, FrameKind, Item, Node, Role
from aflow_grpo.workflow.picture.places import GATHERERS, Places
from aflow_grpo.workflow.picture.wording import MAX_TITLE_CHARS, Wording, shorten
from aflow_grpo.workflow.spec import OperatorSpec
from aflow_grpo.workflow.uses import OperatorUse

__all__ = ["Expressions", "Scene", "role_of"]

_GROWING = frozenset({"append", "extend", "add", "insert", "update", "setdefault", "appendleft"})
_LABEL_CHARS = 26
_MAX_DEPTH = 60
Comprehension = ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp


@dataclass(frozen=True)
class Scene:
    """What reading one workflow shares."""

    draft: Draft
    places: Places
    wording: Wording


def role_of(spec: OperatorSpec) -> Role:
    """What an operator does, by its contract."""
    if any(parameter.type == "list[str]" for parameter in spec.parameters):
        return "choose"
    if any(key.type == "bool" for key in spec.returns):
        return "check"
    if any(parameter.name == "solution" for parameter in spec.parameters):
        return "refine"
    return "generate"


class Expressions:
    """Reads expressions: adds their boxes to a sequence, returns where their value comes from.

    Args:
        scene: What is shared.
        enter: Reads a helper that is called: call, its function, its values by parameter.
    """

    def __init__(
        self,
        scene: Scene,
        enter: Callable[[ast.Call, Function, Environment, list[Item]], Values],
    ) -> None:
        self._draft, self._places, self._wording = scene.draft, scene.places, scene.wording
        self._enter = enter
        self._depth = 0
        self._parts: dict[int, list[Values]] = {}

    def value(self, node: ast.expr | None, names: Environment, items: list[Item]) -> Values:
        """Where the value of an expression comes from; its boxes are appended to `items`."""
        if node is None or not self._draft.goes_on() or self._depth > _MAX_DEPTH:
            return {}
        self._depth += 1
        found = self._value(node, names, items)
        self._depth -= 1
        return found

    def shown(self, node: ast.expr, most_chars: int = MAX_TITLE_CHARS) -> str:
        """An expression as written; operators that it calls have boxes, here only their names."""
        return self._wording.source(node, most_chars, self._places.calls_in(node))

    def parts(self, node: ast.expr) -> list[Values] | None:
        """The values of a gather's coroutines one by one, once it has been read."""
        inner = node.value if isinstance(node, ast.Await) else node
        return self._parts.get(id(inner))

    def _value(self, node: ast.expr, names: Environment, items: list[Item]) -> Values:
        match node:
            case ast.Name(id=name):
                return dict.fromkeys(names.get(name, ()), name)
            case ast.Attribute():
                own = self_attribute(node)
                if own is not None:
                    return dict.fromkeys(names.get(f"self.{own}", ()), f"self.{own}")
                return self.value(node.value, names, items)
            case ast.Subscript(value=holder, slice=index):
                held = self.value(holder, names, items)
                self.value(index, names, items)
                label = _item_label(holder, index)
                return dict.fromkeys(held, label) if label else held
            case ast.Call():
                return self._call(node, names, items)
            case ast.ListComp() | ast.SetComp() | ast.GeneratorExp() | ast.DictComp():
                return self._comprehension(node, names, items)
            case ast.IfExp() if self._places.matters(node.body) or self._places.matters(
                node.orelse
            ):
                return self._choice(node, names, items)
            case ast.NamedExpr(target=ast.Name(id=name), value=inner):
                held = self.value(inner, names, items)
                names[name] = frozenset(held)
                return held
            case ast.Lambda():
                return self.value(node.body, names, items)
        return together(*(self.value(child, names, items) for child in _children(node)))

    def _call(self, call: ast.Call, names: Environment, items: list[Item]) -> Values:
        spec = self._places.operator(call)
        if spec is not None:
            return self._operator(call, spec, names, items)
        helper = self._places.helper(call)
        if helper is not None:
            return self._enter(call, helper, names, items)
        missing = self._places.missing(call)
        given = [*call.args, *(keyword.value for keyword in call.keywords)]
        if missing is not None:
            values = together(*(self.value(argument, names, items) for argument in given))
            return self._box(
                self._draft.node(
                    call, "fault", shorten(missing, 40), detail="no such operator", values=values
                ),
                values,
                items,
            )
        function = call.func
        name = function.attr if isinstance(function, ast.Attribute) else ""
        name = function.id if isinstance(function, ast.Name) else name
        if name in GATHERERS:
            return self._gather(call, given, names, items)
        receiver = self.value(function, names, items)
        values = together(*(self.value(argument, names, items) for argument in given))
        if name in _GROWING and isinstance(function, ast.Attribute):
            holder = holder_name(function.value)
            if holder is not None:
                index = self.held(function.value, names)
                names[holder] = names.get(holder, frozenset()) | frozenset(values) | index
        if name == "get" and isinstance(function, ast.Attribute) and call.args:
            label = _item_label(function.value, call.args[0])
            receiver = dict.fromkeys(receiver, label) if label else receiver
        return together(receiver, values)

    def held(self, target: ast.expr, names: Environment) -> frozenset[str]:
        """Where the indices of `x[index]` come from, since they are kept in `x`."""
        found: set[str] = set()
        while isinstance(target, ast.Subscript):
            found |= set(self.value(target.slice, names, []))
            target = target.value
        return frozenset(found)

    def _operator(
        self, call: ast.Call, spec: OperatorSpec, names: Environment, items: list[Item]
    ) -> Values:
        use = OperatorUse(call, spec, None)
        shown = {id(value) for p, value in argument_pairs(use) if p.name == "mode"}
        given = [*call.args, *(keyword.value for keyword in call.keywords)]
        values = together(
            *(self.value(argument, names, items) for argument in given if id(argument) not in shown)
        )
        node = self._draft.node(
            call,
            "operator",
            spec.attribute,
            detail=self._wording.call_detail(use),
            role=role_of(spec),
            values=values,
        )
        return self._box(node, values, items)

    @staticmethod
    def _box(node: Node | None, values: Values, items: list[Item]) -> Values:
        """Appends a box, whose id is then where the value comes from; without one, `values`."""
        if node is None:
            return values
        items.append(node)
        return {node.id: ""}

    def _gather(
        self, call: ast.Call, given: Sequence[ast.expr], names: Environment, items: list[Item]
    ) -> Values:
        arms: list[Arm] = []
        parts: list[Values] = []
        for argument in _flattened(given):
            inner: list[Item] = []
            value = argument.value if isinstance(argument, ast.Starred) else argument
            parts.append(self.value(value, names, inner))
            if inner:
                arms.append(Arm("", tuple(inner)))
        if len(arms) > 1:
            items.append(Branch("parallel", None, tuple(arms)))
        elif arms:
            items.extend(arms[0].body)
        if not any(isinstance(argument, ast.Starred) for argument in given):
            self._parts[id(call)] = parts
        return together(*parts)

    def _comprehension(self, node: Comprehension, names: Environment, items: list[Item]) -> Values:
        inside = dict(names)
        inner: list[Item] = []
        iterated: list[Values] = []
        for number, generator in enumerate(node.generators):
            into = items if number == 0 else inner
            iterated.append(self.value(generator.iter, inside, into))
            for target in ast.walk(generator.target):
                if isinstance(target, ast.Name):
                    inside[target.id] = frozenset(iterated[-1])
            for condition in generator.ifs:
                self.value(condition, inside, inner)
        elements = [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]
        made = together(*(self.value(element, inside, inner) for element in elements))
        if inner:
            first = node.generators[0]
            title = f"for {self._wording.source(first.target)} in {self.shown(first.iter)}"
            awaits = any(isinstance(n, ast.Await) for e in elements for n in ast.walk(e))
            kind: FrameKind = "loop" if awaits else "parallel"
            frame = Frame(kind, shorten(title, 60), tuple(inner), line=node.lineno)
            items.append(frame)
            return made
        return made or together(*iterated)

    def _choice(self, node: ast.IfExp, names: Environment, items: list[Item]) -> Values:
        values = self.value(node.test, names, items)
        title = self.shown(node.test)
        decision = self._draft.node(node, "decision", title, values=values)
        yes: list[Item] = []
        no: list[Item] = []
        found = together(self.value(node.body, names, yes), self.value(node.orelse, names, no))
        if decision is not None:
            arms = (Arm("yes", tuple(yes)), Arm("no", tuple(no)))
            items.append(Branch("if", decision, arms))
        return found


def holder_name(node: ast.expr) -> str | None:
    """The variable or attribute of `self` that holds what an expression changes."""
    while isinstance(node, ast.Subscript):
        node = node.value
    if isinstance(node, ast.Name):
        return node.id
    own = self_attribute(node)
    return f"self.{own}" if own is not None else None


def _item_label(holder: ast.expr, index: ast.expr) -> str:
    """`name["key"]`, `name[0]`, or the key alone."""
    if not isinstance(index, ast.Constant) or not isinstance(index.value, (str, int)):
        return ""
    key = f'"{index.value}"' if isinstance(index.value, str) else str(index.value)
    if isinstance(holder, ast.Name):
        whole = f"{holder.id}[{key}]"
        # Of a long name the variable says more than the end of its key.
        return shorten(whole if len(whole) <= _LABEL_CHARS else holder.id, _LABEL_CHARS)
    return shorten(str(index.value), _LABEL_CHARS) if isinstance(index.value, str) else ""


def _children(node: ast.AST) -> list[ast.expr]:
    found: list[ast.expr] = []
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.expr):
            found.append(child)
        elif isinstance(child, ast.keyword):
            found.append(child.value)
    return found


def _flattened(given: Sequence[ast.expr]) -> list[ast.expr]:
    """A gather's arguments, those of a starred list one by one."""
    found: list[ast.expr] = []
    for argument in given:
        listed = isinstance(argument, ast.Starred) and isinstance(
            argument.value, (ast.List, ast.Tuple)
        )
        found += argument.value.elts if listed else [argument]  # type: ignore[attr-defined]
    return found
