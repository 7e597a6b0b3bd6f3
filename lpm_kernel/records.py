"""What flows through the chain: Message -> Prompt -> Answer -> Verdict -> Evidence -> PreferencePair."""

import re
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

LONE_SURROGATE = re.compile(r"[\ud800-\udfff]")
"""Half of an escaped UTF-16 pair: JSON may hold it, UTF-8 cannot."""
Role = Literal["system", "user", "assistant"]
Outcome = Literal["first", "second", "tie", "failed"]
Task = Literal["memory", "context", "feedback", "identity", "time"]
"""What a question asks of a second self: a rubric each."""
Interval = tuple[float, float]
"""95 % bounds, the lower one first."""
ProbeKind = Literal["contested", "unanswerable", "paraphrase", "general"]


class Record(BaseModel):
    """Immutable, and strict about its fields: an unknown field is a defect of the file."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Message(Record):
    """One turn of a conversation, as the OpenAI chat format writes it."""

    role: Role
    content: str


class Prompt(Record):
    """One question to the model, rendered exactly as SFT rendered it."""

    id: str
    """First 16 hex digits of the SHA-256 of messages and target; stable across runs."""
    row: int
    """Index of the item in merged.json, counted from 0."""
    variant: str
    messages: tuple[Message, ...]
    target: str
    """The answer that SFT trains; called `label` in dpo_full.json."""
    notes: tuple[str, ...] = ()
    """The owner's notes that this item rests on."""
    score: float | None = None
    """What a filter gave the item, where one ran."""

    @property
    def system(self) -> str:
        """The system message's text, empty when there is none."""
        return next((m.content for m in self.messages if m.role == "system"), "")

    @property
    def user(self) -> str:
        """The last user message's text."""
        return next(m.content for m in reversed(self.messages) if m.role == "user")


class Probe(Record):
    """A question of the evaluation beside those of the held-out notes."""

    kind: ProbeKind
    """contested: the notes tell two versions, the bio one; unanswerable: no note holds the answer; paraphrase: another
    wording of a question that gave pairs; general: a neutral instruction that has nothing to do with the owner."""
    prompt: Prompt
    """Its target is empty where nothing of the owner's answers it."""


class Answer(Record):
    """One completion of a prompt by the model."""

    text: str
    finish_reason: str
    """`stop` for a whole answer; `length` for one that was cut."""


class Verdict(Record):
    """What a judge said of two answers to one prompt, both orders taken together."""

    prompt_id: str
    first: int
    """Index of the first answer among the prompt's answers."""
    second: int
    outcome: Outcome
    """`failed` means that there is no verdict; it is never read as a tie."""
    reason: str
    """Why: the judge's words, or what failed."""
    judge: str
    orders: tuple[Outcome, ...] = ()
    """The outcome in each order asked, both told in the order first, second."""
    scores: tuple[float, float] | None = None
    """What each answer is worth to the judge, 0 to 1; None where it only compares."""
    strength: float | None = None
    """How clearly the winner is better, 0 to 1; None where the judge does not say."""
    rests_on: str = ""
    """The note, or the bio's section, that decided; empty where the judge names none."""


class Vote(Record):
    """A line of votes.jsonl, the owner's: which of two answers is better, said without knowing what the judge said."""

    prompt_id: str
    question: str
    first: str
    """The answer that was shown as 1, word for word."""
    second: str
    vote: Literal["first", "second", "tie", "skip", "undo"]
    """`undo` takes back the vote on the prompt before it."""
    at: str
    """UTC, ISO 8601."""


class ModelVote(Vote):
    """A line of model_votes.jsonl, the owner's: the same of the answers of two models."""

    models: tuple[str, str]
    """Who gave the first and the second: SHA-256 of the GGUF."""


class PairChoice(Record):
    """A line of choices.jsonl, the owner's: what is decided about one prompt's pair."""

    prompt_id: str
    question: str
    kind: Literal["flip", "reject", "edit", "accept", "undo"]
    """`undo` takes back the choice on the prompt before it."""
    chosen: str | None = None
    """The answers of the pair that comes of it, word for word; None where there is none."""
    rejected: str | None = None
    at: str
    """UTC, ISO 8601."""


class Word(Record):
    """The owner's last word on a prompt; it stands above the judge's."""

    kind: Literal["vote", "flip", "reject", "edit", "accept"]
    at: str
    """UTC, ISO 8601."""


class Ruling(Record):
    """What the judge alone made of a prompt; fields as in Evidence."""

    chosen: int | None
    rejected: int | None
    dropped: str | None
    confidence: float | None
    weighed: dict[str, float]


class Evidence(Record):
    """A line of verdicts.jsonl: all that happened to one prompt, and what came of it."""

    prompt_id: str
    row: int
    variant: str
    answers: tuple[Answer, ...]
    verdicts: tuple[Verdict, ...]
    chosen: int | None
    """Index of the better answer, None when there is no pair."""
    rejected: int | None
    dropped: str | None
    """Why there is no pair, None when there is one."""
    confidence: float | None = None
    """Probability that the chosen answer is the better one; None when there is no pair."""
    weighed: dict[str, float] = {}
    """What the confidence is made of, by name."""
    word: Word | None = None
    """The owner's, where there is one that applies: the pair is then what it says."""
    judged: Ruling | None = None
    """The judge's own ruling, where the owner's votes or word put another in its place."""


class ItemsAccount(Record):
    """`items_account.json`: read = usable + skipped; usable = prompts + held_out + set_aside."""

    read: int
    usable: int
    skipped: dict[str, int]
    """By reason."""
    prompts: int
    """The owner's items among them."""
    made: int = 0
    """Prompts beside them: questions that no note answers."""
    held_out: int
    set_aside: dict[str, int]
    """By reason."""
    variants: dict[str, int]
    """Of the usable items."""


class Served(Record):
    """Who answered."""

    model: str
    engine: str
    """Empty where nobody was asked, as all answers were there."""
    ours: bool
    identity: str
    """Of the weights, as a hash: what the journaled answers belong to."""
    weights: Literal["same", "other", "unknown"]
    """Whether they are those of the model that will be trained."""


class Manner(Record):
    """How a judge judged, over the comparisons that have a verdict in both orders."""

    comparisons: int
    agreed: int
    """Both orders named the same answer."""
    tied: int
    """Both orders said tie."""
    first_place: int
    """Verdicts, two a comparison, for the answer that was shown first."""
    second_place: int


class CasesJudged(Record):
    """What became of the cases of one kind, or of all; each is asked in both orders."""

    cases: int
    right: int
    wrong: int
    tied: int
    """Both orders said tie, or they disagreed."""
    failed: int


class StrengthBand(Record):
    """Decided cases whose verdict was as strong as this."""

    least: float
    """Of a verdict in this band; the band ends where the next one begins."""
    right: int
    wrong: int


class Examination(Record):
    """`examination.json`: what a judge is worth on this owner's notes."""

    judge: str
    """All that its verdicts depend on, as `Judge.name`."""
    label: str
    """As people call it."""
    owner: str = ""
    """Hash of the items and the bio that its cases are made of; empty in older files."""
    questions: int
    all: CasesJudged
    """The cases that have a better answer."""
    kinds: dict[str, CasesJudged]
    """By kind of case; `paraphrase` is right when it is a tie."""
    tasks: dict[str, CasesJudged]
    lengths: dict[str, CasesJudged] = Field(default_factory=dict)
    """The cases where both tell facts: `right_is_longer`, `right_is_shorter`."""
    accuracy: float | None
    """Right among those that have a better answer, ties as half; None without a case."""
    accuracy_ci95: Interval | None
    """Clustered by question."""
    flips: float | None
    """Share of comparisons whose two orders disagree."""
    ties: float | None
    """Share of ties among the cases that have a better answer."""
    first_place: float | None = None
    """Share of the verdicts for an answer that went to the one shown first; None without any."""
    first_place_ci95: Interval | None = None
    longer: float | None
    """Share of decided comparisons between two right answers that the longer one won; None without any."""
    longer_ci95: Interval | None
    failed: float | None = None
    """Share of comparisons without a verdict."""
    strengths: tuple[StrengthBand, ...] = ()
    """By how clearly the judge decided, the weaker half first; empty where it does not say."""
    effective_cases: float | None = None
    """As many independent cases tell as much: `all` over the design effect of its questions."""
    finding: Literal["passed", "failed", "cannot be examined"] = "failed"
    passed: bool
    faults: tuple[str, ...]
    """Why it did not pass, each a sentence with its figure and bound."""
    to_examine: str = ""
    """What would make it examinable, where it is not."""
    accepted: bool = False
    """The owner believes it all the same (--accept-judge)."""

    @property
    def is_believed(self) -> bool:
        """Whether its verdicts may make pairs and promote."""
        return self.passed or self.accepted

    @property
    def sentence(self) -> str:
        """What came of it, for people."""
        if self.finding == "cannot be examined":
            told = f"the judge {self.label} cannot be examined: {'; '.join(self.faults)}. {self.to_examine}"
        elif self.passed:
            told = f"the judge {self.label} passed its examination: {self._accuracy_told}"
        else:
            told = f"the judge {self.label} failed its examination: {'; '.join(self.faults)}"
        return f"{told} (believed all the same: --accept-judge)" if self.accepted else told

    @property
    def _accuracy_told(self) -> str:
        low, high = self.accuracy_ci95 or (0.0, 1.0)
        return (
            f"right in {self.accuracy or 0:.0%} of {self.all.cases} cases over {self.questions} questions "
            f"(95 % bounds {low:.0%} to {high:.0%}), its orders differ in {self.flips or 0:.0%}"
        )


class Agreement(Record):
    """How far the owner's blind votes and the judge's pairs agree; chance and kappa after Cohen 1960."""

    votes: int
    """Votes on pairs of the judge, ties too."""
    agreed: int
    agreement: float | None
    """None without a vote."""
    agreement_ci95: Interval | None
    """Exact (Clopper and Pearson 1934), over questions."""
    chance: float | None
    """The agreement of two who say first, second and tie as often as these two did, and no more."""
    kappa: float | None
    """(agreement - chance) / (1 - chance); None where chance is 1: both said one and the same each time."""
    kappa_ci95: Interval | None
    """The bounds of the agreement, at this chance."""
    believed: bool | None
    """Whether the judge's pairs may train by these votes; None where they are too few, or tell nothing."""


class OwnersShare(Record):
    """What the owner's votes and choices made of the pairs."""

    gold: int = 0
    """Pairs by blind vote."""
    tied: int = 0
    """Prompts without a pair, as the owner's vote was a tie."""
    flipped: int = 0
    rejected: int = 0
    edited: int = 0
    accepted: int = 0
    no_longer_apply: dict[str, int] = {}
    """Votes and choices that stand in the owner's files and change nothing, by reason."""
    damaged: int = 0
    """Lines of the owner's files that cannot be read."""
    agreement: Agreement | None = None


class PairsAccount(Record):
    """`pairs_account.json`: prompts = pairs + dropped. Written when no pair came out, too."""

    prompts: int
    pairs: int
    dropped: dict[str, int]
    """By reason."""
    verdicts: dict[str, int]
    """By outcome."""
    manner: Manner
    answers: dict[str, int]
    """By finish reason; `owner` are those that the owner wrote."""
    served: Served
    sections: dict[str, str] = Field(default_factory=dict)
    """Of the bio, by their headings, the SHA-256 of the texts that the verdicts rest on."""
    examination: Examination | None = None
    """Of the judge; None where it was believed unexamined, and in older files."""
    owner: OwnersShare = OwnersShare()


class PreferencePair(Record):
    """What DPO trains on: a conversation that ends with the user's turn, and two answers to it."""

    messages: tuple[Message, ...]
    chosen: str
    rejected: str
    confidence: float = Field(1.0, gt=0.5, le=1)
    """Probability that `chosen` is the better one."""


def without_surrogates(text: str) -> str:
    """The text with a replacement character for what UTF-8 cannot hold."""
    return LONE_SURROGATE.sub("\N{REPLACEMENT CHARACTER}", text)


def is_sound(text: str) -> bool:
    """Whether UTF-8 can hold the text."""
    return not LONE_SURROGATE.search(text)
