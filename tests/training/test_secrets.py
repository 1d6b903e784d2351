"""A key is in no file that a run writes, and in nothing that it prints."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from scripted_endpoint import Response, error
from trainer_runs import new_root, run_verb, write_settings
from writing_endpoint import writing_endpoint

from aflow_grpo.data.jsonl import read_problems
from aflow_grpo.data.sources import DataSource, read_source
from aflow_grpo.llm.simulator import Simulator, SimulatorSettings
from aflow_grpo.workflow.contract import TEN_OPERATORS

IN_YAML = "sk-yaml-0fPq7Zt1RkX9vLm3"
IN_ENVIRONMENT = "sk-env-8sHd2Wc6UyB4nEj5"
REFERRED_TO = "sk-ref-3kGa9Tz7QxV1mPo2"
KEYS = (IN_YAML, IN_ENVIRONMENT, REFERRED_TO)


def refuse(key: str) -> Response:
    """What OpenAI says of a wrong key, and it repeats the key."""
    return error(401, "invalid_api_key", f"Incorrect API key provided: {key}.")


@contextmanager
def simulated(settings: Path, key: str) -> Iterator[str]:
    """The address of a simulator that knows the problems of `settings` and wants `key`."""
    path = yaml.safe_load(settings.read_text())["data"]["val"][0]["path"]
    problems = [*read_problems(path), *read_source(DataSource("sample", split="train")).problems]
    with Simulator(problems, TEN_OPERATORS.markers, SimulatorSettings(api_key=key)) as simulator:
        yield simulator.base_url


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_no_key_is_in_a_file_of_a_run_or_on_the_screen(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("FIRST_KEY", IN_ENVIRONMENT)
    monkeypatch.setenv("SECOND_KEY", REFERRED_TO)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    caplog.set_level("DEBUG", logger="aflow_grpo")
    settings = write_settings(tmp_path, trainer__max_steps=2, llm__traces__sample_rate=1.0)
    root = new_root(tmp_path / "run")
    with (
        writing_endpoint(lambda message: refuse(IN_ENVIRONMENT)) as first,
        writing_endpoint(lambda message: error(500, message=f"{REFERRED_TO} broke me")) as second,
        simulated(settings, IN_YAML) as third,
    ):
        common = {"api_key_env": "", "max_attempts": 2, "backoff_s": 0.001, "price": [1, 1]}
        tiers = [
            common | {"name": "refusing", "base_url": first.base_url, "api_key_env": "FIRST_KEY"},
            common | {"name": "broken", "base_url": second.base_url, "api_key": "${SECOND_KEY}"},
            common | {"name": "simulated", "base_url": third, "api_key": IN_YAML},
        ]
        place = ["--config", settings, "--trainer.default_root_dir", root]
        given = [*place, "--llm.simulator=null", f"--llm.tiers={json.dumps(tiers)}"]
        assert run_verb("fit", *given) == 0
        assert run_verb("test", *given, "--ckpt_path", "last") == 0
        assert run_verb("fit", *given, "--print_config") == 0
        assert first.requests and second.requests
    shown = capfd.readouterr()
    texts = {"screen": shown.out + shown.err, "log": caplog.text}
    files = [path for path in root.rglob("*") if path.is_file()]
    assert {"journal.db", "mlflow.db", "last.ckpt", "fit.yaml"} <= {path.name for path in files}
    texts |= {str(path): path.read_bytes().decode("latin-1") for path in files}
    for name, text in texts.items():
        for key in KEYS:
            assert key not in text, f"{name} holds {key}"
            assert key[8:] not in text, f"{name} holds a part of {key}"
    assert "refusing" in texts["screen"] + texts["log"], "the tier that refuses is named"
    assert "${SECOND_KEY}" in texts["screen"], "a reference is no secret"
