"""How far the owner's blind votes and the judge's pairs agree, and whether the judge's pairs may train by that."""

from collections import Counter
from collections.abc import Iterable, Sequence

from pydantic import Field

from lpm_kernel.chance import exact_bounds
from lpm_kernel.config import Config
from lpm_kernel.judges.choices import Words, as_judged
from lpm_kernel.records import Agreement, Evidence, Outcome, Vote

STEPS = ((0.8, "it prefers what you prefer"), (0.6, "it mostly prefers what you prefer"))
"""From which kappa on, after Landis and Koch 1977."""


class AgreementConfig(Config):
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


def agreement_of(evidence: Iterable[Evidence], words: Words, config: AgreementConfig) -> Agreement:
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


def agreement(table: Sequence[tuple[Outcome, Outcome]], config: AgreementConfig) -> Agreement:
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


def told(found: Agreement, config: AgreementConfig) -> str:
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


def _meaning(found: Agreement, config: AgreementConfig) -> str:
    assert found.kappa is not None
    if found.believed is None:
        return f"too few to follow anything from, {config.min_votes} are needed"
    if not found.believed:
        return f"below {config.min_kappa:g}, so what the judge prefers is not what you prefer"
    return next(
        (words for least, words in STEPS if found.kappa >= least), "it prefers what you prefer more than chance"
    )


def refusal(found: Agreement, config: AgreementConfig) -> str:
    """Why the judge's pairs do not train, and what to do."""
    return (
        f"{told(found, config)}. Its pairs do not train; yours do. Next: a better judge (--judge, --judge-model), more "
        "votes (lpm blind --questions 50), or its pairs all the same: --accept-judge-pairs"
    )
