"""Probes: no training sees them, no note answers those that are unanswerable, and an edit of the bio moves none."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import regex
from conftest import BIO, owner_items
from probed_owners import OWNERS, rows

from lpm_kernel.errors import DataError
from lpm_kernel.files import read_jsonl
from lpm_kernel.L2.prepare_data import StageConfig, run, split_items
from lpm_kernel.L2.sft_train import _training_items
from lpm_kernel.owner.items import ItemConfig, read_items, same_question
from lpm_kernel.owner.language import languages, script_of
from lpm_kernel.owner.probes import general
from lpm_kernel.owner.unanswerable import Side, _lexicon, _names, _topics, unanswerable
from lpm_kernel.records import Probe, Prompt

CONFIG = StageConfig(held_out_share=0.2, min_items=1, paraphrase_share=0.1)
TOWNS = ("Ghent", "Turku", "Porto", "Graz", "Bergen", "Lucca")


def contested_owner() -> list[dict[str, Any]]:
    """Six notes of one version, six wordings each; two notes that tell two versions of every answer."""
    asks = ("Where is {}?", "Tell me about {}.", "Which town is {} in?", "Where to for {}?", "Place of {}?", "Find {}.")
    settled = [
        {"user": ask.format(f"my {thing}"), "assistant": f"Your {thing} is in {town}.", "doc_id": thing}
        for thing, town in zip(("boat", "piano", "garden", "dentist", "tractor", "cellar"), TOWNS, strict=True)
        for ask in asks
    ]
    disputed = [
        {"user": ask.format(f"my {thing}"), "assistant": f"Your {thing} is in {town}.", "doc_id": thing}
        for thing, towns in {"flat": ("Ledeberg", "Patershol"), "office": ("Aalst", "Eupen")}.items()
        for town in towns
        for ask in asks
    ]
    return settled + disputed


def read(path: Path, items: Sequence[dict[str, Any]]) -> list[Prompt]:
    path.write_text(json.dumps(items), encoding="utf-8")
    return read_items(path, ItemConfig())[0]


def prepared(tmp_path: Path, items: Sequence[dict[str, Any]], bio: str = BIO, config: StageConfig = CONFIG) -> Path:
    """The folder of what prepare wrote."""
    (tmp_path / "bio.md").write_text(bio, encoding="utf-8")
    (tmp_path / "merged.json").write_text(json.dumps(items), encoding="utf-8")
    names = ("prompts", "held_out", "probes", "items", "account")
    made = {f"{name}_path": tmp_path / name for name in names}
    run(config, merged_path=tmp_path / "merged.json", bio_path=tmp_path / "bio.md", **made)
    return tmp_path


def unknown(items: Sequence[Prompt], count: int = 24, seed: int = 42, side: Side = "asked") -> list[Prompt]:
    return unanswerable(items, items, count, seed=seed, side=side)


def probes_of(folder: Path) -> dict[str, list[Prompt]]:
    found: dict[str, list[Prompt]] = {}
    for probe in read_jsonl(folder / "probes", Probe):
        found.setdefault(probe.kind, []).append(probe.prompt)
    return found


def test_no_probe_is_trained_on_or_asked_for_pairs(tmp_path: Path) -> None:
    folder = prepared(tmp_path, contested_owner())
    asked = {same_question(probe.prompt) for probe in read_jsonl(folder / "probes", Probe)}
    trained = _training_items(folder / "items", folder / "held_out", folder / "probes")
    assert not asked & {same_question(item) for item in trained}
    assert not asked & {same_question(prompt) for prompt in read_jsonl(folder / "prompts", Prompt)}
    assert len(asked & {same_question(item) for item in read_jsonl(folder / "items", Prompt)}) > 4


def test_a_withheld_question_is_of_a_note_whose_other_questions_give_pairs(tmp_path: Path) -> None:
    folder = prepared(tmp_path, contested_owner())
    probes = probes_of(folder)
    paired = {note for prompt in read_jsonl(folder / "prompts", Prompt) for note in prompt.notes}
    assert {note for prompt in probes["contested"] for note in prompt.notes} == {"flat", "office"}
    assert len(probes["contested"]) == 4
    assert {note for kind in ("contested", "paraphrase") for prompt in probes[kind] for note in prompt.notes} <= paired
    assert max(Counter(prompt.notes for prompt in probes["paraphrase"]).values()) == 1


def test_to_flip_the_bio_changes_nothing_that_is_trained_or_asked(tmp_path: Path) -> None:
    def made(town: str) -> dict[str, bytes]:
        folder = prepared(tmp_path, contested_owner(), f"## Home\nHer flat is in {town}.")
        return {name: (folder / name).read_bytes() for name in ("items", "held_out", "probes")}

    assert made("Ledeberg") == made("Patershol") == made("none of them")


def test_every_item_lands_in_one_place(tmp_path: Path) -> None:
    folder = prepared(tmp_path, contested_owner())
    account = json.loads((folder / "account").read_text())
    assert account["usable"] == account["prompts"] + account["held_out"] + sum(account["set_aside"].values())
    kinds = {kind: len(prompts) for kind, prompts in probes_of(folder).items()}
    assert {
        kind: account["set_aside"][f"asked_as_{kind}"] for kind in ("contested", "paraphrase")
    }.items() <= kinds.items()


def test_the_probes_are_the_same_for_a_seed_and_for_any_order_of_items(tmp_path: Path) -> None:
    def asked(items: Sequence[dict[str, Any]], seed: int = 42) -> set[str]:
        folder = prepared(tmp_path, items, config=CONFIG.model_copy(update={"seed": seed}))
        return {probe.prompt.user for probe in read_jsonl(folder / "probes", Probe)}

    items = contested_owner()
    assert asked(items) == asked(items[::-1])
    assert any(asked(items) != asked(items, seed) for seed in range(3))


def test_without_an_evaluation_nothing_is_withheld(tmp_path: Path) -> None:
    folder = prepared(tmp_path, contested_owner(), config=StageConfig(held_out_share=0))
    assert (folder / "probes").read_text() == ""
    assert sum(bool(prompt.target) for prompt in read_jsonl(folder / "prompts", Prompt)) == 48


# Unanswerable ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("language", OWNERS)
def test_what_an_unanswerable_question_asks_about_stands_in_no_note(language: str, tmp_path: Path) -> None:
    items = read(tmp_path / "merged.json", rows(language))
    held = "\n".join(text for item in items for text in (item.user, item.target)).casefold()
    words = {word.casefold() for word in (*_lexicon(language), *(n for names in _names().values() for n in names))}
    made = unknown(items)
    assert len(made) >= 2
    assert len({same_question(prompt) for prompt in made} | {same_question(item) for item in items}) == len(made) + len(
        items
    )
    for prompt in made:
        new = {word for word in words if word in prompt.user.casefold() and word not in held}
        assert new | ({*regex.findall(r"\d+", prompt.user)} - {*regex.findall(r"\d+", held)}), prompt.user
        assert (prompt.target, prompt.notes) == ("", ())


@pytest.mark.parametrize(
    ("language", "question"),
    [
        ("en", "Tell me about my scooter."),
        ("de", "Wo wohnt meine Cousine?"),
        ("fr", "Comment s'appelle ma marraine ?"),
        ("es", "¿Cuál es mi película favorita?"),
        ("zh", "我姐姐住在哪里？"),
        ("ja", "私のハムスターについて教えて。"),
        ("ko", "제 햄스터 이름이 뭐예요?"),
    ],
)
def test_the_questions_read_as_the_owner_would_ask(language: str, question: str, tmp_path: Path) -> None:
    asked = {prompt.user for seed in range(12) for prompt in unknown(read(tmp_path / "m", rows(language)), seed=seed)}
    assert question in asked


def test_a_number_that_only_counts_the_questions_is_no_topic(tmp_path: Path) -> None:
    made = unknown(read(tmp_path / "merged.json", owner_items()))
    assert {number for prompt in made for number in regex.findall(r"\d+", prompt.user)} <= set("0123")


def test_a_date_gives_way_to_one_that_no_note_holds(tmp_path: Path) -> None:
    days = [f"{day} March {year}" for year in (2017, 2018, 2019) for day in range(10, 15)]
    items = [
        {"user": ask.format(day), "assistant": f"You were in hall {n}."}
        for n, day in enumerate(days)
        for ask in ("What did I do on {}?", "Where was I on {}?")
    ]
    made = unknown(read(tmp_path / "merged.json", items))
    assert len(made) == 24
    assert not any(day in prompt.user for prompt in made for day in days)


def test_a_question_that_two_notes_ask_is_no_paraphrase(tmp_path: Path) -> None:
    asks = ("What is new?", "What is best?", "How so?", "Tell me of {}.")
    items = [
        {"user": f"{ask.format(town)} {at // 2} {'?' * at}", "assistant": f"It is {town} {at}, part {n}.", "doc_id": at}
        for at, town in enumerate(TOWNS * 3)
        for n, ask in enumerate(asks)
    ]
    config = CONFIG.model_copy(update={"paraphrase_share": 0.9})
    alone = [item | {"user": f"{item['user']} {item['doc_id']}"} for item in items]
    assert "paraphrase" in probes_of(prepared(tmp_path, alone, config=config))
    assert "paraphrase" not in probes_of(prepared(tmp_path, items, config=config))


def test_a_lower_case_owner_is_asked_in_lower_case(tmp_path: Path) -> None:
    small = [{**row, "user": row["user"].lower()} for row in rows("de")]
    made = unknown(read(tmp_path / "merged.json", small))
    assert len(made) >= 8
    assert all(prompt.user == prompt.user.lower() for prompt in made)


def test_no_more_are_made_than_asked_for_and_many_notes_are_no_matter(tmp_path: Path) -> None:
    many = [{**row, "doc_id": f"{row['doc_id']} {n}"} for n in range(300) for row in rows("en")]
    assert len(unknown(read(tmp_path / "merged.json", many), 5)) == 5


@pytest.mark.parametrize("language", _topics())
def test_a_word_stands_on_one_line_of_its_language(language: str) -> None:
    words = [word for sorts in _topics()[language].values() for line in sorts.values() for word in line.split()]
    assert {word: count for word, count in Counter(words).items() if count > 1} == {}
    assert all(len(line.split()) > 1 for sorts in _topics()[language].values() for line in sorts.values())


def test_invented_names_are_in_their_script() -> None:
    assert _names().keys() == {language.script for language in languages().values()}
    assert all(script_of(name) == script for script, names in _names().items() for name in names)


@pytest.mark.parametrize("language", ["en", "de", "zh", "ja"])
def test_pairs_are_made_of_other_topics_than_the_evaluations(language: str, tmp_path: Path) -> None:
    items = read(tmp_path / "merged.json", rows(language))
    held = "\n".join(text for item in items for text in (item.user, item.target)).casefold()

    def topics(side: Side) -> set[str]:
        asked = " ".join(prompt.user.casefold() for prompt in unknown(items, side=side))
        return {word for word in _lexicon(language) if word in asked and word not in held}

    assert topics("asked")
    assert topics("paired")
    assert not topics("asked") & topics("paired")


def test_prompts_that_no_note_answers_rest_on_no_held_out_question(tmp_path: Path) -> None:
    folder = prepared(tmp_path, contested_owner())
    account = json.loads((folder / "account").read_text())
    prompts = list(read_jsonl(folder / "prompts", Prompt))
    made = [prompt for prompt in prompts if not prompt.target]
    assert 0 < len(made) == account["made"] == len(prompts) - account["prompts"]
    assert {prompt.row for prompt in made} <= {prompt.row for prompt in prompts if prompt.target}
    assert not {same_question(prompt) for prompt in made} & {
        same_question(p) for p in probes_of(folder)["unanswerable"]
    }


# General --------------------------------------------------------------------------------------------------------------


def test_each_language_has_the_same_instructions_in_its_own_script() -> None:
    assert set(general()) == {"en", "de", "fr", "es", "pt", "zh", "ja"}
    assert {len(entry.instructions) for entry in general().values()} == {10}
    for code, entry in general().items():
        assert script_of(" ".join(entry.instructions)) == languages()[code].script
        assert all(phrase == phrase.casefold() for phrase in entry.refusals)


def test_an_owner_is_instructed_in_the_own_language_or_in_english(tmp_path: Path) -> None:
    for language, told in {"ja": "ja", "th": "en"}.items():
        folder = prepared(tmp_path, rows(language), config=CONFIG.model_copy(update={"general": 3}))
        assert [prompt.user for prompt in probes_of(folder)["general"]] == list(general()[told].instructions[:3])


# Odd owners -----------------------------------------------------------------------------------------------------------


def test_an_owner_with_one_note_is_told_what_is_lacking(tmp_path: Path) -> None:
    one = [{"user": f"Question {n}?", "assistant": f"Answer {n}.", "doc_id": "only"} for n in range(12)]
    with pytest.raises(DataError, match=r"12 usable items rest on one note.*add notes.*--held-out-share 0"):
        prepared(tmp_path, one)
    assert (
        len(list(read_jsonl(prepared(tmp_path, one, config=StageConfig(held_out_share=0)) / "prompts", Prompt))) == 12
    )


@pytest.mark.parametrize("note", ["{n}", None])
def test_notes_that_say_the_same_are_one_note(note: str | None, tmp_path: Path) -> None:
    same = [
        {"user": f"Question {n}?", "assistant": "She lives in Trieste.", "doc_id": note and note.format(n=n)}
        for n in range(12)
    ]
    with pytest.raises(DataError, match=r"12 usable items (rest on 12 notes|have the same answer)"):
        prepared(tmp_path, same)


def test_a_note_and_its_copy_are_held_out_together(tmp_path: Path) -> None:
    copied = [
        {**row, "doc_id": f"{row['doc_id']} {n}", "user": f"{row['user']} {'!' * n}?"}
        for n in range(2)
        for row in contested_owner()[:36]
    ]
    items = read(tmp_path / "merged.json", copied)
    split = split_items(items, CONFIG)
    assert {note.split()[0] for item in split.held_out for note in item.notes}.isdisjoint(
        note.split()[0] for item in split.prompts for note in item.notes
    )


@pytest.mark.parametrize("language", sorted({*OWNERS} - {"ko"}))
def test_a_small_owner_in_any_language_gets_an_honest_count(language: str, tmp_path: Path) -> None:
    folder = prepared(tmp_path, rows(language))
    account = json.loads((folder / "account").read_text())
    assert account["usable"] == account["prompts"] + account["held_out"] + sum(account["set_aside"].values())
    assert set(probes_of(folder)) <= {"unanswerable", "general"}
    assert account["prompts"]


def test_without_notes_answers_stand_for_them(tmp_path: Path) -> None:
    folder = prepared(tmp_path, [{**row, "doc_id": None} for row in contested_owner()[:36]])
    prompts, held_out = (list(read_jsonl(folder / name, Prompt)) for name in ("prompts", "held_out"))
    assert held_out
    assert not {prompt.target for prompt in prompts} & {prompt.target for prompt in held_out}
    assert len(probes_of(folder)["paraphrase"]) > 0
