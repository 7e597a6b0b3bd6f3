"""What only a browser can say of the report: what it shows, prints, runs and asks for."""

import socket
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from shutil import which

import pytest
from browser import Browser, found
from evaluated import evaluated
from test_gate import trial
from test_report import ANY_ORDER, HOSTILE, LOG, page, saying

from lpm_kernel.proof.evaluation import Evaluation, Trial

pytestmark = pytest.mark.skipif(not found(), reason="there is no Chromium here; Debian: apt-get install chromium")

SHOWN = """[...document.querySelectorAll(".trial")].filter((e) => e.checkVisibility()).map((e) => e.dataset.outcome)"""
CHOOSE = """document.querySelector("#only-{}").click()"""
SEARCH = """(() => {{ const search = document.querySelector("#search"); search.value = {!r};
    search.dispatchEvent(new Event("input")); }})()"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser() as opened:
        yield opened


def url(folder: Path, trials: list[Trial], evaluation: Evaluation | None = None) -> str:
    page(folder, trials, log=LOG, evaluation=evaluation)
    return (folder / "report.html").as_uri()


def mixed() -> list[Trial]:
    return [trial(n, outcome) for n, outcome in enumerate(ANY_ORDER)]


@pytest.mark.parametrize("scripts", [True, False], ids=["with scripts", "without"])
def test_the_filter_shows_only_the_chosen(scripts: bool, browser: Browser, tmp_path: Path) -> None:
    opened = browser.open(url(tmp_path, mixed()), scripts=scripts)
    every = opened.value(SHOWN)
    assert len(every) == 6
    for chosen in ("worse", "better", "same", "unreadable"):
        opened.value(CHOOSE.format(chosen))
        assert opened.value(SHOWN) == [outcome for outcome in every if outcome == chosen]
    opened.value(CHOOSE.format("all"))
    assert opened.value(SHOWN) == every


def test_the_search_finds_what_is_written_in_other_letters(browser: Browser, tmp_path: Path) -> None:
    opened = browser.open(url(tmp_path, [*mixed(), saying("My dog is called PIXEL, ２ years")]))  # noqa: RUF001
    for words, count in (("pixel", 1), ("2 dog", 1), ("ferret", 0), ("", 7)):
        opened.value(SEARCH.format(words))
        assert len(opened.value(SHOWN)) == count
        assert opened.value("document.querySelector('#shown').textContent") == f"{count} of 7 shown"
    assert opened.complaints == []


def test_without_scripts_there_is_no_search_and_every_word_can_be_reached(browser: Browser, tmp_path: Path) -> None:
    opened = browser.open(url(tmp_path, mixed()), scripts=False)
    assert not opened.value("document.querySelector('#search').checkVisibility()")
    opened.value("document.querySelectorAll('summary').forEach((e) => e.parentElement.open || e.click())")
    assert opened.value("[...document.querySelectorAll('.text')].every((e) => e.checkVisibility())")


@pytest.mark.skipif(not which("pdftotext"), reason="there is no pdftotext here; Debian: apt-get install poppler-utils")
@pytest.mark.parametrize("scripts", [True, False], ids=["with scripts", "without"])
def test_paper_shows_and_opens_all(scripts: bool, browser: Browser, tmp_path: Path) -> None:
    words = [f"quagga{n:03d}" for n in range(40)]
    opened = browser.open(url(tmp_path, [saying(word) for word in words]), scripts=scripts)
    opened.value(CHOOSE.format("better"))
    if scripts:
        opened.value(SEARCH.format(words[7]))
    (tmp_path / "report.pdf").write_bytes(opened.pdf())
    told = subprocess.run(["pdftotext", tmp_path / "report.pdf", "-"], capture_output=True, text=True, check=True)
    assert {word: told.stdout.count(word) >= 4 for word in words} == dict.fromkeys(words, True)


def attacks(server: socket.socket) -> list[str]:
    """What would rename the page or call the server, were it markup."""
    leak = f"http://127.0.0.1:{server.getsockname()[1]}/leak"
    return [
        f"<img src={leak} onerror=\"document.title='gone'\">",
        f"<style>@import url({leak}); body {{ background: url({leak}) }}</style>",
        f"<svg><script>document.title='gone'; fetch('{leak}')</script></svg>",
        f"<script src={leak}></script>",
        f"<link rel=stylesheet href={leak}><iframe src={leak}></iframe>",
        f"\0<script\0>document.title='gone'; fetch('{leak}')</script>",
    ]


def is_asked(server: socket.socket) -> bool:
    """Whether anybody says a word to it, or does within the second; Chromium opens some connections in advance."""
    server.settimeout(0.5)
    try:
        while True:
            with server.accept()[0] as caller:
                caller.settimeout(0.5)
                with suppress(TimeoutError):
                    if caller.recv(1):
                        return True
    except TimeoutError:
        return False


def test_a_hostile_answer_runs_nothing_and_asks_for_nothing(browser: Browser, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        refresh = "<meta http-equiv=refresh content='0;url=about:blank'>"
        place = url(tmp_path, [saying(text) for text in [*HOSTILE, *attacks(server), refresh]])
        opened = browser.open(place)
        assert not is_asked(server)
    assert opened.requests == [place]
    assert opened.complaints == []
    assert opened.value("document.title").startswith("Before and after")


@pytest.mark.parametrize("held", [True, False], ids=["policy", "no policy"])
def test_if_an_answer_broke_out_the_policy_would_hold_it(held: bool, browser: Browser, tmp_path: Path) -> None:
    place, path = url(tmp_path, mixed()), tmp_path / "report.html"
    with socket.create_server(("127.0.0.1", 0)) as server:
        broken = path.read_text(encoding="utf-8").replace("<main>", "<main>" + "".join(attacks(server)), 1)
        path.write_text(broken if held else broken.replace("Content-Security-Policy", "none"), encoding="utf-8")
        opened = browser.open(place) if held else browser.open(place, wait=False)
        assert is_asked(server) is not held
        if held:
            assert opened.value("document.title").startswith("Before and after")


@pytest.mark.parametrize("text", ["x" * 5000, "Z\u0338\u0334\u0335" * 500, "\u202eabc" * 50, "漢" * 3000, "שלום" * 900])
def test_no_answer_is_wider_than_a_phone(text: str, browser: Browser, tmp_path: Path) -> None:
    opened = browser.open(url(tmp_path, [saying(text)]), width=360)
    wide = "[...document.querySelectorAll('html, .text, h3')].filter((e) => e.scrollWidth > e.clientWidth)"
    assert opened.value(f"{wide}.map((e) => e.className)") == []


def test_the_page_has_no_style_that_its_policy_refuses(browser: Browser, tmp_path: Path) -> None:
    opened = browser.open(url(tmp_path, mixed()))
    line = "document.querySelector('.chart path[stroke-dasharray]')"
    assert opened.value(f"getComputedStyle({line}).stroke") == "rgb(168, 82, 10)"
    assert opened.complaints == []


WIDE = (
    "[...document.querySelectorAll('html, section, .card, .bars, li')].filter((e) => e.scrollWidth > e.clientWidth + 1)"
)


@pytest.mark.parametrize("width", [320, 360, 400, 1100])
def test_no_part_of_the_page_is_wider_than_the_screen(width: int, browser: Browser, tmp_path: Path) -> None:
    opened = browser.open(url(tmp_path, mixed(), evaluated()), width=width)
    opened.value("document.querySelectorAll('details').forEach((e) => { e.open = true; })")
    assert opened.value(f"{WIDE}.map((e) => e.outerHTML.slice(0, 80))") == []


@pytest.mark.parametrize("width", [360, 1100])
def test_the_number_in_a_bar_lies_within_its_part(width: int, browser: Browser, tmp_path: Path) -> None:
    opened = browser.open(url(tmp_path, mixed(), evaluated()), width=width)
    edges = "(e) => { const b = e.getBoundingClientRect(); return [b.left, b.right]; }"
    told = opened.value(
        f"[...document.querySelectorAll('.bar text')].map((e) => [e, e.previousElementSibling].map({edges}))"
    )
    assert len(told) > 5
    assert [both for both in told if both[0][0] < both[1][0] or both[0][1] > both[1][1]] == []


def test_who_cannot_see_is_told_every_bar(browser: Browser, tmp_path: Path) -> None:
    opened = browser.open(url(tmp_path, mixed(), evaluated()))
    opened.call("Accessibility.enable")
    nodes = opened.call("Accessibility.getFullAXTree")["nodes"]
    named = [
        node["name"]["value"].replace("\xa0", " ") for node in nodes if node.get("role", {}).get("value") == "image"
    ]
    assert "Before: right 49 %, vague 46 %, wrong 5 %" in named
    assert "After: the bio's version 93 %, the other version 7 %" in named
    assert "" not in named
    heard = " ".join(node["name"]["value"] for node in nodes if node.get("role", {}).get("value") == "StaticText")
    assert "72 % (95 %: 65 % to 78 %); 91 won, 59 tied, 18 lost" in heard.replace("\xa0", " ")


def test_the_keys_alone_open_what_is_closed(browser: Browser, tmp_path: Path) -> None:
    opened = browser.open(url(tmp_path, mixed(), evaluated()))
    key = {"key": "Tab", "code": "Tab", "windowsVirtualKeyCode": 9}
    for kind in ("rawKeyDown", "keyUp"):
        opened.call("Input.dispatchKeyEvent", type=kind, **key)
    assert opened.value("document.activeElement.textContent") == "What the words mean"
    assert opened.value("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    enter = {"key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13, "text": "\r"}
    for kind in ("keyDown", "keyUp"):
        opened.call("Input.dispatchKeyEvent", type=kind, **enter)
    assert opened.value("document.querySelector('.words').open")


@pytest.mark.skipif(not which("pdftotext"), reason="there is no pdftotext here; Debian: apt-get install poppler-utils")
def test_paper_holds_every_part(browser: Browser, tmp_path: Path) -> None:
    opened = browser.open(url(tmp_path, mixed(), evaluated()))
    headings = opened.value("[...document.querySelectorAll('h2')].map((e) => e.textContent.split(':')[0].trim())")
    (tmp_path / "report.pdf").write_bytes(opened.pdf())
    told = subprocess.run(["pdftotext", tmp_path / "report.pdf", "-"], capture_output=True, text=True, check=True)
    assert len(headings) > 10
    assert [part for part in [*headings, "How often the judge took the new"] if part not in told.stdout] == []
