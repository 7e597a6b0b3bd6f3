"""The owner's word on single prompts, by blind vote or by choice, and what it makes of a judge's evidence.

`votes.jsonl` and `choices.jsonl` are the owner's: lines are added, never rewritten, and each names its prompt and the
answers themselves, so that it stands when the pairs are made again: wherever the prompt is asked and those answers are
given, it applies, and otherwise it waits and says why.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, TypeVar

from lpm_kernel.errors import DataError
from lpm_kernel.files import read_survivors
from lpm_kernel.progress import say
from lpm_kernel.records import Answer, Evidence, PairChoice, Ruling, Vote, Word

CONFIDENCE = 0.98
"""Of a pair by the owner's word. The owner is who the model is to please, so nothing but a slip of the key stands
against it: one in fifty is allowed for, which also keeps the loss from pulling for ever on a single pair."""
OWN = "owner"
"""Finish reason of an answer that the owner wrote."""
NOT_ASKED = "the question is no longer asked"
NOT_GIVEN = "the model no longer gives those answers"
TIED, REJECTED, UNBELIEVED = "tied_by_owner", "rejected_by_owner", "judge_disagrees_with_owner"
"""Why there is no pair, by the owner's word."""

L = TypeVar("L", Vote, PairChoice)


@dataclass(frozen=True)
class Standing:
    """The word in force on one prompt."""

    prompt_id: str
    question: str
    kind: Literal["vote", "flip", "reject", "edit", "accept"]
    at: str
    chosen: str | None
    """None where the prompt gives no pair by this word."""
    rejected: str | None
    answers: tuple[str, ...]
    """Those that the model must give for the word to apply."""

    def why_not(self, answers: Iterable[Answer]) -> str | None:
        """Why the word does not apply to a prompt with these answers; None when it does."""
        return None if set(self.answers) <= {answer.text for answer in answers} else NOT_GIVEN


@dataclass(frozen=True)
class Words:
    """All that the owner's two files say, in their order."""

    vote_lines: tuple[Vote, ...] = ()
    choice_lines: tuple[PairChoice, ...] = ()
    damaged: int = 0
    """Lines that cannot be read."""

    @cached_property
    def votes(self) -> dict[str, Vote]:
        """Prompt -> the vote in force, a skipped one too."""
        return {prompt_id: votes[-1] for prompt_id, votes in _not_taken_back(self.vote_lines).items()}

    @cached_property
    def choices(self) -> dict[str, list[PairChoice]]:
        """Prompt -> the choices that none took back; the last one is in force."""
        return _not_taken_back(self.choice_lines)

    @cached_property
    def standing(self) -> dict[str, Standing]:
        """Prompt -> the word in force: the later of vote and choice."""
        found = {prompt_id: _of_vote(vote) for prompt_id, vote in self.votes.items() if vote.vote != "skip"}
        for prompt_id, choices in self.choices.items():
            if prompt_id not in found or found[prompt_id].at <= choices[-1].at:
                found[prompt_id] = _of_choices(choices)
        return found

    def plus(self, line: Vote | PairChoice) -> "Words":
        """The same with one line more."""
        if isinstance(line, Vote):
            return Words((*self.vote_lines, line), self.choice_lines, self.damaged)
        return Words(self.vote_lines, (*self.choice_lines, line), self.damaged)


def read_words(votes_path: Path | None, choices_path: Path | None, known: Collection[str]) -> Words:
    """The owner's word; damaged lines are told. `known` are the ids of all questions that the owner's items ask.

    Raises DataError for a file that is another owner's: none of its lines is about a known question.
    """
    votes, damaged_votes = _lines(votes_path, Vote, known)
    choices, damaged_choices = _lines(choices_path, PairChoice, known)
    return Words(tuple(votes), tuple(choices), damaged_votes + damaged_choices)


def heard(evidence: Evidence, words: Words) -> Evidence:
    """The evidence with the owner's word where one applies, else as the judge left it."""
    evidence = as_judged(evidence)
    standing = words.standing.get(evidence.prompt_id)
    if standing is None or standing.why_not(evidence.answers):
        return evidence
    word = Word(kind=standing.kind, at=standing.at)
    if standing.chosen is None or standing.rejected is None:
        dropped = TIED if standing.kind == "vote" else REJECTED
        return _overruled(evidence).model_copy(update={"dropped": dropped, "word": word})
    texts = [answer.text for answer in evidence.answers]
    own = [text for text in (standing.chosen, standing.rejected) if text not in texts]
    texts += own
    pair = {
        "answers": (*evidence.answers, *(Answer(text=text, finish_reason=OWN) for text in own)),
        "chosen": texts.index(standing.chosen),
        "rejected": texts.index(standing.rejected),
        "confidence": CONFIDENCE,
        "weighed": {"owner": CONFIDENCE},
    }
    return _overruled(evidence).model_copy(update={**pair, "word": word})


def not_believed(evidence: Evidence) -> Evidence:
    """The same without the judge's pair, if it is one; the owner's own stay."""
    if evidence.word or evidence.chosen is None:
        return evidence
    return _overruled(evidence).model_copy(update={"dropped": UNBELIEVED})


def as_judged(evidence: Evidence) -> Evidence:
    """What the judge alone made of the prompt."""
    if evidence.judged is None:
        return evidence
    answers = tuple(answer for answer in evidence.answers if answer.finish_reason != OWN)
    return evidence.model_copy(update={**dict(evidence.judged), "answers": answers, "word": None, "judged": None})


def waiting(words: Words, answers: Mapping[str, tuple[Answer, ...]]) -> dict[str, str]:
    """Prompt -> why the word on it does not apply; `answers` are those of the prompts that are asked now."""
    found = {}
    for prompt_id, standing in words.standing.items():
        why = standing.why_not(answers[prompt_id]) if prompt_id in answers else NOT_ASKED
        if why:
            found[prompt_id] = why
    return found


def _overruled(evidence: Evidence) -> Evidence:
    """Without a pair, the judge's ruling kept beside."""
    kept = Ruling.model_validate({name: getattr(evidence, name) for name in Ruling.model_fields})
    nothing: dict[str, object] = {"chosen": None, "rejected": None, "dropped": None, "confidence": None, "weighed": {}}
    return evidence.model_copy(update={**nothing, "judged": kept})


def _not_taken_back(lines: Iterable[L]) -> dict[str, list[L]]:
    """Prompt -> its lines, without each that an `undo` took back."""
    stacks: dict[str, list[L]] = {}
    for line in lines:
        stack = stacks.setdefault(line.prompt_id, [])
        if "undo" not in (getattr(line, "vote", ""), getattr(line, "kind", "")):
            stack.append(line)
        elif stack:
            stack.pop()
    return {prompt_id: stack for prompt_id, stack in stacks.items() if stack}


def _of_vote(vote: Vote) -> Standing:
    sides = {"first": (vote.first, vote.second), "second": (vote.second, vote.first)}
    chosen, rejected = sides.get(vote.vote, (None, None))
    shown = (vote.first, vote.second)
    return Standing(vote.prompt_id, vote.question, "vote", vote.at, chosen, rejected, shown)


def _of_choices(choices: Sequence[PairChoice]) -> Standing:
    """The last one's; the model need not give what the owner wrote."""
    last = choices[-1]
    assert last.kind != "undo"
    written = {text for choice in choices if choice.kind == "edit" for text in (choice.chosen, choice.rejected)}
    said = tuple(text for text in (last.chosen, last.rejected) if text is not None and text not in written)
    return Standing(last.prompt_id, last.question, last.kind, last.at, last.chosen, last.rejected, said)


def _lines(path: Path | None, kind: type[L], known: Collection[str]) -> tuple[list[L], int]:
    """The file's lines and how many are damaged; raises DataError for another owner's file."""
    lines, damaged = read_survivors(path, kind)
    if damaged:
        numbers = ", ".join(map(str, damaged[:5])) + (", ..." if len(damaged) > 5 else "")
        say(
            f"warning: {path}: {len(damaged)} of {len(lines) + len(damaged)} lines cannot be read and count for "
            f"nothing (line {numbers}); the others count. Mend or remove them with any editor"
        )
    if lines and not any(line.prompt_id in known for line in lines):
        raise DataError(
            f"{path}: none of its {len(lines)} lines is about a question that your data asks (the first: "
            f"{lines[0].question[:60]!r}): it is another owner's, or from before your data changed. Move it away, and "
            f"it is kept: mv {path} {path}.other"
        )
    return lines, len(damaged)
