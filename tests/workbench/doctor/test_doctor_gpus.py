"""GPUs by what nvidia-smi prints, and it prints anything; nothing is ever ended."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
from doctor_world import A100, MIG_0, MIG_1, MIG_GPU, MIG_LIST, THREE, A, B, C, named, nvidia_smi
from doctor_world import says as smi
from hypothesis import given, settings
from hypothesis import strategies as st

from aflow_grpo.workbench.doctor.check import Check
from aflow_grpo.workbench.doctor.devices import device_checks
from aflow_grpo.workbench.doctor.nvidia import (
    Gpu,
    MigDevice,
    NvidiaTrouble,
    Snapshot,
    look,
)
from aflow_grpo.workbench.doctor.run_settings import RunSettings
from aflow_grpo.workbench.doctor.software import TorchBuild
from aflow_grpo.workbench.doctor.visible import visible_gpus

NOTHING = RunSettings({}, ())


def check(
    *,
    gpus: list[int] | None = None,
    protected: tuple[int, ...] = (),
    require_free: bool = False,
    settings: RunSettings = NOTHING,
    cuda: str | None = None,
) -> list[Check]:
    return list(
        device_checks(
            settings,
            TorchBuild("2.13", cuda),
            gpus=gpus,
            protected_pids=protected,
            require_free=require_free,
        )
    )


def test_memory_load_and_users_of_every_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pid = os.getpid()
    nvidia_smi(tmp_path, monkeypatch, smi(THREE, f"{B}, {pid}, /usr/bin/python3, 30512\n"))
    snapshot = look()
    assert [(g.index, g.used_mib, g.busy_percent) for g in snapshot.gpus] == [
        (0, 4.0, 0.0),
        (1, 30519.0, 97.0),
        (2, 4.0, 0.0),
    ]
    (user,) = snapshot.users_of(snapshot.gpus[1])
    owner = subprocess.run(["id", "-un"], capture_output=True, text=True).stdout.strip()
    assert (user.pid, user.user, user.used_mib) == (pid, owner, 30512.0)
    checks = check()
    assert named(checks, "nvidia_smi").found == "driver 535.104.05, 3 GPUs"
    assert named(checks, "gpu.0").status == "ok"
    busy = named(checks, "gpu.1")
    assert busy.status == "warning"
    assert f"pid {pid} ({owner}, /usr/bin/python3, 30,512 MiB)" in busy.found
    assert "CUDA_VISIBLE_DEVICES=0" in busy.remedy


def test_a_gpu_in_use_is_refused_on_request_and_its_process_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with subprocess.Popen(["sleep", "60"]) as other:
        try:
            apps = f"{B}, {other.pid}, sleep, 30512\n"
            nvidia_smi(tmp_path, monkeypatch, smi(THREE, apps))
            refused = named(check(gpus=[1], require_free=True), "gpu.1")
            assert refused.status == "failure"
            assert refused.remedy.startswith("The run should not start here. Ask its owner")
            assert named(check(gpus=[2], require_free=True), "gpu.2").status == "ok"
            protected = named(check(gpus=[1], protected=(other.pid,)), "gpu.1")
            assert ", protected)" in protected.found
            assert protected.remedy.startswith("A protected process is on it")
            assert other.poll() is None
        finally:
            other.kill()


def test_memory_without_a_visible_process_counts_as_in_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nvidia_smi(tmp_path, monkeypatch, smi(THREE))
    line = named(check(require_free=True), "gpu.1")
    assert line.status == "failure"
    assert "not to be seen from here" in line.found


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("python -c 'a, b, 1'", "python -c 'a, b, 1'"),
        ("\x1b[2J\x1b]0;owned\x07", "\N{REPLACEMENT CHARACTER}[2J"),
        ("[bold red]x[/bold red]", "[bold red]x[/bold red]"),
        ("x" * 5000, "x" * 69 + "…"),
        ("", ""),
        ("[Insufficient Permissions]", "[Insufficient Permissions]"),
    ],
)
def test_a_name_is_only_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, shown: str
) -> None:
    nvidia_smi(tmp_path, monkeypatch, smi(THREE, f"{B}, 1, {name}, [N/A]\n"))
    snapshot = look()
    (process,) = snapshot.processes
    assert process.name.startswith(shown) and process.name.isprintable()
    assert (process.pid, process.used_mib, process.gpu_uuid) == (1, None, B)


def test_a_line_end_in_a_name_hides_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nvidia_smi(tmp_path, monkeypatch, smi(THREE, f"{C}, 7, evil\nname, 500\n"))
    assert look().unreadable == 2
    line = named(check(require_free=True), "gpu_processes")
    assert (line.status, line.found[:7]) == ("failure", "2 lines")


def test_a_process_on_an_unknown_device_is_not_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nvidia_smi(tmp_path, monkeypatch, smi(THREE, "GPU-gone, 7, python, 500\n"))
    assert named(check(), "gpu_processes").status == "warning"


def test_mig_parts_belong_to_their_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nvidia_smi(tmp_path, monkeypatch, smi(MIG_GPU, f"{MIG_1}, 9, python, [N/A]\n", MIG_LIST))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", MIG_0)
    checks = check()
    assert named(checks, "CUDA_VISIBLE_DEVICES").found == f"{MIG_0!r}: GPU 0"
    line = named(checks, "gpu.0").found
    assert "memory unknown, load unknown, cut into MIG parts; in use by pid 9" in line


def test_a_driver_older_than_mig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = "0, GPU-1, Tesla K80, 390.46, 11, 11441, 0"
    script = (
        'case "$*" in *mig.mode*) echo \'Field "mig.mode.current" is not a valid field to '
        f"query.'; exit 2 ;; *--query-gpu=*) echo '{old}' ;; esac"
    )
    nvidia_smi(tmp_path, monkeypatch, script)
    (gpu,) = look().gpus
    assert (gpu.name, gpu.driver, gpu.total_mib, gpu.mig) == ("Tesla K80", "390.46", 11441.0, False)


@pytest.mark.parametrize("extra", ["", " (rev 2, fixed)"])
def test_a_comma_in_a_gpus_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, extra: str
) -> None:
    told = f"0, {A}, Quadro RTX 6000, 8000{extra}, 535.1, 1, 2, 3, Disabled\n"
    nvidia_smi(tmp_path, monkeypatch, smi(told))
    (gpu,) = look().gpus
    assert gpu.name == f"Quadro RTX 6000, 8000{extra}"
    assert (gpu.driver, gpu.used_mib, gpu.total_mib, gpu.busy_percent) == ("535.1", 1, 2, 3)


MISMATCH = "Failed to initialize NVML: Driver/library version mismatch"
NO_DRIVER = (
    "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. Make sure that "
    "the latest NVIDIA driver is installed and running."
)


@pytest.mark.parametrize(
    ("script", "found", "remedy"),
    [
        (
            f"echo '{MISMATCH}'; echo 'NVML library version: 550.144'; exit 18",
            "mismatch",
            "restart",
        ),
        (f'echo "{NO_DRIVER}"; exit 9', "has failed because", "reinstall the driver"),
        ("echo 'Failed to initialize NVML: Unknown Error'; exit 255", "Unknown", "container again"),
        ("exit 3", "exit code 3", "by itself"),
        ("echo hello", "no list: 'hello'", "by itself"),
        ("printf '\\377\\376\\000,,,,,,,,,'", "no list", "by itself"),
    ],
)
def test_trouble_is_told_with_a_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, found: str, remedy: str
) -> None:
    nvidia_smi(tmp_path, monkeypatch, script)
    with pytest.raises(NvidiaTrouble) as caught:
        look()
    assert found in caught.value.found and remedy in caught.value.remedy
    assert caught.value.found.isprintable()
    assert named(check(gpus=[0]), "nvidia_smi").status == "failure"


def test_no_device_is_no_trouble(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nvidia_smi(tmp_path, monkeypatch, "echo 'No devices were found'")
    assert look() == Snapshot()
    assert named(check(), "nvidia_smi").found == "no GPU"


def test_a_hanging_program_is_left_with_what_it_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nvidia_smi(tmp_path, monkeypatch, f"sleep 77 & echo $! > {tmp_path}/pid; wait")
    with pytest.raises(NvidiaTrouble, match="does not answer"):
        look(timeout_s=0.5)
    child = int((tmp_path / "pid").read_text())
    deadline = time.monotonic() + 5
    while _alive(child) and time.monotonic() < deadline:
        os.sched_yield()
    assert not _alive(child)


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")")[-1].split()[0] != "Z"
    except OSError:
        return False


def test_an_endless_program_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nvidia_smi(tmp_path, monkeypatch, "yes 0, GPU-1")
    with pytest.raises(NvidiaTrouble, match="prints without end"):
        look()


def test_a_file_that_is_no_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = nvidia_smi(tmp_path, monkeypatch, "")
    (place / "nvidia-smi").write_bytes(b"\x00\x01")
    with pytest.raises(NvidiaTrouble, match="cannot be started"):
        look()


GPUS = tuple(Gpu(i, u, A100, "535", 0.0, 1.0, 0.0) for i, u in enumerate((A, B, C)))
PARTS = (MigDevice(MIG_0, 0, 0), MigDevice(MIG_1, 0, 1))


@pytest.mark.parametrize(
    ("value", "indices", "trouble"),
    [
        ("2,0", (2, 0), ""),
        (f"{B[:12]},0", (1, 0), ""),
        (" 1 , 2 ", (1, 2), ""),
        ("", (), ""),
        ("-1", (), ""),
        ("NoDevFiles", (), ""),
        ("0,-1,2", (0,), "everything after '-1' is ignored: 2"),
        ("0,7,2", (0,), "'7' is no GPU here (there are: 0, 1, 2)"),
        ("GPU-nothing,1", (), "neither an index nor the UUID"),
        ("cuda:1", (), "neither an index nor the UUID"),
        ("GPU-", (), "begins the UUID of 3 devices"),
        ("1,1", (), "names a device twice"),
        (f"1,{B}", (), "names a device twice"),
        (f"{MIG_0},{MIG_1}", (0,), ""),
        ("٢", (), "neither an index"),
    ],
)
def test_cuda_visible_devices_means_what_it_means_to_cuda(
    value: str, indices: tuple[int, ...], trouble: str
) -> None:
    visible = visible_gpus(Snapshot(GPUS, (), PARTS), {"CUDA_VISIBLE_DEVICES": value})
    assert tuple(gpu.index for gpu in visible.gpus) == indices
    assert trouble in visible.trouble and bool(trouble) == bool(visible.trouble)


def test_without_the_variable_all_are_visible() -> None:
    environ: Mapping[str, str] = {}
    assert visible_gpus(Snapshot(GPUS), environ).gpus == GPUS


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="0123-,GPUMIG abc/", max_size=30))
def test_no_value_of_the_variable_is_too_odd(value: str) -> None:
    visible = visible_gpus(Snapshot(GPUS, (), PARTS), {"CUDA_VISIBLE_DEVICES": value})
    assert set(visible.gpus) <= set(GPUS) and len(set(visible.gpus)) == len(visible.gpus)


def test_a_gpu_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nvidia_smi(tmp_path, monkeypatch, smi(THREE))
    missing = named(check(gpus=[0, 5]), "gpu.5")
    assert (missing.status, missing.remedy) == (
        "failure",
        "Choose among those that are there: 0, 1, 2.",
    )


def test_without_nvidia_smi_a_cpu_run_is_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert [c.status for c in check()] == ["ok", "ok"]
    assert named(check(gpus=[2]), "nvidia_smi").status == "failure"
    wants = RunSettings({"trainer": {"accelerator": "gpu"}}, ())
    assert named(check(settings=wants), "nvidia_smi").status == "failure"


@pytest.mark.parametrize(
    ("cuda", "trainer", "status", "found"),
    [
        ("12.8", {}, "ok", "cuda, trainer.devices=1"),
        ("12.8", {"devices": 2}, "ok", "cuda, trainer.devices=2"),
        ("12.8", {"devices": 4}, "failure", "only 3 GPUs"),
        ("12.8", {"accelerator": "cpu"}, "ok", "cpu"),
        (None, {}, "warning", "CPU, although there is a GPU"),
        (None, {"accelerator": "gpu"}, "failure", "built without CUDA"),
    ],
)
def test_the_device_is_what_torch_and_the_settings_make_of_it(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    cuda: str | None,
    trainer: dict[str, object],
    status: str,
    found: str,
) -> None:
    nvidia_smi(tmp_path, monkeypatch, smi(THREE))
    line = named(check(settings=RunSettings({"trainer": trainer}, ()), cuda=cuda), "device")
    assert line.status == status and found in line.found


def test_gpus_of_two_kinds_have_two_orders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mixed = THREE.replace("2, GPU", "2, GPU", 1).replace(
        f"2, {C}, NVIDIA A100-SXM4-80GB", f"2, {C}, NVIDIA T4"
    )
    nvidia_smi(tmp_path, monkeypatch, smi(mixed))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2")
    assert named(check(), "CUDA_DEVICE_ORDER").status == "warning"
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    assert "CUDA_DEVICE_ORDER" not in [c.name for c in check()]
