"""`evaluation.json`: what was measured of the models before and after, and what was decided on it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from pydantic import field_validator

from lpm_kernel.export.fidelity import Fidelity
from lpm_kernel.judges.examination import Examination
from lpm_kernel.models.merge_report import UpdateRetained
from lpm_kernel.proof.statistics import mean
from lpm_kernel.records import Answer, Prompt, Record, Verdict

Interval = tuple[float, float]
"""95 % bounds, the lower one first."""


class WinRate(Record):
    """Comparisons of the new model's answers with the old one's, each in both orders."""

    after_wins: int
    before_wins: int
    ties: int
    invalid: int
    """Comparisons without a verdict; they count as nothing."""
    rate: float | None
    """Mean over questions of the share that the new model won, ties as half; None without a verdict."""
    ci95: Interval | None


class FactRecall(Record):
    """Mean share of the questions' facts that the answers tell, 0 to 1."""

    questions: int
    """Those with facts to tell."""
    before: float | None
    after: float | None
    ci95_delta: Interval | None
    """Of after minus before."""


class Change(Record):
    """A figure of both models; None where nothing was measured."""

    before: float | None
    after: float | None
    questions: int | None = None
    """Those that it was measured on."""
    ci95_delta: Interval | None = None
    """Of after minus before."""


class AnswerShares(Record):
    """Mean shares of what the answers tell, right + wrong + vague = 1."""

    questions: int
    right: Change
    """Facts that are asked for, among the facts told."""
    wrong: Change
    """Other facts: another note's, refuted by the bio, or invented."""
    vague: Change
    """Answers that tell no fact."""


class Steering(Record):
    """Contested questions: the notes tell two versions, and the bio confirms one of them."""

    questions: int
    bios_version: Change
    """Share of the bio's version among the answers that tell one of the two."""
    told: Change
    """Share of the answers that tell one of the two."""


class General(Record):
    """Neutral instructions, which have nothing to do with the owner."""

    questions: int
    length: Change
    """Mean characters of an answer."""
    language: Change
    """Share of the answers in the script of the instruction."""
    repetition: Change
    """Mean share of an answer that repeats itself."""
    refusals: Change
    """Share of empty, cut or refusing answers."""


class Probes(Record):
    """Questions beside those of the held-out notes, each kind apart; None where there is none of the kind."""

    contested: Steering | None = None
    unanswerable: AnswerShares | None = None
    """Right is impossible: what counts is that `wrong` does not grow."""
    paraphrase: AnswerShares | None = None
    general: General | None = None


class Rule(Record):
    """One of the gate's rules, and whether it holds."""

    name: Literal["win_rate", "facts", "measurable", "length", "unanswerable", "general", "export", "judge"]
    holds: bool | None
    """None: it cannot be measured here."""
    figure: float | None
    bound: float | None
    reason: str
    """A sentence with the figure and the bound."""


class Model(Record):
    """A GGUF that answered."""

    name: str
    """As the file calls its model; empty where it does not."""
    file: str
    """Its name and that of its folder."""
    sha256: str
    """Of the file, as `sha256sum` tells it."""


class Models(Record):
    """What was compared."""

    before: Model
    after: Model


class JudgeIdentity(Record):
    """Who judged; what is None was not recorded."""

    label: str
    """As people call it: the model that was asked, or the embedded judge's name."""
    kind: str | None = None
    """As `--judge` names it."""
    name: str | None = None
    """All that its verdicts depend on."""
    place: str | None = None
    """Where it was asked, as host, port and path; empty for one within this program."""
    is_remote: bool | None = None
    """Whether questions, answers and the bio left this machine for it."""


class Origin(Record):
    """What was compared, by whom and when; what is None was not recorded."""

    run: str | None = None
    """The run's folder in `runs/`, with its settings and its log."""
    finished_at: datetime | None = None
    models: Models | None = None
    judge: JudgeIdentity
    bio_sha256: str | None = None
    """Of the bio's file, as `sha256sum` tells it."""

    @field_validator("judge", mode="before")
    @classmethod
    def _from_label(cls, value: object) -> object:
        """Older files hold the judge's label alone."""
        return {"label": value} if isinstance(value, str) else value


class Measures(Origin):
    """All that was measured."""

    prompts: int
    """Held-out questions asked."""
    samples: int
    """Answers of each model to each."""
    win_rate: WinRate
    fact_recall: FactRecall
    stray_facts: Change
    """Mean names and numbers in an answer that are not called for."""
    personalisation_lift: Change
    """Share of comparisons won by the owner's bio minus the share won by a stranger's."""
    fidelity: Fidelity | None
    """Of the new model's GGUF; None where it was exported elsewhere."""
    update_retained: UpdateRetained | None
    """None where the new model was merged elsewhere."""
    answers: AnswerShares | None = None
    """On the held-out questions; None in older files."""
    win_rate_like_length: WinRate | None = None
    """Among comparisons of answers of like length."""
    probes: Probes = Probes()
    examination: Examination | None = None
    """Of the judge; None where it was not examined."""


class Evaluation(Measures):
    """What was measured, and what follows."""

    decision: Literal["promote", "keep"]
    finding: Literal["better", "not better", "cannot be measured"] | None = None
    """None in older files."""
    reasons: tuple[str, ...]
    rules: tuple[Rule, ...] = ()
    to_measure: str = ""
    """What would make it measurable, where it is not."""


@dataclass(frozen=True)
class FactsTold:
    """The facts in one answer, as case-folded words."""

    told: frozenset[str]
    """Those that the question asks for."""
    strays: frozenset[str]
    """Names and numbers that are not called for."""


@dataclass(frozen=True)
class Trial:
    """One held-out question with the answers of both models and the verdicts on each pair of samples."""

    prompt: Prompt
    before: list[Answer]
    after: list[Answer]
    verdicts: list[Verdict]
    """First is before, second is after."""
    stranger_verdicts: list[Verdict]
    facts: frozenset[str]
    """Those that the question asks for."""
    facts_before: list[FactsTold]
    """One an answer, as `before`."""
    facts_after: list[FactsTold]

    @property
    def recall(self) -> tuple[float, float] | None:
        """Mean share of the question's facts told, before and after; None for a question without facts."""
        if not self.facts:
            return None
        return self._mean_told(self.facts_before), self._mean_told(self.facts_after)

    @property
    def strays(self) -> tuple[float, float]:
        """Mean names and numbers in an answer that are not called for, before and after."""
        return _mean_strays(self.facts_before), _mean_strays(self.facts_after)

    def _mean_told(self, answers: Sequence[FactsTold]) -> float:
        return mean([len(answer.told) / len(self.facts) for answer in answers])


def _mean_strays(answers: Sequence[FactsTold]) -> float:
    return mean([len(answer.strays) for answer in answers])
