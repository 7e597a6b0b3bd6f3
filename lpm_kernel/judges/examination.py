"""Whether a judge can be believed: its verdicts on cases whose truth is known, made of the owner's own notes.

It passes when it is right more often than chance where the right answer is the longer one *and* where it is the
shorter one, each by the exact sign-flip test over questions at CHANCE, and when neither place nor length decides for
it. A judge that truth says nothing to passes each of the two tests in at most CHANCE of all runs.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from pydantic import Field

from lpm_kernel.chance import chance_above
from lpm_kernel.config import Config
from lpm_kernel.errors import DataError, ServiceError
from lpm_kernel.files import read_record
from lpm_kernel.judges.base import swapped
from lpm_kernel.judges.cases import TELLING, Case, cases_of
from lpm_kernel.judges.clusters import clustered
from lpm_kernel.judges.journaled import JournaledJudge
from lpm_kernel.judges.questions import TASKS, Owner
from lpm_kernel.records import CasesJudged, Examination, StrengthBand, Verdict
from lpm_kernel.serving.concurrency import map_in_order

CHANCE = 0.005
"""Nominal error of each of the two tests against chance, one-sided."""
FEWEST = 8
"""With fewer questions even a judge that is always right could be a coin: two to the minus seventh is above CHANCE."""
TELLING_ACCURACY = 0.75
"""A judge this good that may still be a coin was asked too little."""
PLACE = 0.75
"""Largest share of its verdicts that one place may have, at the bound that favours the judge."""
LONGER = 0.8
"""The same of the longer of two right answers."""
FAILED = 0.3
"""Largest share of comparisons without a verdict."""


class ExamConfig(Config):
    """How a judge is examined."""

    exam_questions: int = Field(
        40, ge=FEWEST, le=1000, description="Questions of the judge's examination, up to six cases each, both orders."
    )
    exam_seed: int = Field(0, ge=0, description="Seed of the examination's questions.")
    accept_judge: bool = Field(
        False, description="Believe a judge that failed its examination, or cannot be examined; the evidence says so."
    )


def refuse_unbelieved(examination: Examination, cure: str) -> None:
    """Raise DataError with the sentence and its figures for a judge that is not to be believed.

    ServiceError when it is one that gives no verdicts.
    """
    if examination.is_believed:
        return
    silent = examination.failed is not None and examination.failed > FAILED
    raise (ServiceError if silent else DataError)(
        f"{examination.sentence.rstrip('.')}. It may neither make pairs nor promote. {cure}; or believe it all the "
        "same: --accept-judge, which the evidence will say"
    )


async def examine(judge: JournaledJudge, owner: Owner, config: ExamConfig) -> Examination:
    """Ask the judge cases made of the owner's items, in both orders.

    Raises ServiceError when the judge is down. Nothing is asked where there are too few questions to say anything.
    """
    questions = cases_of(owner.items, owner.facts, config.exam_questions, config.exam_seed)
    judged: list[list[Judged]] = []
    if len(questions) >= FEWEST:

        async def one(cases: list[Case]) -> list[Judged]:
            question = owner.question(cases[0].prompt)
            return [
                (case, await judge.verdict(case.prompt.id, question, [case.right, case.other], 0, 1)) for case in cases
            ]

        total = len(questions)
        judged = [found async for found in map_in_order(one, questions, total=total, width=8, label="examination")]
    found = examined(judge.judge.name, judge.judge.label, judged, len(questions), config)
    return found.model_copy(update={"owner": owner.identity})


async def examination_of(judge: JournaledJudge, owner: Owner, config: ExamConfig, on_file: Path | None) -> Examination:
    """The examination on file where it is of this judge on this owner's notes and bio, else a new one.

    It says whether the judge is accepted.
    """
    found = read_record(on_file, Examination) if on_file else None
    if found is None or (found.judge, found.owner) != (judge.judge.name, owner.identity):
        found = await examine(judge, owner, config)
    accepted = found.accepted or (config.accept_judge and not found.passed)
    return found.model_copy(update={"accepted": accepted})


Judged = tuple[Case, Verdict]
"""A case and what the judge said of it: `first` is the right answer."""


def examined(
    name: str, label: str, judged: Sequence[Sequence[Judged]], questions: int, config: ExamConfig
) -> Examination:
    """The figures of the verdicts, one sequence a question, and whether the judge passed."""
    flat = [entry for cases in judged for entry in cases]
    better = [[e for e in cases if e[0].kind != "paraphrase"] for cases in judged]
    accuracy = clustered([_hits(cases) for cases in better])
    decided = [e for cases in better for e in cases if e[1].outcome in ("first", "second")]
    valid = [verdict for _, verdict in flat if verdict.outcome != "failed"]
    first_place = clustered([_first_places(cases) for cases in judged])
    longer = clustered([_longer_wins(cases) for cases in judged])
    tied = sum(verdict.outcome == "tie" for cases in better for _, verdict in cases)
    figures = Examination(
        judge=name,
        label=label,
        questions=questions,
        all=_counted([e for cases in better for e in cases]),
        kinds=_by(flat, lambda case: case.kind),
        tasks=_by([e for cases in better for e in cases], lambda case: TASKS.get(case.prompt.variant, "memory")),
        lengths=_by([e for e in flat if e[0].kind in TELLING], _side),
        accuracy=accuracy.share if accuracy else None,
        accuracy_ci95=accuracy.ci95 if accuracy else None,
        flips=_share(sum(len(set(verdict.orders)) > 1 for verdict in valid), len(valid)),
        ties=_share(tied, sum(len(cases) for cases in better)),
        first_place=first_place.share if first_place else None,
        first_place_ci95=first_place.ci95 if first_place else None,
        longer=longer.share if longer else None,
        longer_ci95=longer.ci95 if longer else None,
        failed=_share(len(flat) - len(valid), len(flat)),
        strengths=_bands(decided),
        effective_cases=accuracy.effective if accuracy else None,
        passed=False,
        faults=(),
        accepted=config.accept_judge,
    )
    return _decided(figures, judged)


def _decided(found: Examination, judged: Sequence[Sequence[Judged]]) -> Examination:
    """With the decision and its reasons."""
    if found.questions < FEWEST:
        fault = f"the owner's notes give {found.questions} questions with a known answer, at least {FEWEST} are needed"
        return _unexaminable(found, (fault,))
    sides = {side: _against_chance(side, judged) for side in found.lengths}
    by_chance = tuple(told for told, _ in sides.values() if told)
    faults = tuple(_vices(found, judged))
    if by_chance and not faults and all(may_be_good for told, may_be_good in sides.values() if told):
        return _unexaminable(found, by_chance)
    faults = by_chance + faults
    if faults:
        return found.model_copy(update={"finding": "failed", "faults": faults})
    return found.model_copy(update={"finding": "passed", "passed": True, "accepted": False})


def _unexaminable(found: Examination, faults: tuple[str, ...]) -> Examination:
    cure = (
        f"It takes at least {FEWEST} questions, better {2 * FEWEST}, from two notes or more that each tell a fact "
        "(a name, a place, a number) which no other note tells: add notes to merged.json"
    )
    return found.model_copy(update={"finding": "cannot be examined", "faults": faults, "to_examine": cure})


def _against_chance(side: str, judged: Sequence[Sequence[Judged]]) -> tuple[str, bool]:
    """Why chance would do as well where the right answer is the longer, or the shorter, one; and whether a judge that
    is right so often may be a good one all the same. Empty where chance would not."""
    scores = []
    hits = cases = 0.0
    for question in judged:
        right, asked = _hits([e for e in question if e[0].kind in TELLING and _side(e[0]) == side])
        if asked:
            scores.append(right / asked)
            hits, cases = hits + right, cases + asked
    p = chance_above(scores, 0.5)
    if p <= CHANCE:
        return "", True
    share = hits / cases if cases else 0.0
    told = (
        f"right in {share:.0%} of {cases:.0f} cases where the right answer {_SIDES[side]}, over {len(scores)} "
        f"questions: not better than chance for sure (p = {p:.2g}, at most {CHANCE:g})"
    )
    return told, share >= TELLING_ACCURACY or not cases


def _vices(found: Examination, judged: Sequence[Sequence[Judged]]) -> Iterable[str]:
    """By what else than the truth it judges."""
    if found.failed is not None and found.failed > FAILED:
        yield f"{found.failed:.0%} of its comparisons have no verdict, at most {FAILED:.0%} may"
    if found.first_place is not None and found.first_place_ci95:
        low, high = found.first_place_ci95
        shares = {"first": (found.first_place, low), "second": (1 - found.first_place, 1 - high)}
        for place, (share, least) in shares.items():
            if least > PLACE:
                yield (
                    f"it chose the {place} place in {share:.0%} of its verdicts, for sure more than {least:.0%}, where "
                    f"{PLACE:.0%} are allowed: it judges by the place"
                )
    if found.longer is not None and found.longer_ci95 and found.longer_ci95[0] > LONGER:
        yield (
            f"of two answers that are both right it chose the longer one in {found.longer:.0%}, for sure more than "
            f"{found.longer_ci95[0]:.0%}, where {LONGER:.0%} are allowed: it judges by length"
        )
    for kind in found.kinds:
        of_kind = clustered([_hits([e for e in cases if e[0].kind == kind]) for cases in judged])
        if kind != "paraphrase" and of_kind and of_kind.ci95[1] < 0.5:
            yield f"it was right in {of_kind.share:.0%} of the cases {kind}, for sure less than half"


_SIDES = {"right_is_longer": "is the longer one", "right_is_shorter": "is the shorter one"}


def _side(case: Case) -> str:
    """Of answers of one length neither."""
    return {True: "right_is_longer", False: "right_is_shorter", None: ""}[case.right_is_longer]


def _hits(cases: Iterable[Judged]) -> tuple[float, float]:
    """Right ones, ties as half, among so many with a verdict."""
    outcomes = [verdict.outcome for _, verdict in cases if verdict.outcome != "failed"]
    return outcomes.count("first") + outcomes.count("tie") / 2, float(len(outcomes))


def _first_places(cases: Iterable[Judged]) -> tuple[float, float]:
    """Verdicts for the answer shown first, among those for an answer, in either order."""
    orders = [verdict.orders for _, verdict in cases if len(verdict.orders) == 2]
    places = [place for forward, backward in orders for place in (forward, swapped(backward))]
    first, second = places.count("first"), places.count("second")
    return float(first), float(first + second)


def _longer_wins(cases: Iterable[Judged]) -> tuple[float, float]:
    """Of decided paraphrases; the longer one is told second."""
    outcomes = [v.outcome for case, v in cases if case.kind == "paraphrase" and v.outcome in ("first", "second")]
    return float(outcomes.count("second")), float(len(outcomes))


def _counted(cases: Sequence[Judged]) -> CasesJudged:
    outcomes = [_outcome(case, verdict) for case, verdict in cases]
    names = ("right", "wrong", "tied", "failed")
    return CasesJudged(cases=len(cases), **{name: outcomes.count(name) for name in names})


def _outcome(case: Case, verdict: Verdict) -> str:
    if verdict.outcome == "failed":
        return "failed"
    if case.kind == "paraphrase":
        return "right" if verdict.outcome == "tie" else "wrong"
    return {"first": "right", "second": "wrong"}.get(verdict.outcome, "tied")


def _by(cases: Sequence[Judged], key: Callable[[Case], str]) -> dict[str, CasesJudged]:
    groups: dict[str, list[Judged]] = defaultdict(list)
    for case, verdict in cases:
        groups[key(case)].append((case, verdict))
    return {name: _counted(members) for name, members in sorted(groups.items()) if name}


def _bands(decided: Sequence[Judged]) -> tuple[StrengthBand, ...]:
    """Two halves at the median strength; one where all are as strong."""
    told = sorted((v.strength, v.outcome == "first") for _, v in decided if v.strength is not None)
    if not told:
        return ()
    middle = told[len(told) // 2][0]
    halves = [[e for e in told if e[0] < middle], [e for e in told if e[0] >= middle]]
    return tuple(
        StrengthBand(least=half[0][0], right=sum(hit for _, hit in half), wrong=sum(not hit for _, hit in half))
        for half in halves
        if half
    )


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
