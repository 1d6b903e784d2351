"""One process that runs the commands of all pages, and one finished run for them to look at."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from doc_blocks import Block
from doc_world import World, Zygote


# Not for the whole session: tests of the sandbox look at the memory of every child process.
@pytest.fixture(scope="module")
def zygote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zygote]:
    """What runs commands and Python blocks."""
    # Not a deep folder: the path of a socket has 108 characters at most.
    made = Zygote(tmp_path_factory.mktemp("z"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def finished_run(zygote: Zygote, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of the README's first command, in short."""
    folder = tmp_path_factory.mktemp("first")
    command = "aflow-grpo fit --config configs/quickstart.yaml"
    world = World(zygote, folder, None, [])
    world.run(Block("tests", 1, "bash", command))
    world.close()
    return folder / "runs" / "quickstart"
