"""Binds what a workflow passes to an operator to the operator's parameters, by the contract.

As close to AFlow as a typed contract can be: where AFlow fills a value into its prompt, anything
is taken as the text that Python prints for it; where it adds texts together, only text is taken,
and numbers, as they would stand in a prompt. Text in the place of a list is a mistake everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from aflow_grpo.workflow.spec import OperatorSpec, Parameter

__all__ = ["BindError", "bind", "bind_arguments"]

_INSTRUCTION = "instruction"


class BindError(Exception):
    """The call does not fit the contract; its text is shown inside the workflow as a TypeError."""


def bind_arguments(
    spec: OperatorSpec,
    positional: Sequence[Any],
    keywords: Mapping[str, Any],
    prompts: Mapping[str, str],
    max_chars: int,
) -> dict[str, Any]:
    """The arguments of a workflow's call by parameter name, with defaults filled in.

    The workflow's prompt for this operator (`prompts`, by attribute or class name) becomes its
    `instruction` unless the call gives one of its own; operators without that parameter get it
    under the same key.

    Args:
        spec: The operator's contract.
        positional: Positional arguments as they left the interpreter.
        keywords: Keyword arguments likewise.
        prompts: The workflow's prompts.
        max_chars: Most characters over all arguments of one call.

    Raises:
        BindError: For an unknown, missing or doubled argument, a wrong type, or too much text.
    """
    bound = bind(spec, positional, keywords)
    own = prompts.get(spec.attribute) or prompts.get(spec.name)
    if own and not bound.get(_INSTRUCTION):
        bound[_INSTRUCTION] = own
    size = sum(len(v) if isinstance(v, str) else sum(map(len, v)) for v in _texts(bound))
    if size > max_chars:
        raise BindError(f"{spec.attribute}() got {size} characters; at most {max_chars} are sent")
    return bound


def bind(
    spec: OperatorSpec, positional: Sequence[Any], keywords: Mapping[str, Any]
) -> dict[str, Any]:
    """A call's arguments by parameter name, of the contract's types, with defaults filled in.

    Raises:
        BindError: For an unknown, missing or doubled argument, or a wrong type.
    """
    names = [parameter.name for parameter in spec.parameters]
    if len(positional) > len(names):
        raise BindError(
            f"{spec.attribute}() takes at most {len(names)} arguments, got {len(positional)}"
        )
    given = dict(zip(names, positional, strict=False))
    for name, value in keywords.items():
        if name not in names:
            raise BindError(
                f"{spec.attribute}() has no parameter {name!r:.40}; it has {', '.join(names)}"
            )
        if name in given:
            raise BindError(f"{spec.attribute}() got {name!r} twice")
        given[name] = value
    return {p.name: _value(spec, p, given) for p in spec.parameters}


def _texts(bound: Mapping[str, Any]) -> list[Any]:
    return [value for value in bound.values() if isinstance(value, (str, list))]


def _value(spec: OperatorSpec, parameter: Parameter, given: Mapping[str, Any]) -> Any:
    if parameter.name not in given:
        if parameter.required:
            raise BindError(f"{spec.attribute}() misses the argument {parameter.name!r}")
        return parameter.default
    value = given[parameter.name]
    if value is None and not parameter.required:
        return parameter.default
    where = f"{spec.attribute}(): {parameter.name!r}"
    if parameter.type == "str":
        return _text(value, where, parameter.as_text)
    if parameter.type == "list[str]":
        if not isinstance(value, (list, tuple)) or not value:
            raise BindError(f"{where} is {_shape(value)}; expected a list of texts")
        as_text = parameter.as_text
        return [_text(item, f"{where}[{index}]", as_text) for index, item in enumerate(value)]
    if isinstance(value, (int, float)) and value == value // 1:
        return bool(value) if parameter.type == "bool" else int(value)
    raise BindError(f"{where} is {_shape(value)}; expected {parameter.type}")


def _text(value: Any, where: str, as_text: bool) -> str:
    if isinstance(value, str):
        return value
    if as_text or isinstance(value, (int, float)):
        try:
            return str(value)
        except (ValueError, RecursionError):
            raise BindError(f"{where} is too long a number or too deep a structure") from None
    hint = ', e.g. result["response"]' if isinstance(value, dict) else ""
    raise BindError(f"{where} is {_shape(value)}; expected text{hint}")


def _shape(value: Any) -> str:
    """What a value is, in a few words."""
    if isinstance(value, dict):
        keys = ", ".join(repr(key[:40]) for key in list(value)[:4] if isinstance(key, str))
        return f"a dictionary with {keys}" if keys else "a dictionary"
    if isinstance(value, str):
        return f"the text {value[:40]!r}"
    if value is None:
        return "None"
    return "an empty list" if value in ([], ()) else f"a {type(value).__name__}"
