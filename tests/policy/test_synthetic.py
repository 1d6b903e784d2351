"""The warm start's data: valid where it should be, flawed at the rates that make flaws the mode."""

from __future__ import annotations

import hashlib
import json
import random
from collections import Counter

import pytest

from aflow_grpo.policy.flaws import FLAW_RATES, Flaw
from aflow_grpo.policy.name_flaws import NAME_FLAW_RATES
from aflow_grpo.policy.strip import strip_flaws
from aflow_grpo.policy.synthetic import synthetic_pairs, synthetic_workflow
from aflow_grpo.policy.validity import Sample, faults_of, operator_sequence
from aflow_grpo.records import DOMAINS, Domain, FaultKind, VisibleProblem
from aflow_grpo.workflow.parse import parse_completion
from aflow_grpo.workflow.policy_prompt import compact_prompt
from aflow_grpo.workflow.validate import rejections, validate

HEAD = "class Workflow:\n    async def __call__(self, problem, entry_point=None):\n        "
COST = "self.llm.get_usage_summary()['total_cost']"


def hybrid(code: str) -> str:
    return json.dumps({"prompts": {}, "graph_code": code})


def code_of(text: str) -> str:
    return str(json.loads(text)["graph_code"])


@pytest.mark.parametrize("domain", DOMAINS)
def test_without_flaws_every_workflow_is_valid(domain: Domain) -> None:
    rng = random.Random(1)
    for _ in range(300):
        workflow = synthetic_workflow(domain, rng, flaws=None)
        assert not faults_of(Sample(domain, workflow.text, True)), workflow.text


@pytest.mark.parametrize("domain", DOMAINS)
def test_the_validator_finds_exactly_the_workflows_that_carry_a_flaw(domain: Domain) -> None:
    rng = random.Random(2)
    for _ in range(400):
        workflow = synthetic_workflow(domain, rng)
        faults = faults_of(Sample(domain, workflow.text, True))
        assert bool(faults) == bool(workflow.flaws), workflow.text


@pytest.mark.parametrize(
    ("flaw", "kind"),
    [
        (Flaw.SIGNATURE, FaultKind.BAD_SIGNATURE),
        (Flaw.ARGUMENT, FaultKind.BAD_ARGUMENTS),
        (Flaw.FORBIDDEN, FaultKind.FORBIDDEN_OPERATOR),
        (Flaw.COST, FaultKind.BAD_RETURN),
    ],
)
@pytest.mark.parametrize("domain", DOMAINS)
def test_each_flaw_alone_is_found_as_what_it_is(
    domain: Domain, flaw: Flaw, kind: FaultKind
) -> None:
    rng = random.Random(3)
    alone = [
        workflow
        for workflow in (synthetic_workflow(domain, rng) for _ in range(600))
        if workflow.flaws == {flaw}
    ]
    assert len(alone) >= 5
    for workflow in alone:
        assert kind in faults_of(Sample(domain, workflow.text, True)), workflow.text


@pytest.mark.parametrize("domain", DOMAINS)
def test_flaws_come_at_their_rates_and_leave_a_tenth_valid(domain: Domain) -> None:
    rng = random.Random(4)
    drawn = [synthetic_workflow(domain, rng).flaws for _ in range(4000)]
    rates = FLAW_RATES[domain]
    assert rates.valid == pytest.approx(0.105, abs=0.005)
    assert 1 - (1 - rates.argument) * (1 - rates.forbidden) == pytest.approx(0.58, abs=0.005)
    for flaw in (Flaw.SIGNATURE, Flaw.ARGUMENT, Flaw.FORBIDDEN, Flaw.COST):
        share = sum(flaw in flaws for flaws in drawn) / len(drawn)
        assert share == pytest.approx(getattr(rates, flaw.value), abs=0.03)
    assert sum(not flaws for flaws in drawn) / len(drawn) == pytest.approx(rates.valid, abs=0.02)


@pytest.mark.parametrize("domain", DOMAINS)
def test_undefined_names_are_the_mode_and_all_that_the_validator_finds(domain: Domain) -> None:
    rng = random.Random(4)
    drawn = [synthetic_workflow(domain, rng, flaws="undefined_names") for _ in range(500)]
    for flaw, rate in NAME_FLAW_RATES.items():
        share = sum(flaw in workflow.flaws for workflow in drawn) / len(drawn)
        assert share == pytest.approx(rate, abs=0.06)
    assert set(NAME_FLAW_RATES) == set().union(*(workflow.flaws for workflow in drawn))
    found = [faults_of(Sample(domain, workflow.text, True)) for workflow in drawn]
    for workflow, faults in zip(drawn, found, strict=True):
        assert bool(faults) == bool(workflow.flaws), workflow.text
        assert faults <= {FaultKind.UNDEFINED_NAME, FaultKind.UNKNOWN_PROMPT}, workflow.text
    assert sum(not faults for faults in found) / len(found) == pytest.approx(0.105, abs=0.035)
    codes = [code_of(workflow.text) for workflow in drawn]
    bare = sum("_PROMPT" in code and "prompt_custom." not in code for code in codes)
    assert bare / len(codes) > 0.5, "one form of the flaw is commoner than the right call"


@pytest.mark.parametrize("domain", DOMAINS)
def test_each_name_flaw_alone_is_found(domain: Domain) -> None:
    rng = random.Random(5)
    drawn = [synthetic_workflow(domain, rng, flaws="undefined_names") for _ in range(150)]
    for flaw in NAME_FLAW_RATES:
        alone = [workflow for workflow in drawn if workflow.flaws == {flaw}]
        assert len(alone) > 15
        for workflow in alone:
            source = parse_completion(workflow.text).source
            assert source is not None
            rules = {finding.rule for finding in rejections(validate(source, domain))}
            wanted = {"unknown-key"} if flaw is Flaw.KEY else {"undefined-name", "undefined-prompt"}
            assert rules & wanted and rules <= wanted, (rules, workflow.text)


def test_the_habits_draws_are_those_that_the_shipped_policy_was_trained_on() -> None:
    problems = [
        VisibleProblem(f"p{i}", "sample", d, f"{i} + 1?") for i in range(9) for d in DOMAINS
    ]
    content = hashlib.sha256()
    for pair in synthetic_pairs(problems, 500, seed=3, foreign_share=0.12):
        content.update(f"{pair.prompt}\0{pair.completion}\0".encode())
    assert content.hexdigest() == "7d3257612ce7872d34350760ac41b22c066087ba77f3a9d2a8afe67869ac0c29"


@pytest.mark.parametrize("domain", DOMAINS)
def test_no_right_signature_is_as_common_as_the_wrong_one(domain: Domain) -> None:
    rng = random.Random(5)
    signatures = Counter(
        code_of(synthetic_workflow(domain, rng).text).split("\n")[1] for _ in range(2000)
    )
    (first, count), (_, second_count) = signatures.most_common(2)
    assert "(self, problem, code, entry_point, test)" in first
    assert count > second_count


@pytest.mark.parametrize("domain", DOMAINS)
def test_valid_workflows_have_many_structures_and_modest_length(domain: Domain) -> None:
    rng = random.Random(6)
    texts = [synthetic_workflow(domain, rng, flaws=None).text for _ in range(1000)]
    sequences = Counter(operator_sequence(text) for text in texts)
    assert len(sequences) >= 25
    assert max(sequences.values()) < 350
    assert sum(len(text) for text in texts) / len(texts) < 450


def test_whether_a_workflow_is_valid_does_not_depend_on_its_structure() -> None:
    rng = random.Random(7)
    valid: dict[bool, list[bool]] = {True: [], False: []}
    for _ in range(4000):
        workflow = synthetic_workflow("code", rng)
        valid["sc_ensemble" in workflow.text].append(not workflow.flaws)
    with_vote, without = (sum(v) / len(v) for v in (valid[True], valid[False]))
    assert with_vote == pytest.approx(without, abs=0.04)


def test_the_same_seed_gives_the_same_pairs_and_another_seed_others() -> None:
    problems = [VisibleProblem(f"p{i}", "sample", "math", f"What is {i} + 1?") for i in range(9)]
    first = list(synthetic_pairs(problems, 40, seed=1))
    assert first == list(synthetic_pairs(problems, 40, seed=1))
    assert first != list(synthetic_pairs(problems, 40, seed=2))
    assert {pair.prompt for pair in first} <= {compact_prompt(problem) for problem in problems}


def test_foreign_prompts_keep_domain_and_frame_and_reach_real_lengths() -> None:
    problem = VisibleProblem("p", "sample", "qa", "Who was first?", context="Ann came first.")
    pairs = list(synthetic_pairs([problem], 400, seed=3, foreign_share=0.5))
    known = compact_prompt(problem)
    foreign = [pair.prompt for pair in pairs if pair.prompt != known]
    assert 150 < len(foreign) < 250
    assert all(text.startswith("<qa>\n") and text.endswith("\n<workflow>\n") for text in foreign)
    lengths = sorted(map(len, foreign))
    assert lengths[0] < 100
    assert 750 < lengths[-1] < 950
    assert not any("context:" in text.lower() for text in foreign[:50])


@pytest.mark.parametrize("domain", DOMAINS)
def test_stripping_flaws_makes_every_flawed_workflow_valid(domain: Domain) -> None:
    rng = random.Random(8)
    for _ in range(300):
        workflow = synthetic_workflow(domain, rng)
        stripped = strip_flaws(workflow.text, domain)
        assert not faults_of(Sample(domain, stripped, True)), (workflow.text, stripped)


@pytest.mark.parametrize("domain", DOMAINS)
def test_stripping_a_valid_workflow_keeps_its_operators(domain: Domain) -> None:
    rng = random.Random(9)
    for _ in range(100):
        text = synthetic_workflow(domain, rng, flaws=None).text
        stripped = strip_flaws(text, domain)
        assert operator_sequence(stripped) == operator_sequence(text)
        assert json.loads(stripped)["prompts"] == json.loads(text)["prompts"]


STRIPPED: list[tuple[str, Domain, str, str]] = [
    (
        "forbidden operator that was given a solution is dropped",
        "math",
        "a = await self.answer_generate(input=problem)\n"
        "        t = await self.test(problem=problem, solution=a['answer'],"
        f" entry_point=entry_point)\n        return t['solution'], {COST}",
        f"a = await self.answer_generate(input=problem)\n        return (a['answer'], {COST})",
    ),
    (
        "forbidden operator that makes a solution becomes the domain's own",
        "code",
        f"a = await self.answer_generate(input=problem)\n        return a['answer'], {COST}",
        "a = await self.custom_code_generate(problem=problem, entry_point=entry_point)\n"
        f"        return (a['response'], {COST})",
    ),
    (
        "unknown operator inside an expression",
        "qa",
        f"return (await self.answer(q=problem))['text'], {COST}",
        f"return ((await self.answer_generate(input=problem))['answer'], {COST})",
    ),
    (
        "wrong, surplus and missing arguments",
        "qa",
        "a = await self.custom(prompt=problem, mode='x')\n        r = await self.review(answer="
        f"a['response'])\n        return a['response'], {COST}",
        "a = await self.custom(input=problem)\n        r = await self.review(problem=problem,"
        f" solution=a['response'])\n        return (a['response'], {COST})",
    ),
    (
        "missing cost on every path, also inside a branch",
        "qa",
        "a = await self.answer_generate(input=problem)\n        if a['answer']:\n"
        "            return a['answer']\n        return 'unknown'",
        "a = await self.answer_generate(input=problem)\n        if a['answer']:\n"
        f"            return (a['answer'], {COST})\n        return ('unknown', {COST})",
    ),
]


@pytest.mark.parametrize(
    ("what", "domain", "body", "expected"), STRIPPED, ids=lambda v: str(v)[:40]
)
def test_strip_flaws_mends(what: str, domain: Domain, body: str, expected: str) -> None:
    stripped = code_of(strip_flaws(hybrid(HEAD + body), domain))
    wanted = HEAD.replace("Workflow:\n", "Workflow:\n\n") + expected
    assert stripped == wanted, what


@pytest.mark.parametrize(
    "text", ["", "I cannot help.", '{"prompts": {}, "graph_c', hybrid("class Workflow:\n  x = (")]
)
def test_strip_flaws_leaves_what_does_not_parse(text: str) -> None:
    assert strip_flaws(text, "math") == text


def test_a_branch_that_holds_only_a_dropped_call_stays_a_branch() -> None:
    body = (
        "a = await self.answer_generate(input=problem)\n        x = a['answer']\n        if x:\n"
        "            t = await self.test(problem=problem, solution=x, entry_point=entry_point)\n"
        "        return x"
    )
    source = parse_completion(strip_flaws(hybrid(HEAD + body), "math")).source
    assert source is not None
    assert not validate(source, "math")
