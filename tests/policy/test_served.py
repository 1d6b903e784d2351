"""A policy whose tokens a server draws: equal to drawing here, with the adapters of the moment."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from scripted_endpoint import dead_url
from serving_world import Serving, serving

from aflow_grpo.errors import ConfigError, ExecutorError, OutageError
from aflow_grpo.policy import LoraSettings, Policy, SamplingSettings
from aflow_grpo.policy.adapters import adapter_digest, write_adapter
from aflow_grpo.policy.prompting import EncodedPrompt
from aflow_grpo.policy.sampling import Sampler
from aflow_grpo.policy.served import ServedBackend, ServedSampling
from aflow_grpo.records import Completion
from aflow_grpo.training.event_loop import EventLoopThread

SAMPLING = SamplingSettings(temperature=0.7, max_new_tokens=12, max_prompt_tokens=40)
PROMPTS = [EncodedPrompt((5, 6, 7), False)] * 3 + [EncodedPrompt((30, 31, 32, 33), False)] * 3
SEEDS = list(range(6))


def made_policy(folder: str, served: ServedSampling | None = None, **changes: Any) -> Policy:
    fields: dict[str, Any] = {"lora": LoraSettings(rank=4), "sampling": SAMPLING, "threads": 1}
    policy = Policy(folder, backend=served, **{**fields, **changes})
    policy.setup()
    return policy.eval()


@contextmanager
def connected(policy: Policy, directory: Path) -> Iterator[ServedBackend]:
    """The policy's backend with an event loop, as a run gives it one."""
    loop, backend = EventLoopThread(), policy.backend
    assert isinstance(backend, ServedBackend)
    try:
        backend.connect(loop.run, directory)
        yield backend
    finally:
        loop.run(backend.aclose())
        loop.close()


def die(policy: Policy, loop: EventLoopThread) -> None:
    """Leave the server as a process that is killed does: connections end, and no goodbye."""
    assert isinstance(policy.backend, ServedBackend)
    server, _ = policy.backend._connected
    loop.run(server.aclose())
    loop.close()


def settings(server: Serving, **changes: Any) -> ServedSampling:
    fields: dict[str, Any] = {"backoff_s": 0.001, "max_attempts": 2, "timeout_s": 20.0}
    return ServedSampling(base_url=server.base_url, **{**fields, **changes})


def learn(policy: Policy, seed: int) -> None:
    """Change the adapters in place, as an optimiser does."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in policy.trainable_state_dict().values():
            tensor.add_(torch.randn(tensor.shape, generator=generator) * 0.1)


def ids(completions: list[Completion]) -> list[tuple[int, ...]]:
    return [completion.token_ids for completion in completions]


def largest_gap(policy: Policy, completions: list[Completion]) -> float:
    """Between recorded log-probabilities and those of the policy's current weights."""
    with torch.no_grad():
        scored = policy.score(completions)
    recorded = torch.tensor([value for c in completions for value in c.logprobs])
    return float((scored.logprobs_BT[scored.mask_BT] - recorded).abs().max())


def test_a_server_draws_what_this_process_draws(model_folder: str, tmp_path: Path) -> None:
    here = made_policy(model_folder)
    with serving(Serving(model_folder)) as server:
        there = made_policy(model_folder, settings(server))
        with connected(there, tmp_path):
            for seed in (1, 2):
                learn(here, seed), learn(there, seed)
                own, served = here.sample(PROMPTS, SEEDS), there.sample(PROMPTS, SEEDS)
                assert ids(served) == ids(own)
                for mine, theirs in zip(own, served, strict=True):
                    assert theirs.logprobs == pytest.approx(mine.logprobs, abs=1e-4)
                    assert (theirs.finished, theirs.text) == (mine.finished, mine.text)
                greedy = there.sample(PROMPTS, SEEDS, greedy=True)
                assert ids(greedy) == ids(here.sample(PROMPTS, SEEDS, greedy=True))
                assert len(set(ids(greedy))) == 2, "no seed: one for each prompt"
    assert there.sampler_differs and not here.sampler_differs


def test_each_update_is_drawn_from_its_own_adapter_and_old_ones_go(
    model_folder: str, tmp_path: Path
) -> None:
    with serving(Serving(model_folder)) as server:
        policy = made_policy(model_folder, settings(server))
        with connected(policy, tmp_path):
            for update in range(4):
                learn(policy, update)
                before = len(server.drawn_by())
                completions = policy.sample(PROMPTS, SEEDS)
                policy.sample(PROMPTS[:1], [9])
                assert set(server.drawn_by()[before:]) == {server.loaded[-1]}
                assert largest_gap(policy, completions) < 1e-4
                assert len(server.loaded) == update + 1, "pushed once for both draws"
                assert list(server.adapters) == server.loaded[-2:]
                folders = sorted(path.name for path in (tmp_path / "adapters").iterdir())
                assert folders == sorted(server.adapters)
        assert len(set(server.loaded)) == 4, "a name is never used for other weights"
        assert not server.adapters, "nothing stays behind"
    assert not list((tmp_path / "adapters").iterdir())


def test_weights_that_were_only_touched_are_not_pushed_again(
    model_folder: str, tmp_path: Path
) -> None:
    with serving(Serving(model_folder)) as server:
        policy = made_policy(model_folder, settings(server))
        with connected(policy, tmp_path):
            policy.sample(PROMPTS[:1], [0])
            policy.load_trainable_state_dict(
                {name: tensor.clone() for name, tensor in policy.trainable_state_dict().items()}
            )
            policy.sample(PROMPTS[:1], [0])
            assert len(server.loaded) == 1


def test_rows_are_handed_over_one_by_one_in_the_calling_thread(
    model_folder: str, tmp_path: Path
) -> None:
    seen: list[tuple[int, tuple[int, ...]]] = []

    def on_row(b: int, row: Any) -> None:
        assert threading.current_thread() is threading.main_thread()
        seen.append((b, tuple(row.token_ids)))

    with serving(Serving(model_folder)) as server:
        policy = made_policy(model_folder, settings(server))
        with connected(policy, tmp_path):
            written: list[int] = []
            completions = policy.sample(
                PROMPTS, SEEDS, on_written=lambda b, completion: written.append(b)
            )
            assert sorted(written) == SEEDS
            policy.backend.draw(
                policy.model,
                policy._parts(),
                [p.ids for p in PROMPTS],
                SEEDS,
                Sampler(SAMPLING.max_new_tokens, SAMPLING.temperature),
                on_row,
            )
    assert sorted(seen) == list(enumerate(ids(completions)))


def test_a_server_that_was_restarted_gets_the_adapter_again(
    model_folder: str, tmp_path: Path
) -> None:
    with serving(Serving(model_folder)) as server:
        policy = made_policy(model_folder, settings(server))
        with connected(policy, tmp_path):
            learn(policy, 1)
            before = policy.sample(PROMPTS, SEEDS)
            server.adapters.clear()
            assert ids(policy.sample(PROMPTS, SEEDS)) == ids(before)
            assert len(server.loaded) == 2 and len(set(server.loaded)) == 1, "the same weights"


def test_the_processes_of_one_run_share_its_adapters(model_folder: str, tmp_path: Path) -> None:
    with serving(Serving(model_folder)) as server:
        first = made_policy(model_folder, settings(server))
        second = made_policy(model_folder, settings(server))
        with connected(second, tmp_path):
            with connected(first, tmp_path):
                for update in range(3):
                    learn(first, update), learn(second, update)
                    assert ids(first.sample(PROMPTS, SEEDS)) == ids(second.sample(PROMPTS, SEEDS))
                assert len(server.loaded) == 3, "each once, by whichever came first"
            assert not server.adapters, "the first has gone and taken them with it"
            assert largest_gap(second, second.sample(PROMPTS, SEEDS)) < 1e-4


def test_what_a_killed_run_left_on_the_server_goes_and_other_runs_stay(
    model_folder: str, tmp_path: Path
) -> None:
    with serving(Serving(model_folder)) as server:
        killed = made_policy(model_folder, settings(server))
        neighbour = made_policy(
            model_folder, settings(server, adapter_dir=tmp_path / "run/adapters")
        )
        loops = [EventLoopThread(), EventLoopThread()]
        killed.backend.connect(loops[0].run, tmp_path / "run")
        neighbour.backend.connect(loops[1].run, tmp_path / "neighbour")
        learn(killed, 1)
        killed.sample(PROMPTS[:1], [0])
        neighbour.sample(PROMPTS[:1], [0])
        (left, other) = server.loaded
        die(killed, loops[0])
        die(neighbour, loops[1])
        resumed = made_policy(model_folder, settings(server))
        with connected(resumed, tmp_path / "run"):
            learn(resumed, 2)
            completions = resumed.sample(PROMPTS, SEEDS)
            assert largest_gap(resumed, completions) < 1e-4
            assert left not in server.adapters and other in server.adapters
            assert server.loaded[-1] in server.adapters
            assert not (tmp_path / "run" / "adapters" / left).exists()


def test_a_resumed_run_with_the_weights_that_are_loaded_goes_on_with_them(
    model_folder: str, tmp_path: Path
) -> None:
    with serving(Serving(model_folder)) as server:
        loop = EventLoopThread()
        killed = made_policy(model_folder, settings(server))
        killed.backend.connect(loop.run, tmp_path)
        before = killed.sample(PROMPTS, SEEDS)
        die(killed, loop)
        with connected(resumed := made_policy(model_folder, settings(server)), tmp_path):
            assert ids(resumed.sample(PROMPTS, SEEDS)) == ids(before)
            assert len(server.loaded) == 1 and server.loaded[0] in server.adapters


def test_a_server_whose_distribution_is_another_is_refused_before_the_first_draw(
    model_folder: str, tmp_path: Path
) -> None:
    class Deaf(Serving):
        """Loads adapters and draws from the base model."""

        def _complete(self, body: dict[str, Any]) -> tuple[int, Any]:
            return super()._complete(body | {"model": self.name})

    with serving(Deaf(model_folder)) as server:
        policy = made_policy(model_folder, settings(server))
        with connected(policy, tmp_path):
            learn(policy, 1), learn(policy, 2), learn(policy, 3)
            said = r"nats per token from those of the policy, more than max_logprob_gap=0\.3"
            with pytest.raises(ExecutorError, match=said):
                policy.sample(PROMPTS, SEEDS)
        lax = made_policy(model_folder, settings(server, max_logprob_gap=100.0))
        with connected(lax, tmp_path):
            learn(lax, 1), learn(lax, 2), learn(lax, 3)
            assert largest_gap(lax, lax.sample(PROMPTS, SEEDS)) > 0.3, "what is recorded is theirs"


def test_a_rank_that_is_too_large_is_told_before_anything_is_drawn(
    model_folder: str, tmp_path: Path
) -> None:
    with serving(Serving(model_folder, max_lora_rank=2)) as server:
        policy = made_policy(model_folder, settings(server))
        with (
            connected(policy, tmp_path),
            pytest.raises(ExecutorError, match="--max-lora-rank of at least"),
        ):
            policy.sample(PROMPTS, SEEDS)
        assert not server.drawn_by() or set(server.drawn_by()) == {model_folder}, "the check's"


def test_a_row_that_stays_away_is_an_outage_and_the_others_are_given_up(
    model_folder: str, tmp_path: Path
) -> None:
    def broken(path: str, index: int) -> Any:
        return 500 if path == "/v1/completions" and index >= 8 else None

    with serving(Serving(model_folder, fault=broken)) as server:
        policy = made_policy(model_folder, settings(server))
        with connected(policy, tmp_path), pytest.raises(OutageError, match="in 2 attempts"):
            policy.sample(PROMPTS, SEEDS)


def test_a_backend_that_nobody_connected_says_so(model_folder: str) -> None:
    policy = made_policy(model_folder, ServedSampling())
    with pytest.raises(RuntimeError, match="connect"):
        policy.sample(PROMPTS, SEEDS)


def test_a_server_that_is_not_there_is_told_soon_and_is_no_outage_of_a_run(
    model_folder: str, tmp_path: Path
) -> None:
    policy = made_policy(
        model_folder, ServedSampling(base_url=dead_url(), backoff_s=0.001, max_attempts=50)
    )
    said = r"in 2 attempts.*docs/vllm\.md"
    with pytest.raises(ExecutorError, match=said) as caught, connected(policy, tmp_path):
        pass
    assert not isinstance(caught.value, OutageError)


def test_full_fine_tuning_is_refused_at_once() -> None:
    with pytest.raises(ConfigError, match=r"lora=null trains all weights .* Set lora"):
        Policy("tiny", backend=ServedSampling())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"base_url": "localhost:8000"}, r"model\.policy\.backend\.base_url='localhost:8000'"),
        ({"timeout_s": 0.0}, r"model\.policy\.backend\.timeout_s=0\.0: expected more than 0"),
        ({"max_concurrent": 0}, r"model\.policy\.backend\.max_concurrent=0"),
        ({"keep_adapters": 1}, r"model\.policy\.backend\.keep_adapters=1: expected at least 2"),
        ({"max_logprob_gap": 0.0}, r"model\.policy\.backend\.max_logprob_gap=0: expected more"),
    ],
)
def test_a_wrong_setting_is_named(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        ServedSampling(**changes)


def test_a_key_comes_from_the_environment_first_and_none_is_needed(
    model_folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sent(**changes: Any) -> str:
        with serving(Serving(model_folder)) as server:
            policy = made_policy(model_folder, settings(server, **changes))
            with connected(policy, tmp_path):
                assert "secret" not in repr(policy.backend.settings)
        return server.headers[0]["authorization"]

    monkeypatch.delenv("VLLM_API_KEY", raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-for-somebody-else")
    assert sent() == "Bearer none"
    assert sent(api_key="secret-in-a-file") == "Bearer secret-in-a-file"
    monkeypatch.setenv("VLLM_API_KEY", "secret-of-the-environment")
    assert sent() == "Bearer secret-of-the-environment"


def test_an_adapter_folder_is_peft_s_and_whole_or_not_there(
    model_folder: str, tmp_path: Path
) -> None:
    policy = made_policy(model_folder)
    folder = tmp_path / "deep" / adapter_digest(policy.model)
    write_adapter(policy.model, folder)
    names = {path.name for path in folder.iterdir()}
    assert {"adapter_config.json", "adapter_model.safetensors"} <= names
    assert json.loads((folder / "adapter_config.json").read_text())["r"] == 4
    assert [path.name for path in folder.parent.iterdir()] == [folder.name], "nothing beside it"
    written = os.stat(folder / "adapter_model.safetensors").st_mtime_ns
    write_adapter(policy.model, folder)
    assert os.stat(folder / "adapter_model.safetensors").st_mtime_ns == written
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match="file"):
        write_adapter(policy.model, tmp_path / "file" / "adapter")


def test_equal_weights_have_one_digest_and_one_changed_bit_another(model_folder: str) -> None:
    one, other = made_policy(model_folder), made_policy(model_folder)
    assert adapter_digest(one.model) == adapter_digest(other.model)
    tensor = next(iter(one.trainable_state_dict().values()))
    with torch.no_grad():
        tensor.view(-1)[0] = torch.nextafter(tensor.view(-1)[0], torch.tensor(9.0))
    assert adapter_digest(one.model) != adapter_digest(other.model)
