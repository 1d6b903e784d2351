"""The report as a file: what stands in it, what it leaves out, and what it must never do."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest
from hostile_run import ATTACKS, make_hostile_run
from run_world import judged, make_run, rejected, solved, store, track

from aflow_grpo.commands.report import run_report
from aflow_grpo.errors import ConfigError
from aflow_grpo.workbench.report_cards import best_and_worst, clean
from aflow_grpo.workbench.report_charts import thinned
from aflow_grpo.workbench.reporting import embedded, write_report

VOID = {"meta", "link", "img", "br", "input"}


class Page(HTMLParser):
    """A page's elements, its texts without scripts, and whether every element is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self._open: list[str] = []
        self._inside: dict[str, str | None] = {}
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)
            self._inside = dict(attrs)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] == "script":
            self.scripts.append((self._inside, data))
        elif not self._open or self._open[-1] != "style":
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())

    @property
    def charts(self) -> dict[str, object]:
        ((_, text),) = [s for s in self.scripts if s[0].get("type") == "application/json"]
        found = json.loads(text)
        assert isinstance(found, dict)
        return found


def page_of(root: Path, output: Path | None = None) -> Page:
    return Page(write_report(root, output).path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Page:
    root = tmp_path_factory.mktemp("report") / "whole"
    make_run(root)
    return page_of(root)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Page:
    root = tmp_path_factory.mktemp("report") / "hostile"
    make_hostile_run(root)
    return page_of(root)


def test_the_headline_is_worked_numbers(whole: Page) -> None:
    # 2 of 30 problems right before, 20 after; every workflow ran.
    assert "Training took direct execution 100% → 100% and accuracy 6.7% → 66.7%." in whole.text
    assert "That is more than noise." in whole.text
    assert "+60.0 points" in whole.text
    assert re.search(r"Accuracy greedy 6\.7% 66\.7% \+[\d.]+ to \+[\d.]+ points", whole.text)


def test_a_last_judging_without_samples_is_headed_by_its_greedy_figures(hostile: Page) -> None:
    # Samples before, none after: greedy, 2 of 30 problems right before, 4 of 8 after.
    assert "accuracy 6.7% → 50.0%. That is within noise" in hostile.text


def test_everything_asked_for_is_there(whole: Page) -> None:
    assert list(whole.charts) == [
        "reward", "accuracy", "direct_execution_rate", "reward_parts", "operators", "cost",
        "statuses", "faults", "rules", "fallback", "train_entropy",
    ]  # fmt: skip
    for words in ("Operators, over the whole run", "Tiers, from the journal", "Best", "Worst",
                  "By domain", "model.grpo.loss.preset", "Gold answer"):  # fmt: skip
        assert words in whole.text
    assert "Not in this report" not in whole.text
    pictures = [a for tag, a in whole.tags if tag == "img"]
    assert pictures and all((a["src"] or "").startswith("data:image/svg+xml;") for a in pictures)
    assert all(a["alt"] for a in pictures)


def test_a_reader_without_eyes_finds_the_way(whole: Page) -> None:
    tags = [tag for tag, _ in whole.tags]
    assert tags.count("h1") == 1 and "main" in tags and "nav" in tags
    levels = [int(tag[1]) for tag in tags if re.fullmatch(r"h[1-6]", tag)]
    assert all(after - before <= 1 for before, after in pairwise(levels))
    ids = [a["id"] for _, a in whole.tags if a.get("id")]
    assert len(ids) == len(set(ids))
    links = {a["href"] for tag, a in whole.tags if tag == "a"}
    assert {f"#{i}" for i in ids} >= links
    plots = [a for _, a in whole.tags if "data-chart" in a]
    assert plots and all(a["role"] == "img" and a["aria-label"] for a in plots)
    assert ("html", {"lang": "en"}) in whole.tags


def test_the_policy_names_the_scripts_and_allows_no_connection(whole: Page) -> None:
    (policy,) = [a["content"] or "" for t, a in whole.tags
                 if t == "meta" and a.get("http-equiv") == "Content-Security-Policy"]  # fmt: skip
    allowed = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    assert allowed["default-src"] == "'none'" and "connect-src" not in allowed
    ran = [text for attrs, text in whole.scripts if attrs.get("type") != "application/json"]
    hashes = [base64.b64encode(hashlib.sha256(t.encode()).digest()).decode() for t in ran]
    assert allowed["script-src"] == " ".join(f"'sha256-{digest}'" for digest in hashes)
    outside = [a for _, a in whole.tags for k in ("src", "href")
               if not (a.get(k) or "#").startswith(("#", "data:"))]  # fmt: skip
    assert outside == []


def test_what_models_wrote_is_text_and_nothing_else(hostile: Page) -> None:
    assert "pwned" not in [a.get("class") for _, a in hostile.tags]
    assert {tag for tag, _ in hostile.tags} <= {
        "html", "head", "meta", "link", "title", "style", "body", "a", "header", "p", "h1", "h2",
        "h3", "h4", "dl", "div", "dt", "dd", "main", "section", "article", "span", "i", "b", "br",
        "small", "nav", "ul", "li", "table", "thead", "tbody", "tr", "th", "td", "details",
        "summary", "figure", "figcaption", "pre", "code", "img", "footer", "noscript", "script",
    }  # fmt: skip
    assert not any(name.startswith("on") for _, attrs in hostile.tags for name in attrs)
    assert len(hostile.scripts) == 3
    for attack in ATTACKS[:9]:
        assert " ".join(attack.split()) in hostile.text, "and it is there to be read"
    assert "{{ 7 * 7 }}" in hostile.text and "root:" not in hostile.text
    assert "sk-verysecret" not in hostile.text
    names = {trace["name"] for chart in hostile.charts.values() for trace in chart["data"]}  # type: ignore[index]
    assert not any("<" in name for name in names), "plotly obeys tags in labels"


@pytest.mark.parametrize("attack", ATTACKS)
def test_no_text_ends_the_charts_data(attack: str) -> None:
    page = Page(
        f'<script type="application/json">{embedded({"a": attack, attack: [1.5]})}</script>'
    )
    assert page.charts == {"a": attack, attack: [1.5]}
    assert len(page.tags) == 1 and page.texts == []


def test_without_a_lab_book_the_curves_come_from_the_journal(tmp_path: Path) -> None:
    greedy, sampled = judged(4, 9)
    store(tmp_path, "fit", {
        ("train", 1): [solved(0), rejected(1)], ("train", 2): [solved(2), solved(3)],
        ("val/greedy", 2): greedy, ("val", 2): sampled,
    })  # fmt: skip
    written = write_report(tmp_path)
    page = Page(written.path.read_text(encoding="utf-8"))
    assert any("No lab book" in line for line in written.missing)
    assert any("Judged only once" in line for line in written.missing)
    reward = page.charts["direct_execution_rate"]["data"]  # type: ignore[index]
    total = next(trace for trace in reward if trace["name"] == "all")
    assert (total["x"], total["y"]) == ([1, 2], [0.5, 1.0])
    assert "Not in this report" in page.text


def test_without_a_journal(tmp_path: Path) -> None:
    root = tmp_path / "run"
    track(root, metrics={"train/reward": [(1, 2.0)], "val/reward": [(0, -1.0), (1, 2.0)],
                         "val/accuracy": [(0, 0.25), (1, 0.5)]})  # fmt: skip
    page = page_of(root)
    assert "No journal (llm.journal=false)" in page.text
    assert "accuracy 25.0% → 50.0%. That is within noise, or its noise is not known." in page.text
    assert "Best" not in page.text and list(page.charts) == ["reward", "accuracy"]


@pytest.mark.parametrize(("status", "told"), [
    ("RUNNING", "This run has not ended"), ("KILLED", "MLflow says KILLED"),
    ("FINISHED", "no figures from before training"),
])  # fmt: skip
def test_a_run_that_just_began(tmp_path: Path, status: str, told: str) -> None:
    root = tmp_path / "run"
    track(root, status=status)
    page = page_of(root)
    assert told in page.text and page.charts == {}
    assert "Never judged fully" in page.text and "No training step was logged" in page.text


# The file


def test_a_report_is_replaced_and_nothing_else_is(tmp_path: Path) -> None:
    root = tmp_path / "run"
    track(root)
    first = write_report(root)
    assert first.path == root / "report.html"
    assert first.size_bytes == first.path.stat().st_size > 1_000_000
    assert write_report(root).path == first.path
    theirs = tmp_path / "theirs.html"
    theirs.write_text("<html>mine</html>")
    with pytest.raises(ConfigError, match=r"theirs\.html: there is a file that is no report of"):
        write_report(root, theirs)
    assert theirs.read_text() == "<html>mine</html>"
    write_report(root, theirs, overwrite=True)
    assert "aflow-grpo report" in theirs.read_text(encoding="utf-8")
    assert list(tmp_path.rglob("*.part")) == []


def test_where_it_cannot_be_written(tmp_path: Path) -> None:
    root = tmp_path / "run"
    track(root)
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"--output=.*cannot be written"):
        write_report(root, tmp_path / "file" / "report.html")
    with pytest.raises(ConfigError, match=r"a directory\. Give a file"):
        write_report(root, tmp_path)


def test_the_verb(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "run"
    track(root)
    output = tmp_path / "new" / "page.html"
    assert run_report([str(root), f"--output={output}"]) == 0
    assert f"{output} (" in capsys.readouterr().out
    assert run_report([str(root), f"--output={output}", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["path"] == str(output) and told["size_bytes"] == output.stat().st_size
    assert run_report([str(tmp_path / "nothing")]) == 2
    assert capsys.readouterr().err.startswith("aflow-grpo report: ")


# Parts


def test_the_best_are_right_and_varied_and_the_worst_are_not() -> None:
    rollouts = [solved(n, right=n < 6) for n in range(8)] + [rejected(9), rejected(10)]
    best, worst = best_and_worst(rollouts)
    assert len(best) == 1, "all of them wrote the same workflow"
    assert best[0].score.correct
    assert [r.execution.status.value for r in worst] == ["invalid", "ok"]


def test_long_curves_are_thinned_to_means() -> None:
    points = tuple((step, float(step % 2)) for step in range(1000))
    found = thinned(points, 100)
    assert len(found) == 100 and {value for _, value in found} == {0.5}
    assert thinned(points[:100], 100) == points[:100]
    assert thinned(((1, float("nan")), (2, 1.0)), 1) == ((2, 1.0),)


def test_texts_are_made_printable_and_bounded() -> None:
    assert (
        clean("a\tb\r\n\x00\u202e") == "a   b\n\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}"
    )
    assert len(clean("x" * 10_000)) < 6100 and "4,000 more characters" in clean("x" * 10_000)
