"""`lpm blind`: two answers to a question, and the owner says which is better, without knowing what the judge said."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from lpm_kernel.commands.base import JsonOption, PresetOption, WorkspaceOption
from lpm_kernel.errors import UsageError
from lpm_kernel.progress import say

if TYPE_CHECKING:
    from lpm_kernel.runner.word import OwnersWord

KEYS = {"1": "first", "2": "second", "t": "tie", "s": "skip", "u": "undo", "q": "quit"}
WORDS = {"1": "first", "2": "second", "tie": "tie", "skip": "skip", "undo": "undo"}
SAID = {"first": "1", "second": "2"}
END_OF_INPUT = ("", "\x04")


def blind(
    questions: Annotated[
        int, typer.Option("--questions", metavar="<int>", min=5, max=50, help="Questions in all, those done too.")
    ] = 20,
    vote: Annotated[
        tuple[str, str] | None,
        typer.Option(
            "--vote", metavar="<id> <1|2|tie|skip|undo>", help="Cast one vote, for programs.", show_default=False
        ),
    ] = None,
    result: Annotated[
        bool, typer.Option("--result", help="Ask nothing; show how far you and the judge agree so far.")
    ] = False,
    seed: Annotated[int, typer.Option("--seed", metavar="<int>", min=0, help="Of the order of the two answers.")] = 42,
    workspace: WorkspaceOption = "",
    preset: PresetOption = "",
    as_json: JsonOption = False,
) -> None:
    """Which of two answers is better, blind: measures whether the judge prefers what you prefer; each vote is a pair.

    Keys: 1, 2, t (tie), s (skip), u (take the last vote back), q (stop). Each vote is kept at once; the same command
    goes on where it was. With --json the questions are listed, and --vote casts one.
    """
    from lpm_kernel.commands import word

    if vote and vote[1] not in WORDS:
        raise UsageError(f"--vote {vote[0]} {vote[1]!r}: expected one of {', '.join(WORDS)}")
    if not (vote or result or as_json or (sys.stdin.isatty() and sys.stdout.isatty())):
        raise UsageError(
            "lpm blind asks at a terminal, and this is none. For programs: lpm blind --json lists the questions, "
            "lpm blind --vote ID 1|2|tie casts one, lpm blind --result tells the agreement"
        )
    owner = word.open_word(workspace, preset)
    if vote:
        _cast(owner, *vote, seed)
    elif not (result or as_json):
        _ask(owner, questions, seed)
    if vote or as_json or result:
        word.show_round(owner, questions, seed, voted=vote and vote[0], result=result, as_json=as_json)


def _cast(owner: "OwnersWord", prompt_id: str, said: str, seed: int) -> None:
    """One vote by the id of its question; raises UsageError for an id that no question has."""
    prompt = owner.prompt_named(prompt_id)
    if WORDS[said] == "undo":
        owner.take_back(prompt)
        return
    asked = next((question for question in owner.questions(seed) if question.prompt.id == prompt.id), None)
    if asked is None:
        raise UsageError(f"{prompt.id} has no two answers to compare; what has: lpm blind --json")
    owner.vote(asked, WORDS[said])


def _ask(owner: "OwnersWord", count: int, seed: int) -> None:
    """Question after question until none is left or the person stops; every vote is on the disk before the next."""
    from lpm_kernel.commands import word

    now = owner.round(count, seed)
    said = []
    if now.left:
        say("Which answer is the better one? Keys: 1 or 2; t where neither is. Each vote is kept at once.")
    if now.there < count:
        say(f"there are {now.there} questions to ask, fewer than {count}")
    with _keys() as key:
        while now.left:
            question = now.left[0]
            word.show_question(question, len(now.done) + 1, len(now.done) + len(now.left))
            answer = KEYS[key()]
            if answer == "quit":
                say(f"stopped: {len(now.done)} done, {len(now.left)} left; lpm blind goes on here")
                return
            if answer != "undo":
                owner.vote(question, answer)
                said.append(question)
                say(f"kept: {SAID.get(answer, answer)}")
            elif said:
                owner.take_back(said.pop().prompt)
                say("the last vote is taken back")
            else:
                say("there is no vote of this sitting to take back")
            now = owner.round(count, seed)
    word.show_result(owner)


@contextmanager
def _keys() -> Iterator[Callable[[], str]]:
    """What reads the next of KEYS as it is typed, without Enter; the terminal is as it was afterwards."""
    import termios
    import tty
    import unicodedata

    sys.stdin.reconfigure(errors="replace")  # type: ignore[union-attr]
    before = termios.tcgetattr(sys.stdin)
    tty.setcbreak(sys.stdin)

    def next_key() -> str:
        while True:
            read = sys.stdin.read(1)
            if read in END_OF_INPUT:
                return "q"
            if (key := unicodedata.normalize("NFKC", read).casefold()) in KEYS:
                return key

    try:
        yield next_key
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
