"""What the command line says before anything runs: short help, its time, nearest names, TAB."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from aflow_grpo.cli import trainer_parser
from aflow_grpo.exits import Exit
from aflow_grpo.trainer_help import ALIASES, OPTIONS, short_help
from aflow_grpo.verbs import TRAINER_VERBS, VERBS, usage, verb_like

HEAVY = ("torch", "transformers", "lightning", "mlflow", "pandas", "plotly", "sklearn", "scipy")
NAMES = [verb.name for verb in VERBS]


def ask(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "aflow_grpo", *arguments]
    env = {**os.environ, **environment}
    return subprocess.run(command, capture_output=True, text=True, env=env)


@pytest.mark.parametrize("verb", ["", *NAMES])
def test_help_answers_without_a_heavy_import_and_in_under_a_second(verb: str) -> None:
    arguments = [verb, "--help"] if verb else ["--help"]
    code = (
        "import sys, time; began = time.process_time(); from aflow_grpo.__main__ import main\n"
        f"try:\n    main({arguments!r})\nexcept SystemExit as end:\n    assert not end.code\n"
        "seconds = time.process_time() - began\n"
        f"print([m for m in {HEAVY!r} if m in sys.modules], seconds, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    loaded, _, seconds = done.stderr.strip().splitlines()[-1].rpartition(" ")
    assert loaded == "[]"
    # Processor time: the clock of a busy machine says nothing of the program.
    assert float(seconds) < 1.0
    assert "usage: aflow-grpo" in done.stdout


def test_every_verb_is_listed_and_every_page_fits_the_terminal() -> None:
    for page in (usage(), *map(short_help, TRAINER_VERBS)):
        assert max(map(len, page.splitlines())) <= 80
        assert len(page.splitlines()) <= 40
    for name in NAMES:
        assert f"\n  {name} " in usage()


@pytest.mark.parametrize("verb", TRAINER_VERBS)
def test_the_short_help_names_options_that_exist(verb: str) -> None:
    parser = trainer_parser(verb)
    known = set(parser.option_names)
    for option, _, verbs in OPTIONS:
        name = option.split()[0].lstrip("-")
        if verb in verbs and not name.startswith(("quiet", "model.policy.")):
            assert name in known, name
    # Of a class that can be exchanged, so that the parser knows them when it has been chosen.
    assert parser.parse_args(["--model.policy.model=tiny"]).model.policy.init_args.model == "tiny"
    assert parser.parse_args(["--model.policy.lora.rank=4"]).model.policy.init_args.lora.rank == 4
    for name in ALIASES.values():
        assert name.lstrip("-") in known


def test_help_on_a_group_lists_that_group_and_nothing_else() -> None:
    parser = trainer_parser("fit")
    shown = parser.help_on("llm.workflow")
    assert "--llm.workflow.max_usd" in shown
    assert shown.count("--llm.workflow") == shown.count("  --")
    whole = parser.help_on("all")
    for option in ("--model.grpo.group_size", "--rollout.rollout.concurrency", "--ckpt_path"):
        assert option in whole
    assert "--rollout.llm" not in whole  # `llm` decides it
    assert "--llm.workflow.max_usd" in parser.help_on("llm")  # nothing was left hidden


def test_help_on_nothing_names_the_nearest() -> None:
    done = ask("fit", "--help", "lm")
    assert done.returncode == Exit.USAGE
    assert "Did you mean llm" in done.stderr


@pytest.mark.parametrize(
    ("given", "meant"),
    [("train", "fit"), ("inference", "infer"), ("ft", "fit"), ("repot", "report"), ("xyzzy", None)],
)
def test_an_unknown_verb_is_answered_with_the_nearest(given: str, meant: str | None) -> None:
    assert verb_like(given) == meant
    done = ask(given)
    assert done.returncode == Exit.USAGE
    assert (f"Did you mean {meant}?" in done.stderr) is (meant is not None)
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("verb", [name for name in NAMES if name not in TRAINER_VERBS])
def test_an_unknown_option_is_answered_in_few_lines(verb: str) -> None:
    done = ask(verb, "--no_such_option_at_all", "1")
    assert done.returncode == Exit.USAGE
    assert 1 <= len(done.stderr.strip().splitlines()) <= 3, done.stderr
    assert done.stderr.startswith(f"aflow-grpo {verb}")


def test_output_may_be_cut_off_by_its_reader() -> None:
    command = f"{sys.executable} -m aflow_grpo --help | head -n 1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True)
    assert done.stdout.startswith("usage:")
    assert done.stderr == ""


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_is_gone_is_no_reason_to_complain(unbuffered: str) -> None:
    ours, theirs = os.pipe()
    os.close(ours)
    environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    command = [sys.executable, "-m", "aflow_grpo", "--help"]
    with os.fdopen(theirs) as pipe:
        done = subprocess.run(
            command, stdout=pipe, stderr=subprocess.PIPE, text=True, env=environment
        )
    assert (done.returncode, done.stderr) == (Exit.FAILED, "")


def test_a_closed_stream_is_no_reason_to_fail() -> None:
    program = (
        "from aflow_grpo.__main__ import main\n"
        "from aflow_grpo.terminal import progress\n"
        "code = main(['--version'])\n"
        "with progress('counting', 1) as step: step.advance()\n"
        "raise SystemExit(code)"
    )
    command = f'{sys.executable} -c "{program}" >&- 2>&-'
    assert subprocess.run(command, shell=True).returncode == Exit.DONE


def test_a_terminal_of_another_encoding_gets_question_marks() -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "latin-1"}
    command = [sys.executable, "-m", "aflow_grpo", "--help"]
    done = subprocess.run(command, capture_output=True, env=environment)
    assert (done.returncode, done.stderr) == (Exit.DONE, b"")
    assert "--config ? --ckpt_path last" in done.stdout.decode("latin-1")


@pytest.fixture(scope="module")
def completions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = ask("completion", "bash")
    assert made.returncode == 0, made.stderr
    script = tmp_path_factory.mktemp("completion") / "aflow-grpo.bash"
    script.write_text(made.stdout)
    return script


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        (["val"], "validate"),
        (["fit", "--model.grpo.gro"], "--model.grpo.group_size"),
        (["fit", "--model.grpo.loss.preset", "ds"], None),
        (["fit", "--model.grpo.loss.preset", "da"], "dapo"),
        (["journal", "--b"], "--by"),
        (["fit", "--ste"], "--steps"),
        (["--vers"], "--version"),
    ],
)
def test_tab_completes(completions: Path, typed: list[str], expected: str | None) -> None:
    words = " ".join(f"'{word}'" for word in ["aflow-grpo", *typed])
    script = f"""
        source {completions}
        COMP_WORDS=({words}); COMP_CWORD={len(typed)}; COMP_LINE="aflow-grpo {" ".join(typed)}"
        COMP_POINT=${{#COMP_LINE}}; COMP_TYPE=9
        handler=$(complete -p aflow-grpo | sed 's/.*-F \\([^ ]*\\).*/\\1/')
        $handler aflow-grpo "{typed[-1]}" "{typed[-2] if len(typed) > 1 else "aflow-grpo"}"
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    began = time.process_time()
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True)
    assert time.process_time() - began < 1.0  # no Python is started
    offered = done.stdout.split()
    assert done.stderr == ""
    assert (expected in offered) if expected else (offered in ([], [""]))
