"""`evaluation.json`: what was measured of the models before and after, and what was decided on it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from pydantic import field_validator

from lpm_kernel.chance import ALPHA, mean
from lpm_kernel.export.fidelity import Fidelity
from lpm_kernel.models.merge_report import UpdateRetained
from lpm_kernel.owner.facts import Told
from lpm_kernel.records import Agreement, Answer, Examination, Interval, Prompt, Record, Verdict


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


class LikeLength(Record):
    """The win rate as it would be if the answers of both models were of like length, and what length explains of it.

    A comparison that the facts told decide as the judge did is none of length's, however long the answers are.
    """

    after_longer: float | None
    """Share of all comparisons in which the new model's answer is the longer one, equal ones as half."""
    longer_wins: float | None
    """Share of decided comparisons, but those that facts decide, which the longer answer won; None without any."""
    by_facts: int
    """Comparisons that the facts told decide as the judge did."""
    rate: float | None
    """The win rate without what the judge gives to length."""
    ci95: Interval | None


class CorrectedRate(Record):
    """Share of the new model's answers that are better, ties as half, as the judge's measured errors let one infer.

    Rogan and Gladen 1978; Lee et al. 2025, "How to Correctly Report LLM-as-a-Judge Evaluations". For the reader alone:
    the gate rests on the win rate as it was judged.
    """

    rate: float
    ci95: Interval
    """With the examination's own uncertainty in it."""


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
    """Share of the facts told that the question asks for."""
    wrong: Change
    """Share of the facts told that are another note's, refuted by the bio, or invented."""
    vague: Change
    """Share of the answers that tell no fact."""


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


RuleName = Literal["measurable", "judge", "win_rate", "facts", "length", "unanswerable", "general", "export", "owner"]


class Rule(Record):
    """One of the gate's rules, and whether it holds."""

    name: RuleName
    holds: bool | None
    """None: it cannot be measured here, which docs/evidence.md says of each rule whether it stands in the way."""
    figure: float | None
    bound: float | None
    """What the figure was held to; the reason says from which side."""
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
    names: tuple[str, str] | None = None
    """What before and after are called, where one is compared with the other and nothing is promoted (lpm compare)."""
    judge: JudgeIdentity
    bio_sha256: str | None = None
    """Of the bio's file, as `sha256sum` tells it."""

    @field_validator("judge", mode="before")
    @classmethod
    def _from_label(cls, value: object) -> object:
        """Older files hold the judge's label alone."""
        return {"label": value} if isinstance(value, str) else value


class OwnersPreference(Record):
    """The owner's blind votes on answers of the two models, a question each."""

    after: int
    before: int
    ties: int
    chance: float
    """How often a coin gives the one who leads so many of the votes that are no ties, or more."""

    @property
    def is_sure(self) -> bool:
        """Whether it can hardly be chance."""
        return self.chance <= ALPHA


class Measures(Origin):
    """All that was measured."""

    prompts: int
    """Held-out questions asked."""
    notes: int | None = None
    """Notes that they rest on; None in older files."""
    samples: int
    """Answers of each model to each."""
    win_rate: WinRate
    fact_recall: FactRecall
    stray_facts: Change
    """Mean wrong facts in an answer; in older files, names and numbers that are not called for."""
    personalisation_lift: Change
    """Share of comparisons won by the owner's bio minus the share won by a stranger's."""
    fidelity: Fidelity | None = None
    """Of the new model's GGUF; None where it was exported elsewhere."""
    update_retained: UpdateRetained | None = None
    """None where the new model was merged elsewhere."""
    answers: AnswerShares | None = None
    """On the held-out questions; None in older files."""
    like_length: LikeLength | None = None
    """None in older files."""
    corrected: CorrectedRate | None = None
    """None where the judge was not examined, or is not sure enough for a correction."""
    probes: Probes = Probes()
    examination: Examination | None = None
    """Of the judge; None where it was not examined."""
    judged_pairs_too: bool | None = None
    """Whether the judge of this evaluation also made the pairs that the new model was trained on; None: not known."""
    agreement: Agreement | None = None
    """Of the judge's pairs with the owner's blind votes (`lpm blind`); None where there are no votes."""
    owner: OwnersPreference | None = None
    """None without a blind vote of the owner on answers of these two models."""


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
    facts_before: list[Told]
    """One an answer, as `before`."""
    facts_after: list[Told]

    @property
    def note(self) -> str:
        """What its question rests on, as the split takes it: the first note, else the question itself."""
        return self.prompt.notes[0] if self.prompt.notes else self.prompt.id

    @property
    def recall(self) -> tuple[float, float] | None:
        """Mean share of the question's facts told, before and after; None for a question without facts."""
        if not self.facts:
            return None
        return self._mean_told(self.facts_before), self._mean_told(self.facts_after)

    @property
    def strays(self) -> tuple[float, float]:
        """Mean wrong facts in an answer, before and after."""
        return _mean_wrong(self.facts_before), _mean_wrong(self.facts_after)

    def _mean_told(self, answers: Sequence[Told]) -> float:
        return mean([len(answer.right & self.facts) / len(self.facts) for answer in answers])


def _mean_wrong(answers: Sequence[Told]) -> float:
    return mean([len(answer.wrong) for answer in answers])
