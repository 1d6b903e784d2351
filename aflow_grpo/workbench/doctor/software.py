"""Python, this package, torch's build, the other packages' versions, git, the model files.

Versions are read from the packages' metadata and torch's build from its `version.py` as text:
importing torch, mlflow or transformers would take seconds. So this says which versions are there,
not that each of them can be imported.
"""

from __future__ import annotations

import ast
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from aflow_grpo import __version__
from aflow_grpo.assets import shipped_path
from aflow_grpo.workbench.doctor.check import Check
from aflow_grpo.workbench.doctor.run_settings import RunSettings

if TYPE_CHECKING:
    from packaging.requirements import Requirement

__all__ = ["TorchBuild", "git_check", "model_check", "python_checks", "torch_build", "versions"]

_OLDEST_PYTHON = (3, 11)
_PACKAGE = "aflow-grpo"
_ROOT = Path(__file__).resolve().parents[3]
"""In a checkout: the folder that holds `pyproject.toml`."""
_REASONS: Mapping[str, str] = {
    "torch": "From 2.14 on a plain install pulls the CUDA 13 stack, on machines without a GPU too.",
    "mlflow": "Before 3 the lab book's tables differ; from 3 on the file store (./mlruns) is "
    "refused, runs use SQLite.",
    "transformers": "Version 5 changed caches and chat templates that sampling relies on.",
    "jsonargparse": "Older ones drop part of a group that two YAML files set.",
    "lightning": "The run's checkpoints and signals rely on 2.6.",
    "numpy": "torch and scipy of this range are built against numpy 2.",
    "openai": "From 3 on its client speaks through httpx2; an older one knows only httpx.",
    "pydantic-monty": "The interpreter's limits were written against 1.4.",
    "bitsandbytes": "Older ones have no CPU build.",
}
"""What goes wrong outside of the range, where a user would wonder."""
_PINS: Mapping[str, tuple[str, str]] = {
    "antlr4-python3-runtime": (
        "==4.13.*",
        "math-verify's parser was made for 4.13; hydra and omegaconf before 2.4 pull 4.9, with "
        "which formulas are judged wrong.",
    ),
}
"""Packages that no requirement of ours names and that break us: range, reason."""
_SHOWN = 10


@dataclass(frozen=True)
class TorchBuild:
    """What torch's files say about it."""

    version: str | None
    """None when it is not installed."""
    cuda: str | None
    """The CUDA version it is built with."""
    rocm: str | None = None


def torch_build() -> TorchBuild:
    """Version and build of torch, without importing it."""
    spec = find_spec("torch")
    if spec is None or spec.origin is None:
        return TorchBuild(None, None)
    values: dict[str, str | None] = {}
    try:
        text = (Path(spec.origin).parent / "version.py").read_text(encoding="utf-8")
        for node in ast.parse(text).body:
            target = node.targets[0] if isinstance(node, ast.Assign) else None
            target = node.target if isinstance(node, ast.AnnAssign) else target
            if isinstance(target, ast.Name) and isinstance(node, ast.Assign | ast.AnnAssign):
                constant = node.value
                if isinstance(constant, ast.Constant):
                    values[target.id] = constant.value  # type: ignore[assignment]
    except (OSError, SyntaxError, UnicodeDecodeError):
        pass
    version = values.get("__version__") or _version("torch")
    return TorchBuild(version, values.get("cuda"), values.get("rocm") or values.get("hip"))


def python_checks(settings: RunSettings) -> Iterator[Check]:
    """The settings that everything is looked at for; Python, this package, torch."""
    layers = " + ".join(("configs/base.yaml", *settings.layers))
    yield Check("settings", "software", "ok", layers)
    found = f"{platform.python_version()} at {sys.executable}"
    if sys.version_info[:2] < _OLDEST_PYTHON:
        oldest = ".".join(map(str, _OLDEST_PYTHON))
        fix = f"Use Python {oldest} or newer in a new virtual environment."
        yield Check("python", "software", "failure", found, fix)
    else:
        yield Check("python", "software", "ok", found)
    place = "checkout" if (_ROOT / "pyproject.toml").is_file() else "installed"
    yield Check("aflow_grpo", "software", "ok", f"{__version__} ({place}: {_ROOT})")
    torch = torch_build()
    if torch.version is None:
        fix = "pip install -e . (in a checkout), or pip install 'torch>=2.6,<2.14'."
        yield Check("torch", "software", "failure", "not installed", fix)
    else:
        build = f"CUDA {torch.cuda}" if torch.cuda else "CPU only"
        build = f"ROCm {torch.rocm} (not tried by us)" if torch.rocm else build
        yield Check("torch", "software", "ok", f"{torch.version}, built for {build}")


def versions() -> Iterator[Check]:
    """Every package that this one asks for, against the range it asks for."""
    needed, stale = _requirements()
    troubles = [trouble for trouble in map(_outside, needed) if trouble is not None]
    for name, (pin, reason) in _PINS.items():
        version = _version(name)
        if version is not None and not _in_range(version, pin):
            fix = f"pip install '{name}{pin}'. {reason}"
            troubles.append(Check(f"version.{name}", "software", "failure", version, fix))
    yield from troubles[:_SHOWN]
    if len(troubles) > _SHOWN:
        more = len(troubles) - _SHOWN
        fix = "pip install -e . (in a checkout) installs what is missing."
        yield Check("versions", "software", "failure", f"and {more} more packages", fix)
    elif not troubles:
        yield Check("versions", "software", "ok", f"{len(needed)} packages as asked for")
    if stale:
        yield Check(
            "installation",
            "software",
            "warning",
            "the checkout's pyproject.toml asks for other packages than were installed: "
            + ", ".join(sorted(stale)[:_SHOWN]),
            "pip install -e .",
        )


def _requirements() -> tuple[list[Requirement], set[str]]:
    """What this package asks for now, and names that the installed metadata do not know."""
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        installed = metadata.requires(_PACKAGE) or []
    except metadata.PackageNotFoundError:
        installed = []
    stated = _stated()
    known = {_name(text) for text in installed}
    found = []
    for text in stated or installed:
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            continue
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            found.append(requirement)
    stale = {_name(text) for text in stated} - known if installed else set()
    return found, stale


def _stated() -> list[str]:
    """The checkout's own list, which may be newer than the installed metadata."""
    import tomllib

    try:
        project = tomllib.loads((_ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    except (OSError, KeyError, ValueError):
        return []
    return list(project.get("dependencies", [])) if project.get("name") == _PACKAGE else []


def _name(requirement: str) -> str:
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    return canonicalize_name(Requirement(requirement).name)


def _outside(requirement: Requirement) -> Check | None:
    name = requirement.name
    version = _version(name)
    key = f"version.{name.lower()}"
    if version is None:
        return Check(key, "software", "failure", "not installed", f"pip install '{requirement}'")
    if requirement.specifier.contains(version, prereleases=True):
        return None
    reason = _REASONS.get(name.lower(), "")
    fix = f"pip install '{requirement}'. {reason}".strip()
    wanted = str(requirement.specifier)
    return Check(key, "software", "failure", f"{version}, expected {wanted}", fix)


def _in_range(version: str, specifier: str) -> bool:
    from packaging.specifiers import SpecifierSet

    return SpecifierSet(specifier).contains(version, prereleases=True)


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def git_check() -> Iterator[Check]:
    """Git is wanted for one tag of the lab book only."""
    program = shutil.which("git")
    if program is None:
        fix = "Install git, so that runs are tagged with their commit; nothing else needs it."
        yield Check("git", "software", "warning", "not installed", fix)
        return
    told = subprocess.run(
        (program, "--version"), capture_output=True, text=True, timeout=3, check=False
    )
    yield Check("git", "software", "ok", told.stdout.strip().removeprefix("git version "))


def model_check(settings: RunSettings) -> Iterator[Check]:
    """The policy's model files, and where the Hugging Face hub's are kept."""
    model = settings.get("model.policy.init_args.model")
    if model is None:  # another policy, such as an endpoint's
        return
    if model == "tiny":
        try:
            found = str(shipped_path("data/tiny-policy"))
        except FileNotFoundError as error:
            yield Check("model", "software", "failure", str(error), "Reinstall the package.")
        else:
            yield Check("model", "software", "ok", f"tiny, shipped: {found}")
        return
    folder = Path(str(model)).expanduser()
    if folder.is_dir():
        if (folder / "config.json").is_file():
            yield Check("model", "software", "ok", f"folder {folder}")
        else:
            fix = "Give a folder that `save_pretrained` wrote: config.json, *.safetensors."
            found = f"model.policy.model={model}: the folder has no config.json"
            yield Check("model", "software", "failure", found, fix)
        return
    cache = _hub_cache()
    kept = cache / f"models--{str(model).replace('/', '--')}" / "snapshots"
    if any(kept.glob("*/config.json")):
        yield Check("model", "software", "ok", f"{model}, in the cache {cache}")
        return
    offline = os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on")
    if offline:
        fix = f"HF_HUB_OFFLINE=0 for one run fetches it; or: hf download {model} --local-dir FOLDER"
        found = f"{model} is not in the cache {cache}, and the hub is not asked (HF_HUB_OFFLINE=1)"
        yield Check("model", "software", "failure", found, fix)
        return
    found = f"{model} is not in the cache {cache}; the run fetches it from the hub first"
    yield Check("model", "software", "warning", found, f"hf download {model} does so now.")


def _hub_cache() -> Path:
    cache = os.environ.get("HF_HUB_CACHE")
    if cache:
        return Path(cache).expanduser()
    home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")) / (
        "huggingface"
    )
    return Path(home).expanduser() / "hub"
