"""Variables that are read before any path, or before every path, has assigned them.

A walk over a function's statements that keeps, at every point, which of its variables may be
assigned and which surely are. Only variables whose first assignment does not plainly come first
are followed. Exceptions may leave a `try` body anywhere. Not covered: variables of enclosing
functions, module level, `del`.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from aflow_grpo.records import Finding
from aflow_grpo.workflow.anatomy import Function, WorkflowClass
from aflow_grpo.workflow.rules import found

__all__ = ["check_flow", "surely_ends"]

_NESTED = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
_LOOPS = (ast.For, ast.AsyncFor, ast.While)
_COMPOUND = (ast.If, *_LOOPS, ast.Try, ast.With, ast.AsyncWith, ast.Match)
_JUMPS = (ast.Break, ast.Continue, ast.Return, ast.Raise)


class _State(NamedTuple):
    """What is assigned at one point; `None` in a state's place means that no path gets there."""

    surely: frozenset[str]
    maybe: frozenset[str]

    def after(self, names: Iterable[str]) -> _State:
        new = frozenset(names)
        return _State(self.surely | new, self.maybe | new) if new else self


def _joined(states: Iterable[_State | None]) -> _State | None:
    reached = [state for state in states if state is not None]
    if not reached:
        return None
    surely = frozenset.intersection(*(state.surely for state in reached))
    return _State(surely, frozenset().union(*(state.maybe for state in reached)))


def check_flow(workflow: WorkflowClass) -> Iterator[Finding]:
    """Findings for variables that are not, or not always, assigned where they are read."""
    stores: dict[Function, dict[str, ast.AST]] = {}
    for name in workflow.every(ast.Name):
        owner = workflow.owners[name]
        if owner is not None and not isinstance(name.ctx, ast.Load):
            stores.setdefault(owner, {})
            if not _in_comprehension(name, workflow):
                stores[owner].setdefault(name.id, name)
    for function, first in stores.items():
        followed = _followed(function, first, workflow)
        if followed:
            yield from _Walk(followed).findings(function)


def _in_comprehension(name: ast.Name, workflow: WorkflowClass) -> bool:
    node: ast.AST = name
    parent = workflow.parents[node]
    while isinstance(parent, (ast.Tuple, ast.List, ast.Starred)):
        node, parent = parent, workflow.parents[parent]
    return isinstance(parent, ast.comprehension) and parent.target is node


def _followed(
    function: Function, first: dict[str, ast.AST], workflow: WorkflowClass
) -> frozenset[str]:
    """The function's variables whose first assignment is not plainly before all reads."""
    arguments = function.args
    parameters = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    known = {a.arg for a in (*parameters, arguments.vararg, arguments.kwarg) if a is not None}
    known |= workflow.shared_names
    plain: dict[str, int] = {}
    for statement in function.body:
        targets = statement.targets if isinstance(statement, ast.Assign) else ()
        for target in targets:
            for node in target.elts if isinstance(target, ast.Tuple) else (target,):
                if isinstance(node, ast.Name):
                    plain.setdefault(node.id, statement.end_lineno or statement.lineno)
    names = {name for name in first if name not in known}
    reads: dict[str, int] = {}
    for node in workflow.every(ast.Name):
        if node.id in names and workflow.owners[node] is function:
            is_read = isinstance(node.ctx, ast.Load) or isinstance(
                workflow.parents[node], ast.AugAssign
            )
            if is_read:
                reads[node.id] = min(reads.get(node.id, node.lineno), node.lineno)
    return frozenset(n for n in reads if n not in plain or reads[n] <= plain[n])


class _Walk:
    """One function's walk.

    Args:
        followed: The variables that are followed.
    """

    def __init__(self, followed: frozenset[str]) -> None:
        self._followed = followed
        self._found: dict[tuple[str, int, int], Finding] = {}
        self._breaks: list[list[_State | None]] = []
        self._continues: list[list[_State | None]] = []
        self._guards = 0

    def findings(self, function: Function) -> list[Finding]:
        """What is read too early; a variable is reported once."""
        self._block(function.body, _State(frozenset(), frozenset()))
        once: dict[str, Finding] = {}
        for (name, _, _), finding in sorted(self._found.items(), key=lambda item: item[0][1:]):
            if name not in once or once[name].severity == "warn" != finding.severity:
                once[name] = finding
        return list(once.values())

    def _block(self, body: Sequence[ast.stmt], state: _State | None) -> _State | None:
        for statement in body:
            if state is None:
                return None  # no path gets here
            state = self._statement(statement, state)
        return state

    def _statement(self, node: ast.stmt, state: _State) -> _State | None:
        match node:
            case ast.If(test=test, body=body, orelse=orelse):
                state = self._read(test, state)
                return _joined([self._block(body, state), self._block(orelse, state)])
            case ast.For() | ast.AsyncFor() | ast.While():
                return self._loop(node, state)
            case ast.Try():
                return self._try(node, state)
            case ast.With(items=items, body=body) | ast.AsyncWith(items=items, body=body):
                return self._block(body, self._read(items, state))
            case ast.Match(subject=subject, cases=cases):
                return self._match(subject, cases, state)
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                state = self._read([*node.decorator_list, *node.args.defaults], state)
                return state.after(self._followed & {name})
            case ast.ClassDef(name=name):
                return state.after(self._followed & {name})
            case ast.Import(names=names) | ast.ImportFrom(names=names):
                bound = {(a.asname or a.name).split(".")[0] for a in names}
                return state.after(self._followed & bound)
            case ast.Return() | ast.Raise():
                self._read(node, state)
                return None
            case ast.Break():
                self._breaks[-1].append(state)
                return None
            case ast.Continue():
                self._continues[-1].append(state)
                return None
            case ast.AnnAssign(value=None):
                return state
            case ast.AugAssign(target=ast.Name() as target, value=value):
                self._use(target, self._read(value, state))
                return state.after(self._followed & {target.id})
            case ast.Assign(targets=targets, value=value):
                return self._read(targets, self._read(value, state))
            case _:
                return self._read(node, state)

    def _loop(self, node: ast.For | ast.AsyncFor | ast.While, state: _State) -> _State | None:
        self._breaks.append([])
        self._continues.append([])
        if isinstance(node, ast.While):
            entered = state = self._read(node.test, state)
            forever = isinstance(node.test, ast.Constant) and bool(node.test.value)
        else:
            state = self._read(node.iter, state)
            entered, forever = self._read(node.target, state), _surely_runs(node.iter)
        ends = _joined([self._body(node.body, entered), *self._continues.pop()])
        never_entered = None if forever else state
        after = None if forever and isinstance(node, ast.While) else _joined([ends, never_entered])
        after = self._block(node.orelse, after)
        return _joined([after, *self._breaks.pop()])

    def _body(self, body: Sequence[ast.stmt], state: _State | None) -> _State | None:
        """A loop's body: its first run is certain until a branch, later ones see what it stores."""
        carried = frozenset(_stored(body)) & self._followed
        certain = True
        for statement in body:
            if state is None:
                return None
            if isinstance(statement, _COMPOUND) or not certain:
                stored = frozenset(_stored([statement])) & self._followed
                before = state.maybe
                state = self._statement(statement, _State(state.surely, before | carried))
                certain = certain and not any(isinstance(n, _JUMPS) for n in ast.walk(statement))
                if state is not None and certain:
                    state = _State(state.surely, before | stored | state.surely)
            else:
                state = self._statement(statement, state)
        return state

    def _try(self, node: ast.Try, state: _State) -> _State | None:
        # A handler may be entered after any part of the body.
        bound = frozenset(_stored(node.body)) & self._followed
        self._guards += bool(node.handlers)
        done = self._block(node.body, state)
        self._guards -= bool(node.handlers)
        interrupted = _State(state.surely, state.maybe | bound)
        ends = [self._block(node.orelse, done)]
        for handler in node.handlers:
            name = {handler.name} if handler.name else set()
            after = self._block(handler.body, interrupted.after(self._followed & name))
            ends.append(after)
        joined = _joined(ends)
        if not node.finalbody:
            return joined
        maybe = joined.maybe if joined else frozenset()
        finals = self._block(node.finalbody, _State(state.surely, interrupted.maybe | maybe))
        return (
            None if finals is None or joined is None else joined.after(finals.surely - state.surely)
        )

    def _match(
        self, subject: ast.expr, cases: Sequence[ast.match_case], state: _State
    ) -> _State | None:
        state = self._read(subject, state)
        ends: list[_State | None] = []
        for case in cases:
            captured = {
                name
                for part in ast.walk(case.pattern)
                for name in (getattr(part, "name", None), getattr(part, "rest", None))
                if name
            }
            inner = state.after(self._followed & captured)
            if case.guard is not None:
                inner = self._read(case.guard, inner)
            ends.append(self._block(case.body, inner))
        return _joined(ends if _irrefutable(cases[-1]) else [*ends, state])

    def _read(self, part: ast.AST | Sequence[ast.AST], state: _State) -> _State:
        """Takes note of what an expression reads; the state after what it assigns."""
        pending = list(reversed(part)) if isinstance(part, Sequence) else [part]
        while pending:
            node = pending.pop()
            if isinstance(node, ast.Name):
                if isinstance(node.ctx, ast.Load):
                    self._use(node, state)
                else:
                    state = state.after(self._followed & {node.id})
            elif isinstance(node, _COMPREHENSIONS):
                state = self._comprehension(node, state)
            elif isinstance(node, ast.NamedExpr):
                state = self._read(node.value, state).after(self._followed & {node.target.id})
            elif isinstance(node, (ast.BoolOp, ast.IfExp)):
                state = self._partial(node, state)
            elif not isinstance(node, _NESTED):
                pending.extend(reversed(list(ast.iter_child_nodes(node))))
        return state

    def _partial(self, node: ast.BoolOp | ast.IfExp, state: _State) -> _State:
        """An expression of which only the first part is sure to be evaluated."""
        if isinstance(node, ast.IfExp):
            state = self._read(node.test, state)
            return _joined([self._read(node.body, state), self._read(node.orelse, state)]) or state
        # `(m := f()) and m.group()`: the later parts see what the earlier ones assign, and a test
        # on the whole mostly means that all were evaluated.
        for value in node.values:
            state = self._read(value, state)
        return state

    def _comprehension(
        self,
        node: ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp,
        state: _State,
    ) -> _State:
        """Its own variables are not the function's; what `:=` assigns in it is."""
        own = {n for generator in node.generators for n in _stored([generator.target])}
        inner = _Walk(self._followed - own)
        inner._guards = self._guards
        after = state
        for generator in node.generators:
            after = inner._read([generator.iter, *generator.ifs], after)
        parts = [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]
        after = inner._read(parts, after)
        self._found.update(inner._found)
        return _State(state.surely, after.maybe)

    def _use(self, name: ast.Name, state: _State) -> None:
        if name.id not in self._followed or name.id in state.surely:
            return
        at = (name.id, name.lineno, name.col_offset)
        if name.id in state.maybe or self._guards:  # a handler may catch it
            message = f"`{name.id}` is not assigned on every path to here"
            self._found[at] = found("possibly-unbound", message, name)
        else:
            message = f"`{name.id}` is read here before anything is assigned to it"
            self._found[at] = found("unbound-variable", message, name)


def _surely_runs(iterated: ast.expr) -> bool:
    """Whether a loop over this surely runs at least once."""
    match iterated:
        case ast.List(elts=[_, *_]) | ast.Tuple(elts=[_, *_]) | ast.Set(elts=[_, *_]):
            return True
        case ast.Call(func=ast.Name(id="range"), args=[ast.Constant(value=int(n))]):
            return n > 0
        case ast.Call(
            func=ast.Name(id="range"),
            args=[ast.Constant(value=int(a)), ast.Constant(value=int(b))],
        ):
            return a < b
        case ast.Call(func=ast.Name(id="enumerate"), args=[inner, *_]):
            return _surely_runs(inner)
        case ast.Constant(value=str(text)):
            return bool(text)
        case _:
            return False


def _stored(nodes: Sequence[ast.AST]) -> Iterator[str]:
    for root in nodes:
        for node in ast.walk(root):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                yield node.id


def _irrefutable(case: ast.match_case) -> bool:
    return isinstance(case.pattern, ast.MatchAs) and case.pattern.pattern is None and not case.guard


def surely_ends(body: Sequence[ast.stmt]) -> bool:
    """Whether no path runs past the last statement of `body`."""
    return any(_ends(statement) for statement in body)


def _ends(statement: ast.stmt) -> bool:
    match statement:
        case ast.Return() | ast.Raise():
            return True
        case ast.If(body=body, orelse=orelse):
            return bool(orelse) and surely_ends(body) and surely_ends(orelse)
        case ast.While(test=ast.Constant(value=test)) if test:
            return not breaks(statement)
        case ast.Try():
            if surely_ends(statement.finalbody):
                return True
            normal = [*statement.body, *statement.orelse]
            return surely_ends(normal) and all(surely_ends(h.body) for h in statement.handlers)
        case ast.With(body=body) | ast.AsyncWith(body=body):
            return surely_ends(body)
        case ast.Match(cases=cases):
            return _irrefutable(cases[-1]) and all(surely_ends(case.body) for case in cases)
        case _:
            return False


def breaks(loop: ast.While) -> bool:
    """Whether a `break` belongs to this loop and not to one inside it."""
    pending: list[ast.AST] = list(loop.body)
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Break):
            return True
        if isinstance(node, _LOOPS):
            pending.extend(node.orelse)
        elif not isinstance(node, _NESTED):
            pending.extend(ast.iter_child_nodes(node))
    return False
