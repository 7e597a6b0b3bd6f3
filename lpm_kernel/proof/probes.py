"""What the answers to the probes say in numbers, each kind apart. Intervals are over questions, not over samples."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import regex

from lpm_kernel.chance import interval, mean
from lpm_kernel.owner.facts import Facts
from lpm_kernel.owner.language import language_of, script_of
from lpm_kernel.owner.probes import general
from lpm_kernel.proof.evaluation import AnswerShares, Change, General, Probes, Steering
from lpm_kernel.records import Answer, Probe, ProbeKind

GRAM = 4
"""Words of a sequence whose return is a repetition."""
WORD = regex.compile(r"[\p{Han}\p{Hiragana}\p{Katakana}ー\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]\p{M}*|[\p{L}\p{M}\p{N}]+")
"""A character counts as a word where no space parts words."""
Share = Callable[[Answer], float | None]
"""What is measured of one answer; None where it says nothing of it."""


@dataclass(frozen=True)
class Tried:
    """A probe with the answers of both models."""

    probe: Probe
    before: Sequence[Answer]
    after: Sequence[Answer]


def measure_probes(tried: Sequence[Tried], facts: Facts) -> Probes:
    """A kind that was not asked, or of which nothing can be measured, is None."""
    kinds: dict[ProbeKind, list[Tried]] = {}
    for one in tried:
        kinds.setdefault(one.probe.kind, []).append(one)
    asked = [one for one in kinds.get("paraphrase", []) if facts.measure(one.probe.prompt).asked]
    return Probes(
        contested=_steering(kinds.get("contested", []), facts),
        unanswerable=_shares(kinds.get("unanswerable", []), facts),
        paraphrase=_shares(asked, facts),
        general=_general(kinds.get("general", [])),
    )


def _shares(tried: Sequence[Tried], facts: Facts) -> AnswerShares | None:
    if not tried:
        return None
    measures = {one.probe.prompt.id: facts.measure(one.probe.prompt) for one in tried}

    def change(index: int) -> Change:
        return _change(tried, lambda one: lambda a: measures[one.probe.prompt.id].told(a.text).shares[index])

    return AnswerShares(questions=len(tried), right=change(0), wrong=change(1), vague=change(2))


def _steering(tried: Sequence[Tried], facts: Facts) -> Steering | None:
    """Over the questions of which the bio confirms one version."""
    decided = [one for one in tried if facts.measure(one.probe.prompt).refuted]
    if not decided:
        return None

    def side(one: Tried) -> Share:
        return lambda answer: _side(answer, one.probe, facts)

    def told(one: Tried) -> Share:
        return lambda answer: float(_side(answer, one.probe, facts) is not None)

    return Steering(questions=len(decided), bios_version=_change(decided, side), told=_change(decided, told))


def _side(answer: Answer, probe: Probe, facts: Facts) -> float | None:
    """1 for an answer with more of the bio's version, 0 for one with more of another, None for neither."""
    measure = facts.measure(probe.prompt)
    versions = frozenset[str]().union(*facts.versions(probe.prompt))
    told = measure.told(answer.text)
    confirmed, refuted = len(told.right & versions), len(told.wrong & measure.refuted)
    return None if confirmed == refuted else float(confirmed > refuted)


def _general(tried: Sequence[Tried]) -> General | None:
    if not tried:
        return None
    language = language_of([one.probe.prompt.user for one in tried])
    refusals = general()[language].refusals if language in general() else ()

    def in_language(answer: Answer) -> float | None:
        if not answer.text.strip():
            return None
        return float(script_of(answer.text) == script and language_of([answer.text]) in (language, ""))

    script = script_of(" ".join(one.probe.prompt.user for one in tried))
    return General(
        questions=len(tried),
        length=_change(tried, lambda _: lambda answer: float(len(answer.text))),
        language=_change(tried, lambda _: in_language),
        repetition=_change(tried, lambda _: lambda answer: repetition(answer.text)),
        refusals=_change(tried, lambda _: lambda answer: float(_declines(answer, refusals))),
    )


def repetition(text: str) -> float:
    """Share of the sequences of GRAM words that were there before (seq-rep-n, arXiv 1908.04319)."""
    words = WORD.findall(text.casefold())
    grams = [tuple(words[at : at + GRAM]) for at in range(len(words) - GRAM + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def _declines(answer: Answer, refusals: Sequence[str]) -> bool:
    text = answer.text.casefold().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
    return not text.strip() or answer.finish_reason != "stop" or any(phrase in text for phrase in refusals)


def _change(tried: Sequence[Tried], of: Callable[[Tried], Share]) -> Change:
    """Means over questions of the mean over answers, and bounds of the change over the questions that tell of both."""
    means = [(_mean(map(of(one), one.before)), _mean(map(of(one), one.after))) for one in tried]
    before, after = ([side[n] for side in means if side[n] is not None] for n in (0, 1))
    deltas = [b - a for a, b in means if a is not None and b is not None]
    return Change(before=_mean(before), after=_mean(after), questions=len(deltas), ci95_delta=interval(deltas))


def _mean(values: Iterable[float | None]) -> float | None:
    told = [value for value in values if value is not None]
    return mean(told) if told else None
