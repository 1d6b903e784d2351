"""Replies with named parts: as a JSON object where the endpoint can be held to it, else tagged.

A `ReplyForm` says how to ask: the schema for `response_format`, and a user message that closes with
words that fit it. `fields_of` reads what comes back, in either form, so an operator does not need
to know which one was used. JSON is for short parts only: code inside a JSON string costs the model
its line ends and indentation, and is never asked for that way. Not here: whether a tier takes
`response_format` (`endpoint`), tags (`operators.replies`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["Part", "ReplyForm", "fields_of"]

_FENCED = re.compile(r"```(?:json)?\s*\n(.*?)\s*```", re.DOTALL)


@dataclass(frozen=True)
class Part:
    """One named part of a reply: a text."""

    name: str
    description: str
    """What it holds, for the model."""
    choices: tuple[str, ...] = ()
    """The only texts that it may be; empty for any text."""


@dataclass(frozen=True)
class ReplyForm:
    """How to ask for a JSON object in place of tagged text."""

    name: str
    """Of the schema: letters, digits and underscores."""
    parts: tuple[Part, ...]
    """In the order in which the model writes them."""
    prompt: str
    """The user message, in place of the one that asks for tags."""

    @property
    def response_format(self) -> dict[str, Any]:
        """The field of a request's body; strict, so that no part is missing."""
        schema = {
            "type": "object",
            "properties": {part.name: _schema(part) for part in self.parts},
            "required": [part.name for part in self.parts],
            "additionalProperties": False,
        }
        wrapped = {"name": self.name, "strict": True, "schema": schema}
        return {"type": "json_schema", "json_schema": wrapped}


def fields_of(reply: str, names: Sequence[str]) -> Mapping[str, str] | None:
    """The parts of a reply that is a JSON object; None when it is other text.

    Args:
        reply: As the executor wrote it.
        names: The parts that it should have.

    Raises:
        ValueError: It begins as that object, but is cut or misses a part.
    """
    fenced = _FENCED.fullmatch(reply.strip())
    text = fenced[1] if fenced else reply.strip()
    if re.match(rf'\{{\s*"(?:{"|".join(names)})"\s*:', text) is None:
        return None  # tagged, plain, or an object of the workflow's own
    try:
        found = json.loads(text)
    except ValueError:
        raise ValueError("expected one whole JSON object.") from None
    for name in names:
        if not isinstance(found.get(name), str):
            raise ValueError(f"expected the text {name!r} in the JSON object.")
    return {name: found[name].strip() for name in names}


def _schema(part: Part) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string", "description": part.description}
    if part.choices:
        schema["enum"] = list(part.choices)
    return schema
