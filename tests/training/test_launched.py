"""Which process speaks, by the variables of every launcher; and what each rank gets to do."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from trainer_runs import run_verb

from aflow_grpo.training.launched import is_child_of_first, is_first_rank
from aflow_grpo.training.ranks import Ranks
from aflow_grpo.training.run_directory import RunDirectory
from aflow_grpo.training.shares import own_share

LAUNCHED: list[tuple[dict[str, str], bool, bool]] = [
    ({}, True, False),
    # Lightning's launcher: the first process once it has started others, and one of these.
    ({"LOCAL_RANK": "0", "NODE_RANK": "0", "WORLD_SIZE": "2"}, True, False),
    ({"LOCAL_RANK": "1", "NODE_RANK": "0", "WORLD_SIZE": "2"}, False, True),
    # The second machine's first process, started by hand.
    ({"NODE_RANK": "1", "MASTER_ADDR": "a"}, False, False),
    # torchrun: the first rank, its neighbour, the second machine's first.
    ({"RANK": "0", "LOCAL_RANK": "0", "GROUP_RANK": "0"}, True, False),
    ({"RANK": "1", "LOCAL_RANK": "1", "GROUP_RANK": "0"}, False, False),
    ({"RANK": "8", "LOCAL_RANK": "0", "GROUP_RANK": "1"}, False, False),
    ({"SLURM_PROCID": "0", "SLURM_LOCALID": "0"}, True, False),
    ({"SLURM_PROCID": "3", "SLURM_LOCALID": "3"}, False, False),
    # A child of Lightning's launcher inside an allocation, whose number is its parent's.
    ({"SLURM_PROCID": "0", "LOCAL_RANK": "1"}, False, True),
]


@pytest.mark.parametrize(("environment", "first", "child"), LAUNCHED)
def test_the_first_rank_is_known_from_every_launchers_variables(
    environment: dict[str, str], first: bool, child: bool
) -> None:
    assert is_first_rank(environment) is first
    assert is_child_of_first(environment) is child


@given(st.integers(0, 40), st.integers(1, 9))
def test_shares_are_the_whole_in_its_order_and_of_even_size(count: int, ranks: int) -> None:
    shares = [own_share(range(count), Ranks(rank, ranks)) for rank in range(ranks)]
    assert [item for share in shares for item in share.items] == list(range(count))
    assert all(share.first == share.items[0] for share in shares if share.items)
    sizes = [len(share.items) for share in shares]
    assert max(sizes) - min(sizes) <= 1


def test_a_guest_enters_a_directory_that_the_first_rank_holds(tmp_path: Path) -> None:
    with RunDirectory(tmp_path):
        held = (tmp_path / "run.lock").read_text()
        with RunDirectory(tmp_path, guest=True) as guest:
            assert guest.root == tmp_path
        assert (tmp_path / "run.lock").read_text() == held


WITH_TIMEOUT = (
    "{class_path: lightning.pytorch.strategies.DDPStrategy, init_args: {timeout: '0:45:00'}}"
)
"""As docs/scaling.md has it."""
REFUSED = [
    (
        ["--trainer.strategy=ddp_spawn", "--trainer.devices=2"],
        "trainer.strategy: DDPStrategy with _MultiProcessingLauncher: expected auto or ddp.",
    ),
    (["--trainer.strategy=fsdp", "--trainer.devices=2"], "fsdp"),
    (
        [f"--trainer.strategy={WITH_TIMEOUT}", "--trainer.devices=2", "--data.batch_size=3"],
        "data.batch_size=3: expected a multiple of the 2 ranks (trainer.devices x "
        "trainer.num_nodes), e.g. 4.",
    ),
    (["--trainer.use_distributed_sampler=true"], "expected false"),
]


@pytest.mark.parametrize(("flags", "said"), REFUSED, ids=["spawn", "fsdp", "batch", "sampler"])
def test_what_cannot_be_distributed_is_refused_before_anything_is_started(
    flags: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = f"--trainer.default_root_dir={tmp_path / 'run'}"
    assert run_verb("fit", root, "--trainer.accelerator=cpu", *flags) == 2
    error = capsys.readouterr().err
    assert said in error and "Traceback" not in error
    assert not (tmp_path / "run" / "mlflow.db").exists()


@pytest.fixture
def _heard_again() -> Iterator[None]:
    """A rank that is not the first hides its warnings, here for every test that follows."""
    yield
    logging.getLogger("aflow_grpo").setLevel(logging.NOTSET)


@pytest.mark.usefixtures("_heard_again")
def test_several_processes_of_a_run_for_one_device_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each would train by itself, in the directory of the others."""
    monkeypatch.setenv("RANK", "1")
    assert run_verb("fit", f"--trainer.default_root_dir={tmp_path / 'run'}") == 2
    assert "a launcher has started several processes" in capsys.readouterr().err
