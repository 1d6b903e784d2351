"""The report in a real browser: drawn, silent, harmless, readable in the dark and on a phone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from browser_world import Browser, open_browser
from hostile_run import make_hostile_run
from run_world import make_run

from aflow_grpo.workbench.reporting import write_report

DRAWN = """return [...document.querySelectorAll('[data-chart]')].map(
    e => [e.dataset.chart, e.querySelectorAll('svg .scatterlayer .trace').length])"""
TOO_WIDE = """return [...document.querySelectorAll('body *')].filter(e => {
    const box = e.getBoundingClientRect();
    return box.right > innerWidth + 1 && !e.closest('.scroll, pre, .what, .skip');
}).map(e => e.tagName + '.' + e.className)"""
# WCAG's contrast of a text and the ground that it stands on.
CONTRAST = """
const parts = c => c.match(/[\\d.]+/g).map(Number);
const light = c => { const [r, g, b] = parts(c).slice(0, 3).map(v => {
    v /= 255; return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
const ground = e => { for (; e; e = e.parentElement) {
    const c = getComputedStyle(e).backgroundColor;
    if (parts(c).length === 3 || parts(c)[3] > 0.99) return c; } return 'rgb(255, 255, 255)'; };
return [...document.querySelectorAll('main *, header *')].filter(e =>
    !(e instanceof SVGElement) && [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim()))
  .map(e => { const a = light(getComputedStyle(e).color), b = light(ground(e));
    return [(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), e.tagName + '.' + e.className]; })
  .filter(([ratio]) => ratio < 4.5)"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with open_browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    make_run(folder / "whole")
    make_hostile_run(folder / "hostile")
    return {name: write_report(folder / name).path for name in ("whole", "hostile")}


def test_it_is_drawn_without_a_word_and_without_a_network(
    browser: Browser, pages: dict[str, Path]
) -> None:
    browser.look(pages["whole"])
    drawn = dict(browser.ask(DRAWN))
    assert len(drawn) == 11 and all(drawn.values()), drawn
    assert drawn["reward"] == 5, "three domains, all, and the validation"
    assert browser.console() == []
    asked = browser.requests()
    assert asked and all(url.startswith(("file:", "data:")) for url in asked)


def test_what_it_would_ask_for_is_refused(browser: Browser, pages: dict[str, Path]) -> None:
    """The policy holds even for a script that got in."""
    browser.look(pages["whole"])
    browser.requests()
    refused = browser.ask("""const script = document.createElement('script');
        script.textContent = 'window.pwned = 1'; document.body.append(script);
        new Image().src = 'http://attacker.example/'; fetch('http://attacker.example/').catch(
            () => {}); return window.pwned === undefined""")
    assert refused
    said = browser.console()
    assert len(said) >= 3 and all("Content Security Policy" in line for line in said), said
    assert browser.requests() == []


def test_hostile_texts_are_inert(browser: Browser, pages: dict[str, Path]) -> None:
    browser.look(pages["hostile"])
    for details in ("details.card", "details.more"):
        browser.ask(f"document.querySelectorAll('{details}').forEach(d => d.open = true)")
    assert browser.ask("return window.pwned === undefined")
    assert browser.ask("return document.querySelectorAll('.pwned, iframe').length") == 0
    assert browser.ask("return document.querySelectorAll('script').length") == 3
    links = browser.ask("return [...document.links].map(a => a.getAttribute('href'))")
    assert links and all(link.startswith("#") for link in links)
    assert browser.ask("return document.body.innerText").count("window.pwned = 2") > 10
    assert browser.ask("return document.querySelector('[data-chart=rules] svg').outerHTML")
    assert browser.console() == []
    assert all(url.startswith(("file:", "data:")) for url in browser.requests())


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_it_can_be_read(browser: Browser, pages: dict[str, Path], dark: bool) -> None:
    browser.look(pages["whole"], dark=dark)
    browser.ask("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert browser.ask(CONTRAST) == []
    ink = browser.ask("return getComputedStyle(document.body).color")
    assert ink == ("rgb(241, 245, 249)" if dark else "rgb(15, 23, 42)")
    ticks = "return getComputedStyle(document.querySelector('.xtick text')).fill"
    assert browser.ask(ticks) == ink, "the charts too"


def test_charts_follow_when_the_evening_comes(browser: Browser, pages: dict[str, Path]) -> None:
    browser.look(pages["whole"])
    browser.resize(dark=True)
    browser.ask("return new Promise(r => requestAnimationFrame(() => requestAnimationFrame(r)))")
    ticks = "return getComputedStyle(document.querySelector('.xtick text')).fill"
    assert browser.ask(ticks) == "rgb(241, 245, 249)"


@pytest.mark.parametrize("name", ["whole", "hostile"])
def test_on_a_phone_nothing_is_cut_off(browser: Browser, pages: dict[str, Path], name: str) -> None:
    browser.look(pages[name], width=390)
    browser.ask("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert browser.ask("return document.documentElement.scrollWidth") == 390
    assert browser.ask(TOO_WIDE) == []
    assert all(n for _, n in browser.ask(DRAWN))
