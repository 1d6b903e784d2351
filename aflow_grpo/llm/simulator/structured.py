"""Structured outputs: a reply as the JSON object that `response_format` asks for.

The imitated model writes tagged text; a property takes the content of the tag with its name. As
with the real API the object always has exactly the schema's properties, whatever was written. Not
covered: properties that are objects or arrays themselves, references, and the rules that OpenAI
sets for strict schemas.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["ReplyFormat", "read_format"]

_TAGGED = re.compile(r"<(\w+)>(.*?)</\1>", re.DOTALL)
_NUMBER = re.compile(r"-?\d{1,15}(?:\.\d{1,15})?")
_TRUE = re.compile(r"\W*(?:true|yes|right|correct|pass)", re.IGNORECASE)
_TYPES = ("string", "boolean", "integer", "number")


@dataclass(frozen=True)
class ReplyFormat:
    """What object is wanted."""

    properties: Mapping[str, Mapping[str, Any]] | None
    """Name -> its schema; None: any object will do."""

    def render(self, text: str) -> str:
        """The tagged reply `text` as JSON."""
        if self.properties is None:
            found = {tag: content.strip() for tag, content in _TAGGED.findall(text)}
            return json.dumps(found or {"response": text}, ensure_ascii=False)
        rest = _TAGGED.sub("", text).strip() or text
        values = {
            name: _value(schema, _content(text, name), rest)
            for name, schema in self.properties.items()
        }
        return json.dumps(values, ensure_ascii=False)


def read_format(response_format: Any, prompt: str) -> ReplyFormat | None:
    """What a request's `response_format` asks for; None: plain text.

    Args:
        response_format: The field's value.
        prompt: Texts of all messages; `json_object` wants the word JSON in them.

    Raises:
        ValueError: It is none that OpenAI or this server knows.
    """
    if response_format is None:
        return None
    kind = response_format.get("type") if isinstance(response_format, Mapping) else None
    if kind == "text":
        return None
    if kind == "json_object":
        if "json" not in prompt.lower():
            raise ValueError(
                "'messages' must contain the word 'json' in some form, to use 'response_format' "
                "of type 'json_object'."
            )
        return ReplyFormat(None)
    if kind != "json_schema":
        raise ValueError("response_format.type: expected text, json_object or json_schema.")
    wrapper = response_format.get("json_schema")
    schema = wrapper.get("schema") if isinstance(wrapper, Mapping) else None
    properties = schema.get("properties") if isinstance(schema, Mapping) else None
    if not isinstance(properties, Mapping) or not properties:
        raise ValueError("response_format.json_schema.schema: expected an object with properties.")
    for name, one in properties.items():
        if not isinstance(one, Mapping) or _kind(one) not in _TYPES:
            raise ValueError(
                f"response_format.json_schema.schema.properties.{name}: expected one of the types "
                f"{', '.join(_TYPES)}; the simulator knows no others."
            )
    return ReplyFormat(properties)


def _kind(schema: Mapping[str, Any]) -> str:
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = next((each for each in kind if each != "null"), None)
    return "string" if kind is None and schema.get("enum") else str(kind)


def _content(text: str, tag: str) -> str | None:
    """What stands in a tag, up to its last end (content may hold tags too), or to the end."""
    start = text.find(f"<{tag}>")
    if start < 0:
        return None
    content = text[start + len(tag) + 2 :]
    end = content.rfind(f"</{tag}>")
    return (content if end < 0 else content[:end]).strip()


def _value(schema: Mapping[str, Any], found: str | None, rest: str) -> Any:
    text = rest if found is None else found
    options = schema.get("enum")
    if options:
        return next((option for option in options if _names(text, option)), options[0])
    number = _NUMBER.search(text)
    match _kind(schema):
        case "boolean":
            return _TRUE.match(text) is not None
        case "integer":
            return int(float(number[0])) if number else 0
        case "number":
            return float(number[0]) if number else 0.0
    return text


def _names(text: str, option: Any) -> bool:
    return re.search(rf"(?<!\w){re.escape(str(option))}(?!\w)", text, re.IGNORECASE) is not None
