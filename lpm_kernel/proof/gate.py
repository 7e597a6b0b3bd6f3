"""The gate: rules of which each must hold before the new model is promoted. docs/evidence.md tells why each is there.

A rule that cannot be measured (`holds` is None) stands in the way only where nothing else can answer for it: a win
rate, and a judge that is known. The others guard against harm that nobody has looked for then, and the reason says so.
"""

import math
from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from lpm_kernel.config import Config
from lpm_kernel.proof.evaluation import (
    Change,
    Evaluation,
    FactRecall,
    Measures,
    OwnersPreference,
    Rule,
    RuleName,
)
from lpm_kernel.records import Interval

MUST_BE_KNOWN: frozenset[RuleName] = frozenset({"measurable", "judge", "win_rate", "length"})
"""Rules that stand in the way also where they cannot be measured."""
WITHOUT_A_VERDICT: frozenset[RuleName] = frozenset({"measurable", "judge"})
"""Rules without which the figures mean nothing: where one of them does not hold, nothing was measured."""
MOST_LOST = 0.1
"""By which what any model does may get worse for sure: the bound that favours the new model is held to it."""
SEEN = 0.005
"""What is less is 0.00 with two decimals."""
ROUND_OFF = 6
"""Decimals of hundredths beyond which a figure is the machine's rounding."""
EMBEDDED = "reference"
"""The kind of judge that sees facts and letters alone."""


class GateConfig(Config):
    """What the new model must show."""

    operational = frozenset({"require_promote"})

    min_questions: int = Field(8, ge=1, description="With fewer held-out questions the old model stays.")
    min_win_rate: float = Field(0.5, ge=0, le=1, description="The win rate's lower 95 % bound must exceed this.")
    max_right_loss: float = Field(
        0.1, ge=0, le=1, description="Right facts must not fall for sure, nor perhaps (95 % bounds) by more than this."
    )
    max_wrong_gain: float = Field(
        0.1, ge=0, le=1, description="Wrong facts must not rise for sure, nor perhaps (95 % bounds) by more than this."
    )
    min_retained: float = Field(0.5, ge=0, le=1, description="Least share of the update that must survive rounding.")
    require_promote: bool = Field(False, description="Exit with code 1 when the old model stays.")
    max_invalid: float = Field(0.3, ge=0, le=1, description="Largest share of comparisons without a verdict.")


def decide(measures: Measures, config: GateConfig) -> Evaluation:
    """Promote when no rule stands against the new model."""
    rules = (
        _measurable(measures, config),
        _judge(measures),
        _win_rate(measures, config),
        _facts(measures, config),
        _length(measures, config),
        _unanswerable(measures),
        _general(measures),
        _export(measures, config),
        _owner(measures.owner),
    )
    against = [rule for rule in rules if _stands_against(rule)]
    unknown = any(rule.holds is None or rule.name in WITHOUT_A_VERDICT for rule in against)
    finding: Literal["better", "not better", "cannot be measured"] = (
        "better" if not against else "cannot be measured" if unknown else "not better"
    )
    merits = [rule for rule in rules if rule.name in ("win_rate", "facts") and rule.holds]
    return Evaluation(
        **dict(measures),
        decision="keep" if against else "promote",
        finding=finding,
        reasons=tuple(rule.reason for rule in against or merits),
        rules=rules,
        to_measure=" ".join(_cures(measures, config)) if finding == "cannot be measured" else "",
    )


def _stands_against(rule: Rule) -> bool:
    return rule.holds is False or (rule.holds is None and rule.name in MUST_BE_KNOWN)


# The rules ------------------------------------------------------------------------------------------------------------


def _measurable(measures: Measures, config: GateConfig) -> Rule:
    """Something to measure by: facts, a language model that passed its examination, or the owner's votes."""
    asked, known, needed = measures.prompts, _questions_with_facts(measures), config.min_questions
    failed = _failed_share(measures)
    if asked < needed:
        return _rule("measurable", False, asked, needed, f"{asked} held-out questions, at least {needed} are needed")
    if failed > config.max_invalid:
        told = f"{failed:.0%} of the comparisons have no verdict, at most {config.max_invalid:.0%} may lack one"
        return _rule("measurable", False, failed, config.max_invalid, told)
    told = f"{known} of {asked} held-out questions ask for facts that only their notes tell"
    if known >= needed:
        return _rule("measurable", True, known, needed, f"{told}, at least {needed} are needed")
    if measures.agreement and measures.agreement.kappa_ci95 and measures.agreement.kappa_ci95[0] > 0:
        votes = f"the judge agrees with the owner's {measures.agreement.votes} blind votes beyond chance"
        return _rule("measurable", True, known, needed, f"{told}, but {votes}")
    if _reads(measures):
        return _rule("measurable", True, known, needed, f"{told}, but the judge reads, and passed its examination")
    blind = "the embedded judge sees facts alone" if _is_embedded(measures) else "the judge passed no examination"
    return _rule("measurable", False, known, needed, f"{told}, where at least {needed} are needed, and {blind}")


def _owner(votes: OwnersPreference | None) -> Rule:
    """What the owner prefers, blind, no judge overrules."""
    if votes is None:
        return _rule("owner", None, None, None, "the owner gave no blind vote on these answers (lpm blind --models)")
    prefers_old = votes.before > votes.after and votes.is_sure
    told = (
        f"of the owner's blind votes {votes.after} prefer the new model, {votes.before} the old one, {votes.ties} tie"
    )
    return _rule("owner", not prefers_old, votes.chance, None, told)


def _judge(measures: Measures) -> Rule:
    """Who cannot tell planted truth from error, cannot tell which model is better."""
    found = measures.examination
    if found is None:
        return _rule("judge", None, None, None, f"the judge {measures.judge.label} was not examined")
    figure = found.accuracy_ci95[0] if found.accuracy_ci95 else None
    told = found.sentence.rstrip(".")
    if measures.judged_pairs_too:
        told += "; it made the pairs too, so what it likes without reason was trained and is rewarded here"
    return _rule("judge", found.is_believed, figure, 0.5, told)


def _win_rate(measures: Measures, config: GateConfig) -> Rule:
    """More wins than chance gives."""
    wins, least = measures.win_rate, config.min_win_rate
    return _above("win_rate", "win rate", wins.rate, wins.ci95, least)


def _facts(measures: Measures, config: GateConfig) -> Rule:
    """No fewer right facts, and no more wrong ones."""
    answers, recall, most = measures.answers, measures.fact_recall, config.max_wrong_gain
    if answers is None or answers.wrong.ci95_delta is None:
        return _rule("facts", None, None, most, "too few questions ask for facts")
    harms = [
        *_harms("right facts", answers.right, -1, config.max_right_loss),
        *_harms("fact recall", recall, -1, config.max_right_loss),
        *_harms("wrong facts", answers.wrong, 1, most),
    ]
    told = f"right facts {_moved(answers.right)}, wrong {_moved(answers.wrong)}, fact recall {_moved(recall)}"
    return _rule("facts", not harms, answers.wrong.ci95_delta[1], most, "; ".join([told, *harms]))


def _harms(what: str, change: Change | FactRecall, worse: int, most: float) -> Iterator[str]:
    """Why a figure may be worse: for sure, or perhaps by more than `most`. `worse` is the sign of what is worse."""
    if change.ci95_delta is None:
        return
    least, greatest = sorted(worse * bound for bound in change.ci95_delta)
    verb = "rise" if worse > 0 else "fall"
    if least > 0:
        yield f"{what} {verb} for sure, by {_at_least(least)} at least"
    elif greatest > most:
        yield f"{what} may {verb} by {_at_most(greatest)}, where {most:g} is allowed"


def _length(measures: Measures, config: GateConfig) -> Rule:
    """The wins are not those of longer (or shorter) answers."""
    found = measures.like_length
    if found is None:
        return _rule("length", None, None, config.min_win_rate, "the answers' lengths were not compared")
    rule = _above("length", "win rate at like length", found.rate, found.ci95, config.min_win_rate)
    told = f"{rule.reason} (the new answer is the longer one in {_shown(found.after_longer)} of the comparisons"
    taken = f", the longer one wins {_shown(found.longer_wins)})" if found.longer_wins is not None else ")"
    return rule.model_copy(update={"reason": told + taken})


def _unanswerable(measures: Measures) -> Rule:
    """What no note tells is not answered with another note's facts more often."""
    found = measures.probes.unanswerable
    if found is None or found.wrong.ci95_delta is None:
        return _rule("unanswerable", None, None, 0.0, "too few questions that no note answers were asked")
    bounds = found.wrong.ci95_delta
    told = f"wrong facts where no note knows {_moved(found.wrong)}, 95 % bounds of the change {_bounds(bounds)}"
    return _rule("unanswerable", bounds[0] <= 0, bounds[0], 0.0, told if bounds[0] <= 0 else f"{told}: a rise for sure")


def _general(measures: Measures) -> Rule:
    """What any model does is not lost: none of the figures got worse for sure, by more than the margin."""
    found = measures.probes.general
    if found is None:
        return _rule("general", None, None, None, "no neutral instruction was asked")
    worse = {
        "the language of the answers": _loss(found.language, -1),
        "repetition": _loss(found.repetition, 1),
        "refused, empty or cut answers": _loss(found.refusals, 1),
    }
    most = max(worse.values())
    told = ", ".join(f"{name}: worse by {_at_least(loss)} at least" for name, loss in worse.items() if loss > MOST_LOST)
    return _rule("general", not told, most, MOST_LOST, told or "neutral instructions are answered as before")


def _loss(change: Change, sign: int) -> float:
    """By how much a figure got worse for sure: its change at the bound that favours the new model."""
    if change.ci95_delta is None:
        return 0.0
    return max(0.0, min(sign * bound for bound in change.ci95_delta))


def _export(measures: Measures, config: GateConfig) -> Rule:
    """What is served is what was trained, and the update survived."""
    retained = measures.update_retained
    if retained is None:
        return _rule("export", None, None, config.min_retained, "merged elsewhere, so what survived is not known")
    if retained.projection is None:
        return _rule("export", False, 0.0, config.min_retained, "the adapter changes nothing")
    told = f"{retained.projection:.0%} of the update survived rounding, at least {config.min_retained:.0%} must"
    return _rule("export", retained.projection >= config.min_retained, retained.projection, config.min_retained, told)


# What would make it measurable ----------------------------------------------------------------------------------------


def _cures(measures: Measures, config: GateConfig) -> Iterator[str]:
    """Sentences, each a next move."""
    found = measures.examination
    if measures.prompts < config.min_questions:
        yield "Add notes, or hold out more of them (--held-out-share of prepare)."
    if _failed_share(measures) > config.max_invalid:
        yield "Take a judge that answers as it is asked: a stronger --judge-model, or --judge reference."
    if found is None:
        yield "Have the judge examined: lpm judge exam."
    elif not found.is_believed:
        yield found.to_examine or "Take another judge, or believe this one all the same: --accept-judge."
    if _questions_with_facts(measures) < config.min_questions and not _reads(measures):
        yield (
            "Take a language model as judge (--judge openai), show by your votes that this one is right (lpm blind), "
            "or add notes that each tell something of their own: a name, a place, a number."
        )


# Words and numbers ----------------------------------------------------------------------------------------------------


def _rule(name: RuleName, holds: bool | None, figure: float | None, bound: float | None, reason: str) -> Rule:
    return Rule(name=name, holds=holds, figure=figure, bound=bound, reason=reason)


def _above(name: RuleName, what: str, rate: float | None, bounds: Interval | None, least: float) -> Rule:
    told = f"{what} {_shown(rate)}, 95 % bounds {_bounds(bounds)}"
    if bounds is None:
        return _rule(name, None, rate, least, f"{told}: too few verdicts")
    holds = bounds[0] > least
    return _rule(name, holds, rate, least, told if holds else f"{told}: not above {least:g} for sure")


def _questions_with_facts(measures: Measures) -> int:
    return measures.answers.questions if measures.answers else measures.fact_recall.questions


def _failed_share(measures: Measures) -> float:
    wins = measures.win_rate
    comparisons = wins.after_wins + wins.before_wins + wins.ties + wins.invalid
    return wins.invalid / comparisons if comparisons else 0.0


def _is_embedded(measures: Measures) -> bool:
    return measures.judge.kind == EMBEDDED


def _reads(measures: Measures) -> bool:
    """Whether the judge is a language model that is believed."""
    return not _is_embedded(measures) and measures.examination is not None and measures.examination.is_believed


def _moved(change: Change | FactRecall) -> str:
    return f"{_shown(change.before)} -> {_shown(change.after)}"


def _shown(value: float | None) -> str:
    """Two decimals, or as many as it takes to be seen."""
    if value is None:
        return "unknown"
    return f"{value:.2f}" if value == 0 or abs(value) >= SEEN else f"{value:.1g}"


def _at_least(value: float) -> str:
    """Rounded down, but never to nothing."""
    hundredths = math.floor(round(100 * value, ROUND_OFF))
    return _shown(hundredths / 100 if hundredths else value)


def _at_most(value: float) -> str:
    """Rounded up."""
    return _shown(math.ceil(round(100 * value, ROUND_OFF)) / 100)


def _bounds(bounds: Interval | None) -> str:
    return "unknown" if bounds is None else f"{_shown(bounds[0])} to {_shown(bounds[1])}"
