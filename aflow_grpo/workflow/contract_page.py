"""The operators as a page of documentation, rendered from their contract.

``python -m aflow_grpo.workflow.contract_page`` prints the part of `docs/operators.md` that is about
the ten; `operator_sections` renders any other set, a user's own included.
"""

from __future__ import annotations

from aflow_grpo.records import DOMAINS, Domain
from aflow_grpo.workflow.contract import CALL_SIGNATURE, TEN_OPERATORS, OperatorSet
from aflow_grpo.workflow.spec import OperatorSpec, Parameter, ReturnKey

__all__ = ["operator_sections", "operator_table", "signature"]


def operator_table(operators: OperatorSet) -> str:
    """Which operator is for which domain, and what a call of it costs."""
    lines = [
        f"| operator | {' | '.join(DOMAINS)} | executor calls | what it does |",
        f"|---|{'---|' * len(DOMAINS)}---|---|",
    ]
    for spec in operators.specs:
        use = " | ".join(_use(spec, domain) for domain in DOMAINS)
        lines.append(f"| `{spec.name}` | {use} | {_calls(spec)} | {spec.summary} |")
    return "\n".join(lines)


def operator_sections(operators: OperatorSet) -> str:
    """One section for each operator: its call, its parameters, the keys of its result."""
    return "\n\n".join(_section(spec) for spec in operators.specs)


def signature(spec: OperatorSpec) -> str:
    """The call with every accepted parameter, e.g. ``custom(input: str, ...)``."""
    return f"{spec.attribute}({', '.join(map(_declared, spec.parameters))})"


def _section(spec: OperatorSpec) -> str:
    lines = [
        f"### {spec.name}",
        "",
        spec.summary,
        "",
        f"```text\nresult = await self.{signature(spec)}\n```",
        "",
        "| parameter | type | |",
        "|---|---|---|",
        *(f"| `{p.name}` | {p.type} | {_about(p)} |" for p in spec.parameters),
        "",
        "| key of the result | type | |",
        "|---|---|---|",
        *(f"| `{key.name}` | {key.type} | {_meaning(key)} |" for key in spec.returns),
        "",
        f"Its requests open with `{spec.marker}`.",
    ]
    return "\n".join(lines)


def _declared(parameter: Parameter) -> str:
    declared = f"{parameter.name}: {parameter.type}"
    return declared if parameter.required else f"{declared} = {parameter.default!r}"


def _about(parameter: Parameter) -> str:
    return f"{parameter.doc}; anything is taken as text" if parameter.as_text else parameter.doc


def _meaning(key: ReturnKey) -> str:
    return f"the same as `{key.alias_of}`" if key.alias_of else key.doc


def _use(spec: OperatorSpec, domain: Domain) -> str:
    if domain not in spec.domains:
        return "forbidden"
    if domain in spec.discouraged:
        return "warned of"
    return "recommended" if domain in spec.recommended else "yes"


def _calls(spec: OperatorSpec) -> str:
    fewest, most = spec.llm_calls
    return str(most) if fewest == most else f"{fewest} to {most}"


def _page() -> str:
    return (
        f"A workflow's `__call__` is `{CALL_SIGNATURE}`.\n\n"
        f"{operator_table(TEN_OPERATORS)}\n\n{operator_sections(TEN_OPERATORS)}"
    )


if __name__ == "__main__":
    print(_page())
