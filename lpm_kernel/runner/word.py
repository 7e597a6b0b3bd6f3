"""The owner's word in a workspace: blind questions and votes on them, pairs and what is decided about them.

Whoever shows them, a terminal or a page, calls this. A vote or a choice is a line of the owner's own file, on the disk
when the call returns; a run under way need not end for it, and the pairs follow when `dpo-data` runs next.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Literal, TypeVar

from lpm_kernel.errors import DataError, MissingInputError, UsageError
from lpm_kernel.files import append_jsonl, key_of, read_jsonl, read_record
from lpm_kernel.journal import Journal, open_journal
from lpm_kernel.judges.choices import as_judged, heard, not_believed, not_taken_back, read_lines, read_words, waiting
from lpm_kernel.judges.pairing import Choice, choose
from lpm_kernel.pipeline import step_named
from lpm_kernel.proof.agreement import AgreementConfig, agreement_of
from lpm_kernel.proof.blind import (
    BlindQuestion,
    ModelQuestion,
    Shown,
    blind_questions,
    model_question,
    preference_of,
)
from lpm_kernel.proof.evaluation import Evaluation, OwnersPreference
from lpm_kernel.records import Agreement, Answer, Evidence, ModelVote, PairChoice, Prompt, Record, Vote, is_sound
from lpm_kernel.serving.sampling import SamplingConfig, known_answers
from lpm_kernel.workspace.manifest import now
from lpm_kernel.workspace.places import Workspace

R = TypeVar("R", bound=Record)
Q = TypeVar("Q", bound=Shown)
V = TypeVar("V", bound=Vote)
ACCEPT = "name its answers: lpm pairs accept {id} --chosen N --rejected M; their numbers: lpm pairs show {id}"


@dataclass(frozen=True)
class PairTold:
    """One prompt with its evidence as it stands now, the owner's word included."""

    prompt: Prompt
    evidence: Evidence

    @property
    def pair(self) -> tuple[str, str] | None:
        """The chosen and the rejected answer."""
        chosen, rejected = self.evidence.chosen, self.evidence.rejected
        if chosen is None or rejected is None:
            return None
        return self.evidence.answers[chosen].text, self.evidence.answers[rejected].text


@dataclass(frozen=True)
class Round(Generic[Q, V]):
    """What of a blind test is left."""

    left: list[Q]
    done: list[V]
    """Votes on answers that the model still gives, skipped ones too."""
    there: int
    """Questions that could be asked at all, those done too."""


class OwnersWord:
    """What the owner can say of the workspace's answers, and has said: read once, and kept up with what is said here.

    Raises MissingInputError before there are verdicts, DataError for votes or choices of another owner.
    """

    def __init__(self, workspace: Workspace, config: AgreementConfig) -> None:
        self.workspace, self.config, self.step = workspace, config, step_named("dpo-data")
        self.prompts = {prompt.id: prompt for prompt in self._read("prompts", Prompt)}
        found = (as_judged(evidence) for evidence in self._read("verdicts", Evidence))
        self._judged = {evidence.prompt_id: evidence for evidence in found if evidence.prompt_id in self.prompts}
        known = {prompt.id for prompt in self._read("items", Prompt)}
        self.words = read_words(workspace.find("votes"), workspace.find("choices"), known)

    def _read(self, artifact: str, kind: type[R]) -> Iterator[R]:
        return read_jsonl(_there(self.workspace, artifact, "lpm run dpo-data"), kind)

    def _add(self, line: Vote | PairChoice) -> None:
        self.workspace.refuse_links()
        append_jsonl(self.workspace.place("votes" if isinstance(line, Vote) else "choices"), line)
        self.words = self.words.plus(line)

    def prompt_named(self, beginning: str) -> Prompt:
        """The prompt whose id begins so; raises UsageError unless there is exactly one."""
        return _named(self.prompts, beginning, "lpm pairs list")

    # Blind votes --------------------------------------------------------------------------------------------------

    def questions(self, seed: int) -> list[BlindQuestion]:
        """All that could be asked, in order; raises DataError when nothing can."""
        found = blind_questions(self.prompts, self._judged.values(), seed)
        if not found:
            raise DataError(
                f"none of the {len(self._judged)} prompts has two different answers that were judged, so there is "
                "nothing to compare; more: a higher --temperature or more --answers (lpm run dpo-data)"
            )
        return found

    def round(self, count: int, seed: int) -> Round[BlindQuestion, Vote]:
        """So many questions, those that are voted on included."""
        found, done = self.questions(seed), self._votes_that_apply()
        unvoted = [question for question in found if question.prompt.id not in done]
        left = unvoted[: max(0, count - len(done))]
        return Round(left, list(done.values()), len(unvoted) + len(done))

    def _votes_that_apply(self) -> dict[str, Vote]:
        there = {prompt_id: {answer.text for answer in e.answers} for prompt_id, e in self._judged.items()}
        return {p: v for p, v in self.words.votes.items() if {v.first, v.second} <= there.get(p, set())}

    def vote(self, question: Shown, said: str) -> None:
        """Say which answer is better, in the order shown; on the disk when this returns."""
        self._add(Vote.model_validate({**_shown(question), "vote": said, "at": now()}))

    def take_back(self, prompt: Prompt) -> None:
        """Undo the vote on the prompt; raises UsageError when there is none."""
        last = self.words.votes.get(prompt.id)
        if last is None:
            raise UsageError(f"there is no vote on {prompt.id} to take back; the votes: lpm blind --json")
        self._add(last.model_copy(update={"vote": "undo", "at": now()}))

    @property
    def judges_pairs(self) -> int:
        """Pairs that the judge made."""
        return sum(evidence.chosen is not None for evidence in self._judged.values())

    @property
    def agreement(self) -> Agreement:
        """Between the votes so far and the judge."""
        return agreement_of(self._judged.values(), self.words, self.config)

    # Pairs --------------------------------------------------------------------------------------------------------

    def pairs(self) -> Iterator[PairTold]:
        """Every prompt, in the order of the data."""
        believed = self.config.accept_judge_pairs or self.agreement.believed is not False
        return (self._told(evidence, believed) for evidence in self._judged.values())

    def pair(self, prompt: Prompt) -> PairTold:
        """One prompt; raises UsageError for one that is not judged yet."""
        if prompt.id not in self._judged:
            raise UsageError(f"{prompt.id} is not judged yet; lpm run dpo-data judges it")
        believed = self.config.accept_judge_pairs or self.agreement.believed is not False
        return self._told(self._judged[prompt.id], believed)

    def _told(self, evidence: Evidence, believed: bool) -> PairTold:
        now_said = heard(evidence, self.words)
        return PairTold(self.prompts[evidence.prompt_id], now_said if believed else not_believed(now_said))

    @property
    def waiting(self) -> dict[str, str]:
        """Prompt -> why the owner's word on it changes nothing now."""
        return waiting(self.words, {prompt_id: evidence.answers for prompt_id, evidence in self._judged.items()})

    def flip(self, prompt: Prompt) -> None:
        """The rejected answer is the better one; a second flip takes back the first."""
        pair = self._pair_of(prompt)
        last = self.words.choices.get(prompt.id, [None])[-1]
        undo = _choice(prompt, "undo")
        if last and last.kind == "flip" and self._after(undo, prompt) == (pair[1], pair[0]):
            self._add(undo)
        else:
            self._add(_choice(prompt, "flip", pair[1], pair[0]))

    def reject(self, prompt: Prompt) -> None:
        """The prompt gives no pair."""
        self._add(_choice(prompt, "reject"))

    def draft(self, prompt: Prompt) -> tuple[str, str]:
        """The pair that an edit begins with; two empty texts where there is none."""
        try:
            return self._pair_of(prompt)
        except UsageError:
            return "", ""

    def edit(self, prompt: Prompt, chosen: str, rejected: str) -> None:
        """The pair is these two texts; raises UsageError for what can be no pair."""
        if not chosen.strip() or not rejected.strip():
            raise UsageError("an answer of the pair is empty, expected two texts; to have no pair: lpm pairs reject")
        if chosen == rejected:
            raise UsageError("the chosen and the rejected answer are the same, expected two that differ")
        if not (is_sound(chosen) and is_sound(rejected)):
            raise UsageError("an answer holds half a character (a lone surrogate), which is no text; write it anew")
        self._add(_choice(prompt, "edit", chosen, rejected))

    def accept(self, prompt: Prompt, chosen: int | None = None, rejected: int | None = None) -> None:
        """The pair counts as the owner's: the one in force, the one that was dropped, or two answers by number.

        Numbers begin with 1. Raises UsageError where there is no such answer, and where it is open which are meant.
        """
        judged = self._judged[self.pair(prompt).prompt.id]
        if chosen is not None and rejected is not None:
            better, worse = self._answer(judged, chosen), self._answer(judged, rejected)
            if better.text == worse.text:
                raise UsageError(f"answers {chosen} and {rejected} say the same, expected two that differ")
            if better.finish_reason != "stop" or not better.text.strip():
                raise UsageError(
                    f"answer {chosen} is cut or empty, and would teach to be; write a whole one: lpm pairs edit"
                )
            pair = better.text, worse.text
        else:
            pair = self._pair_of(prompt)
        self._add(_choice(prompt, "accept", *pair))

    def undo(self, prompt: Prompt) -> str:
        """Take back the last word on the prompt, and return what it was; raises UsageError when there is none."""
        standing = self.words.standing.get(prompt.id)
        if standing is None:
            raise UsageError(f"you have said nothing of {prompt.id} yet: there is nothing to take back")
        if standing.kind == "vote":
            self.take_back(prompt)
        else:
            self._add(_choice(prompt, "undo"))
        return standing.kind

    def _pair_of(self, prompt: Prompt) -> tuple[str, str]:
        """The pair in force, or the judge's that was dropped; raises UsageError where neither is."""
        if pair := self.pair(prompt).pair:
            return pair
        judged = self._judged[prompt.id]
        choice = choose(judged.verdicts)
        if judged.chosen is not None and judged.rejected is not None:
            choice = Choice(judged.chosen, judged.rejected)
        if not isinstance(choice, Choice):
            raise UsageError(f"{prompt.id} gives no pair ({judged.dropped}); {ACCEPT.format(id=prompt.id)}")
        return judged.answers[choice.chosen].text, judged.answers[choice.rejected].text

    def _after(self, line: PairChoice, prompt: Prompt) -> tuple[str, str] | None:
        """The pair that stands when the line is said too."""
        return PairTold(prompt, heard(self._judged[prompt.id], self.words.plus(line))).pair

    def _answer(self, evidence: Evidence, number: int) -> Answer:
        count = len(evidence.answers)
        if not 1 <= number <= count:
            raise UsageError(f"there is no answer {number}, expected 1 to {count}: lpm pairs show {evidence.prompt_id}")
        return evidence.answers[number - 1]


class OwnersComparison:
    """What the owner can say, blind, of the answers that the two models of the last evaluation gave.

    Raises MissingInputError before there is an evaluation, DataError where its answers are gone.
    """

    def __init__(self, workspace: Workspace) -> None:
        self.workspace, self.step = workspace, step_named("evaluate")
        path = _there(workspace, "evaluation.json", "lpm pipeline")
        models, manifest = read_record(path, Evaluation).models, workspace.manifest(path)
        journal_path = workspace.runs_path / "work" / self.step.name / "journal.sqlite"
        if models is None or manifest is None or not journal_path.is_file():
            raise DataError(
                f"the answers that {path} rests on are not at hand; ask again: lpm pipeline --from evaluate"
            )
        self.models = models
        asked = {key: manifest.config[key] for key in SamplingConfig.model_fields if key in manifest.config}
        config = SamplingConfig.model_validate(asked)
        self.prompts = {
            prompt.id: prompt for prompt in read_jsonl(_there(workspace, "held_out", "lpm run prepare"), Prompt)
        }
        with open_journal(journal_path) as journal:
            self._answers = {p.id: found for p in self.prompts.values() if (found := self._said(journal, p, config))}
        self.lines, _ = read_lines(workspace.find("model_votes"), ModelVote)

    def _said(self, journal: Journal, prompt: Prompt, config: SamplingConfig) -> dict[str, str]:
        """Model -> its first answer; empty unless the journal holds both."""
        names = (self.models.before.sha256, self.models.after.sha256)
        answers = {name: known_answers(journal, prompt, config, 1, name)[0] for name in names}
        found = {name: answer.text for name, answer in answers.items() if answer}
        return found if len(found) == 2 else {}

    def prompt_named(self, beginning: str) -> Prompt:
        """The question whose id begins so; raises UsageError unless there is exactly one."""
        return _named(self.prompts, beginning, "lpm blind --models --json")

    def questions(self, seed: int) -> list[ModelQuestion]:
        """A question for each prompt on which the models differ; raises DataError when there is none."""
        made = [model_question(self.prompts[p], answers, seed) for p, answers in self._answers.items()]
        found = sorted((q for q in made if q), key=lambda question: key_of(seed, question.prompt.id))
        if not found:
            raise DataError(
                f"of {len(self.prompts)} held-out questions none has two different answers of the two models in the "
                "journal, so there is nothing to compare; ask again: lpm pipeline --from evaluate"
            )
        return found

    @property
    def votes(self) -> dict[str, ModelVote]:
        """Prompt -> the vote in force on these two models."""
        of_these = {self.models.before.sha256, self.models.after.sha256}
        return {p: lines[-1] for p, lines in not_taken_back(self.lines).items() if set(lines[-1].models) == of_these}

    def round(self, count: int, seed: int) -> Round[ModelQuestion, ModelVote]:
        """So many questions, those that are voted on included."""
        done = self.votes
        unvoted = [question for question in self.questions(seed) if question.prompt.id not in done]
        return Round(unvoted[: max(0, count - len(done))], list(done.values()), len(unvoted) + len(done))

    def vote(self, question: Shown, said: str) -> None:
        """Say which answer is better, in the order shown; on the disk when this returns."""
        assert isinstance(question, ModelQuestion)
        vote = {**_shown(question), "vote": said, "at": now(), "models": question.models}
        self._add(ModelVote.model_validate(vote))

    def take_back(self, prompt: Prompt) -> None:
        """Undo the vote on the prompt; raises UsageError when there is none."""
        last = self.votes.get(prompt.id)
        if last is None:
            raise UsageError(f"there is no vote on {prompt.id} to take back; the votes: lpm blind --models --json")
        self._add(last.model_copy(update={"vote": "undo", "at": now()}))

    def _add(self, line: ModelVote) -> None:
        self.workspace.refuse_links()
        append_jsonl(self.workspace.place("model_votes"), line)
        self.lines = [*self.lines, line]

    @property
    def preference(self) -> OwnersPreference | None:
        """What the votes say so far."""
        return preference_of(self.votes.values(), self.models.before.sha256, self.models.after.sha256)


def _there(workspace: Workspace, artifact: str, maker: str) -> Path:
    path = workspace.find(artifact)
    if path is None:
        place = workspace.place(artifact)
        raise MissingInputError(f"{place} is not there, so there are no answers to speak of; make them with: {maker}")
    return path


def _named(prompts: Mapping[str, Prompt], beginning: str, listing: str) -> Prompt:
    found = [prompt for prompt_id, prompt in prompts.items() if prompt_id.startswith(beginning)]
    if len(found) != 1 or not beginning:
        told = "no question has an id that begins" if not found else f"{len(found)} questions have ids that begin"
        raise UsageError(f"{told} with {beginning!r}, expected one; their ids: {listing}")
    return found[0]


def _shown(question: Shown) -> dict[str, str]:
    """The fields of a vote that tell what was asked."""
    about = {"prompt_id": question.prompt.id, "question": question.prompt.user}
    return {**about, "first": question.first, "second": question.second}


def _choice(
    prompt: Prompt,
    kind: Literal["flip", "reject", "edit", "accept", "undo"],
    chosen: str | None = None,
    rejected: str | None = None,
) -> PairChoice:
    return PairChoice(prompt_id=prompt.id, question=prompt.user, kind=kind, chosen=chosen, rejected=rejected, at=now())
