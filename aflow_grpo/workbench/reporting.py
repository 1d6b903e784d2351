"""`write_report`: a run as one HTML file that needs nothing else, no network and no server.

The page may be sent to somebody, and holds what models wrote, which is hostile: every text is
escaped by the template, a Content-Security-Policy names its scripts by their hashes and forbids
every connection, and the charts' data are JSON in which no tag can end. Not here: what is told
(`report_data`), the charts (`report_charts`), the workflows (`report_cards`), the looks
(`report_page/`).
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import platform
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs
from plotly.utils import PlotlyJSONEncoder

import aflow_grpo
from aflow_grpo.errors import ConfigError
from aflow_grpo.workbench.comparing import Line
from aflow_grpo.workbench.figures import Figure
from aflow_grpo.workbench.report_cards import Card, best_and_worst, card_of, clean
from aflow_grpo.workbench.report_charts import Chart, charts_of
from aflow_grpo.workbench.report_data import Headline, ReportData, gather
from aflow_grpo.workbench.report_words import (
    LABELS,
    change_text,
    figure_text,
    interval_text,
    moment_text,
    signed_text,
    span_text,
    value_text,
    verdict_words,
)
from aflow_grpo.workbench.runs import Run, read_run

__all__ = ["WrittenReport", "embedded", "render", "write_report"]

_PAGE = Path(__file__).parent / "report_page"
_MARK = '<meta name="generator" content="aflow-grpo report">'
_HEAD_CHARS = 2000
_TILES = ("direct_execution_rate", "accuracy", "reward", "cost_usd_per_problem")
_SECRET = ("key", "token", "secret", "password")
_HIDDEN = "(hidden)"


@dataclass(frozen=True)
class WrittenReport:
    """What `write_report` made."""

    path: Path
    size_bytes: int
    missing: tuple[str, ...]
    """What the page could not show, and why."""


def write_report(
    run: Run | str | Path,
    output: str | Path | None = None,
    *,
    overwrite: bool = False,
    tracking_uri: str | None = None,
) -> WrittenReport:
    """Write a run's report, all at once.

    Args:
        run: What `read_run` takes, or what it gave.
        output: The file; default is ``report.html`` in the run's directory, or here where it has
            none.
        overwrite: Replace a file that is no report of ours; a report is always replaced.
        tracking_uri: Where a run given by its id is tracked.

    Raises:
        ConfigError: The run cannot be read, or the file not be written.
        DataError: A stored rollout cannot be read.
    """
    read = run if isinstance(run, Run) else read_run(run, tracking_uri=tracking_uri)
    path = Path(output) if output is not None else (read.directory or Path()) / "report.html"
    _refuse_foreign(path, overwrite=overwrite)
    data = gather(read)
    size = _write(path, render(data))
    return WrittenReport(path, size, tuple(data.missing))


def render(data: ReportData) -> str:
    """The page."""
    environment = Environment(
        loader=FileSystemLoader(_PAGE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "figure": figure_text,
        "change": change_text,
        "interval": interval_text,
        "verdict": verdict_words,
        "signed": lambda value: signed_text("reward", value),
    }
    charts = charts_of(data)
    scripts = [get_plotlyjs(), (_PAGE / "page.js").read_text(encoding="utf-8")]
    return environment.get_template("page.html.j2").render(
        mark=Markup(_MARK),
        policy=_policy(scripts),
        style=Markup((_PAGE / "style.css").read_text(encoding="utf-8")),
        scripts=[Markup(script) for script in scripts],
        charts_json=embedded({chart.id: chart.figure for chart in charts}),
        sections={name: _of(charts, name) for name in ("curves", "use", "faults", "health")},
        data=data,
        run=data.run,
        facts=_facts(data),
        verdict=_verdict(data),
        tiles=_tiles(data),
        headlines=[(headline, _rows(headline)) for headline in data.headlines],
        labels=LABELS,
        cards=_cards(data),
        operators=sorted(data.operators.items(), key=lambda item: -item[1].cost_usd),
        settings=_settings(data.run.params),
        environment=_environment(data.run),
        version=aflow_grpo.__version__,
        written=moment_text(datetime.now(UTC).timestamp()),
    )


# The file


def _refuse_foreign(path: Path, *, overwrite: bool) -> None:
    if path.is_dir():
        raise ConfigError(f"--output={path}: a directory. Give a file, e.g. {path}/report.html.")
    if overwrite or not path.exists():
        return
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            ours = _MARK in file.read(_HEAD_CHARS)
    except OSError as error:
        raise ConfigError(_unwritable(path, error)) from error
    if not ours:
        raise ConfigError(
            f"--output={path}: there is a file that is no report of ours. Give another name, or "
            "--overwrite true."
        )


def _write(path: Path, page: str) -> int:
    """Beside the target and renamed: a reader sees the old page or the new one."""
    content = page.encode("utf-8", "replace")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            dir=path.parent, prefix=f".{path.name}.", suffix=".part", delete=False
        ) as file:
            part = Path(file.name)
            try:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
                part.chmod(0o666 & ~_umask())
                part.replace(path)
            except BaseException:
                part.unlink(missing_ok=True)
                raise
    except OSError as error:
        raise ConfigError(_unwritable(path, error)) from error
    return len(content)


def _unwritable(path: Path, error: OSError) -> str:
    return (
        f"--output={path}: cannot be written ({error.strerror or error}). Give a file that you may "
        "write, e.g. --output report.html."
    )


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


# Safety


def _policy(scripts: Sequence[str]) -> str:
    """What a browser may do with the page: run these scripts, draw, and nothing else."""
    hashes = " ".join(f"'sha256-{_digest(script)}'" for script in scripts)
    return (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")


def embedded(value: Any) -> Markup:
    """JSON that may stand in a script element: nothing in it ends one or opens a comment."""
    text = json.dumps(value, cls=PlotlyJSONEncoder, allow_nan=False, ensure_ascii=True)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


# What the page says


def _of(charts: Sequence[Chart], section: str) -> list[Chart]:
    return [chart for chart in charts if chart.section == section]


def _facts(data: ReportData) -> list[tuple[str, str]]:
    run, tracked = data.run, data.run.tracked
    found = []
    if tracked is not None:
        found.append(("Began", moment_text(tracked.started_s)))
        if tracked.ended_s is not None:
            found.append(("Took", span_text(tracked.ended_s - tracked.started_s)))
    steps = [points[-1][0] for name, points in data.curves.items() if name.startswith("train/")]
    if steps:
        found.append(("Steps", f"{max(steps):,}"))
    if data.rollouts:
        found.append(("Workflows", f"{data.rollouts:,}"))
    if run.journals:
        found.append(("Executor", f"${data.cost_usd:,.2f} list, ${data.billed_usd:,.2f} billed"))
    if "aflow_grpo.policy" in run.tags:
        found.append(("Policy", clean(run.tags["aflow_grpo.policy"])))
    return found


def _verdict(data: ReportData) -> tuple[str, str]:
    """Whether the run worked: a class for the colour, and one sentence."""
    run = data.run
    if run.running:
        return "running", "This run has not ended: what follows is how far it came."
    if run.tracked is not None and run.tracked.status in ("FAILED", "KILLED"):
        return "bad", f"This run did not end by itself: MLflow says {run.tracked.status}."
    compared = {line.metric: line for line in _main_lines(data) if line.comparisons}
    told = [
        f"{LABELS[name].lower()} {figure_text(compared[name].figures[0], name)} → "
        f"{figure_text(compared[name].figures[-1], name)}"
        for name in ("direct_execution_rate", "accuracy")
        if name in compared
    ]
    if not told:
        return "plain", "This run has no figures from before training to compare with."
    verdicts = {name: _compared(line) for name, line in compared.items()}
    sentence = f"Training took {' and '.join(told)}."
    worse = [
        n for n in ("direct_execution_rate", "accuracy", "reward") if verdicts.get(n) == "worse"
    ]
    if worse:
        return (
            "bad",
            f"{sentence} Worse than before: {', '.join(LABELS[n].lower() for n in worse)}.",
        )
    if any(verdicts.get(n) == "better" for n in ("accuracy", "reward", "direct_execution_rate")):
        return "good", f"{sentence} That is more than noise."
    return "plain", f"{sentence} That is within noise, or its noise is not known."


def _compared(line: Line) -> str:
    found = line.comparisons[-1]
    return found.verdict if found is not None else "not known"


def _main_lines(data: ReportData) -> list[Line]:
    """The headline of the validation, else of the test: sampled where the last judging has any."""
    for headline in data.headlines:
        total = [line for line in headline.lines if line.group == "all" and line.figures[-1]]
        sampled = [line for line in total if line.decoding == "sampled"]
        return sampled or total
    return []


def _tiles(data: ReportData) -> list[dict[str, Any]]:
    lines = {line.metric: line for line in _main_lines(data)}
    return [_tile(lines[name]) for name in _TILES if name in lines]


def _tile(line: Line) -> dict[str, Any]:
    after = line.figures[-1]
    before = line.figures[0] if len(line.figures) > 1 else None
    ends = {"reward": (-10.0, 10.0)}.get(line.metric, (0.0, 1.0))
    if line.metric == "cost_usd_per_problem":
        highest = [f.high if f.high is not None else f.value for f in (before, after) if f]
        ends = (0.0, 1.15 * max([*highest, 1e-9]))
    return {
        "label": LABELS[line.metric],
        "metric": line.metric,
        "before": before,
        "after": after,
        "comparison": line.comparisons[-1] if line.comparisons else None,
        "bars": [_bar(figure, ends) for figure in (before, after)],
        "ends": [value_text(line.metric, end) for end in ends],
    }


def _bar(figure: Figure | None, ends: tuple[float, float]) -> dict[str, float] | None:
    """Where a figure and its interval lie, in percent of the scale."""
    if figure is None:
        return None
    low, high = ends

    def place(value: float | None) -> float:
        share = ((figure.value if value is None else value) - low) / (high - low)
        return round(100 * min(1.0, max(0.0, share)), 2)

    return {"at": place(figure.value), "low": place(figure.low), "high": place(figure.high)}


def _rows(headline: Headline) -> dict[str, list[Line]]:
    """``all`` and each domain -> its lines."""
    groups: dict[str, list[Line]] = {}
    for line in headline.lines:
        groups.setdefault(line.group, []).append(line)
    return groups


def _cards(data: ReportData) -> dict[str, list[Card]]:
    rollouts: Sequence[Any] = data.last_train
    for headline in data.headlines:
        judged = headline.sides[-1].evaluation
        if judged is not None:
            rollouts = judged.sampled or judged.greedy
            break
    best, worst = best_and_worst(rollouts)
    return {"best": [card_of(r) for r in best], "worst": [card_of(r) for r in worst]}


def _settings(params: Mapping[str, str]) -> list[tuple[str, str]]:
    """Names and values; the lab book hides keys already, and nothing is lost by a second look."""
    return [
        (clean(key), _HIDDEN if _is_secret(key, value) else clean(value))
        for key, value in sorted(params.items())
    ]


def _is_secret(key: str, value: str) -> bool:
    words = key.rpartition(".")[2].lower().split("_")
    named = any(word in words for word in _SECRET) and "env" not in words
    return (named and value not in ("", "None") and not value.startswith("$")) or "sk-" in value


def _environment(run: Run) -> list[tuple[str, str]]:
    told = [("report written with", f"Python {platform.python_version()}")]
    tags = sorted(run.tags.items())
    return [(clean(k), _HIDDEN if _is_secret(k, v) else clean(v)) for k, v in tags] + told
