"""From a workflow's source to its graph; code that cannot be read gives a graph that says so."""

from __future__ import annotations

from dataclasses import replace

from aflow_grpo.records import Finding, WorkflowSource
from aflow_grpo.workflow.anatomy import WorkflowClass, find_workflow
from aflow_grpo.workflow.contract import TEN_OPERATORS, OperatorSet
from aflow_grpo.workflow.picture.control import ends
from aflow_grpo.workflow.picture.draft import Draft
from aflow_grpo.workflow.picture.expressions import Scene
from aflow_grpo.workflow.picture.graph import Item, Node, WorkflowGraph
from aflow_grpo.workflow.picture.places import Places
from aflow_grpo.workflow.picture.statements import Statements
from aflow_grpo.workflow.picture.tidy import renewed, tidied
from aflow_grpo.workflow.picture.wording import MAX_DETAIL_CHARS, Wording, shorten
from aflow_grpo.workflow.syntax import SourceError, parse_source
from aflow_grpo.workflow.uses import Names

__all__ = ["faulty_graph", "workflow_graph"]


def workflow_graph(source: WorkflowSource, operators: OperatorSet = TEN_OPERATORS) -> WorkflowGraph:
    """The graph of a workflow, read without running it.

    Args:
        source: The workflow as parsed; its code may be anything.
        operators: The operators that exist.

    Returns:
        A graph of at most `MAX_NODES` boxes. Never raises: of code that is no workflow it holds
        one box that says why.
    """
    try:
        tree = parse_source(source.graph_code)
    except SourceError as error:
        return faulty_graph(error.message, error.line)
    workflow = find_workflow(tree, operators)
    if isinstance(workflow, Finding):
        return faulty_graph(workflow.message, workflow.line)
    try:
        return _graph(source, workflow)
    except RecursionError:
        return faulty_graph("nested too deeply to be drawn", workflow.call.lineno)


def faulty_graph(message: str, line: int | None = None) -> WorkflowGraph:
    """The graph of what is no workflow: one box that says why."""
    where = f"line {line}: " if line is not None else ""
    text = where + shorten(message, MAX_DETAIL_CHARS)
    node = Node("n0", "fault", "no workflow", text, line=line)
    return WorkflowGraph("", (node,), (), (text,))


def _graph(source: WorkflowSource, workflow: WorkflowClass) -> WorkflowGraph:
    names = Names(workflow)
    draft = Draft()
    wording = Wording(source.graph_code, workflow, names, source.prompts)
    scene = Scene(draft, Places(workflow, names), wording)
    parameter = workflow.problem_parameter
    start = draft.node(workflow.call, "start", shorten(parameter, 40))
    assert start is not None, "the first box always has room"
    call = workflow.call
    found = Statements(scene, start.id).body(call.body, {parameter: frozenset({start.id})})
    body: list[Item] = [start, *found]
    if not ends(body[-1]) and not draft.omitted:
        missing = draft.node(call.args, "fault", "no answer", detail="nothing is returned here")
        body += [missing] if missing is not None else []
    shown = tidied(body, draft.flows())
    readers = {flow.target for flow in shown.flows if flow.source == start.id}
    marked = renewed(shown.body, lambda node: replace(node, reads_problem=node.id in readers))
    return WorkflowGraph(
        shorten(workflow.node.name, 40), marked, shown.flows, omitted=draft.omitted
    )
