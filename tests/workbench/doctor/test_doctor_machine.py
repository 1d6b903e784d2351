"""Versions, disk, limits, the lab book's store, isolation: each on a machine where it is so."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml
from alembic.script import ScriptDirectory
from doctor_world import named

from aflow_grpo.errors import ConfigError
from aflow_grpo.workbench.doctor import doctor, worst
from aflow_grpo.workbench.doctor.check import Check, Task, run_tasks
from aflow_grpo.workbench.doctor.isolation import interpreter_check, sandbox_checks
from aflow_grpo.workbench.doctor.machine import cgroup_limits, disk_checks, limit_checks
from aflow_grpo.workbench.doctor.run_settings import RunSettings, read_settings
from aflow_grpo.workbench.doctor.software import model_check, torch_build, versions
from aflow_grpo.workbench.doctor.store import known_revisions, store_checks, tracking_uri

ROOT = Path(__file__).resolve().parents[3]
NOTHING = RunSettings({}, ())
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount")


def python(code: str, *arguments: str, **environ: str) -> str:
    ran = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_a_check_that_crashes_or_hangs_is_a_line_of_its_own() -> None:
    release = threading.Event()

    def crash() -> list[Check]:
        raise ValueError("boom")

    def hang() -> list[Check]:
        release.wait(30)
        return []

    fine = Check("fine", "software", "ok", "here")
    tasks = [
        Task("hangs", "machine", hang, 0.2),
        Task("crashes", "devices", crash),
        Task("fine", "software", lambda: [fine]),
    ]
    started = time.monotonic()
    try:
        checks = run_tasks(tasks)
    finally:
        release.set()
    assert time.monotonic() - started < 10
    assert [check.name for check in checks] == ["fine", "crashes", "hangs"]
    assert "ValueError: boom" in named(checks, "crashes").found
    assert named(checks, "hangs").found == "no answer within 0.2 s"
    assert worst(checks) == "failure" and worst([fine]) == "ok" and worst([]) == "ok"


def test_torchs_build_is_read_as_text(tmp_path: Path) -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from aflow_grpo.workbench.doctor.software import torch_build\n"
        "found = torch_build(); print(found.version, found.cuda, 'torch' in sys.modules)"
    )
    folder = tmp_path / "torch"
    folder.mkdir()
    (folder / "__init__.py").write_text("raise SystemExit('imported')")
    text = "from typing import Optional\n__version__ = '2.13.0+cu128'\ncuda: Optional[str] = '12.8'"
    (folder / "version.py").write_text(text)
    assert python(code, str(tmp_path)) == "2.13.0+cu128 12.8 False\n"
    (folder / "version.py").write_text("not Python (")
    assert python(code, str(tmp_path)).endswith(" None False\n")
    assert torch_build().version is not None


def test_versions_outside_of_their_range_are_named_with_the_command(tmp_path: Path) -> None:
    for name, version in (("torch", "2.15.0"), ("antlr4_python3_runtime", "4.9.3")):
        folder = tmp_path / f"{name}-{version}.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        )
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from aflow_grpo.workbench.doctor.software import versions\n"
        "for check in versions(): print(check.name, check.status, check.found, check.remedy)"
    )
    told = python(code, str(tmp_path))
    assert "version.torch failure 2.15.0, expected" in told
    assert "pip install 'torch<2.14,>=2.6'. From 2.14 on" in told
    assert "version.antlr4-python3-runtime failure 4.9.3" in told


def test_this_machine_has_what_is_asked_for() -> None:
    assert [check.name for check in versions() if check.status == "failure"] == []


@pytest.mark.parametrize(
    ("model", "offline", "status", "words"),
    [
        ("tiny", "1", "ok", "shipped"),
        ("Org/none", "1", "failure", "the hub is not asked"),
        ("Org/none", "0", "warning", "fetches it"),
        ("Org/kept", "1", "ok", "in the cache"),
        ("{tmp}/folder", "1", "ok", "folder"),
        ("{tmp}", "1", "failure", "no config.json"),
    ],
)
def test_the_models_files(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    model: str,
    offline: str,
    status: str,
    words: str,
) -> None:
    kept = tmp_path / "hub/models--Org--kept/snapshots/abc"
    for folder in (kept, tmp_path / "folder"):
        folder.mkdir(parents=True)
        (folder / "config.json").write_text("{}")
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", offline)
    name = model.replace("{tmp}", str(tmp_path))
    settings = RunSettings({"model": {"policy": {"init_args": {"model": name}}}}, ())
    (line,) = model_check(settings)
    assert line.status == status and words in line.found


def test_layers_are_merged_as_the_parser_does(tmp_path: Path) -> None:
    one, two = tmp_path / "one.yaml", tmp_path / "two.yaml"
    one.write_text(
        "trainer: {devices: 4}\nllm: {tiers: [{name: a}, {name: b}]}\n"
        "model: {policy: {class_path: x.Other, init_args: {tier: {model: m}}}}"
    )
    two.write_text("llm: {tiers: [{name: c}], simulator: null}\n")
    settings = read_settings([one, two])
    assert settings.get("trainer.devices") == 4
    assert settings.get("trainer.max_steps") == 100  # the shipped default
    assert settings.get("llm.tiers") == [{"name": "c"}]
    assert settings.get("llm.simulator") is None
    assert settings.get("model.policy.init_args") == {"tier": {"model": "m"}}
    assert settings.root == Path("runs/default")
    assert read_settings(["configs/minimal.yaml"]).root == Path("runs/minimal")


@pytest.mark.parametrize(
    ("text", "words"),
    [("a: [", "line 1: no YAML"), ("- a", "expected settings by name"), (None, "cannot be read")],
)
def test_a_layer_that_cannot_be_read(tmp_path: Path, text: str | None, words: str) -> None:
    path = tmp_path / "layer.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError, match=words):
        read_settings([path])


def test_the_real_parser_and_the_doctor_agree() -> None:
    """Every shipped layer, merged, is the YAML that `--print_config` starts from."""
    for path in sorted((ROOT / "configs").rglob("*.yaml")):
        settings = read_settings([path])
        given = yaml.safe_load(path.read_text()) or {}
        if "trainer" in given:
            for key, value in given["trainer"].items():
                if value is not None:
                    assert settings.get(f"trainer.{key}") == value, path


def test_a_directory_that_can_be_written_leaves_nothing_behind(tmp_path: Path) -> None:
    line = named(list(disk_checks(tmp_path / "not/yet/there")), "disk.run")
    assert line.status in ("ok", "warning") and "free" in line.found
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    line = named(list(disk_checks(tmp_path / "file/run")), "disk.run")
    assert line.status == "failure" and "no directory" in line.found


@needs_root
@pytest.mark.parametrize(
    ("options", "fill", "words"),
    [("ro,size=1m", False, "Read-only file system"), ("size=1m", True, "No space left")],
)
def test_a_disk_that_takes_nothing(tmp_path: Path, options: str, fill: bool, words: str) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from aflow_grpo.workbench.doctor.machine import disk_checks\n"
        "place = Path(sys.argv[1])\n"
        "if sys.argv[2] == 'True':\n"
        "    try: (place / 'x').write_bytes(bytes(4 << 20))\n"
        "    except OSError: pass\n"
        "line = next(iter(disk_checks(place / 'run'))); print(line.status, line.found)"
    )
    # In a mount namespace of its own, so that nothing is left mounted.
    mount = f'mount -t tmpfs -o {options} tmpfs {tmp_path} && exec "$@"'
    command = ["unshare", "-m", "sh", "-c", mount, "sh", sys.executable, "-c", code]
    ran = subprocess.run(
        [*command, str(tmp_path), str(fill)], capture_output=True, text=True, timeout=60
    )
    if "unshare:" in ran.stderr or "mount:" in ran.stderr:
        pytest.skip(f"no mounting here: {ran.stderr}")
    assert ran.stdout.startswith("failure") and words in ran.stdout, ran


def test_few_open_files_are_told(tmp_path: Path) -> None:
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (300, 400))\n"
        "from aflow_grpo.workbench.doctor.machine import limit_checks\n"
        "from aflow_grpo.workbench.doctor.run_settings import RunSettings\n"
        "print([c for c in limit_checks(RunSettings({}, ())) if c.name == 'open_files'][0])"
    )
    told = python(code)
    assert "status='warning'" in told and "ulimit -n 384" in told


def test_more_threads_than_processors_are_told() -> None:
    settings = RunSettings({"model": {"policy": {"init_args": {"threads": 4096}}}}, ())
    assert named(list(limit_checks(settings)), "cpu").status == "warning"
    assert named(list(limit_checks(NOTHING)), "cpu").status == "ok"


def test_sandboxes_that_do_not_fit_the_memory_are_told() -> None:
    huge = RunSettings({"rollout": {"sandbox": {"workers": 1000, "memory_mb": 1 << 20}}}, ())
    line = named(list(limit_checks(huge)), "memory")
    assert line.status == "warning" and "rollout.sandbox.workers" in line.remedy


def test_the_tightest_control_group_counts(tmp_path: Path) -> None:
    """Files as the kernel writes them, of both versions; a batch system's job is nested."""
    base, membership = tmp_path / "cgroup", tmp_path / "membership"
    job = base / "slurm/job_7"
    job.mkdir(parents=True)
    membership.write_text("0::/slurm/job_7\n")
    assert cgroup_limits(base, membership) == (None, None)
    (job / "memory.max").write_text("max\n")
    (job / "cpu.max").write_text("max 100000\n")
    assert cgroup_limits(base, membership) == (None, None)
    (job.parent / "memory.max").write_text("1000\n")
    (job.parent / "memory.current").write_text("400\n")
    (job / "cpu.max").write_text("150000 100000\n")
    assert cgroup_limits(base, membership) == (600, 1.5)
    first = tmp_path / "first"
    for name, files in {
        "memory": {"limit_in_bytes": "5000", "usage_in_bytes": "1000"},
        "cpu": {"cfs_quota_us": "50000", "cfs_period_us": "100000"},
    }.items():
        (first / name / "docker").mkdir(parents=True)
        for file, value in files.items():
            (first / name / "docker" / f"{name}.{file}").write_text(f"{value}\n")
    (first / "memory/memory.limit_in_bytes").write_text("9223372036854771712\n")
    membership.write_text("4:memory:/docker\n3:cpu:/docker\n")
    assert cgroup_limits(first, membership) == (4000, 0.5)
    assert cgroup_limits(tmp_path / "none", tmp_path / "none") == (None, None)


def store(folder: Path, revision: str) -> Path:
    path = folder / "mlflow.db"
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE alembic_version (version_num TEXT)")
        database.execute("INSERT INTO alembic_version VALUES (?)", (revision,))
        database.execute("CREATE TABLE runs (run_uuid TEXT)")
        database.execute("INSERT INTO runs VALUES ('a'), ('b')")
        database.commit()
    return path


def test_the_newest_revision_is_the_installed_mlflows() -> None:
    known, newest = known_revisions()
    assert newest in known and len(known) > 10
    spec = find_spec("mlflow")
    assert spec is not None and spec.origin is not None
    folder = Path(spec.origin).parent / "store/db_migrations"
    assert ScriptDirectory(str(folder)).get_current_head() == newest


def test_a_store_is_read_without_being_changed(tmp_path: Path) -> None:
    known, newest = known_revisions()
    older = next(iter(known - {newest}))
    for revision, status, words in (
        (newest, "ok", "2 runs, tables as the installed"),
        (older, "failure", "older MLflow"),
        ("feedc0ffee00", "failure", "does not know"),
    ):
        folder = tmp_path / revision
        folder.mkdir()
        before = store(folder, revision).read_bytes()
        (line,) = store_checks(NOTHING, folder)
        assert line.status == status and words in line.found
        assert (folder / "mlflow.db").read_bytes() == before
    assert "mlflow db upgrade" in next(iter(store_checks(NOTHING, tmp_path / older))).remedy


def test_what_is_no_store(tmp_path: Path) -> None:
    (line,) = store_checks(NOTHING, tmp_path)
    assert line.status == "ok" and not (tmp_path / "mlflow.db").exists()
    (tmp_path / "mlflow.db").write_bytes(b"garbage" * 1000)
    (line,) = store_checks(NOTHING, tmp_path)
    assert line.status == "failure" and "not a database" in line.found
    (tmp_path / "mlflow.db").write_bytes(b"")
    (line,) = store_checks(NOTHING, tmp_path)
    assert line.status == "failure" and "no such table" in line.found


@pytest.mark.parametrize(
    ("uri", "status", "words"),
    [
        ("file:///x/mlruns", "failure", "refuses its file store"),
        ("./mlruns", "failure", "refuses its file store"),
        ("http://user:pass@book.example:5000", "ok", "server at book.example"),
        ("sqlite:////nowhere/mlflow.db", "ok", "will be made"),
        ("postgresql://h/db", "ok", "postgresql store"),
    ],
)
def test_another_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uri: str, status: str, words: str
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    _, line = store_checks(NOTHING, tmp_path)
    assert line.status == status and words in line.found and "pass@" not in line.found
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    logger = {"class_path": "x", "init_args": {"tracking_uri": uri}}
    assert tracking_uri(RunSettings({"trainer": {"logger": logger}}, ())) == uri
    assert tracking_uri(RunSettings({"trainer": {"logger": [logger]}}, ())) == uri
    assert tracking_uri(RunSettings({"mlflow": {"tracking_uri": uri}}, ())) == uri
    assert tracking_uri(NOTHING) == ""


def test_code_really_runs_in_the_sandbox_and_the_interpreter() -> None:
    line = named(list(sandbox_checks()), "sandbox")
    assert line.status == ("ok" if sys.platform == "linux" else "warning")
    (line,) = interpreter_check()
    assert line.status == "ok", line


def test_a_bubblewrap_that_does_not_work_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "bwrap"
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    line = named(list(sandbox_checks()), "sandbox")
    assert line.status == "ok" and "may make no namespaces here" in line.found


def test_a_kernel_without_landlock_is_a_warning() -> None:
    if os.uname().machine != "x86_64":
        pytest.skip("the simulation's numbers are of x86_64")
    code = (
        "import ctypes, struct\n"
        "from aflow_grpo.sandbox.seccomp import install_filter\n"
        "libc = ctypes.CDLL(None, use_errno=True); libc.prctl(38, 1, 0, 0, 0)\n"
        # Load the call's number; 444 is landlock_create_ruleset: EPERM; else allow.
        "rules = [(0x20, 0, 0, 0), (0x15, 0, 1, 444), (6, 0, 0, 0x50001), (6, 0, 0, 0x7FFF0000)]\n"
        "install_filter(libc, b''.join(struct.pack('=HBBI', *rule) for rule in rules))\n"
        "from aflow_grpo.workbench.doctor.isolation import sandbox_checks\n"
        "for check in sandbox_checks(): print(check.status, check.found, check.remedy)"
    )
    first, second = python(code).splitlines()
    assert "landlock missing" in first
    assert second.startswith("warning monty: a Python subset") and "docs/security.md" in second


def test_the_whole_from_python(tmp_path: Path) -> None:
    checks = doctor(["configs/minimal.yaml"], root=tmp_path)
    assert named(checks, "settings").found == "configs/base.yaml + configs/minimal.yaml"
    assert [check.name for check in checks if check.status == "failure"] == []
    assert list(tmp_path.iterdir()) == []
    shutil.rmtree(tmp_path)
