"""The sample data set: mix, levels, wordings kept apart, no doubles, and the shipped bytes."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import get_args

import pytest

from aflow_grpo.assets import shipped_path
from aflow_grpo.data.dice import Dice
from aflow_grpo.data.generate import (
    COUNTS,
    SHIPPED_SEED,
    generate_problems,
    generate_sample,
    wording_kind,
    write_sample,
)
from aflow_grpo.data.generate.family import WordingKind
from aflow_grpo.data.generate.sample import FAMILIES
from aflow_grpo.data.jsonl import read_problems
from aflow_grpo.errors import ConfigError, DataError
from aflow_grpo.records import DOMAINS, Problem

SAMPLE = generate_sample()
EVERY = [problem for split in SAMPLE.values() for problem in split]


def plain(problem: Problem) -> str:
    return re.sub(r"\W+", " ", problem.text.lower()).strip()


@pytest.mark.parametrize("split", list(COUNTS))
def test_shipped_files_are_what_the_generator_writes(split: str, tmp_path: Path) -> None:
    written = {path.name: path for path in write_sample(tmp_path, SHIPPED_SEED)}
    shipped = shipped_path(f"data/sample/{split}.jsonl")
    assert shipped.read_bytes() == written[f"{split}.jsonl"].read_bytes()
    digest = hashlib.sha256(shipped.read_bytes()).hexdigest()
    table = shipped_path("data/README.md").read_text(encoding="utf-8")
    assert f"| `sample/{split}.jsonl` | {COUNTS[split]} | {digest} |" in table
    assert read_problems(shipped) == SAMPLE[split]


def test_another_process_with_another_hash_seed_writes_the_same_bytes(tmp_path: Path) -> None:
    script = (
        "import sys; from aflow_grpo.data.generate import generate_sample\n"
        "print(repr(generate_sample(5, {'train': 40, 'test': 20})))"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", script],
            env={"PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(Path(__file__).parents[2])},
            capture_output=True,
            check=True,
        ).stdout
        for hash_seed in ("1", "2")
    }
    assert outputs == {(repr(generate_sample(5, {"train": 40, "test": 20})) + "\n").encode()}


@pytest.mark.parametrize(("split", "mix"), [("train", (400, 300, 300)), ("val", (40, 30, 30))])
def test_mix_and_levels_are_as_promised(split: str, mix: tuple[int, ...]) -> None:
    domains = Counter(problem.domain for problem in SAMPLE[split])
    assert tuple(domains[domain] for domain in DOMAINS) == mix
    for domain in DOMAINS:
        levels = Counter(p.difficulty for p in SAMPLE[split] if p.domain == domain)
        assert max(levels.values()) - min(levels.values()) <= 1
        assert set(levels) == {1, 2, 3}


def test_every_domain_has_many_families_and_wordings() -> None:
    for domain in DOMAINS:
        families = [family for family in FAMILIES if family.domain == domain]
        assert len(families) >= 15
        assert {family.difficulty for family in families} == {1, 2, 3}
        assert all(len(family.wordings.seen) >= 3 for family in families)
    assert len({family.name for family in FAMILIES}) == len(FAMILIES)


def test_no_wording_of_training_is_held_out_too() -> None:
    for family in FAMILIES:
        kinds = [family.wordings.of(kind) for kind in get_args(WordingKind)]
        wordings = [text for kind in kinds for text in kind]
        assert len(set(wordings)) == len(wordings), family.name
        assert all(kinds), family.name


@pytest.mark.parametrize(
    ("split", "kinds"),
    [("train", {"seen"}), ("val", {"seen", "held"}), ("test", {"seen", "held", "test"})],
)
def test_held_out_wordings_stay_out_of_the_earlier_splits(split: str, kinds: set[str]) -> None:
    counts = Counter(wording_kind(problem) for problem in SAMPLE[split])
    assert set(counts) == kinds
    assert min(counts.values()) >= 20


def test_ids_are_unique_and_say_split_domain_and_family() -> None:
    assert len({problem.id for problem in EVERY}) == len(EVERY) == 1200
    names = {(family.name, family.domain, family.difficulty) for family in FAMILIES}
    for split, problems in SAMPLE.items():
        for problem in problems:
            match = re.fullmatch(
                rf"sample/{split}/(\w+)/\d{{4}}-(\w+)-(seen|held|test)\d+", problem.id
            )
            assert match is not None, problem.id
            assert match.group(1) == problem.domain
            assert (match.group(2), problem.domain, problem.difficulty) in names


def test_no_two_problems_have_the_same_text() -> None:
    assert len({plain(problem) for problem in EVERY}) == len(EVERY)


def test_math_in_different_splits_differs_in_more_than_names() -> None:
    """Numbers in order of appearance, per family and wording: the same ones mean the same task."""
    seen: dict[tuple[str, ...], str] = {}
    for problem in (p for p in EVERY if p.domain == "math"):
        family, wording = problem.id.split("-")[1:]
        key = (
            family,
            wording,
            *re.findall(r"\d+|even|odd|neither|exactly|least", problem.question),
        )
        assert key not in seen, (seen[key], problem.id)
        seen[key] = problem.id


@pytest.mark.parametrize(("domain", "longest"), [("math", 300), ("code", 350), ("qa", 120)])
def test_texts_are_short_enough_for_a_tiny_policy(domain: str, longest: int) -> None:
    fresh = generate_problems(3, 480, held_out=True)
    for problem in (p for p in EVERY + fresh if p.domain == domain):
        assert 8 <= len(problem.question) <= longest, problem.id
        assert len(problem.context) <= 500
        assert bool(problem.context) == (domain == "qa")
        assert not re.search(r"[{}]|\[[^\[\]]*\|", problem.question) or domain == "code"
        assert "  " not in problem.text


def test_harder_problems_are_longer() -> None:
    for domain in DOMAINS:
        lengths = [
            [len(p.text) for p in EVERY if p.domain == domain and p.difficulty == level]
            for level in (1, 2, 3)
        ]
        means = [sum(group) / len(group) for group in lengths]
        assert means[0] < means[1], domain
        assert means[0] < means[2], domain


@pytest.mark.parametrize("held_out", [True, False])
def test_fresh_problems_are_new_and_repeatable(held_out: bool) -> None:
    fresh = generate_problems(11, 600, held_out=held_out)
    assert fresh == generate_problems(11, 600, held_out=held_out)
    assert Counter(p.domain for p in fresh) == {"math": 240, "code": 180, "qa": 180}
    texts = {plain(problem) for problem in fresh}
    assert len(texts) == 600
    assert not texts & {plain(problem) for problem in EVERY}
    assert all("-11/" in problem.id for problem in fresh)
    kinds = {wording_kind(problem) for problem in fresh}
    assert kinds == ({"held", "test"} if held_out else {"seen"})


def test_seeds_give_different_problems() -> None:
    one, two = (generate_problems(seed, 100, held_out=True) for seed in (1, 2))
    assert len({plain(p) for p in one} & {plain(p) for p in two}) < 10


@pytest.mark.parametrize(
    ("n", "mix"), [(0, {}), (1, {"math": 1}), (7, {"math": 3, "code": 2, "qa": 2})]
)
def test_small_numbers_are_rounded_by_largest_remainder(n: int, mix: dict[str, int]) -> None:
    assert Counter(p.domain for p in generate_problems(4, n, held_out=False)) == mix


def test_wrong_counts_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"n is -1, expected a number of problems"):
        generate_problems(0, -1, held_out=True)
    with pytest.raises(ConfigError, match="unknown split 'dev', expected train, val, test"):
        generate_sample(0, {"dev": 3})
    with pytest.raises(ConfigError, match=r"counts\['val'\] is -2"):
        generate_sample(0, {"val": -2})


def test_asking_for_more_than_there_is_says_so_and_ends() -> None:
    with pytest.raises(DataError, match="too few different problems"):
        generate_problems(0, 5200, held_out=False)


def test_wording_kind_is_none_for_other_data() -> None:
    assert wording_kind(Problem("gsm8k/train/3-held1", "gsm8k", "math", "?", "1")) is None


def test_dice_are_fixed_for_ever() -> None:
    """Worked values: a change here changes every shipped file and every sampler position."""
    dice = Dice("a", 1)
    assert [dice.below(100) for _ in range(5)] == [27, 31, 66, 25, 26]
    assert Dice("a", 1).shuffled(range(8)) == [0, 6, 5, 4, 1, 3, 7, 2]
    assert sorted(Dice(3).picks("abcdef", 6)) == list("abcdef")
    assert {Dice("range", i).between(2, 4) for i in range(60)} == {2, 3, 4}
