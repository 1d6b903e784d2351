"""What the statements of a workflow add to its picture.

Branches and loops are drawn when something in them matters: an operator call, a way out. Other
statements are drawn when they compute something from what operators returned, such as a vote; what
only carries values along is followed, not drawn.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence

from aflow_grpo.workflow.anatomy import Function
from aflow_grpo.workflow.picture.control import ends
from aflow_grpo.workflow.picture.draft import Environment, Values, together
from aflow_grpo.workflow.picture.expressions import Expressions, Scene, holder_name
from aflow_grpo.workflow.picture.graph import Arm, Branch, BranchKind, Frame, FrameKind, Item, Node
from aflow_grpo.workflow.picture.wording import MAX_DETAIL_CHARS, MAX_TITLE_CHARS, shorten

__all__ = ["Statements"]

_MAX_HELPERS_DEEP = 5
_TEST_CHARS = 90
_MAX_LOOPS_TWICE = 3
"""Loops within loops that are read twice; deeper ones once."""


class Statements:
    """Reads the bodies of `__call__` and of the helpers it calls.

    Args:
        scene: What is shared.
        start: Id of the box that the problem comes from.
    """

    def __init__(self, scene: Scene, start: str) -> None:
        self._draft, self._places, self._wording = scene.draft, scene.places, scene.wording
        self._expressions = Expressions(scene, self._enter)
        self._start = start
        self._helpers: list[Function] = []
        self._returned: list[dict[str, str]] = []
        self._loops_deep = 0

    def body(self, statements: Sequence[ast.stmt], names: Environment) -> list[Item]:
        """The items of a body, up to where nothing more is reached; `names` is kept up to date."""
        items: list[Item] = []
        for statement in statements:
            self._statement(statement, names, items)
            if items and ends(items[-1]):
                break
        return items

    def _value(self, node: ast.expr | None, names: Environment, items: list[Item]) -> Values:
        return self._expressions.value(node, names, items)

    def _statement(self, node: ast.stmt, names: Environment, items: list[Item]) -> None:
        match node:
            case ast.Assign(targets=targets, value=value):
                self._assign(node, targets, value, names, items)
            case ast.AnnAssign(target=target, value=value) if value is not None:
                self._assign(node, [target], value, names, items)
            case ast.AugAssign(target=target, value=value):
                held = self._value(value, names, items)
                holder = holder_name(target)
                if holder is not None:
                    names[holder] = names.get(holder, frozenset()) | frozenset(held)
            case ast.Return():
                self._return(node, names, items)
            case ast.Raise(exc=raised):
                self._value(raised, names, items)
                detail = self._wording.source(raised) if raised is not None else ""
                self._add(self._draft.node(node, "jump", "raise", detail=detail), items)
            case ast.Break() | ast.Continue():
                title = type(node).__name__.lower()
                self._add(self._draft.node(node, "jump", title), items)
            case ast.With() | ast.AsyncWith():
                for manager in node.items:
                    self._value(manager.context_expr, names, items)
                items += self.body(node.body, names)
            case ast.If() | ast.Match() | ast.Try() | ast.For() | ast.AsyncFor() | ast.While():
                self._compound(node, names, items)
            case ast.Expr(value=value):
                self._value(value, names, items)
            case ast.Assert():
                self._value(node.test, names, items)

    @staticmethod
    def _add(node: Node | None, items: list[Item]) -> None:
        if node is not None:
            items.append(node)

    def _assign(
        self,
        statement: ast.stmt,
        targets: Sequence[ast.expr],
        value: ast.expr,
        names: Environment,
        items: list[Item],
    ) -> None:
        held = self._value(value, names, items)
        parts = self._expressions.parts(value)
        if isinstance(value, (ast.Tuple, ast.List)):
            parts = [self._value(element, names, []) for element in value.elts]
        if not self._places.matters(statement) and self._places.computes(value):
            held, parts = self._step(statement, held, items), None
        for target in targets:
            self._bind(target, held, parts, names)

    def _step(self, statement: ast.stmt, values: Values, items: list[Item]) -> Values:
        """A box for a computation on operators' results; without any of those, none."""
        made = {source: label for source, label in values.items() if source != self._start}
        if not made:
            return values
        text = self._wording.source(statement, MAX_TITLE_CHARS)
        node = self._draft.node(statement, "step", text, values=made)
        self._add(node, items)
        return {node.id: ""} if node is not None else values

    def _bind(
        self, target: ast.expr, held: Values, parts: list[Values] | None, names: Environment
    ) -> None:
        if isinstance(target, (ast.Tuple, ast.List)):
            fits = parts is not None and len(parts) == len(target.elts)
            for number, element in enumerate(target.elts):
                self._bind(element, parts[number] if fits and parts else held, None, names)
        elif isinstance(target, ast.Starred):
            self._bind(target.value, held, None, names)
        elif isinstance(target, ast.Subscript):
            holder = holder_name(target)
            if holder is not None:
                kept = frozenset(held) | self._expressions.held(target, names)
                names[holder] = names.get(holder, frozenset()) | kept
        else:
            holder = holder_name(target)
            if holder is not None:
                names[holder] = frozenset(held)

    def _return(self, node: ast.Return, names: Environment, items: list[Item]) -> None:
        value = node.value
        if isinstance(value, ast.Tuple) and value.elts and not self._helpers:
            value = value.elts[0]  # answer and cost
        held = self._value(value, names, items)
        detail = (
            self._expressions.shown(value, MAX_DETAIL_CHARS) if value is not None else "nothing"
        )
        if not self._helpers:
            answer = self._draft.node(node, "end", "answer", detail=detail, values=held)
            self._add(answer, items)
            return
        self._returned[-1] = together(self._returned[-1], held)
        if node is not _last(self._helpers[-1].body):
            self._add(self._draft.node(node, "return", "return", detail=detail), items)

    def _compound(self, node: ast.stmt, names: Environment, items: list[Item]) -> None:
        if not self._places.decides(node):
            self._plain(node, names, items)
        elif isinstance(node, ast.If):
            self._if(node, names, items)
        elif isinstance(node, ast.Match):
            self._match(node, names, items)
        elif isinstance(node, ast.Try):
            self._try(node, names, items)
        elif isinstance(node, (ast.For, ast.AsyncFor, ast.While)):
            self._loop(node, names, items)

    def _plain(self, node: ast.stmt, names: Environment, items: list[Item]) -> None:
        """A compound statement without operators: one step if it computes, else only followed."""
        used = [part for part in ast.walk(node) if isinstance(part, ast.Name)]
        before = {part.id: names[part.id] for part in used if part.id in names}
        self._follow(node, names)
        if not self._places.computes(node):
            return
        values = together(*(dict.fromkeys(sorted(boxes), name) for name, boxes in before.items()))
        made = self._step(node, values, items)
        if made is not values:
            assigned = {part.id for part in used if isinstance(part.ctx, ast.Store)}
            changed = {name for name, boxes in names.items() if before.get(name, boxes) != boxes}
            names.update(dict.fromkeys(assigned | changed, frozenset(made)))

    def _follow(self, node: ast.stmt, names: Environment) -> None:
        """Reads a plain compound statement for where its values go."""
        if isinstance(node, (ast.For, ast.AsyncFor)):
            self._bind(node.target, self._value(node.iter, names, []), None, names)
        after = []
        for arm in _bodies(node):
            inside = dict(names)
            for statement in arm:
                self._follow_one(statement, inside)
            after.append(inside)
        for inside in after:
            _merge(names, inside)

    def _follow_one(self, node: ast.stmt, names: Environment) -> None:
        match node:
            case ast.Assign(targets=targets, value=value):
                held = self._value(value, names, [])
                for target in targets:
                    self._bind(target, held, self._expressions.parts(value), names)
            case ast.If() | ast.Match() | ast.Try() | ast.For() | ast.AsyncFor() | ast.While():
                self._follow(node, names)
            case _:
                self._statement(node, names, [])

    def _if(self, node: ast.If, names: Environment, items: list[Item]) -> None:
        values = self._value(node.test, names, items)
        decision = self._draft.node(
            node, "decision", self._expressions.shown(node.test, _TEST_CHARS), values=values
        )
        self._arms("if", decision, {"yes": node.body, "no": node.orelse}, names, items)

    def _match(self, node: ast.Match, names: Environment, items: list[Item]) -> None:
        values = self._value(node.subject, names, items)
        title = f"match {self._expressions.shown(node.subject)}"
        decision = self._draft.node(node, "decision", shorten(title, 60), values=values)
        bodies: dict[str, Sequence[ast.stmt]] = {}
        for case in node.cases:
            label = self._case(case)
            for part in ast.walk(case.pattern):
                captured = getattr(part, "name", None)
                if isinstance(captured, str):
                    names[captured] = frozenset(values)
            bodies[label if label not in bodies else f"{label} (line {case.body[0].lineno})"] = (
                case.body
            )
        last = node.cases[-1]
        always = isinstance(last.pattern, ast.MatchAs) and last.pattern.pattern is None
        if not always or last.guard is not None:
            bodies["else"] = ()
        self._arms("match", decision, bodies, names, items)

    def _case(self, case: ast.match_case) -> str:
        pattern = self._wording.source(case.pattern, 30)
        if case.guard is not None:
            return f"{pattern} if {self._wording.source(case.guard, 30)}"
        return "else" if pattern == "_" else pattern

    def _try(self, node: ast.Try, names: Environment, items: list[Item]) -> None:
        decision = self._draft.node(node, "decision", "try") if node.handlers else None
        bodies: dict[str, Sequence[ast.stmt]] = {"": [*node.body, *node.orelse]}
        for handler in node.handlers:
            kind = self._wording.source(handler.type, 30) if handler.type is not None else ""
            label = f"except {kind}".strip()
            bodies[label if label not in bodies else f"{label} "] = handler.body
        found: list[Item] = []
        if node.handlers:
            before = dict(names)
            self._arms("try", decision, bodies, names, found)
            _merge(names, before)
        else:
            found = self.body(bodies[""], names)
        items += found
        if not (found and ends(found[-1])):
            items += self.body(node.finalbody, names)

    def _arms(
        self,
        kind: BranchKind,
        decision: Node | None,
        bodies: dict[str, Sequence[ast.stmt]],
        names: Environment,
        items: list[Item],
    ) -> None:
        """A branch; what its arms hold in the variables afterwards is merged into `names`."""
        arms: list[Arm] = []
        after: list[Environment] = []
        before = dict(names)
        for label, body in bodies.items():
            inside = dict(before)
            if kind == "try" and arms:
                for earlier in after[:1]:
                    _merge(inside, earlier)  # any part of the body may have run
            found = self.body(body, inside)
            arms.append(Arm(label.strip(), tuple(found)))
            if not (found and ends(found[-1])):
                after.append(inside)
        if after:
            names.clear()
            names.update(after[0])
            for inside in after[1:]:
                _merge(names, inside)
        if decision is not None and any(arm.body for arm in arms):
            items.append(Branch(kind, decision, tuple(arms)))

    def _loop(
        self, node: ast.For | ast.AsyncFor | ast.While, names: Environment, items: list[Item]
    ) -> None:
        held: Values = {}
        if isinstance(node, ast.While):
            title = f"while {self._expressions.shown(node.test)}"
        else:
            held = self._value(node.iter, names, items)
            title = (
                f"for {self._wording.source(node.target)} in {self._expressions.shown(node.iter)}"
            )
        self._loops_deep += 1
        found: list[Item] = []
        for _ in range(2 if self._loops_deep <= _MAX_LOOPS_TWICE else 1):
            inside = dict(names)
            found = []
            if isinstance(node, ast.While):
                self._value(node.test, inside, found)
            else:
                self._bind(node.target, held, None, inside)
            found += self.body(node.body, inside)
            _merge(names, inside)
        self._loops_deep -= 1
        test = node.test if isinstance(node, ast.While) else None
        forever = isinstance(test, ast.Constant) and bool(test.value)
        kind: FrameKind = "parallel" if self._places.starts_only(node) else "loop"
        if found:
            title = shorten(title, MAX_TITLE_CHARS)
            items.append(Frame(kind, title, tuple(found), forever, node.lineno))
        items += self.body(node.orelse, names)

    def _enter(
        self, call: ast.Call, function: Function, names: Environment, items: list[Item]
    ) -> Values:
        """A helper's items, in a frame of their own; where its result comes from."""
        given = [*call.args, *(keyword.value for keyword in call.keywords)]
        values = [self._value(argument, names, items) for argument in given]
        title = shorten(self._wording.source(call), MAX_TITLE_CHARS)
        if function in self._helpers or len(self._helpers) >= _MAX_HELPERS_DEEP:
            every = together(*values)
            node = self._draft.node(call, "step", title, values=every)
            self._add(node, items)
            return {node.id: ""} if node is not None else every
        positional = [argument.arg for argument in function.args.args]
        is_method = positional[:1] == ["self"]
        positional = positional[is_method:]
        inside = {n: b for n, b in names.items() if not is_method or n.startswith("self.")}
        keywords = [keyword.arg or "" for keyword in call.keywords]
        for name, value in zip([*positional[: len(call.args)], *keywords], values, strict=False):
            inside[name] = frozenset(value)
        self._helpers.append(function)
        self._returned.append({})
        outer, self._draft.path = self._draft.path, (*self._draft.path, id(call))
        found = self.body(function.body, inside)
        self._draft.path = outer
        self._helpers.pop()
        for name, boxes in inside.items():
            if name.startswith("self."):
                names[name] = boxes
        if found:
            items.append(Frame("method", title, tuple(found), line=function.lineno))
        return dict.fromkeys(self._returned.pop(), "")


def _merge(names: Environment, other: Environment) -> None:
    for name, boxes in other.items():
        names[name] = names.get(name, frozenset()) | boxes


def _bodies(node: ast.stmt) -> list[list[ast.stmt]]:
    """The bodies of a compound statement."""
    found = [getattr(node, field, []) for field in ("body", "orelse", "finalbody")]
    found += [part.body for part in getattr(node, "handlers", [])]
    found += [part.body for part in getattr(node, "cases", [])]
    return found


def _last(body: Sequence[ast.stmt]) -> ast.stmt:
    """The last statement of a body, which may stand in a `with`."""
    statement = body[-1]
    while isinstance(statement, (ast.With, ast.AsyncWith)):
        statement = statement.body[-1]
    return statement
