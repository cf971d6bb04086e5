"""The page in a real browser with the network off."""

import json
from pathlib import Path
from typing import Any

import pytest
from weighbridge.reports import render_benchmarks, render_many

pytestmark = pytest.mark.browser

Browser = Any
STATISTICS = ("min", "max", "mean", "stddev", "median", "iqr")


@pytest.fixture(scope="session")
def page(classifier_run: Path, generator_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of both runs, whose texts hold markup."""
    return render_many([classifier_run, generator_run], tmp_path_factory.mktemp("page") / "report.html")


def first_column(browser: Browser) -> list[str]:
    """The variants of the first comparison table, as they stand."""
    rows = "[...document.querySelector('table[data-sortable]').querySelectorAll('th[scope=row]')]"
    return browser.run(f"{rows}.map(cell => cell.firstChild.nextSibling.textContent)")  # type: ignore[no-any-return]


def test_no_error_and_no_request(browser: Browser, page: Path) -> None:
    """The page opens from disk without a console error and asks for nothing beside itself."""
    browser.open(page)
    assert browser.errors == []
    assert browser.run("performance.getEntriesByType('resource').length") == 0
    assert browser.run("document.querySelectorAll('svg.chart').length") == 13


def test_sorting(browser: Browser, page: Path) -> None:
    """A click on a heading sorts by number, a second turns it round; what has no number stays last."""
    browser.open(page)
    heading = (
        "[...document.querySelectorAll('table[data-sortable] th button')].find(b => b.textContent.startsWith('p50'))"
    )
    browser.run(f"{heading}.click()")
    assert first_column(browser)[:3] == ["ort-pruned", "ort-int8", "ort-int8-static"]
    assert browser.run(f"{heading}.closest('th').getAttribute('aria-sort')") == "ascending"
    browser.run(f"{heading}.click()")
    assert first_column(browser)[0] in ("ort-fp16", "torch-fp32")
    assert first_column(browser)[-2:] == ["tensorrt-fp16", "ort-int4"]
    assert browser.errors == []


def test_filtering(browser: Browser, page: Path) -> None:
    """Typing into the filter hides the verdicts that do not hold the word, and unfolds those that passed."""
    browser.open(page)
    browser.run(
        "(input => { input.value = 'ort-int8-static'; input.dispatchEvent(new Event('input')); })"
        "(document.querySelector('[data-filter] input'))"
    )
    shown = "[...document.querySelector('[data-filter]').querySelectorAll('li')].filter(li => li.checkVisibility())"
    assert browser.run(f"{shown}.map(li => li.textContent.includes('ort-int8-static'))") == [True] * 3


@pytest.mark.parametrize("width", [360, 390, 768])
def test_no_horizontal_scroll(browser: Browser, page: Path, width: int) -> None:
    """On a phone the page is as wide as the screen; wide tables scroll inside their own box."""
    browser.open(page, width=width)
    browser.run("document.querySelectorAll('details').forEach(each => { each.open = true; })")
    assert browser.run("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    assert browser.run("innerWidth") == width
    assert browser.run("[...document.querySelectorAll('.scroll')].some(each => each.scrollWidth > each.clientWidth)")


def test_schemes(browser: Browser, page: Path) -> None:
    """Background and chart lines follow the scheme that the reader's system asks for."""
    line = "document.querySelector('svg.chart path[stroke^=\"var(--v\"]')"
    colours = f"[getComputedStyle(document.body).backgroundColor, getComputedStyle({line}).stroke]"
    browser.open(page, scheme="light")
    light = browser.run(colours)
    browser.open(page, scheme="dark")
    dark = browser.run(colours)
    assert light[0] == "rgb(246, 247, 249)"
    assert dark[0] == "rgb(17, 20, 25)"
    assert light[1] != dark[1]


def test_markup_in_texts_stays_text(browser: Browser, page: Path) -> None:
    """A script in an example's text is shown as text and does not run."""
    browser.open(page)
    assert browser.run("document.querySelectorAll('main script').length") == 0
    assert browser.run("document.body.textContent.includes(\"<script>alert('x')</script>\")") is True


def test_keyboard_reaches_tables_and_headings(browser: Browser, page: Path) -> None:
    """Headings that sort are buttons, and boxes that scroll take the focus, so that no mouse is needed."""
    browser.open(page)
    assert browser.run(
        "[...document.querySelectorAll('table[data-sortable] thead th')].every(th => th.querySelector('button'))"
    )
    assert browser.run("[...document.querySelectorAll('.scroll')].every(box => box.tabIndex === 0 && box.ariaLabel)")


@pytest.mark.parametrize(
    ("attempt", "directive"),
    [
        ("eval('1')", "script-src"),
        ("fetch('https://example.org/').catch(() => 0)", "connect-src"),
        ("new Image().src = 'https://example.org/x.png'", "img-src"),
        (
            "document.body.append(Object.assign(document.createElement('script'), {textContent: 'window.ran = 1'}))",
            "script-src-elem",
        ),
    ],
)
def test_the_policy_forbids(browser: Browser, page: Path, attempt: str, directive: str) -> None:
    """Whatever got into the page, it could neither evaluate text, nor reach the network, nor run a script of its own."""
    browser.open(page)
    blocked = browser.run(
        "new Promise(resolve => { document.addEventListener('securitypolicyviolation', e => resolve(e.effectiveDirective));"
        f" try {{ {attempt}; }} catch (error) {{ void error; }} }})"
    )
    assert blocked == directive
    assert browser.run("window.ran === undefined")


def test_print(browser: Browser, page: Path) -> None:
    """On paper there is no navigation and no filter, and nothing is cut off inside a box that scrolls."""
    browser.open(page)
    browser.call("Emulation.setEmulatedMedia", media="print")
    hidden = "[...document.querySelectorAll('nav, .filter')].every(each => getComputedStyle(each).display === 'none')"
    assert browser.run(hidden)
    assert browser.run(
        "[...document.querySelectorAll('.scroll')].every(e => getComputedStyle(e).overflowX === 'visible')"
    )
    browser.call("Emulation.setEmulatedMedia", media="")


def test_the_page_of_saved_benchmarks(browser: Browser, tmp_path: Path) -> None:
    """It opens without an error, sorts by time whatever the unit, and fits a phone; markup in a name stays text."""
    times = {"slow <script>window.ran = 1</script>": 2.0, "quick": 3e-7, "middling": 4e-4}
    saved = [
        {"name": name, "stats": {**dict.fromkeys(STATISTICS, value), "rounds": 3, "data": [value, 1.1 * value]}}
        for name, value in times.items()
    ]
    path = tmp_path / "saved.json"
    path.write_text(json.dumps({"benchmarks": saved}), encoding="utf-8")
    browser.open(render_benchmarks([path]), width=360)
    browser.run("[...document.querySelectorAll('th button')].find(b => b.textContent === 'median').click()")
    names = [each.partition(" ")[0] for each in first_column(browser)]
    assert names == ["quick", "middling", "slow"]
    assert browser.run("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    assert browser.run("window.ran === undefined")
    assert browser.errors == []
