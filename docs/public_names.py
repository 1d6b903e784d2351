"""Writes the list of public names into `api.md`: `python docs/public_names.py`.

Each name with the first line of its docstring; a test compares.
"""

from __future__ import annotations

import inspect
from pathlib import Path

import aflow_grpo

__all__ = ["main", "with_names"]

PAGE = Path(__file__).resolve().parent / "api.md"
BEGIN, END = "<!-- names -->", "<!-- end of names -->"
GROUPS = {
    "Do something": lambda thing: inspect.isfunction(thing),
    "Errors": lambda thing: issubclass(thing, Exception),
    "Settings": lambda thing: (
        thing.__name__.endswith("Settings")
        or thing.__name__ in ("DataSource", "DomainMix", "Tier", "WriterTier")
    ),
    "Records": lambda thing: thing.__module__.rpartition(".")[2] in ("records", "problem"),
    "Other classes": lambda thing: True,
}
"""Heading -> whether a name belongs there; the first that takes it."""


def with_names(page: str) -> str:
    """The page with the list between its two marks made anew."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{_list()}\n{END}{after}"


def _list() -> str:
    left = [getattr(aflow_grpo, name) for name in aflow_grpo.__all__ if name != "__version__"]
    lines = []
    for heading, belongs in GROUPS.items():
        mine = [thing for thing in left if belongs(thing)]
        left = [thing for thing in left if thing not in mine]
        lines += [f"### {heading}", "", "| name | module | |", "|---|---|---|"]
        lines += [_line(thing) for thing in mine]
        lines.append("")
    return "\n".join(lines)


def _line(thing: type) -> str:
    first = (inspect.getdoc(thing) or "").partition("\n")[0].replace("|", "\\|")
    return f"| `{thing.__name__}` | `{thing.__module__}` | {first} |"


def main() -> None:
    """Write the page."""
    PAGE.write_text(with_names(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
