"""The blind test: which of two answers the owner prefers, asked without a word of who gave them or what a judge said.

The questions are made of the judge's evidence, one a prompt: the pairs that would train, the least certain first, and
every third time a comparison that the judge left open, those whose two orders disagree first. From the votes on the
pairs follows how far owner and judge agree (`agreement.py`); every vote is a pair of its own (`judges/choices.py`).
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lpm_kernel.chance import at_least
from lpm_kernel.files import key_of
from lpm_kernel.judges.base import swapped
from lpm_kernel.judges.choices import as_judged, not_taken_back, read_lines
from lpm_kernel.judges.pairing import distinct
from lpm_kernel.proof.evaluation import OwnersPreference
from lpm_kernel.records import Evidence, ModelVote, Outcome, Prompt, Verdict

PAIRS_IN_A_ROW = 2
"""Pairs of the judge between two comparisons that it left open: agreement is measured on the pairs alone."""
UNKNOWN_DOUBT = 0.5
Said = Literal["first", "second", "tie"]


@dataclass(frozen=True)
class Shown:
    """Two answers to one prompt in the order in which they are shown."""

    prompt: Prompt
    first: str
    second: str


@dataclass(frozen=True)
class BlindQuestion(Shown):
    """Of one model's answers, which a judge compared."""

    trains: bool
    """Whether the judge made a pair of these two."""
    judge: Outcome
    """Its verdict, in the order shown; nothing of it is told before the vote."""
    doubt: float
    """0 to 1: how uncertain the judge is."""


def blind_questions(prompts: Mapping[str, Prompt], evidence: Iterable[Evidence], seed: int) -> list[BlindQuestion]:
    """A question for each prompt that has two different answers with a verdict, in the order of asking.

    The same evidence and seed give the same questions in the same order, with the same answer shown first.
    """
    found = [q for e in evidence if e.prompt_id in prompts and (q := _question(as_judged(e), prompts, seed))]
    found.sort(key=lambda question: (-question.doubt, key_of(seed, question.prompt.id)))
    pairs = iter([question for question in found if question.trains])
    open_ones = iter([question for question in found if not question.trains])
    return list(_in_turn(pairs, open_ones))


def _in_turn(pairs: Iterator[BlindQuestion], others: Iterator[BlindQuestion]) -> Iterator[BlindQuestion]:
    for count, pair in enumerate(pairs, 1):
        yield pair
        if count % PAIRS_IN_A_ROW == 0 and (other := next(others, None)):
            yield other
    yield from others


def _question(evidence: Evidence, prompts: Mapping[str, Prompt], seed: int) -> BlindQuestion | None:
    usable = set(distinct(evidence.answers))
    judged = [v for v in evidence.verdicts if v.outcome != "failed" and {v.first, v.second} <= usable]
    pair = {evidence.chosen, evidence.rejected}
    of_pair = [v for v in judged if {v.first, v.second} == pair]
    if not judged or (evidence.chosen is not None and not of_pair):
        return None
    trains = bool(of_pair)
    doubt, verdict = max(((_doubt(evidence, v), v) for v in of_pair or judged), key=lambda found: found[0])
    turned = int(key_of("side", seed, evidence.prompt_id)[:8], 16) % 2 == 1
    one, two = (verdict.second, verdict.first) if turned else (verdict.first, verdict.second)
    texts = [answer.text for answer in evidence.answers]
    outcome = swapped(verdict.outcome) if turned else verdict.outcome
    return BlindQuestion(prompts[evidence.prompt_id], texts[one], texts[two], trains, outcome, doubt)


def _doubt(evidence: Evidence, verdict: Verdict) -> float:
    """Of a pair, by its confidence; of a comparison left open, whether the two orders disagree; else by strength."""
    if evidence.chosen is not None and evidence.confidence is not None:
        return 2 * (1 - evidence.confidence)
    if verdict.outcome == "tie":
        return 1.0 if len(set(verdict.orders)) > 1 else 0.0
    if verdict.strength is not None:
        return 1 - verdict.strength
    return UNKNOWN_DOUBT if verdict.scores is None else 1 - abs(verdict.scores[0] - verdict.scores[1])


@dataclass(frozen=True)
class ModelQuestion(Shown):
    """Of two models' answers."""

    models: tuple[str, str]
    """Who gave the first and the second: SHA-256 of the GGUF; nothing of it is told before the vote."""


def model_question(prompt: Prompt, answers: Mapping[str, str], seed: int) -> ModelQuestion | None:
    """From model -> its answer, the order mixed by seed; None where both say the same."""
    one, two = sorted(answers, reverse=int(key_of("side", seed, prompt.id, *answers)[:8], 16) % 2 == 1)
    if answers[one].split() == answers[two].split():
        return None
    return ModelQuestion(prompt, answers[one], answers[two], (one, two))


def preference(votes_path: Path | None, before: str, after: str) -> OwnersPreference | None:
    """What the owner's blind votes say of two models, by SHA-256 of the GGUF; None without a vote on these two."""
    votes, _ = read_lines(votes_path, ModelVote)
    return preference_of((stack[-1] for stack in not_taken_back(votes).values()), before, after)


def preference_of(votes: Iterable[ModelVote], before: str, after: str) -> OwnersPreference | None:
    """The same of the votes in force."""
    won: Counter[str] = Counter()
    for vote in votes:
        if set(vote.models) == {before, after} and vote.vote != "skip":
            sides = dict(zip(("first", "second"), vote.models, strict=True))
            won[sides.get(vote.vote, "tie")] += 1
    if not won:
        return None
    new, old = won[after], won[before]
    return OwnersPreference(after=new, before=old, ties=won["tie"], chance=at_least(max(new, old), new + old, 0.5))


def told_preference(found: OwnersPreference | None) -> str:
    """What it is and what it means, in a sentence."""
    if found is None:
        return "no vote is about these two models yet"
    told_votes = f"you preferred the new model {found.after} times, the old one {found.before} times, ties {found.ties}"
    chance = f"a coin does so or better {found.chance:.1%} of the time (exact sign test, one-sided)"
    if not found.is_sure:
        return f"{told_votes}: that tells neither from the other, as {chance}"
    return f"{told_votes}: you prefer the {'new' if found.after > found.before else 'old'} one; {chance}"
