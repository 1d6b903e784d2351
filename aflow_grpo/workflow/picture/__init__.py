"""Pictures of workflows: the graph of what a workflow does, as Mermaid text and as SVG.

Read from the syntax tree, nothing is run. Where to look: `graph` is what stands in a picture,
`build` reads it from the code (`places`, `expressions`, `statements`, `draft`, `tidy` and
`wording` are its parts), `control` has the order of its boxes; `mermaid`, `outline`, `plain` and
`svg` write it (`measure`, `boxes`, `shapes`, `layout`, `lanes` and `style` are parts of the last).
"""

from aflow_grpo.workflow.picture.build import faulty_graph, workflow_graph
from aflow_grpo.workflow.picture.graph import WorkflowGraph
from aflow_grpo.workflow.picture.mermaid import to_mermaid
from aflow_grpo.workflow.picture.outline import to_outline
from aflow_grpo.workflow.picture.plain import as_plain
from aflow_grpo.workflow.picture.svg import to_svg

__all__ = [
    "WorkflowGraph",
    "as_plain",
    "faulty_graph",
    "to_mermaid",
    "to_outline",
    "to_svg",
    "workflow_graph",
]
