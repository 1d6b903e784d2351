"""`validate` and `test` with a policy behind an endpoint, through the command line; real HTTP."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning as L
import pytest
from lightning.pytorch.utilities.exceptions import SIGTERMException
from scripted_endpoint import HANG, Response, Scripted, completion, dead_url, error
from trainer_runs import metrics_of, new_root, run_ids, run_verb, write_settings
from writing_endpoint import CHECK, COMPLETION_TOKENS, PROMPT_TOKENS, writing_endpoint

from aflow_grpo.data.sources import DataSource
from aflow_grpo.errors import ConfigError
from aflow_grpo.llm.settings import LLMSettings
from aflow_grpo.llm.simulator import SimulatorSettings
from aflow_grpo.llm.tiers import Tier, WriterTier
from aflow_grpo.policy import EndpointPolicy
from aflow_grpo.records import DOMAINS, FaultKind, Problem, Rollout, Status
from aflow_grpo.training.collect import Draw, collect
from aflow_grpo.training.datamodule import WorkflowDataModule
from aflow_grpo.training.metrics import rollout_metrics
from aflow_grpo.training.module import GRPOModule
from aflow_grpo.training.report import evaluation_table, masked_note
from aflow_grpo.training.rollout_callback import RolloutCallback

COST_USD = PROMPT_TOKENS * 0.15e-6 + COMPLETION_TOKENS * 0.6e-6
DRAW = Draw(split="val", step=0, run_seed=0, group_size=2, chunk=4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the settings of a tiny run."""
    folder = tmp_path_factory.mktemp("endpoint")
    write_settings(folder)
    return folder


def command(verb: str, folder: Path, root: Path, base_url: str, *more: str) -> int:
    return run_verb(
        *(verb, "--config", folder / "tiny.yaml", "--config", "configs/policy/openai.yaml"),
        *("--trainer.default_root_dir", root, "--model.policy.tier.base_url", base_url),
        *("--model.policy.tier.api_key", "k", "--model.policy.tier.api_key_env", ""),
        *("--model.policy.tier.backoff_s", "0.001", "--progress.quiet", "false", *more),
    )


def test_good_workflows_run_directly_and_are_paid_for_once(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = new_root(folder / "run")
    with writing_endpoint() as endpoint:
        assert command("validate", folder, root, endpoint.base_url) == 0
        assert len(endpoint.requests) == 1 + 6 * 2, "a check; a greedy and a sampled one each"
        table = capsys.readouterr().out
        assert len(re.findall(r"direct +100% +100% +100% +100%", table)) == 2
        assert re.search(r"writing( +0\.22){4}", table)
        assert "One workflow, for " in table
        found = metrics_of(root, "validate")
        for name in ("policy_cost_usd_per_problem", "policy_cost_usd_per_problem_greedy/qa"):
            assert found[f"val/{name}", 0] == pytest.approx(COST_USD)
        assert found["val/length/completion_tokens", 0] == COMPLETION_TOKENS
        assert found["val/length_greedy/prompt_tokens", 0] == PROMPT_TOKENS
        assert command("test", folder, root, endpoint.base_url) == 0
        assert re.search(r"direct +100%", capsys.readouterr().out)
    # Without the endpoint, from the journal alone: what another run asked counts when shared.
    offline = ["--llm.check_endpoints=false", "--llm.cache=shared"]
    assert command("validate", folder, root, dead_url(), *offline) == 0
    assert metrics_of(root, "validate") == found


def test_an_endpoint_that_is_down_stops_the_run_before_it_begins(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = new_root(folder / "down")
    assert command("validate", folder, root, dead_url()) == 2
    message = capsys.readouterr().err
    assert "model.policy.tier: the endpoint does not answer" in message
    assert "ConnectionRefusedError" in message and "Traceback" not in message
    assert run_ids(root, "validate") == [], "nothing was logged"


def test_it_cannot_be_trained_and_that_is_said_before_anybody_is_asked(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with writing_endpoint() as endpoint:
        assert command("fit", folder, new_root(folder / "fit"), endpoint.base_url) == 2
        assert endpoint.requests == []
    message = capsys.readouterr().err
    assert "neither be trained nor take a checkpoint" in message and "`validate`" in message


def test_it_takes_no_checkpoint() -> None:
    with pytest.raises(ConfigError, match="without --ckpt_path"):
        GRPOModule(EndpointPolicy()).on_load_checkpoint({"aflow_grpo": {"policy": "tiny"}})


class Stage:
    """An open rollout callback, connected to a policy behind `base_url`."""

    def __init__(self, root: Path, base_url: str, **tier: Any) -> None:
        fields = {"api_key": "k", "api_key_env": "", "backoff_s": 0.001, "max_attempts": 1} | tier
        self.policy = EndpointPolicy(WriterTier(base_url=base_url, **fields))
        self.callback = RolloutCallback(
            LLMSettings(simulator=SimulatorSettings(), check_endpoints=False)
        )
        self.trainer: Any = L.Trainer(
            accelerator="cpu", logger=False, default_root_dir=root, callbacks=[self.callback],
            enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        )  # fmt: skip
        data = WorkflowDataModule(val=[DataSource("sample", split="val")])
        data.setup("validate")
        self.trainer.datamodule = data
        every = data.problems("val")
        self.problems: list[Problem] = [
            next(p for p in every if p.domain == domain) for domain in DOMAINS
        ]
        self.callback.setup(self.trainer, GRPOModule(self.policy), "validate")

    def collect(self) -> list[Rollout]:
        return collect(self.policy, self.trainer, self.problems, DRAW).rollouts_B


@pytest.fixture
def endpoint() -> Iterator[Scripted]:
    with writing_endpoint() as endpoint:
        yield endpoint


def test_chunks_keep_order_and_groups(endpoint: Scripted, tmp_path: Path) -> None:
    stage = Stage(tmp_path, endpoint.base_url)
    rollouts = stage.collect()
    stage.callback.close()
    assert [r.problem for r in rollouts] == [p for p in stage.problems for _ in range(2)]
    assert [(r.group, r.member) for r in rollouts] == [(p, m) for p in range(3) for m in range(2)]
    assert all(r.execution.direct for r in rollouts)
    assert len({request["seed"] for request in endpoint.requests}) == 6


def test_what_was_not_written_is_masked_and_what_was_cut_is_cut(tmp_path: Path) -> None:
    def answer(message: str) -> Response:
        return error(500) if "# Problem (qa)" in message else completion("class Work")

    with writing_endpoint(answer, finish_reason="length") as endpoint:
        stage = Stage(tmp_path, endpoint.base_url)
        rollouts = stage.collect()
        stage.callback.close()
    for rollout in rollouts:
        if rollout.problem.domain == "qa":
            assert rollout.masked and rollout.execution.fault_kind is FaultKind.ENDPOINT
        else:
            assert rollout.execution.status is Status.CUT
    metrics = rollout_metrics(rollouts, "val")
    assert metrics["val/status/unavailable"] == pytest.approx(1 / 3)
    assert masked_note("val", metrics).startswith("In no figure: 33% of the sampled workflows.")
    assert metrics["val/policy_cost_usd_per_problem"] > 0
    assert "val/policy_cost_usd_per_problem/qa" not in metrics


def test_sigterm_cancels_what_is_being_written(tmp_path: Path) -> None:
    with writing_endpoint(lambda _: (HANG, {}, "")) as endpoint:
        stage = Stage(tmp_path, endpoint.base_url)

        def terminate() -> None:
            while not endpoint.requests:
                threading.Event().wait(0.005)
            stage.trainer._signal_connector.received_sigterm = True

        threading.Thread(target=terminate, daemon=True).start()
        with pytest.raises(SIGTERMException):
            stage.collect()
        stage.callback.close()


def test_writer_and_executor_are_both_checked_and_share_the_journal(tmp_path: Path) -> None:
    with writing_endpoint() as writer, writing_endpoint(lambda _: completion("5")) as executor:
        stage = Stage(tmp_path, writer.base_url)
        stage.callback.close()
        assert writer.requests == [], "check_endpoints: false asks nobody"
        tier = Tier(base_url=executor.base_url, api_key="k", api_key_env="")
        callback = RolloutCallback(LLMSettings(tiers=[tier]))
        stage.trainer.callbacks[stage.trainer.callbacks.index(stage.callback)] = callback
        callback.setup(stage.trainer, GRPOModule(stage.policy), "validate")
        asked = [endpoint.requests[0]["messages"] for endpoint in (writer, executor)]
        assert asked == [[{"role": "user", "content": CHECK}]] * 2
        stage.callback = callback
        calls = 0
        for rollout in stage.collect():
            assert rollout.execution.status is not Status.UNAVAILABLE
            calls += rollout.execution.usage.calls
        spent = callback.writer.usage if callback.writer else None
        assert spent is not None and spent.calls == 6
        assert callback.client.usage.calls == calls > 0
        callback.close()


def test_a_table_without_gaps_needs_no_note() -> None:
    whole = {"val/status/unavailable": 0.0, "val/status_greedy/unavailable": 0.0}
    assert masked_note("val", whole) == masked_note("val", {}) == ""
    both = masked_note("val", dict.fromkeys(whole, 1.0))
    assert "100% of the sampled workflows and 100% of the greedy workflows" in both
    assert masked_note("test", dict.fromkeys(whole, 1.0)) == ""


def test_the_table_has_the_row_only_where_an_endpoint_writes() -> None:
    headline = {"val/reward": 1.0}
    assert len(evaluation_table("T", "val", headline).rows) == 6
    cost = {"val/policy_cost_usd_per_problem": 2e-4}
    assert len(evaluation_table("T", "val", headline | cost).rows) == 7
