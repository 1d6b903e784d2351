"""Binds what a workflow passes to an operator to the operator's parameters, by the contract.

Numbers are taken as text where text is expected, as they would be in a prompt; a result dictionary
in the place of text, or text in the place of a list, is the workflow's mistake and raises in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from aflow_grpo.records import OperatorSpec, Parameter

__all__ = ["BindError", "bind_arguments"]


class BindError(Exception):
    """The call does not fit the contract; its text is shown inside the workflow as a TypeError."""


def bind_arguments(
    spec: OperatorSpec,
    positional: Sequence[Any],
    keywords: Mapping[str, Any],
    prompts: Mapping[str, str],
    max_chars: int,
) -> dict[str, Any]:
    """The call's arguments by parameter name, with defaults filled in.

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
    bound = {p.name: _value(spec, p, given) for p in spec.parameters}
    own = prompts.get(spec.attribute) or prompts.get(spec.name)
    if own and not bound.get("instruction"):
        bound["instruction"] = own
    size = sum(len(v) if isinstance(v, str) else sum(map(len, v)) for v in _texts(bound))
    if size > max_chars:
        raise BindError(f"{spec.attribute}() got {size} characters; at most {max_chars} are sent")
    return bound


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
        return _text(value, where)
    if parameter.type == "list[str]":
        if not isinstance(value, (list, tuple)) or not value:
            given_type = "an empty list" if value in ([], ()) else f"a {type(value).__name__}"
            raise BindError(f"{where} is {given_type}; expected a list of texts")
        return [_text(item, f"{where}[{index}]") for index, item in enumerate(value)]
    if isinstance(value, int):
        return bool(value) if parameter.type == "bool" else int(value)
    raise BindError(f"{where} is a {type(value).__name__}; expected {parameter.type}")


def _text(value: Any, where: str) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, (int, float)):
        try:
            return str(value)
        except ValueError:
            raise BindError(f"{where} is a number with too many digits") from None
    hint = ', e.g. result["response"]' if isinstance(value, dict) else ""
    raise BindError(f"{where} is a {type(value).__name__}; expected text{hint}")
