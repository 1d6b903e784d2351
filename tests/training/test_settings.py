"""Settings refuse nonsense in the words of the config key; the schedule has worked numbers."""

from dataclasses import replace

import pytest

from aflow_grpo.errors import ConfigError
from aflow_grpo.grpo.presets import LossSettings
from aflow_grpo.training.demonstrations import DemonstrationSettings
from aflow_grpo.training.ranks import TOLD
from aflow_grpo.training.settings import EvaluationSettings, GRPOSettings, OptimizerSettings

MEMBER = DemonstrationSettings(use="member")
UNCORRECTED = LossSettings(correction="off")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GRPOSettings(group_size=1), r"model\.grpo\.group_size=1: expected at least 2"),
        (lambda: GRPOSettings(minibatches=0), r"model\.grpo\.minibatches=0"),
        (lambda: GRPOSettings(gradient_clip=-1), r"model\.grpo\.gradient_clip=-1"),
        (
            lambda: GRPOSettings(loss=UNCORRECTED, demonstrations=MEMBER),
            r"demonstrations\.use=member needs .*, and model\.grpo\.loss\.correction=off",
        ),
        (lambda: OptimizerSettings(learning_rate=0), r"learning_rate=0: expected more than 0"),
        (lambda: OptimizerSettings(final_fraction=1.5), r"final_fraction=1\.5: expected 0 to 1"),
        (lambda: EvaluationSettings(samples=-1), r"model\.evaluation\.samples=-1"),
    ],
)
def test_nonsense_is_refused_by_name(make: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()  # type: ignore[operator]


def test_without_a_correction_demonstrations_may_be_auxiliary() -> None:
    auxiliary = replace(MEMBER, use="auxiliary")
    assert GRPOSettings(loss=UNCORRECTED, demonstrations=auxiliary).demonstrations == auxiliary
    assert GRPOSettings(demonstrations=MEMBER).demonstrations == MEMBER


def test_every_rank_counts_idle_steps_and_the_first_one_speaks_of_them() -> None:
    settings = GRPOSettings(max_idle_steps=2)
    settings.check_idle(1)
    with pytest.raises(ConfigError, match="2 iterations in a row had equal rewards") as caught:
        settings.check_idle(2)
    assert caught.value.__notes__ == [TOLD]


@pytest.mark.parametrize(
    ("step", "factor"),
    [(0, 0.2), (3, 0.8), (4, 1.0), (54, 0.55), (104, 0.1), (500, 0.1)],
)
def test_learning_rate_warms_up_then_decays_linearly(step: int, factor: float) -> None:
    settings = OptimizerSettings(warmup_steps=4, final_fraction=0.1)
    assert settings.rate_at(step, max_steps=105) == pytest.approx(factor)


def test_without_an_end_the_rate_stays() -> None:
    assert OptimizerSettings(warmup_steps=0).rate_at(10_000, max_steps=-1) == 1.0


def test_a_constant_rate_is_constant() -> None:
    settings = OptimizerSettings(warmup_steps=0, final_fraction=1.0)
    assert {settings.rate_at(step, 500) for step in range(500)} == {1.0}
