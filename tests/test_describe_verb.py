"""`aflow-grpo describe`: equation, sources, every number in force; the nearest name otherwise."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from aflow_grpo.__main__ import main
from aflow_grpo.grpo.presets import PRESETS, LossSettings, resolve

PAGE = Path(__file__).parent.parent / "docs" / "losses.md"


def described(capsys: pytest.CaptureFixture[str], name: str) -> str:
    capsys.readouterr()
    assert main(["describe", "loss", name]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("name", PRESETS)
def test_a_loss_is_shown_with_numbers_that_can_be_copied(
    name: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    text, _, settings = described(capsys, name).partition("model.grpo.loss:\n")
    assert text.startswith(f"{name}: ")
    for line in (PRESETS[name].__doc__ or "").splitlines():
        assert line.strip() in text
    copied = yaml.safe_load(settings)
    assert copied == PRESETS[name]().settings()
    assert resolve(LossSettings(**copied)) == PRESETS[name]()


def test_worked_output(capsys: pytest.CaptureFixture[str]) -> None:
    dapo = described(capsys, "dapo")
    assert "    L   = -(1/Σ_i |o_i|) Σ_i Σ_t min(r_it A_i, clip(r_it, 0.8, 1.28) A_i)\n" in dapo
    assert "arXiv 2503.14476" in dapo and "  clip_high: 0.28\n" in dapo
    assert "  max_length: 0  # model.policy.sampling.max_new_tokens\n" in described(
        capsys, "dr_grpo"
    )
    assert "  clip_high: .inf\n" in described(capsys, "rloo")


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("dapp", "Did you mean dapo?"),
        ("DrGRPO", "Did you mean dr_grpo?"),
        ("x", "Known: default, grpo, dr_grpo, dapo, gspo, rloo, seed."),
    ],
)
def test_an_unknown_name(name: str, hint: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["describe", "loss", name]) == 2
    assert capsys.readouterr().err == (
        f"aflow-grpo describe: there is no loss {name!r}. {hint}\n"
    )  # fmt: skip


def test_it_answers_without_torch() -> None:
    code = (
        "import sys; from aflow_grpo.__main__ import main; main(['describe', 'loss', 'grpo']); "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


def test_the_pages_table_holds_every_number_in_force() -> None:
    columns = {name: preset().settings() for name, preset in PRESETS.items()}
    rows = ["| key | " + " | ".join(f"`{name}`" for name in columns) + " |"]
    rows.append("|---|" + "---|" * len(columns))
    for key in list(columns["default"])[1:]:
        values = (str(settings[key]).replace("inf", ".inf") for settings in columns.values())
        rows.append(f"| `{key}` | " + " | ".join(values) + " |")
    assert "\n".join(rows) in PAGE.read_text()


def test_the_page_names_every_preset_and_option() -> None:
    text = PAGE.read_text()
    for name in (*PRESETS, *LossSettings.__dataclass_fields__):
        assert f"`{name}" in text, name
