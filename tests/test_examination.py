"""A judge is believed on evidence: known vices fail their examination, honest judges pass, small owners are told."""

import asyncio
import itertools
import json
import random
from pathlib import Path

import pytest
from vice_judges import HONEST, VICES, ViceJudge, truth

from lpm_kernel.demo.owner import write_owner
from lpm_kernel.errors import DataError, ServiceError
from lpm_kernel.files import read_record, write_jsonl
from lpm_kernel.journal import open_journal
from lpm_kernel.judges.base import Opinion, Question, both_orders
from lpm_kernel.judges.cases import LONGER, Case, cases_of, shipped_hedges
from lpm_kernel.judges.clusters import clustered
from lpm_kernel.judges.examination import (
    FEWEST,
    ExamConfig,
    Judged,
    examination_of,
    examine,
    examined,
    refuse_unbelieved,
)
from lpm_kernel.judges.journaled import JournaledJudge
from lpm_kernel.judges.questions import Owner
from lpm_kernel.judges.reference import ReferenceJudge
from lpm_kernel.L2 import judge_exam
from lpm_kernel.owner.bio import read_bio
from lpm_kernel.owner.facts import notes_of
from lpm_kernel.owner.items import ItemConfig, read_items
from lpm_kernel.records import Examination, Verdict

CONFIG = ExamConfig()
Pool = list[tuple[Question, list[Case]]]


def pool_of(owner: Owner, questions: int = 60) -> Pool:
    return [(owner.question(of[0].prompt), of) for of in cases_of(owner.items, owner.facts, questions)]


@pytest.fixture(scope="module")
def owner(tmp_path_factory: pytest.TempPathFactory) -> Owner:
    folder = tmp_path_factory.mktemp("owner")
    write_owner(folder / "merged.json", folder / "bio.md")
    return Owner(read_items(folder / "merged.json", ItemConfig(user_name="Elin"))[0], read_bio(folder / "bio.md"))


@pytest.fixture(scope="module")
def pool(owner: Owner) -> Pool:
    return pool_of(owner)


def judged_by(judge: ViceJudge, pool: Pool) -> list[list[Judged]]:
    """Both orders of every case, without a journal."""

    async def one(question: Question, case: Case) -> Judged:
        forward = await judge.compare(question, case.right, case.other)
        outcome, reason, orders = both_orders(forward, await judge.compare(question, case.other, case.right))
        return case, Verdict(
            prompt_id="p", first=0, second=1, outcome=outcome, reason=reason, judge=judge.name, orders=orders
        )

    async def every() -> list[list[Judged]]:
        return [[await one(question, case) for case in cases] for question, cases in pool]

    return asyncio.run(every())


def findings(label: str, rule: object, pool: Pool, runs: int, questions: int) -> list[str]:
    found: list[str] = []
    for seed in range(runs):
        drawn = random.Random(seed).sample(pool, questions)
        judge = ViceJudge(label, rule, seed)  # type: ignore[arg-type]
        found.append(examined(judge.name, label, judged_by(judge, drawn), questions, CONFIG).finding)
    return found


@pytest.mark.parametrize("label", VICES)
def test_a_judge_with_a_vice_fails_in_every_run(label: str, pool: Pool) -> None:
    assert findings(label, VICES[label], pool, runs=10, questions=40) == ["failed"] * 10


@pytest.mark.parametrize("label", HONEST)
def test_an_honest_judge_with_noise_or_a_mild_position_bias_passes(label: str, pool: Pool) -> None:
    assert findings(label, HONEST[label], pool, runs=10, questions=40) == ["passed"] * 10


@pytest.mark.parametrize("label", VICES)
def test_a_judge_with_a_vice_passes_no_short_examination_either(label: str, pool: Pool) -> None:
    assert "passed" not in findings(label, VICES[label], pool, runs=10, questions=FEWEST)


def test_an_honest_judge_that_was_asked_too_little_is_no_bad_one(pool: Pool) -> None:
    found = findings("noise", HONEST["15 % noise"], pool, runs=30, questions=FEWEST)
    assert found.count("failed") < 30 / 5
    assert found.count("cannot be examined") > 30 / 2


@pytest.mark.parametrize(
    ("label", "told"),
    [
        ("first", "chose the first place in 100%"),
        ("second", "chose the second place in 100%"),
        ("longer", "of two answers that are both right it chose the longer one in 100%"),
        ("shorter", "right in 0% of .* where the right answer is the longer one"),
        ("coin", "not better than chance for sure"),
    ],
)
def test_a_fault_is_a_sentence_with_its_figure_and_bound(label: str, told: str, pool: Pool) -> None:
    found = examined("n", label, judged_by(ViceJudge(label, VICES[label]), pool[:40]), 40, CONFIG)
    with pytest.raises(DataError, match=rf"(?s){told}.*may neither make pairs nor promote. Take another.*accept-judge"):
        refuse_unbelieved(found, "Take another")


def test_swapping_right_and_wrong_turns_a_judge_that_passes_into_one_that_fails(pool: Pool) -> None:
    def liar(question: Question, first: str, second: str, _: object) -> str:
        return truth(question, second, first)

    found = examined("n", "liar", judged_by(ViceJudge("liar", liar), pool[:40]), 40, CONFIG)  # type: ignore[arg-type]
    assert found.finding == "failed"
    assert found.accuracy == 0
    assert any("exchanged" in fault for fault in found.faults)


def test_every_case_is_what_it_says(pool: Pool) -> None:
    for question, cases in pool:
        assert question.measure is not None
        for case in cases:
            right, other = question.measure.told(case.right), question.measure.told(case.other)
            assert right.right
            assert not right.wrong
            assert (other.kind == "vague") == (case.kind == "vague")
            assert bool(other.wrong) == (case.kind not in ("vague", "paraphrase"))
    kinds = [case.kind for _, cases in pool for case in cases]
    assert all(kinds.count(kind) > 0.8 * len(pool) for kind in set(kinds))
    assert len(set(kinds)) == 6


def test_neither_longer_nor_shorter_wins_by_design(pool: Pool) -> None:
    sides = [case.right_is_longer for _, cases in pool for case in cases if case.kind not in ("vague", "paraphrase")]
    assert min(sides.count(True), sides.count(False)) > len(pool)
    for case in (case for _, cases in pool for case in cases):
        if case.kind in ("long_wrong", "long_right"):
            short, long = sorted((len(case.right), len(case.other)))
            assert long >= LONGER * short
            assert case.right_is_longer == (case.kind == "long_right")


def test_an_exchanged_fact_is_the_only_change(pool: Pool) -> None:
    for case in (case for _, cases in pool for case in cases if case.kind == "exchanged"):
        same_end = beginning(case.right[::-1], case.other[::-1])
        same = beginning(case.right, case.other)
        assert same + same_end >= len(case.right) - 24
        assert case.right[same : same + 1].isdigit() == case.other[same : same + 1].isdigit() or same_end


def beginning(one: str, other: str) -> int:
    """Characters that both begin with."""
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def test_the_same_seed_gives_the_same_cases_and_another_one_others(owner: Owner) -> None:
    first, again, other = (cases_of(owner.items, owner.facts, 10, seed) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_questions_are_spread_over_notes_and_tasks(pool: Pool) -> None:
    prompts = [cases[0].prompt for _, cases in pool[:40]]
    assert len({notes_of(prompt) for prompt in prompts}) > 25
    assert {question.task for question, _ in pool[:40]} >= {"memory", "time", "feedback"}


@pytest.mark.parametrize("language", ["en", "de", "fr", "es", "pt", "it", "nl", "ru", "ar", "hi", "ko", "ja", "zh"])
def test_there_are_vague_answers_in_the_owners_language(language: str) -> None:
    from lpm_kernel.owner.language import language_of

    assert len(shipped_hedges(language)) == 3
    assert language_of(shipped_hedges(language)) == language


def notes_kept(owner: Owner, count: int) -> Owner:
    kept = list(dict.fromkeys(note for item in owner.items for note in item.notes))[:count]
    return Owner([i for i in owner.items if i.notes and set(i.notes) <= set(kept)], owner.bio)


@pytest.mark.parametrize("notes", [0, 1])
def test_an_owner_whose_notes_say_nothing_apart_cannot_have_a_judge_examined(
    owner: Owner, tmp_path: Path, notes: int
) -> None:
    small = notes_kept(owner, notes)
    with open_journal(tmp_path / "journal.sqlite") as journal:
        judge = JournaledJudge(ViceJudge("honest", HONEST["honest"]), journal)
        found = asyncio.run(examine(judge, small, CONFIG))
    assert (found.finding, found.passed, found.is_believed) == ("cannot be examined", False, False)
    with pytest.raises(DataError, match=r"cannot be examined.*at least 8 are needed.*add notes.*--accept-judge"):
        refuse_unbelieved(found, "Take another judge")


def test_the_embedded_judge_passes_and_is_asked_once(owner: Owner, tmp_path: Path) -> None:
    asked = []

    class Counted(ReferenceJudge):
        async def compare(self, question: Question, first: str, second: str) -> Opinion:
            asked.append((question.question, first, second))
            return await super().compare(question, first, second)

    with open_journal(tmp_path / "journal.sqlite") as journal:
        judge = JournaledJudge(Counted(0.05, 0.3), journal)
        first, second = (asyncio.run(examine(judge, owner, ExamConfig(exam_questions=10))) for _ in range(2))
    assert first == second
    assert first.passed
    assert first.accuracy == 1
    assert len(asked) == len(set(asked)) > 100


def exam_of(owner: Owner, folder: Path, judge: str = "reference", **settings: object) -> Examination:
    """The stage, as the chain runs it."""
    write_jsonl(folder / "items", owner.items)
    (folder / "bio.md").write_text(owner.bio, encoding="utf-8")
    config = judge_exam.StageConfig.model_validate({"judge": judge, "exam_questions": 10, **settings})
    paths = {f"{name}_path": folder / name for name in ("items", "examination")}
    judge_exam.run(config, **paths, bio_path=folder / "bio.md", work_path=folder)
    return read_record(folder / "examination", Examination)


def test_the_step_writes_what_it_found_before_it_refuses(owner: Owner, tmp_path: Path) -> None:
    small = notes_kept(owner, 1)
    with pytest.raises(DataError, match="cannot be examined"):
        exam_of(small, tmp_path)
    assert read_record(tmp_path / "examination", Examination).finding == "cannot be examined"
    accepted = exam_of(small, tmp_path, accept_judge=True)
    assert (accepted.accepted, accepted.passed, accepted.is_believed) == (True, False, True)
    assert "believed all the same" in accepted.sentence
    passed = exam_of(owner, tmp_path, accept_judge=True)
    assert (passed.accepted, passed.passed) == (False, True)


def test_an_examination_on_file_counts_for_the_judge_and_the_owner_that_it_is_of(owner: Owner, tmp_path: Path) -> None:
    on_file = exam_of(owner, tmp_path)
    path = tmp_path / "examination"
    with open_journal(tmp_path / "other.sqlite") as journal:

        def known(judge: object, place: Path | None, of: Owner = owner, **settings: object) -> Examination:
            config = ExamConfig.model_validate({"exam_questions": 10, **settings})
            asked = JournaledJudge(judge, journal)  # type: ignore[arg-type]
            return asyncio.run(examination_of(asked, of, config, place))

        assert known(ReferenceJudge(0.05, 0.3), path) == on_file
        assert known(ReferenceJudge(0.05, 0.3), path, of=notes_kept(owner, 1)).finding == "cannot be examined"
        assert known(ReferenceJudge(0.05, 0.3), path, of=Owner(owner.items, "Of another life.")) != on_file
        other = known(ViceJudge("longer", VICES["longer"]), path)
        assert (other.finding, other.is_believed) == ("failed", False)
        accepted = known(ViceJudge("longer", VICES["longer"]), None, accept_judge=True)
        assert accepted == other.model_copy(update={"accepted": True})


def test_a_judge_that_gives_no_verdict_is_out_of_service(pool: Pool) -> None:
    silent = [
        [
            (case, Verdict(prompt_id="p", first=0, second=1, outcome="failed", reason="mute", judge="j"))
            for case in cases
        ]
        for _, cases in pool[:20]
    ]
    found = examined("n", "mute", silent, 20, CONFIG)
    assert found.failed == 1
    with pytest.raises(ServiceError, match=r"100% of its comparisons have no verdict, at most 30% may"):
        refuse_unbelieved(found, "Take another")


def test_answers_to_one_question_that_hang_together_widen_the_interval() -> None:
    together = clustered([(5.0, 5.0)] * 16 + [(0.0, 5.0)] * 4)
    alone = clustered([(4.0, 5.0)] * 20)
    assert together is not None
    assert alone is not None
    assert together.share == alone.share == 0.8
    assert together.ci95[0] < alone.ci95[0] < 0.8 < alone.ci95[1] < together.ci95[1]
    assert (round(together.effective), round(alone.effective)) == (19, 100)


def test_an_examination_survives_its_file(owner: Owner, tmp_path: Path) -> None:
    found = exam_of(owner, tmp_path)
    assert Examination.model_validate(json.loads((tmp_path / "examination").read_text())) == found
