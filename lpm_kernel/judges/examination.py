"""Whether a judge can be believed: its verdicts on cases whose truth is known, made of the owner's own notes."""

from lpm_kernel.records import Record

Interval = tuple[float, float]
"""95 % bounds, the lower one first."""


class CasesJudged(Record):
    """What became of the cases of one kind, or of all; each is asked in both orders."""

    cases: int
    right: int
    wrong: int
    tied: int
    """Both orders said tie, or they disagreed."""
    failed: int


class Examination(Record):
    """`examination.json`: what a judge is worth on this owner's notes."""

    judge: str
    """All that its verdicts depend on, as `Judge.name`."""
    label: str
    """As people call it."""
    questions: int
    all: CasesJudged
    """The cases that have a better answer."""
    kinds: dict[str, CasesJudged]
    """By kind of case; `paraphrase` is right when it is a tie."""
    tasks: dict[str, CasesJudged]
    accuracy: float | None
    """Right among those that have a better answer, ties as half; None without a case."""
    accuracy_ci95: Interval | None
    """Clustered by question."""
    flips: float | None
    """Share of comparisons whose two orders disagree."""
    ties: float | None
    """Share of ties among the cases that have a better answer."""
    longer: float | None
    """Share of decided comparisons between two right answers that the longer one won; None without any."""
    longer_ci95: Interval | None
    passed: bool
    faults: tuple[str, ...]
    """Why it did not pass, each a sentence with its figure and bound."""
    accepted: bool = False
    """The owner believes it all the same (--accept-judge)."""
