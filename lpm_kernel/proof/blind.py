"""The blind test: which of two answers the owner prefers, asked without a word of who gave them or what a judge said.

The questions are made of the judge's evidence, one a prompt: the pairs that would train, the least certain first, and
every third time a comparison that the judge left open, those whose two orders disagree first. From the votes on the
pairs follows how far owner and judge agree; every vote is a pair of its own (`judges/choices.py`).
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import comb
from typing import Literal

from pydantic import Field

from lpm_kernel.config import Config
from lpm_kernel.files import key_of
from lpm_kernel.judges.base import swapped
from lpm_kernel.judges.choices import Words, as_judged
from lpm_kernel.judges.pairing import distinct
from lpm_kernel.records import Agreement, Evidence, Outcome, Prompt, Verdict, Vote

PAIRS_IN_A_ROW = 2
"""Pairs of the judge between two comparisons that it left open: agreement is measured on the pairs alone."""
UNKNOWN_DOUBT = 0.5
Said = Literal["first", "second", "tie"]


class BlindConfig(Config):
    """When the owner's blind votes keep the judge's pairs from training."""

    min_kappa: float = Field(
        0.2,
        ge=-1,
        le=1,
        description="Below this agreement beyond chance (Cohen's kappa) with your blind votes the judge's pairs do not "
        "train; votes that tie count as disagreement.",
    )
    min_votes: int = Field(
        10, ge=5, le=50, description="With fewer blind votes on the judge's pairs nothing follows from them."
    )
    accept_judge_pairs: bool = Field(
        False, description="Train on the judge's pairs although your blind votes disagree with them."
    )


@dataclass(frozen=True)
class BlindQuestion:
    """Two answers to one prompt in the order in which they are shown."""

    prompt: Prompt
    first: str
    second: str
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


# Agreement --------------------------------------------------------------------------------------------------------


def agreement_of(evidence: Iterable[Evidence], words: Words, config: BlindConfig) -> Agreement:
    """Between the owner's votes and the judge, on the votes about pairs of the judge."""
    table = [pair for e in evidence if (pair := _on_pair(as_judged(e), words.votes.get(e.prompt_id)))]
    return agreement(table, config)


def _on_pair(evidence: Evidence, vote: Vote | None) -> tuple[Outcome, Outcome] | None:
    """What owner and judge said of the judge's pair, in the order shown; None where the vote is about no such pair."""
    if vote is None or vote.vote in ("skip", "undo") or evidence.chosen is None or evidence.rejected is None:
        return None
    chosen, rejected = evidence.answers[evidence.chosen].text, evidence.answers[evidence.rejected].text
    said: Outcome = "first" if vote.vote == "first" else "second" if vote.vote == "second" else "tie"
    if (vote.first, vote.second) == (chosen, rejected):
        return said, "first"
    return (said, "second") if (vote.first, vote.second) == (rejected, chosen) else None


def agreement(table: Sequence[tuple[Outcome, Outcome]], config: BlindConfig) -> Agreement:
    """From (owner, judge) for each question."""
    votes, agreed = len(table), sum(owner == judge for owner, judge in table)
    if not votes:
        nothing = dict.fromkeys(("agreement", "agreement_ci95", "chance", "kappa", "kappa_ci95", "believed"))
        return Agreement.model_validate({"votes": 0, "agreed": 0, **nothing})
    owners, judges = Counter(owner for owner, _ in table), Counter(judge for _, judge in table)
    same = sum(owners[outcome] * judges[outcome] for outcome in owners)
    told = same < votes * votes
    chance = same / votes**2

    def beyond_chance(share: float) -> float:
        return max(-1.0, (share - chance) / (1 - chance))

    low, high = exact_bounds(agreed, votes)
    kappa = beyond_chance(agreed / votes) if told else None
    return Agreement(
        votes=votes,
        agreed=agreed,
        agreement=agreed / votes,
        agreement_ci95=(low, high),
        chance=chance,
        kappa=kappa,
        kappa_ci95=(beyond_chance(low), beyond_chance(high)) if told else None,
        believed=None if kappa is None or votes < config.min_votes else kappa >= config.min_kappa,
    )


def exact_bounds(hits: int, trials: int, level: float = 0.95) -> tuple[float, float]:
    """Bounds of a share (Clopper and Pearson 1934): where so many hits, or so few, have half of 1 - level left."""
    tail = (1 - level) / 2
    low = 0.0 if hits == 0 else _crossing(lambda share: _at_least(hits, trials, share) - tail)
    high = 1.0 if hits == trials else _crossing(lambda share: tail - (1 - _at_least(hits + 1, trials, share)))
    return low, high


def _at_least(hits: int, trials: int, share: float) -> float:
    return sum(comb(trials, k) * share**k * (1 - share) ** (trials - k) for k in range(hits, trials + 1))


def _crossing(rising: Callable[[float], float]) -> float:
    """Where a rising function of a share is zero, to 1e-9."""
    low, high = 0.0, 1.0
    while high - low > 1e-9:
        middle = (low + high) / 2
        low, high = (low, middle) if rising(middle) > 0 else (middle, high)
    return (low + high) / 2


# In words ---------------------------------------------------------------------------------------------------------

STEPS = ((0.8, "it prefers what you prefer"), (0.6, "it mostly prefers what you prefer"))
"""From which kappa on, after Landis and Koch 1977."""


def told(found: Agreement, config: BlindConfig) -> str:
    """What the agreement is and what it means, in sentences."""
    if not found.votes or found.agreement is None or found.agreement_ci95 is None:
        return "no vote is about a pair of the judge yet, so nothing is known of how far you agree"
    low, high = found.agreement_ci95
    share = (
        f"you and the judge agree on {found.agreed} of {found.votes} of its pairs ({found.agreement:.0%}, exact 95 % "
        f"bounds {low:.0%} to {high:.0%})"
    )
    if found.kappa is None or found.kappa_ci95 is None:
        return f"{share}; kappa is undefined, for both said one and the same each time: vote on more"
    kappa = (
        f"Cohen's kappa {found.kappa:.2f} ({found.kappa_ci95[0]:.2f} to {found.kappa_ci95[1]:.2f}: the bounds of the "
        f"agreement at a chance agreement of {found.chance:.0%})"
    )
    return f"{share}; {kappa}: {_meaning(found, config)}"


def _meaning(found: Agreement, config: BlindConfig) -> str:
    assert found.kappa is not None
    if found.believed is None:
        return f"too few to follow anything from, {config.min_votes} are needed"
    if not found.believed:
        return f"below {config.min_kappa:g}, so what the judge prefers is not what you prefer"
    return next(
        (words for least, words in STEPS if found.kappa >= least), "it prefers what you prefer more than chance"
    )


def refusal(found: Agreement, config: BlindConfig) -> str:
    """Why the judge's pairs do not train, and what to do."""
    return (
        f"{told(found, config)}. Its pairs do not train; yours do. Next: a better judge (--judge, --judge-model), more "
        "votes (lpm blind --questions 50), or its pairs all the same: --accept-judge-pairs"
    )
