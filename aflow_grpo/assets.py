"""Where shipped configs and data lie: beside the package in a checkout, inside it in a wheel."""

from __future__ import annotations

from pathlib import Path

__all__ = ["shipped_path"]

_PACKAGE = Path(__file__).resolve().parent


def shipped_path(relative: str) -> Path:
    """The path of a shipped file or folder, e.g. ``configs/quickstart.yaml`` or ``data/sample``.

    Raises:
        FileNotFoundError: It is neither in the checkout nor in the installed package.
    """
    for root in (_PACKAGE.parent, _PACKAGE / "shipped"):
        path = root / relative
        if path.exists():
            return path
    raise FileNotFoundError(
        f"{relative} is not shipped with aflow-grpo: looked in {_PACKAGE.parent} and "
        f"{_PACKAGE / 'shipped'}. Reinstall the package, or give the path of a file of your own."
    )
