"""What one operator's contract says: the vocabulary of `contract`, and what makes it sound.

A user's own operator is stated in the same words; what is wrong with it is told when it is made,
not in the middle of a run. Not here: how several operators go together (`contract`).
"""

from __future__ import annotations

import builtins
import keyword
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from aflow_grpo.errors import ConfigError
from aflow_grpo.records import DOMAINS, Domain

__all__ = ["RESERVED_ATTRIBUTES", "OperatorSpec", "Parameter", "ReturnKey"]

RESERVED_ATTRIBUTES = frozenset({"llm", "prompts", "name", "dataset"})
"""What `self` holds in every workflow besides operators, by AFlow's convention."""

_RESERVED_CLASSES = frozenset(
    {"Workflow", "DatasetType", "operator", "prompt_custom", "create_llm_instance", "asyncio"}
) | frozenset(dir(builtins))

ParameterType = Literal["str", "int", "bool", "list[str]"]
_DEFAULT_TYPES: dict[ParameterType, type] = {"str": str, "int": int, "bool": bool}


@dataclass(frozen=True)
class Parameter:
    """One parameter of an operator."""

    name: str
    type: ParameterType
    doc: str
    required: bool = True
    default: str | int | bool | None = None
    """Used when `required` is False."""
    as_text: bool = False
    """``str`` and ``list[str]``: a dictionary, a list or None is taken as the text that Python
    prints for it, since AFlow fills it into its prompt that way; otherwise it is a TypeError."""
    shown: bool = True
    """Whether prompts name it; False for what is accepted for compatibility only."""


@dataclass(frozen=True)
class ReturnKey:
    """One key of the dictionary that an operator returns."""

    name: str
    type: Literal["str", "bool"]
    doc: str
    alias_of: str = ""
    """The key whose value this one repeats, since published systems differ; no prompt shows it."""


@dataclass(frozen=True)
class OperatorSpec:
    """One operator's contract: what prompt, validator, interpreter, simulator and docs read.

    Raises:
        ConfigError: The contract contradicts itself; the message says what to change.
    """

    name: str
    """Class name, e.g. ``AnswerGenerate``."""
    attribute: str
    """Name on `self` in a workflow, e.g. ``answer_generate``."""
    summary: str
    """What it does, in one sentence."""
    parameters: tuple[Parameter, ...]
    returns: tuple[ReturnKey, ...]
    llm_calls: tuple[int, int]
    """Fewest and most executor calls that one operator call makes."""
    domains: tuple[Domain, ...]
    """Domains whose workflows may use it; for the others it is a forbidden operator."""
    recommended: tuple[Domain, ...]
    """Domains whose prompt recommends it."""
    marker: str
    """The opening of this operator's executor prompt, by which a server can recognise it."""
    discouraged: tuple[Domain, ...] = ()
    """Domains that may use it but gain nothing by it: a warning, and no prompt offers it."""

    def __post_init__(self) -> None:
        for complaint in (
            *_names_wrong(self),
            *_parameters_wrong(self),
            *_returns_wrong(self),
            *_use_wrong(self),
        ):
            raise ConfigError(f"contract of operator {self.name or self.attribute!r}: {complaint}")

    @property
    def main_returns(self) -> tuple[ReturnKey, ...]:
        """The keys that prompts show: all but the aliases."""
        return tuple(key for key in self.returns if not key.alias_of)

    @property
    def shown_parameters(self) -> tuple[Parameter, ...]:
        """The parameters that prompts show."""
        return tuple(parameter for parameter in self.parameters if parameter.shown)


def _is_name(text: str) -> bool:
    return text.isidentifier() and not keyword.iskeyword(text)


def _names_wrong(spec: OperatorSpec) -> Iterable[str]:
    if not _is_name(spec.name) or spec.name.startswith("_") or spec.name in _RESERVED_CLASSES:
        yield f"name={spec.name!r} is no free class name; expected one such as 'Summarise'"
    attribute = spec.attribute
    if not _is_name(attribute) or attribute.startswith("_") or attribute in RESERVED_ATTRIBUTES:
        yield (
            f"attribute={attribute!r} is no free name on self; expected one such as 'summarise',"
            f" other than {', '.join(sorted(RESERVED_ATTRIBUTES))}"
        )
    if not spec.summary.strip() or "\n" in spec.summary:
        yield "summary is empty or has several lines; expected one sentence, which prompts show"
    if not spec.marker.strip():
        yield f"marker is empty; expected the opening of its system message, e.g. '[{attribute}]'"


def _parameters_wrong(spec: OperatorSpec) -> Iterable[str]:
    names = [parameter.name for parameter in spec.parameters]
    for name, count in Counter(names).items():
        if count > 1 or not _is_name(name):
            yield f"parameter {name!r} is doubled or no Python name"
    seen_optional = ""
    for parameter in spec.parameters:
        if parameter.required and seen_optional:
            yield (
                f"parameter {parameter.name!r} is required but follows {seen_optional!r}, which is"
                " not; required parameters come first"
            )
        seen_optional = seen_optional or ("" if parameter.required else parameter.name)
        expected = _DEFAULT_TYPES.get(parameter.type)
        given = type(parameter.default)
        if parameter.default is not None and (parameter.required or given is not expected):
            yield (
                f"parameter {parameter.name!r} of type {parameter.type} has"
                f" required={parameter.required}, default={parameter.default!r}; a default belongs"
                " to an optional parameter and has its type"
            )


def _returns_wrong(spec: OperatorSpec) -> Iterable[str]:
    names = [key.name for key in spec.returns]
    if not names or len(set(names)) < len(names) or not all(names):
        yield f"returns has the keys {names}; expected at least one, each once"
    main = {key.name: key.type for key in spec.main_returns}
    for key in spec.returns:
        if key.alias_of and main.get(key.alias_of) != key.type:
            yield (
                f"return key {key.name!r} is an alias of {key.alias_of!r}, which is no main key of"
                f" type {key.type}"
            )


def _use_wrong(spec: OperatorSpec) -> Iterable[str]:
    if not spec.domains or not set(spec.domains) <= set(DOMAINS):
        yield f"domains={spec.domains}; expected some of {', '.join(DOMAINS)}"
    extra = {*spec.recommended, *spec.discouraged} - set(spec.domains)
    both = set(spec.recommended) & set(spec.discouraged)
    if extra or both:
        yield (
            f"recommended={spec.recommended}, discouraged={spec.discouraged}: expected each domain"
            f" at most once, and only of domains={spec.domains}"
        )
    fewest, most = spec.llm_calls
    if not 0 <= fewest <= most:
        yield f"llm_calls={spec.llm_calls}; expected the fewest and the most, 0 <= fewest <= most"
