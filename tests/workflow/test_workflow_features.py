"""The table of what the interpreter has, against the interpreter itself, adapter included."""

from __future__ import annotations

import builtins
import importlib

import pytest
from workflow_catalogue import call
from workflow_host import run_all

from aflow_grpo.records import WorkflowSource
from aflow_grpo.workflow.features import (
    BUILTINS,
    FORBIDDEN_NAMES,
    MISSING_METHODS,
    NATIVE_MEMBERS,
    STDIN_NAMES,
    has_member,
)
from aflow_grpo.workflow.inside import PROVIDED
from aflow_grpo.workflow.rules import RULES_BY_ID, example_code
from aflow_grpo.workflow.validate import is_valid, validate

IN_CLASSES_ONLY = {"classmethod", "staticmethod", "super"}
"""Builtins that the adapter takes where classes use them."""


def exist(lines: list[str]) -> list[bool]:
    """Whether each line runs."""
    codes = [
        call(
            "import " + line.split(".")[0] if "." in line else "pass", f"x = {line}", "return 1, 0"
        )
        for line in lines
    ]
    return [outcome.fault is None for outcome in run_all(codes)]


def test_builtins_are_those_that_exist() -> None:
    names = [name for name in dir(builtins) if not name.startswith("_")]
    there = {name for name, exists in zip(names, exist(names), strict=True) if exists}
    known = set(BUILTINS) - IN_CLASSES_ONLY
    assert there - known - set(FORBIDDEN_NAMES) - STDIN_NAMES == set(), "add to features._BUILTINS"
    assert {name for name in known if not name.startswith("_")} - there == set(), "remove there"


@pytest.mark.parametrize("module", sorted(NATIVE_MEMBERS))
def test_members_are_those_that_exist(module: str) -> None:
    real = importlib.import_module(module)
    names = [n for n in getattr(real, "__all__", dir(real)) if not n.startswith("_")]
    there = exist([f"{module}.{name}" for name in names])
    differ = [n for n, exists in zip(names, there, strict=True) if exists != has_member(module, n)]
    assert differ == [], "correct features._NATIVE"


@pytest.mark.parametrize("module", sorted(PROVIDED))
def test_members_of_provided_modules_exist(module: str) -> None:
    real = importlib.import_module(module)
    names = [n for n in dir(real) if not n.startswith("_") and has_member(module, n)]
    there = exist([f"{module}.{name}" for name in names])
    assert [n for n, exists in zip(names, there, strict=True) if not exists] == []


VALUES = {
    "as_integer_ratio": "(0.5).as_integer_ratio()",
    "conjugate": "(1).conjugate()",
    "difference_update": "{1}.difference_update({2})",
    "intersection_update": "{1}.intersection_update({2})",
    "symmetric_difference_update": "{1}.symmetric_difference_update({2})",
    "to_bytes": "(1).to_bytes(2, 'big')",
}


def test_missing_methods_are_missing() -> None:
    assert set(VALUES) == set(MISSING_METHODS)
    outcomes = run_all([call(f"x = {text}", "return 1, 0") for text in VALUES.values()])
    stale = [n for n, o in zip(VALUES, outcomes, strict=True) if o.fault is None]
    assert stale == [], "remove from features.MISSING_METHODS"


LACKING = [
    "class-feature", "language-feature", "missing-module", "missing-feature", "reads-stdin",
    "forbidden-name", "introspection", "missing-builtin", "undefined-name",
]  # fmt: skip


@pytest.mark.parametrize("rule_id", LACKING)
def test_what_is_rejected_as_missing_does_not_run(rule_id: str) -> None:
    code = example_code(RULES_BY_ID[rule_id])
    assert not is_valid(validate(WorkflowSource(code, {}), "math"))
    (outcome,) = run_all([code])
    assert outcome.fault is not None, f"the interpreter takes this now: loosen {rule_id}"
