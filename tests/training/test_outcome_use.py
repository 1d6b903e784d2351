"""The outcome model in training: what it is told, what it changes, what it leaves alone."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from made_rollouts import REPAIRED, rollout

from aflow_grpo.errors import ConfigError
from aflow_grpo.records import Completion, Rollout, Status, Usage, WorkflowSource
from aflow_grpo.rewards import REHEARSED
from aflow_grpo.training.demonstrations import Demonstrations, DemonstrationSettings
from aflow_grpo.training.outcome_use import OutcomeSettings, OutcomeUse
from aflow_grpo.training.settings import GRPOSettings

GOOD, POOR = "custom", "answer_generate"
EARLY = OutcomeSettings(from_iteration=0, min_rows=20)


def source(operator: str, name: str = "r") -> WorkflowSource:
    return WorkflowSource(
        "class Workflow:\n    async def __call__(self, problem):\n"
        f"        {name} = await self.{operator}(input=problem)\n        return {name}, 0\n"
    )


def ran(group: int, member: int, operator: str, correct: bool, **changes: Any) -> Rollout:
    """A workflow of one operator; the good one is marked by its tokens."""
    ids = (7, 8, 9) if operator == GOOD else (4, 5)
    total = (8.0 if operator == GOOD else 7.0) if correct else -2.0
    return rollout(**{
        "group": group, "member": member, "correct": correct, "total": total,
        "source": source(operator), "usage": Usage(cost_usd=1e-4),
        "completion": Completion("{}", (1, 2), ids, (-0.1,) * len(ids), finished=True), **changes,
    })  # fmt: skip


def iteration(number: int, groups: int = 6) -> list[Rollout]:
    """Groups of four: the good workflow is right three times of four, the poor one once."""
    return [
        ran(number * groups + group, member, operator,
            ((group + member) % 4 > 0) == (operator == GOOD))
        for group in range(groups) for member, operator in enumerate((GOOD, GOOD, POOR, POOR))
    ]  # fmt: skip


def taught(settings: OutcomeSettings = EARLY, iterations: int = 4) -> OutcomeUse:
    use = OutcomeUse(settings)
    for number in range(iterations):
        use.look(iteration(number), number)
        use.remember(iteration(number))
    return use


def test_luck_leaves_the_advantage_and_what_did_not_run_keeps_its_reward() -> None:
    batch = [
        ran(90, 0, GOOD, False), ran(90, 1, GOOD, True), ran(90, 2, POOR, True),
        rollout(group=90, member=3, status=Status.INVALID, total=-9.0),
        ran(90, 4, GOOD, True, source=replace(REPAIRED, graph_code=source(GOOD).graph_code)),
        ran(90, 5, GOOD, True, status=Status.UNAVAILABLE),
    ]  # fmt: skip
    use = taught()
    judged = use.judged(use.look(batch, 4), batch, batch)
    assert judged is not None
    values = list(judged.rewards_B)
    assert values[0] == values[1] > values[2] > -2.0, "one workflow, one value, the better first"
    assert values[3:] == [r.reward.total for r in batch[3:]]
    # The group's own spread, actual rewards, without what is masked.
    spread = np.std([-2.0, 8.0, 7.0, -9.0, 8.0], ddof=1)
    assert judged.scales == {90: pytest.approx(spread)}


def test_a_group_without_luck_is_divided_by_what_others_spread() -> None:
    use = taught()
    batch = [ran(90, 0, GOOD, True), ran(90, 1, GOOD, True), ran(91, 0, GOOD, True),
             ran(91, 1, GOOD, False)]  # fmt: skip
    judged = use.judged(use.look(batch, 4), batch[:2], batch)
    assert judged is not None
    # Squares 0 and 2 x 5², over 1 + 1 degrees of freedom.
    assert judged.scales == {90: pytest.approx(5.0)}


def test_nothing_is_judged_early_or_where_nobody_asks() -> None:
    batch = iteration(0)
    assert OutcomeUse(None).look(batch, 9) is None and OutcomeUse(None).state_dict() == {}
    assert OutcomeUse(None).metrics(None, batch) == {}
    late, many = replace(EARLY, from_iteration=3), replace(EARLY, min_rows=25)
    for settings, at, known in ((late, 2, False), (late, 3, True), (many, 0, False)):
        outlook = OutcomeUse(settings).look(batch, at)
        assert (outlook is not None) == known
    off = taught(replace(EARLY, denoise=None))
    outlook = off.look(batch, 4)
    assert outlook is not None and off.judged(outlook, batch, batch) is None
    assert set(OutcomeUse(late).metrics(None, batch)) == {"train/outcome/rows"}


def test_what_never_answered_is_not_learned_from() -> None:
    rehearsed = [replace(r, score=REHEARSED) for r in iteration(0)]
    masked = [ran(1, 0, GOOD, True, status=Status.UNAVAILABLE)]
    use = OutcomeUse(EARLY)
    use.remember([*rehearsed, *masked, ran(2, 0, GOOD, True, source=REPAIRED)])
    assert use.metrics(None, [])["train/outcome/rows"] == 0.0
    use.remember([ran(3, 0, GOOD, True)])
    assert use.metrics(None, [])["train/outcome/rows"] == 1.0


def test_looking_changes_nothing_and_old_rows_are_forgotten() -> None:
    use = taught(replace(EARLY, remembered_rows=30))
    before = use.state_dict()
    use.look(iteration(9), 4)
    after = use.state_dict()
    assert before == after and before["variances"] != {}
    assert len(before["memory"]["places"]) == 30
    assert len(before["memory"]["texts"]) == 2, "each text is kept once"


def test_variances_are_searched_when_due_and_taken_as_they_are_in_between() -> None:
    use = taught(replace(EARLY, refit_every=3), iterations=1)
    found = [use.state_dict()["variances"]]
    for number in range(1, 5):
        use.look(iteration(number), number)
        use.remember(iteration(number))
        found.append(use.state_dict()["variances"])
    assert found[0] == found[1] == found[2] != found[3] == found[4]


def test_a_resumed_run_judges_as_one_that_was_not_stopped() -> None:
    straight, resumed = taught(), OutcomeUse(EARLY)
    file = io.BytesIO()
    torch.save(taught().state_dict(), file)
    file.seek(0)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    for number in (4, 5, 6):
        batch = iteration(number)
        looks = [use.look(batch, number) for use in (straight, resumed)]
        assert all(look is not None for look in looks)
        judged = [use.judged(look, batch, batch) for use, look in
                  zip((straight, resumed), looks, strict=True)]  # fmt: skip
        assert judged[0] == judged[1] is not None
        choices = [look.choices("math", "What is 7?", 5) for look in looks if look is not None]
        assert choices[0] == choices[1] != []
        metrics = [use.metrics(look, batch) for use, look in
                   zip((straight, resumed), looks, strict=True)]  # fmt: skip
        assert [{k: v for k, v in m.items() if "time" not in k} for m in metrics[:1]] == [
            {k: v for k, v in m.items() if "time" not in k} for m in metrics[1:]
        ]
        for use in (straight, resumed):
            use.remember(batch)


def test_figures_are_of_what_ran() -> None:
    use, batch = taught(), iteration(4)
    outlook = use.look(batch, 4)
    use.remember(batch)
    figures = use.metrics(outlook, [*batch, rollout(status=Status.INVALID, total=-9.0)])
    assert figures["train/outcome/rows"] == 5 * 24
    assert 0.3 < figures["train/outcome/agreement"] < 1.0
    for name in ("noise_share", "by_text_share"):
        assert 0 <= figures[f"train/outcome/{name}"] == figures[f"train/outcome/{name}.math"] <= 1


# Demonstrations


class _Written:
    """What of a module demonstrations ask for, around a real policy."""

    def __init__(self, policy: Any) -> None:
        self.policy, self.seed, self.iteration = policy, 3, 4


@pytest.fixture(scope="module")
def written() -> Any:
    from aflow_grpo.policy import Policy

    threads = torch.get_num_threads()
    policy = Policy("tiny")
    policy.setup()
    torch.set_num_threads(threads)
    return _Written(policy.eval())


def shown(written: Any, batch: list[Rollout], **settings: Any) -> list[Any]:
    use = taught()
    source = DemonstrationSettings(source="outcome_model", **settings)
    found = Demonstrations(source).for_batch(written, batch, use.look(batch, 4))
    assert found.executed == []
    return found.demonstrations


def test_the_workflow_of_the_highest_expectation_is_shown_for_every_group(written: Any) -> None:
    batch = [ran(90, 0, POOR, True), ran(91, 0, POOR, False)]
    first, second = shown(written, batch)
    assert (first.group, second.group) == (90, 91), "solved or not"
    for one in (first, second):
        assert one.completion.token_ids == (7, 8, 9)
        assert one.completion.logprobs == (0.0, 0.0, 0.0), "nobody drew it for this problem"
        assert one.completion.prompt_ids == written.policy.encode(batch[0].problem.visible).ids or (
            one.group == 91
        )
        assert -2.0 < one.reward < 8.0
    assert [one.group for one in shown(written, batch, only_unsolved=True)] == [91]
    assert shown(written, batch, min_runs=1000) == []
    assert Demonstrations(DemonstrationSettings(source="outcome_model")).for_batch(
        written, batch, None
    ) == ([], [])


@pytest.mark.parametrize(
    ("tolerance", "further_runs", "good"),
    [
        (0.0, 40, True),  # the best, however seldom it ran
        (100.0, 40, False),  # 48 runs against 88
        (100.0, 15, True),  # 48 against 63 is as often
        (100.0, 16, False),  # 64 is the next power of two
    ],
)
def test_among_near_equals_what_ran_by_far_most_often_is_shown(
    written: Any, tolerance: float, further_runs: int, good: bool
) -> None:
    batch = [ran(90 + group, 0, POOR, group % 4 == 0) for group in range(further_runs)]
    for one in shown(written, batch, tolerance=tolerance):
        assert (one.completion.token_ids == (7, 8, 9)) == good


def test_a_temperature_draws_by_expectation_the_same_way_each_time(written: Any) -> None:
    batch = [ran(90 + group, 0, POOR, True) for group in range(40)]
    good = [
        [one.completion.token_ids == (7, 8, 9) for one in shown(written, batch, temperature=t)]
        for t in (0.1, 5.0, 5.0)
    ]
    assert good[1] == good[2]
    assert all(good[0]) and 20 <= sum(good[1]) < 40


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: OutcomeSettings(from_iteration=-1), "from_iteration=-1: expected at least 0"),
        (lambda: OutcomeSettings(refit_every=0), "refit_every=0: expected at least 1"),
        (lambda: OutcomeSettings(min_rows=0), "min_rows=0: expected at least 1"),
        (lambda: OutcomeSettings(remembered_rows=9), "remembered_rows=9: expected at least min_"),
        (lambda: DemonstrationSettings(min_runs=0), "min_runs=0: expected at least 1"),
        (lambda: DemonstrationSettings(tolerance=-0.5), "tolerance=-0.5: expected 0 or more"),
        (lambda: DemonstrationSettings(temperature=-1.0), "temperature=-1: expected 0 or more"),
        (lambda: GRPOSettings(demonstrations=DemonstrationSettings(source="outcome_model")),
         r"source=outcome_model needs the model, and model\.grpo\.outcome_model is null"),
    ],
)  # fmt: skip
def test_wrong_settings_are_named(make: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()
