"""`aflow-grpo simulate`: the simulated gpt-4o-mini in the foreground, for any OpenAI client.

A run starts a simulator of its own and needs none of this; here it stands alone, so that other
programs, several runs, or a chain of tiers can ask it. It listens on 127.0.0.1 only.
"""

from __future__ import annotations

import asyncio
import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from aflow_grpo.commands.parsing import VerbParser
from aflow_grpo.data.catalogue import benchmark
from aflow_grpo.data.inputs import data_folder, from_folder
from aflow_grpo.data.sources import DATA_VARIABLE, DataSource, load_source
from aflow_grpo.errors import AFlowError, ConfigError, DataError
from aflow_grpo.llm.simulator.server import SimulatorServer
from aflow_grpo.llm.simulator.settings import SimulatorSettings
from aflow_grpo.llm.simulator.world import World
from aflow_grpo.records import DOMAINS, Problem
from aflow_grpo.workflow.contract import TEN_OPERATORS

__all__ = ["make_parser", "run_simulate"]

Part = Literal["all", "train", "val", "test"]
_SAMPLE = "sample"
_SHIPPED: tuple[Literal["train", "val", "test"], ...] = ("train", "val", "test")


def run_simulate(arguments: Sequence[str]) -> int:
    """Serve until a signal comes; returns 2 for wrong settings, data or a port that is taken."""
    parser = make_parser()
    try:
        given = parser.instantiate(parser.parse_args(list(arguments)))
        problems: dict[str, Problem] = {}
        for name in given.data:
            for problem in _named(name, given.split, given.dataset):
                problems.setdefault(problem.id, problem)
        world = World(problems.values(), TEN_OPERATORS.markers, given.simulator)
        server = SimulatorServer(world, given.port)
    except AFlowError as error:
        told = str(error).replace("llm.simulator.", "--simulator.")
        print(f"aflow-grpo simulate: {told}", file=sys.stderr)
        return 2
    print(_greeting(list(problems.values()), given.simulator, server.port), flush=True)
    asyncio.run(server.run())
    return 0


def make_parser() -> VerbParser:
    parser = VerbParser(
        prog="aflow-grpo simulate",
        description="Serve the simulated gpt-4o-mini to any OpenAI client, until Ctrl-C.",
    )
    parser.add_argument("--config", action="config", help="A YAML file with any of these options.")
    parser.add_argument(
        "--data",
        type=str,
        nargs="+",
        default=[_SAMPLE],
        help="What it knows the answers to: `sample`, names of benchmarks that are in "
        f"{DATA_VARIABLE}, or files.",
    )
    parser.add_argument(
        "--split",
        type=Part,
        default="all",
        help="Part of the sample and of benchmarks; a benchmark's held-out files are val and test.",
    )
    parser.add_argument(
        "--dataset",
        type=str,
        default="jsonl",
        help="The format of files: jsonl, or a benchmark's name.",
    )
    parser.add_argument("--port", type=int, default=0, help="Of 127.0.0.1; 0: a free one.")
    parser.add_class_arguments(SimulatorSettings, "simulator")
    return parser


def _named(name: str, part: Part, dataset: str) -> list[Problem]:
    """The problems of the shipped sample, of a benchmark's files that are here, or of a file."""
    if name == _SAMPLE:
        splits = _SHIPPED if part == "all" else (part,)
        return [p for split in splits for p in load_source(DataSource(_SAMPLE, split=split))]
    try:
        entry = benchmark(name)
    except ConfigError as error:
        try:
            return load_source(DataSource(dataset, path=name))
        except DataError as missing:
            looks_named = not Path(name).suffix and "/" not in name
            raise (error if looks_named else missing) from None
    folder = data_folder("")
    if folder is None:
        raise ConfigError(
            f"--data {name}: {DATA_VARIABLE} is not set, expected the folder of data sets"
        )
    role = {"train": "pool", "val": "held_out", "test": "held_out"}.get(part)
    read = [each for each in from_folder(entry, folder)[1] if role in (None, each.role)]
    if not read:
        raise DataError(
            f"--data {name} --split {part}: {folder} holds no such file; use --split all"
        )
    return [problem for each in read for problem in each.problems]


def _greeting(problems: Sequence[Problem], settings: SimulatorSettings, port: int) -> str:
    base_url = f"http://127.0.0.1:{port}/v1"
    count = len(problems)
    by_domain = {domain: sum(p.domain == domain for p in problems) for domain in DOMAINS}
    known = ", ".join(f"{domain} {of_it:,}" for domain, of_it in by_domain.items() if of_it)
    example = min((p.text for p in problems), key=len)
    body = {"model": settings.models[0], "messages": [{"role": "user", "content": example}]}
    key = " -H 'Authorization: Bearer KEY'" if settings.api_key else ""
    return "\n".join(
        (
            f"simulating on {count:,} problem{'s' * (count != 1)} ({known}); Ctrl-C ends it",
            f"base_url: {base_url}",
            f"models: {', '.join(settings.models)}",
            f"api key: {'as set' if settings.api_key else 'any'}",
            f"curl {base_url}/chat/completions -H 'Content-Type: application/json'{key} "
            f"-d {shlex.quote(json.dumps(body))}",
        )
    )
