"""`lpm pairs`: look through the pairs and decide about single ones; what is decided stands when they are made again."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lpm_kernel.commands.base import Command, Group, JsonOption, PresetOption, WorkspaceOption
from lpm_kernel.commands.bio import edit_file
from lpm_kernel.errors import UsageError
from lpm_kernel.progress import say
from lpm_kernel.records import without_surrogates

if TYPE_CHECKING:
    from lpm_kernel.runner.word import PairTold

IdArgument = Annotated[str, typer.Argument(metavar="ID", help="The id of a prompt, or its beginning: lpm pairs list.")]
CHOSEN, REJECTED = "===== chosen: the better answer =====", "===== rejected: the worse answer ====="

pairs_app = typer.Typer(
    cls=Group,
    help="The preference pairs: look, flip, reject, edit, accept. What you decide stays.",
    no_args_is_help=True,
)


@pairs_app.command("list", cls=Command)
def list_pairs(
    search: Annotated[str, typer.Option("--search", metavar="<text>", help="In the question or an answer.")] = "",
    dropped: Annotated[bool, typer.Option("--dropped", help="Prompts that gave no pair.")] = False,
    reason: Annotated[str, typer.Option("--reason", metavar="<word>", help="Dropped for this reason.")] = "",
    below: Annotated[
        float | None,
        typer.Option("--below", metavar="<float>", help="Pairs of a confidence below.", show_default=False),
    ] = None,
    note: Annotated[str, typer.Option("--note", metavar="<id>", help="Resting on this note.")] = "",
    variant: Annotated[str, typer.Option("--variant", metavar="<name>", help="Of this kind of item.")] = "",
    mine: Annotated[bool, typer.Option("--mine", help="Where your word stands above the judge's.")] = False,
    limit: Annotated[int, typer.Option("--limit", metavar="<int>", min=0, help="So many at most; 0: all.")] = 20,
    workspace: WorkspaceOption = "",
    preset: PresetOption = "",
    as_json: JsonOption = False,
) -> None:
    """The prompts with their pairs, or why they gave none; and which of your decisions no longer apply."""
    from lpm_kernel.commands import word

    owner = word.open_word(workspace, preset)
    rows = list(owner.pairs())
    _refuse_unknown("--variant", variant, {row.prompt.variant for row in rows})
    _refuse_unknown("--note", note, {name for row in rows for name in row.prompt.notes})
    wanted = search.casefold()

    def fits(row: "PairTold") -> bool:
        evidence = row.evidence
        texts = [row.prompt.user, *(answer.text for answer in evidence.answers)]
        return (
            any(wanted in text.casefold() for text in texts)
            and (not (dropped or reason) or evidence.dropped is not None)
            and reason in (evidence.dropped or reason)
            and (below is None or (evidence.confidence is not None and evidence.confidence < below))
            and (not note or note in row.prompt.notes)
            and (not variant or variant == row.prompt.variant)
            and (not mine or evidence.word is not None)
        )

    word.show_pairs([row for row in rows if fits(row)], len(rows), limit, owner.waiting, owner, as_json)


@pairs_app.command(cls=Command)
def show(
    prompt_id: IdArgument, workspace: WorkspaceOption = "", preset: PresetOption = "", as_json: JsonOption = False
) -> None:
    """All answers of one prompt with their numbers, every verdict, and what came of it."""
    from lpm_kernel.commands import word

    owner = word.open_word(workspace, preset)
    word.show_pair(owner.pair(owner.prompt_named(prompt_id)), as_json)


@pairs_app.command(cls=Command)
def flip(
    prompt_id: IdArgument, workspace: WorkspaceOption = "", preset: PresetOption = "", as_json: JsonOption = False
) -> None:
    """The rejected answer is the better one; a second flip takes back the first."""
    from lpm_kernel.commands import word

    owner = word.open_word(workspace, preset)
    prompt = owner.prompt_named(prompt_id)
    owner.flip(prompt)
    word.show_decided(owner, owner.pair(prompt), "flipped", as_json)


@pairs_app.command(cls=Command)
def reject(
    prompt_id: IdArgument, workspace: WorkspaceOption = "", preset: PresetOption = "", as_json: JsonOption = False
) -> None:
    """No pair comes of this prompt."""
    from lpm_kernel.commands import word

    owner = word.open_word(workspace, preset)
    prompt = owner.prompt_named(prompt_id)
    owner.reject(prompt)
    word.show_decided(owner, owner.pair(prompt), "rejected", as_json)


@pairs_app.command(cls=Command)
def edit(
    prompt_id: IdArgument,
    chosen: Annotated[
        str | None, typer.Option("--chosen", metavar="<text>", help="The better answer.", show_default=False)
    ] = None,
    rejected: Annotated[
        str | None, typer.Option("--rejected", metavar="<text>", help="The worse answer.", show_default=False)
    ] = None,
    workspace: WorkspaceOption = "",
    preset: PresetOption = "",
    as_json: JsonOption = False,
) -> None:
    """Write the answers of a pair yourself: by --chosen and --rejected, or in $VISUAL, $EDITOR, nano or vi."""
    from lpm_kernel.commands import word

    owner = word.open_word(workspace, preset)
    prompt = owner.prompt_named(prompt_id)
    before = owner.draft(prompt)
    if chosen is None and rejected is None:
        after = _edited(prompt.user, *before)
    else:
        after = (before[0] if chosen is None else chosen, before[1] if rejected is None else rejected)
    if after == before:
        say("nothing was changed (an editor that returns at once needs its flag to wait: code --wait)")
    else:
        owner.edit(prompt, *after)
    word.show_decided(owner, owner.pair(prompt), "" if after == before else "edited", as_json)


@pairs_app.command(cls=Command)
def accept(
    prompt_id: IdArgument,
    chosen: Annotated[
        int | None, typer.Option("--chosen", metavar="<number>", help="Of the better answer.", show_default=False)
    ] = None,
    rejected: Annotated[
        int | None, typer.Option("--rejected", metavar="<number>", help="Of the worse one.", show_default=False)
    ] = None,
    workspace: WorkspaceOption = "",
    preset: PresetOption = "",
    as_json: JsonOption = False,
) -> None:
    """The pair counts by your word: the judge's, also one that was dropped, or two answers by number."""
    from lpm_kernel.commands import word

    if (chosen is None) != (rejected is None):
        raise UsageError("--chosen and --rejected belong together; the numbers: lpm pairs show ID")
    owner = word.open_word(workspace, preset)
    prompt = owner.prompt_named(prompt_id)
    owner.accept(prompt, chosen, rejected)
    word.show_decided(owner, owner.pair(prompt), "accepted", as_json)


@pairs_app.command(cls=Command)
def undo(
    prompt_id: IdArgument, workspace: WorkspaceOption = "", preset: PresetOption = "", as_json: JsonOption = False
) -> None:
    """Take back your last word on a prompt, a blind vote too; again takes back the one before it."""
    from lpm_kernel.commands import word

    owner = word.open_word(workspace, preset)
    prompt = owner.prompt_named(prompt_id)
    kind = owner.undo(prompt)
    word.show_decided(owner, owner.pair(prompt), f"taken back: {kind}", as_json)


def _edited(question: str, chosen: str, rejected: str) -> tuple[str, str]:
    """The two texts as they come out of the owner's editor; raises UsageError when the lines between them are gone."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pair.md"
        text = f"{question}\n\n{CHOSEN}\n{chosen}\n{REJECTED}\n{rejected}\n"
        path.write_text(without_surrogates(text), encoding="utf-8")
        if not edit_file(path, "the pair"):
            return chosen, rejected
        text = path.read_text(encoding="utf-8", errors="replace")
    _, found, rest = text.partition(f"\n{CHOSEN}\n")
    better, also_found, worse = rest.partition(f"\n{REJECTED}\n")
    if not (found and also_found):
        raise UsageError(f"expected the lines {CHOSEN!r} and {REJECTED!r} to stay; nothing was changed")
    return better.strip("\n"), worse.strip("\n")


def _refuse_unknown(option: str, given: str, known: set[str]) -> None:
    from lpm_kernel.config import nearest

    if given and given not in known:
        told = ", ".join(sorted(known)[:12]) or "none"
        raise UsageError(f"{option} {given!r}: no prompt has it{nearest(given, known)}; there are: {told}")
