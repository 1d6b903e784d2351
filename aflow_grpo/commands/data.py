"""`aflow-grpo data prepare | sample | check | describe`: data sets made, checked and shown."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from jsonargparse import Namespace

from aflow_grpo.commands.measure import MeasureSettings, measure, render_costs
from aflow_grpo.commands.parsing import VerbParser
from aflow_grpo.data.catalogue import CATALOGUE, Benchmark, benchmark
from aflow_grpo.data.describe import describe, excerpt, faults_of, render
from aflow_grpo.data.generate import generate_sample
from aflow_grpo.data.inputs import HUB, data_folder, from_folder, from_hub, held_out_sets
from aflow_grpo.data.jsonl import write_problems
from aflow_grpo.data.leaks import LeakReport, find_leaks
from aflow_grpo.data.prepare import Prepared, check_target, counts, deal_out, write_prepared
from aflow_grpo.data.sources import DataSource, OnBadRow, read_source
from aflow_grpo.data.splits import Shares, without_copies
from aflow_grpo.errors import AFlowError, ConfigError, DataError
from aflow_grpo.llm.settings import LLMSettings
from aflow_grpo.llm.simulator import SimulatorSettings
from aflow_grpo.records import DOMAINS, Problem
from aflow_grpo.terminal import Step, complain, progress

__all__ = ["make_parser", "run_data"]

_LISTED = 10
"""Findings of one kind that are shown; the rest is counted."""


def make_parser() -> VerbParser:
    """What there is to do with data, each with its options."""
    parser = VerbParser(prog="aflow-grpo data", description="Data sets made, checked and shown.")
    commands = parser.add_subcommands(dest="what", required=True)
    for name, (text, options, _) in _VERBS.items():
        sub = VerbParser(description=text)
        options(sub)
        commands.add_subcommand(name, sub, help=text)
    return parser


def run_data(arguments: Sequence[str]) -> int:
    """Run the verb; returns the exit code: 0 done, 1 `check` found faults, 2 wrong settings."""
    parser = make_parser()
    given = parser.instantiate(parser.parse_args(list(arguments)))
    logging.getLogger("aflow_grpo.data.sources").setLevel(logging.ERROR)  # shown here instead
    try:
        return _VERBS[given.what][2](given[given.what])
    except (AFlowError, FileExistsError, PermissionError) as error:
        complain(f"aflow-grpo data {given.what}", error)
        return 2


def _bad_row_option(parser: VerbParser) -> None:
    parser.add_argument(
        "--on_bad_row",
        type=OnBadRow,
        default="stop",
        help="stop at the first malformed row, or skip such rows, count and list them.",
    )


def _prepare_options(parser: VerbParser) -> None:
    known = ", ".join(CATALOGUE)
    parser.add_argument("names", nargs="+", help=f"{known}; or their names on the hub.")
    parser.add_argument(
        "--source",
        type=str,
        default="",
        help=f"{HUB} to download, or the folder that holds the files; default: AFLOW_GRPO_DATA.",
    )
    parser.add_argument("--output_dir", type=Path, default=Path("data/prepared"))
    parser.add_argument("--val", type=float, default=Shares.val, help="Share for validation.")
    parser.add_argument("--test", type=float, default=Shares.test, help="Share for the test.")
    parser.add_argument("--seed", type=int, default=Shares.seed, help="Order of the clusters.")
    parser.add_argument(
        "--threshold",
        type=float,
        default=Shares.threshold,
        help="Jaccard similarity from which problems stay in one split.",
    )
    parser.add_argument("--overwrite", type=bool, nargs="?", const=True, default=False)
    _bad_row_option(parser)


def _prepare(given: Namespace) -> int:
    shares = Shares(val=given.val, test=given.test, seed=given.seed, threshold=given.threshold)
    entries = list({entry.name: entry for entry in map(benchmark, given.names)}.values())
    for entry in entries:
        check_target(given.output_dir / entry.name, overwrite=given.overwrite)
    folder = data_folder(given.source)
    if folder is None and given.source != HUB:
        raise ConfigError(
            "neither --source nor AFLOW_GRPO_DATA is set, expected where the files are: give "
            f"--source {HUB} to download them, or --source DIR"
        )
    with progress("preparing", 2 * len(entries)) as step:
        done = _dealt_out(entries, folder, shares, given, step)
    for prepared in done:
        target = write_prepared(prepared, given.output_dir, overwrite=given.overwrite)
        print(_summary(prepared, target))
    return 0


def _dealt_out(
    entries: Sequence[Benchmark], folder: Path | None, shares: Shares, given: Namespace, step: Step
) -> list[Prepared]:
    """All of them, before any is written: a fault leaves nothing behind."""
    read = {}
    for entry in entries:
        step.advance(0, f"reading {entry.name}")
        if given.source == HUB or folder is None:
            read[entry.name] = from_hub(entry, given.on_bad_row)
        else:
            read[entry.name] = from_folder(entry, folder, given.on_bad_row)
        step.advance(1)
    held_out = held_out_sets(folder, [i for _, inputs in read.values() for i in inputs])
    done = []
    for entry in entries:
        step.advance(0, f"looking for copies and leaks in {entry.name}")
        done.append(deal_out(entry, *read[entry.name], held_out, shares))
        step.advance(1)
    return done


def _summary(prepared: Prepared, target: Path) -> str:
    n = counts(prepared)
    inside, outside = prepared.inside, prepared.outside
    files = ", ".join(f"{i.name} ({len(i.problems):,})" for i in prepared.inputs)
    dealt = ", ".join(f"{s} {len(p):,}" for s, p in prepared.splits.named().items() if p)
    lines = [
        f"{prepared.entry.name}: {dealt} in {prepared.splits.clusters:,} clusters -> {target}",
        f"  from {files}; licence {prepared.entry.licence}",
        f"  removed: {n['bad_rows']} bad rows, {n['copies_removed']} copies, "
        f"{n['leaks_removed_from_pool']} that leak a held-out problem, "
        f"{n['leaks_removed_from_train']} that leak one of the new val or test",
        *_leak_lines(outside),
        *_leak_lines(inside),
        *(f"  known overlap: {text}" for text in prepared.entry.overlaps),
    ]
    return "\n".join(lines)


def _leak_lines(report: LeakReport) -> list[str]:
    """The sets that are given away, in part at least."""
    lines = []
    for name, size in report.sizes.items():
        kinds = [leak.kind for leak in report.leaks if leak.source == name]
        if kinds:
            how = ", ".join(f"{kinds.count(kind)} by {kind}" for kind in dict.fromkeys(kinds))
            lines.append(
                f"  {report.given_away[name]} of the {size} problems of {name} are given away; "
                f"training problems that leak: {how}"
            )
    return lines


def _sample_options(parser: VerbParser) -> None:
    parser.add_argument("--output_dir", type=Path, default=Path("data/sample"))
    parser.add_argument("--train", type=int, default=1000, help="Problems to train on.")
    parser.add_argument("--val", type=int, default=100, help="Problems to validate on.")
    parser.add_argument("--test", type=int, default=100, help="Problems to test on.")
    parser.add_argument("--seed", type=int, default=0, help="0 gives the shipped files.")
    parser.add_argument("--overwrite", type=bool, nargs="?", const=True, default=False)


def _sample(given: Namespace) -> int:
    wanted = {"train": given.train, "val": given.val, "test": given.test}
    for name, count in wanted.items():
        if count < 1:
            raise ConfigError(f"--{name} is {count}, expected 1 or more problems")
    made = {}
    for name, problems in generate_sample(given.seed, wanted).items():
        path, partial = given.output_dir / f"{name}.jsonl", given.output_dir / f".{name}.partial"
        write_problems(partial, problems)
        made[path] = (partial, len(problems))
    others = [
        p for p, (new, _) in made.items() if p.exists() and p.read_bytes() != new.read_bytes()
    ]
    if others and not given.overwrite:
        for partial, _ in made.values():
            partial.unlink()
        raise DataError(
            f"{', '.join(map(str, others))}: other problems are there, expected nothing or the "
            "same; add --overwrite to make them anew, or give another --output_dir"
        )
    for path, (partial, count) in made.items():
        partial.replace(path)
        print(f"{path}: {count:,} problems")
    return 0


def _check_options(parser: VerbParser) -> None:
    parser.add_argument("files", nargs="+", help="Files to check.")
    parser.add_argument(
        "--dataset", type=str, default="jsonl", help="Their format: jsonl, or a benchmark's name."
    )
    parser.add_argument(
        "--leaks_with",
        type=str,
        default="",
        help="A file of held-out problems, of the same format or jsonl: what of it is in FILE?",
    )
    _bad_row_option(parser)


def _check(given: Namespace) -> int:
    held_out: Mapping[str, Sequence[Problem]] = {}
    if given.leaks_with:
        held_out = {given.leaks_with: _either(given.leaks_with, given.dataset)}
    with progress("checking", len(given.files)) as step:
        faulty = 0
        for file in given.files:
            step.advance(0, file)
            faulty += _check_file(file, given, held_out)
            step.advance(1)
    print("faults found" if faulty else "no faults found")
    return 1 if faulty else 0


def _check_file(file: str, given: Namespace, held_out: Mapping[str, Sequence[Problem]]) -> int:
    """Show what is wrong with a file; how many kinds of faults it has."""
    try:
        loaded = read_source(
            DataSource(dataset=given.dataset, path=file, on_bad_row=given.on_bad_row)
        )
    except DataError as error:
        print(f"{file}: unreadable\n  {error}")
        return 1
    problems = loaded.problems
    number = {d: sum(problem.domain == d for problem in problems) for d in DOMAINS}
    print(f"{file}: {len(problems):,} problems, " + ", ".join(
        f"{d} {count:,}" for d, count in number.items() if count
    ))  # fmt: skip
    leaks = [
        f"{leak.problem} gives away {leak.held_out} ({leak.kind}, {leak.share:.2f})"
        for leak in find_leaks(problems, held_out).leaks
    ]
    copies = [f"{a} repeats {b}" for a, b in without_copies(problems)[1].items()]
    return (
        _listed("bad rows", [row.message for row in loaded.bad_rows])
        + _listed("gold answers or tests at fault", faults_of(problems))
        + _listed("copies", copies)
        + _listed("leaks", leaks)
    )


def _either(path: str, dataset: str) -> Sequence[Problem]:
    """The problems of a file in the format named, or else in the unified one."""
    try:
        return read_source(DataSource(dataset=dataset, path=path, split="val")).problems
    except DataError as error:
        if dataset == "jsonl":
            raise
        try:
            return read_source(DataSource(dataset="jsonl", path=path)).problems
        except DataError:
            raise error from None


def _listed(what: str, found: Sequence[str]) -> bool:
    """Show the findings; whether there are any."""
    if found:
        print(f"  {len(found):,} {what}")
        for line in found[:_LISTED]:
            print(f"    {excerpt(line)}")
        if len(found) > _LISTED:
            print(f"    and {len(found) - _LISTED:,} more")
    return bool(found)


def _describe_options(parser: VerbParser) -> None:
    parser.add_argument("--config", action="config", help="A YAML file with any of these options.")
    parser.add_argument(
        "sources", nargs="+", help="Files, or names of benchmarks that are in AFLOW_GRPO_DATA."
    )
    parser.add_argument(
        "--dataset",
        type=str,
        default="jsonl",
        help="The files' format: jsonl, or a benchmark's name.",
    )
    parser.add_argument("--examples", type=int, default=1, help="Examples per domain.")
    parser.add_argument(
        "--measure",
        type=bool,
        nargs="?",
        const=True,
        default=False,
        help="Run one call per problem on some of them and print what it costs.",
    )
    parser.add_class_arguments(MeasureSettings, "rollout")
    parser.add_class_arguments(LLMSettings, "llm")
    parser.set_defaults({"llm.simulator": SimulatorSettings()})
    _bad_row_option(parser)


def _describe(given: Namespace) -> int:
    if given.examples < 0:
        raise ConfigError(f"--examples is {given.examples}, expected 0 or more")
    problems: dict[str, Problem] = {}
    for name in given.sources:
        for problem in _named(name, given):
            problems.setdefault(problem.id, problem)
    print(render(describe([*problems.values()], examples=given.examples)))
    if given.measure:
        costs = measure([*problems.values()], given.rollout, given.llm)
        print("\n" + render_costs(costs, given.llm))
    return 0


def _named(name: str, given: Namespace) -> Sequence[Problem]:
    """The problems of a file, or of all files of a benchmark that are in the folder of data."""
    try:
        entry = benchmark(name)
    except ConfigError as error:
        spec = DataSource(dataset=given.dataset, path=name, on_bad_row=given.on_bad_row)
        try:
            return read_source(spec).problems
        except DataError as missing:
            looks_named = not Path(name).suffix and "/" not in name
            raise (error if looks_named else missing) from None
    folder = data_folder("")
    if folder is None:
        raise ConfigError(f"{name}: AFLOW_GRPO_DATA is not set, expected the folder of data sets")
    return [p for i in from_folder(entry, folder, given.on_bad_row)[1] for p in i.problems]


_VERBS: Mapping[str, tuple[str, Callable[[VerbParser], None], Callable[[Namespace], int]]] = {
    "prepare": (
        "Benchmarks into train, val and test: near-duplicates together, leaks removed.",
        _prepare_options,
        _prepare,
    ),
    "sample": ("The shipped sample set, or another one.", _sample_options, _sample),
    "check": ("Is a file right? Exit code 1 when it is not.", _check_options, _check),
    "describe": ("Counts, lengths, examples; what one call costs.", _describe_options, _describe),
}
