"""Sentences and progress: on a terminal above a bar, elsewhere plain lines, in a log with the time of day."""

import logging
import os
import pty
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from conftest import ROOT

from lpm_kernel import progress
from lpm_kernel.progress import human_bytes, log_to, printable, say, show_sentences

HOSTILE = "\x1b]0;owned\x07\x1b[2J\x9b31m\r\x00\x7f \N{RIGHT-TO-LEFT OVERRIDE}evil [bold]no markup[/] :smile: 'x' 100"
WORK = """
import sys, time
from lpm_kernel import progress
progress.REDRAW_EVERY_S = 0
progress.WORTH_A_LINE_S = float((sys.argv[1:] or ["0"])[0])
progress.show_sentences()
with progress.progress("answers [before]", 4) as shown:
    for n in range(4):
        shown.advance()
        progress.say(f"sentence {n} " + "long " * 30 + "end")
        print("a library's warning", file=sys.stderr)
        print("a result")
progress.say("done")
"""


@pytest.fixture
def quiet() -> Iterator[None]:
    """The logger as an import leaves it, and as it was afterwards."""
    logger = progress.logger
    handlers, level = logger.handlers[:], logger.level
    logger.handlers[:] = []
    logger.setLevel(logging.NOTSET)
    yield
    logger.handlers[:] = handlers
    logger.setLevel(level)


def on_a_terminal(script: str, term: str = "xterm-256color") -> tuple[str, str]:
    """(what the terminal got, standard output) of a script whose standard error is a terminal of 80 columns."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": term, "COLUMNS": "80", "LINES": "24"}
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=theirs, cwd=ROOT, env=environment, text=True
    ) as process:
        os.close(theirs)
        parts = []
        try:
            while part := os.read(ours, 2**16):
                parts.append(part)
        except OSError:  # Linux tells the end of a terminal so
            pass
        assert process.stdout
        result = process.stdout.read()
    os.close(ours)
    assert process.returncode == 0
    return b"".join(parts).decode(), result


def seen(written: str) -> list[str]:
    """The lines that stay on the screen: a carriage return starts a line again, CSI 2K clears it, CSI 1A goes up."""
    lines = [""]
    for part in re.findall(r"\x1b\[[0-9;?]*[A-Za-z]|\r\n|\r|\n|[^\x1b\r\n]+", written):
        if part in ("\r\n", "\n"):
            lines.append("")
        elif part == "\x1b[1A":
            lines.pop()
        elif part in ("\r", "\x1b[2K"):
            lines[-1] = "" if part != "\r" else lines[-1]
        elif not part.startswith("\x1b"):
            lines[-1] += part
    return lines


def test_on_a_terminal_sentences_stand_above_one_bar() -> None:
    written, result = on_a_terminal(WORK)
    lines = [line.rstrip() for line in seen(written) if line.strip()]
    sentences = [f"sentence {n} " + "long " * 30 + "end" for n in range(4)]
    assert lines[:-2] == [line for sentence in sentences for line in (sentence, "a library's warning")]
    assert re.fullmatch(r"  answers \[before\] \S+ 4/4 100% in 0:0\d", lines[-2])
    assert lines[-1] == "done"
    assert re.search(r"2/4 50% 0:0\d left", written)
    assert written.count("\x1b[?25l") == written.count("\x1b[?25h") == 1
    assert result == "a result\n" * 4


@pytest.mark.parametrize("end", ["raise KeyboardInterrupt", "raise SystemExit(143)", "raise ValueError"])
def test_an_error_gives_the_cursor_back(end: str) -> None:
    script = (
        f"from lpm_kernel.progress import progress\n"
        f"try:\n  with progress('SFT', 9) as shown:\n    shown.advance()\n    {end}\nexcept BaseException: pass"
    )
    written, _ = on_a_terminal(script)
    assert written.rfind("\x1b[?25h") > written.rfind("\x1b[?25l") >= 0


def test_elsewhere_lines_are_plain() -> None:
    environment = {**os.environ, "FORCE_COLOR": "1", "TTY_COMPATIBLE": "1"}
    done = subprocess.run([sys.executable, "-c", WORK], capture_output=True, text=True, cwd=ROOT, env=environment)
    lines = done.stderr.splitlines()
    assert lines[:2] == ["sentence 0 " + "long " * 30 + "end", "a library's warning"]
    assert lines[-2:] == ["  answers [before] 4/4 100% in 0:00", "done"]
    assert len(lines) == 10
    assert "\x1b" not in done.stderr
    written, _ = on_a_terminal(WORK, term="dumb")
    assert written.replace("\r\n", "\n") == done.stderr


def test_elsewhere_what_was_done_at_once_is_told_by_its_result_alone() -> None:
    done = subprocess.run([sys.executable, "-c", WORK, "9"], capture_output=True, text=True, cwd=ROOT, check=True)
    assert "answers [before]" not in done.stderr


def test_elsewhere_a_line_comes_after_some_seconds_and_at_the_end(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    with progress.progress("prompts", 80) as shown:
        for _ in range(8):
            now[0] += 2
            shown.advance(10)
    assert capsys.readouterr().err.splitlines() == [
        "  prompts 30/80 38% 0:10 left",
        "  prompts 60/80 75% 0:04 left",
        "  prompts 80/80 100% in 0:16",
    ]


@pytest.mark.usefixtures("quiet")
def test_no_sentence_steers_the_terminal_or_the_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown = r"\x1b]0;owned\x07\x1b[2J\x9b31m\r\x00\x7f \u202eevil [bold]no markup[/] :smile: 'x' 100"
    show_sentences()
    with log_to(tmp_path / "log.txt"):
        say(HOSTILE)
        say("half \ud83d")
    assert capsys.readouterr().err == shown + "\nhalf \\ud83d\n"
    assert shown in (tmp_path / "log.txt").read_text(encoding="utf-8")
    written, _ = on_a_terminal(f"from lpm_kernel import progress as p; p.show_sentences(); p.say({HOSTILE!r})")
    assert written == shown + "\r\n"


def test_what_people_read_stays_as_it_is() -> None:
    text = "Zoë \N{GRINNING FACE}\t日本語\nnext line"
    assert printable(text) == text


@pytest.mark.usefixtures("quiet")
def test_sentences_are_shown_once_and_logged_with_the_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        show_sentences()
    with log_to(tmp_path / "log.txt"):
        say("100 % of {it} %s")
    say("afterwards")
    assert capsys.readouterr().err == "100 % of {it} %s\nafterwards\n"
    assert re.fullmatch(r"\d\d:\d\d:\d\d 100 % of \{it\} %s\n", (tmp_path / "log.txt").read_text())


@pytest.mark.usefixtures("quiet")
def test_a_log_is_written_though_nothing_is_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger(), "level", logging.WARNING)
    with log_to(tmp_path / "log.txt"):
        say("kept")
    say("gone")
    assert (tmp_path / "log.txt").read_text().endswith(" kept\n")
    assert capsys.readouterr().err == ""
    assert progress.logger.level == logging.NOTSET
    assert not progress.logger.handlers


@pytest.mark.usefixtures("quiet")
def test_a_full_disk_and_a_closed_pipe_end_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OSError, match="No space left"), log_to(Path("/dev/full")):
        say("too much")
    show_sentences()
    reading, writing = os.pipe()
    os.close(reading)
    with suppress(BrokenPipeError), os.fdopen(writing, "w") as closed:  # closing it tries once more
        monkeypatch.setattr(sys, "stderr", closed)
        with pytest.raises(BrokenPipeError):
            say("nobody reads")


def test_importing_configures_nothing_and_loads_no_rich() -> None:
    script = (
        "import logging, sys; before = logging.root.handlers[:], logging.root.level; import lpm_kernel.progress as p; "
        "p.say('x'); print((logging.root.handlers, logging.root.level) == before, p.logger.handlers, p.logger.level, "
        "'rich' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT)
    assert (done.stdout, done.stderr) == ("True [] 0 False\n", "")


def test_bytes_are_told_in_units() -> None:
    assert [human_bytes(n) for n in (0, 1023, 98304, 3 * 2**20, 1_546_188_226)] == [
        *("0 bytes", "1023 bytes", "96 KiB", "3 MiB", "1.4 GiB")
    ]
