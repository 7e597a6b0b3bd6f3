"""What `lpm blind` and `lpm pairs` print: blocks of text that read at any width, and JSON for machines."""

from collections import Counter
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.padding import Padding
from rich.rule import Rule
from rich.text import Text

from lpm_kernel.progress import inline, printable, printable_json
from lpm_kernel.proof.agreement import AgreementConfig, refusal, told
from lpm_kernel.proof.blind import Shown, told_preference
from lpm_kernel.records import Vote
from lpm_kernel.runner.settings import open_workspace, resolve_all
from lpm_kernel.runner.state import state_of
from lpm_kernel.runner.word import OwnersComparison, OwnersWord, PairTold

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

INDENT = 3
SHORT_CHARS = 200
"""Of a text in a list."""
ID_CHARS = 8
"""Of an id for people; every command takes the beginning of one."""
WHO = {"user": "you", "assistant": "model"}


def open_word(workspace: str, preset: str = "") -> OwnersWord:
    """The owner's word in a workspace, with the settings of `dpo-data`."""
    place = open_workspace(workspace)
    config = resolve_all(place, preset=preset)["dpo-data"]
    assert isinstance(config, AgreementConfig)
    return OwnersWord(place, config)


def open_comparison(workspace: str) -> OwnersComparison:
    """The owner's word on the two models of the last evaluation."""
    return OwnersComparison(open_workspace(workspace))


# Blind ------------------------------------------------------------------------------------------------------------


def show_question(question: Shown, number: int, count: int) -> None:
    """One question and its two answers: nothing of who gave them or what a judge said."""
    out = _console()
    out.print(Rule(f"{number} of {count}", style="dim"))
    *before, last = [message for message in question.prompt.messages if message.role != "system"]
    for message in before:
        out.print(Text(WHO.get(message.role, message.role), style="dim"))
        out.print(_block(message.content))
    out.print(Text(printable(last.content), style="bold"))
    for key, answer in (("1", question.first), ("2", question.second)):
        out.print(Text(f"\n{key}", style="cyan bold"))
        out.print(_block(answer))
    out.print(Text("\n1  2  t(ie)  s(kip)  u(ndo)  q(uit)", style="dim"))


def show_round(
    owner: OwnersWord | OwnersComparison, count: int, seed: int, *, voted: str | None, result: bool, as_json: bool
) -> None:
    """What is done and left of a blind test; the agreement when nothing is left, or when it is asked for."""
    now = owner.round(count, seed)
    shows_result = result or not now.left
    if not as_json:
        _console().print(f"{len(now.done)} done, {len(now.left)} left")
        if shows_result:
            show_result(owner)
        return
    found: dict[str, Any] = {"done": len(now.done), "left": len(now.left)}
    if voted:
        found["voted"] = owner.prompt_named(voted).id
    else:
        found["questions"] = [*map(_vote_row, now.done), *map(_question_row, now.left)]
    if shows_result:
        found |= _result(owner)
    print(printable_json(found))


def _result(owner: OwnersWord | OwnersComparison) -> dict[str, Any]:
    if isinstance(owner, OwnersWord):
        return {"agreement": owner.agreement.model_dump(mode="json")}
    return {"preference": owner.preference and owner.preference.model_dump(mode="json")}


def _vote_row(vote: Vote) -> dict[str, Any]:
    return {"id": vote.prompt_id, **vote.model_dump(include={"question", "first", "second", "vote"})}


def _question_row(question: Shown) -> dict[str, Any]:
    messages = [message.model_dump() for message in question.prompt.messages if message.role != "system"]
    shown = {"first": question.first, "second": question.second, "vote": None}
    return {"id": question.prompt.id, "question": question.prompt.user, "messages": messages, **shown}


def show_result(owner: OwnersWord | OwnersComparison) -> None:
    """How far owner and judge agree, or which model the owner prefers; what it means, and what comes next."""
    if isinstance(owner, OwnersComparison):
        _console().print(Text(f"{told_preference(owner.preference)}."))
        _console().print("next: lpm pipeline decides again with your votes")
        return
    found, config = owner.agreement, owner.config
    counts = Counter(vote.vote for vote in owner.words.votes.values())
    preferred = counts["first"] + counts["second"]
    barred = found.believed is False and not config.accept_judge_pairs
    said = refusal(found, config) if barred else told(found, config)
    unsure = "These are the pairs it was least sure of: over all of its pairs you are likely to agree more."
    among_all = found.kappa is not None and found.votes < owner.judges_pairs
    out = _console()
    out.print(f"preferred: {preferred}, ties: {counts['tie']}, skipped: {counts['skip']}")
    out.print(Text(f"{said}. {unsure}" if among_all else f"{said}."))
    out.print(Text(_next(owner)))


def _next(owner: OwnersWord) -> str:
    """When what was said counts."""
    step = owner.step
    if state_of(step, owner.workspace, owner.config).name == "given":
        return (
            f"{owner.workspace.find('dpo_direct.json')} is yours as it stands, so this changes no pair of it; to have "
            f"it made again: lpm run {step.name}"
        )
    return "next: lpm pipeline makes the pairs again with it, which asks nobody anything a second time"


# Pairs ------------------------------------------------------------------------------------------------------------


def show_pairs(
    rows: "Sequence[PairTold]", total: int, limit: int, waiting: "Mapping[str, str]", owner: OwnersWord, as_json: bool
) -> None:
    """A list of prompts with their pairs, and the words of the owner's that change nothing now."""
    shown = rows[:limit] if limit else rows
    idle = [
        {"id": prompt_id, "kind": owner.words.standing[prompt_id].kind, "why": why}
        | {"question": owner.words.standing[prompt_id].question}
        for prompt_id, why in waiting.items()
    ]
    if as_json:
        counts = {"total": total, "matching": len(rows), "shown": len(shown), "damaged_lines": owner.words.damaged}
        print(printable_json({**counts, "pairs": [pair_row(row) for row in shown], "no_longer_apply": idle}))
        return
    out = _console()
    for row in shown:
        _show_short(out, row)
    more = f", the first {len(shown)} are shown (--limit 0: all)" if len(shown) < len(rows) else ""
    out.print(f"{len(rows)} of {total} prompts{more}")
    if idle:
        out.print(f"of your word, {len(idle)} no longer apply; they stay in your file, and apply again when it fits:")
    for word in idle:
        out.print(_block(inline(f"{word['id'][:ID_CHARS]} {word['kind']}: {word['why']} ({word['question'][:60]})")))


def show_pair(row: PairTold, as_json: bool) -> None:
    """All of one prompt: its answers with their numbers, every verdict, and what came of it."""
    if as_json:
        verdicts = [verdict.model_dump(mode="json") for verdict in row.evidence.verdicts]
        answers = [answer.model_dump(mode="json") for answer in row.evidence.answers]
        print(printable_json(pair_row(row) | {"answers": answers, "verdicts": verdicts}))
        return
    out, evidence = _console(), row.evidence
    out.print(_head(row))
    out.print(Text(printable(row.prompt.user), style="bold"))
    for number, answer in enumerate(evidence.answers, 1):
        mark = {evidence.chosen: "chosen", evidence.rejected: "rejected"}.get(number - 1, "")
        ended = "" if answer.finish_reason == "stop" else answer.finish_reason
        out.print(Text("  ".join(filter(None, (f"\n{number}", mark, ended))), style="cyan"))
        out.print(_block(answer.text))
    for verdict in evidence.verdicts:
        said = {"first": f"{verdict.first + 1}", "second": f"{verdict.second + 1}"}.get(
            verdict.outcome, verdict.outcome
        )
        about = f"\njudge on {verdict.first + 1} and {verdict.second + 1}: {said}"
        out.print(Text(f"{about} ({inline(verdict.reason)})", style="dim"))


def show_decided(owner: OwnersWord, row: PairTold, said: str, as_json: bool) -> None:
    """What became of the prompt by a decision."""
    if as_json:
        print(printable_json(pair_row(row)))
        return
    out = _console()
    out.print(said)
    _show_short(out, row)
    out.print(_next(owner))


def pair_row(row: PairTold) -> dict[str, Any]:
    """One prompt for machines."""
    evidence, pair = row.evidence, row.pair
    judged = evidence.judged
    return {
        "id": row.prompt.id,
        "row": row.prompt.row,
        "variant": row.prompt.variant,
        "notes": list(row.prompt.notes),
        "question": row.prompt.user,
        "chosen": pair and pair[0],
        "rejected": pair and pair[1],
        "dropped": evidence.dropped,
        "confidence": evidence.confidence,
        "word": evidence.word and evidence.word.model_dump(mode="json"),
        "judged": judged and judged.model_dump(mode="json"),
    }


def _show_short(out: Console, row: PairTold) -> None:
    out.print(_head(row))
    out.print(_block(_short(row.prompt.user)))
    for sign, text in zip("+-", row.pair or (), strict=False):
        out.print(_block(f"{sign} {_short(text)}"))


def _head(row: PairTold) -> Text:
    evidence = row.evidence
    sure = "" if evidence.confidence is None else f" {evidence.confidence:.2f}"
    state = f"dropped: {evidence.dropped}" if evidence.dropped else f"pair{sure}"
    yours = f"  yours: {evidence.word.kind}" if evidence.word else ""
    return Text(f"{row.prompt.id[:ID_CHARS]}  {state}{yours}  {inline(row.prompt.variant)}", style="cyan")


def _short(text: str) -> str:
    told_inline = inline(text)
    return told_inline if len(told_inline) <= SHORT_CHARS else f"{told_inline[:SHORT_CHARS]}…"


def _block(text: str) -> Padding:
    """Words of others, indented, so that nothing in them passes for ours; no escape reaches the terminal."""
    return Padding(Text(printable(text), overflow="fold"), (0, 0, 0, INDENT), expand=False)


def _console() -> Console:
    return Console(highlight=False, markup=False, emoji=False)
