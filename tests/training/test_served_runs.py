"""`fit` with a server that draws: pushed after every update, resumed, interrupted, cut off."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from serving_world import HANG, Serving, serving
from trainer_runs import (
    INTERRUPTED,
    TERMINATED,
    checkpoint_of,
    metrics_of,
    new_root,
    run_verb,
    start_verb,
    write_settings,
)

from aflow_grpo.policy import LoraSettings, Policy
from aflow_grpo.policy.adapters import adapter_digest

POLICY = "model.policy.init_args"
RANK = 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the settings of a tiny run with adapters, validated at its end only."""
    folder = tmp_path_factory.mktemp("served")
    changes: dict[str, Any] = {
        f"{POLICY}.lora.rank": RANK,
        f"{POLICY}.sampling.temperature": 0.9,
        f"{POLICY}.backend.max_attempts": 2,
        f"{POLICY}.backend.backoff_s": 0.001,
        "trainer.max_steps": 2,
        "trainer.val_check_interval": 100,
        "model.evaluation.at_end": False,
        "data.batch_size": 1,
        "rollout.rollout.fallback": "never",
    }
    write_settings(folder, **changes)
    return folder


def command(folder: Path, root: Path, server: Serving, *more: str) -> tuple[str | Path, ...]:
    return (
        *("fit", "--config", folder / "tiny.yaml", "--trainer.default_root_dir", root),
        *(f"--{POLICY}.backend.base_url", server.base_url, *more),
    )


def digest_of_checkpoint(root: Path) -> str:
    """Of the adapters in a run's last checkpoint."""
    policy = Policy("tiny", lora=LoraSettings(rank=RANK))
    policy.setup()
    state = checkpoint_of(root)["state_dict"]
    policy.load_trainable_state_dict(
        {name.removeprefix("policy."): tensor for name, tensor in state.items()}
    )
    assert policy.model is not None
    return adapter_digest(policy.model)


def adapters_drawn_from(server: Serving) -> list[str]:
    """In order, without repeats and without the base model's probes."""
    return list(dict.fromkeys(name for name in server.drawn_by() if name != server.name))


def test_a_run_draws_from_each_update_and_goes_on_after_it_was_stopped(folder: Path) -> None:
    root = new_root(folder / "run")
    with serving(Serving("tiny")) as server:
        assert run_verb(*command(folder, root, server)) == 0
        first = adapters_drawn_from(server)
        assert len(first) == 2, "one before and one between the two updates"
        assert first == server.loaded and not server.adapters
    found = metrics_of(root)
    for step in (1, 2):
        # The same model in float32 on both sides: nothing to correct, and that is measured.
        assert found["train/correction_mean", step] == pytest.approx(1.0, abs=1e-3)
        assert found["train/correction_capped", step] == 0.0
    digest = digest_of_checkpoint(root)
    with serving(Serving("tiny")) as server:
        more = ("--ckpt_path", "last", "--trainer.max_steps", "3")
        assert run_verb(*command(folder, root, server, *more)) == 0
        (name,) = adapters_drawn_from(server)
        assert name.endswith(digest), "the checkpoint's weights, on a server that knew nothing"
        assert name not in first
    assert digest_of_checkpoint(root) != digest
    assert not list((root / "adapters").iterdir())


def test_a_server_that_goes_away_ends_the_run_with_a_checkpoint(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def gone(path: str, index: int) -> Any:
        # Six probes, the four rows of the first iteration, two of the second.
        return 503 if path == "/v1/completions" and index >= 12 else None

    root = new_root(folder / "gone")
    with serving(Serving("tiny", fault=gone)) as server:
        assert run_verb(*command(folder, root, server)) == 3
    said = capsys.readouterr().err
    assert "model.policy.backend: http://127.0.0.1" in said and "in 2 attempts" in said
    assert "--ckpt_path last" in said
    assert checkpoint_of(root)["aflow_grpo"]["iteration"] == 1


def test_a_server_that_is_served_wrongly_ends_the_run_before_it_begins(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = new_root(folder / "wrong")
    with serving(Serving("tiny", processed_logprobs=False)) as server:
        assert run_verb(*command(folder, root, server)) == 2
        assert not server.loaded
    assert "--logprobs-mode processed_logprobs" in capsys.readouterr().err


def test_a_wrong_setting_is_one_line_without_a_key(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = (f"--{POLICY}.backend.keep_adapters=1", f"--{POLICY}.backend.api_key=sk-1234567890abcd")
    root = new_root(folder / "setting")
    place = ("--config", folder / "tiny.yaml", "--trainer.default_root_dir", root)
    assert run_verb("fit", *place, *given) == 2
    said = capsys.readouterr().err
    assert "fit: model.policy.backend.keep_adapters=1: expected at least 2." in said
    assert "sk-1234567890abcd" not in said and "Traceback" not in said


@pytest.mark.parametrize(
    ("name", "code"), [(signal.SIGINT, INTERRUPTED), (signal.SIGTERM, TERMINATED)]
)
def test_a_signal_does_not_wait_for_a_server_that_draws(
    folder: Path, name: signal.Signals, code: int
) -> None:
    root = new_root(folder / f"signal-{int(name)}")

    asked = threading.Event()

    def hangs(path: str, index: int) -> Any:
        # Two probes of the log-probabilities' mode and four of their values; then nothing.
        if path != "/v1/completions" or index < 6:
            return None
        asked.set()
        return HANG

    with serving(Serving("tiny", fault=hangs)) as server:
        process = start_verb(*command(folder, root, server))
        assert asked.wait(60) and process.pid is not None
        pressed = time.monotonic()
        os.kill(process.pid, name)
        process.join(20)
        took = time.monotonic() - pressed
    assert process.exitcode == code
    assert took < 5, "two seconds for the calls, the rest for the process to end"
