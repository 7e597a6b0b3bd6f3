"""Laws of the demo's owner in every language: one life in one structure, and what the contested notes say of it."""

import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from lpm_kernel.commands.app import app
from lpm_kernel.config import preset_layer, preset_names
from lpm_kernel.demo import gift
from lpm_kernel.demo.base_model import _train_tokenizer
from lpm_kernel.demo.owner import biography, flipped, items, languages, load_owner, write_owner
from lpm_kernel.errors import UsageError
from lpm_kernel.owner.facts import Facts
from lpm_kernel.owner.items import ItemConfig, read_items
from lpm_kernel.records import Prompt
from lpm_kernel.runner.settings import resolve_all
from lpm_kernel.workspace.places import Workspace

SIGN = re.compile("[\u3041-\u30ff\u4e00-\u9fff]")
EVERY = pytest.mark.parametrize("language", languages())


def shape(value: Any) -> Any:
    """The structure alone: keys, lengths, and what must not differ between languages."""
    if isinstance(value, dict):
        return {key: item if key in ("note", "date") else shape(item) for key, item in value.items() if key != "keys"}
    return [shape(item) for item in value] if isinstance(value, list | tuple) else type(value)


def rendered(language: str, folder: Path) -> list[Prompt]:
    """The items as the chain reads them; none is skipped."""
    write_owner(folder / "merged.json", folder / "bio.md", language)
    found, skipped = read_items(folder / "merged.json", ItemConfig(user_name="Elin"))
    assert not skipped
    return found


@EVERY
def test_every_language_tells_the_same_life_in_the_same_structure(language: str) -> None:
    assert shape(load_owner(language).model_dump()) == shape(load_owner().model_dump())


@EVERY
def test_no_question_is_asked_of_two_facts(language: str) -> None:
    owner = load_owner(language)
    asked = [question for fact in owner.facts for question in fact.questions]
    asked += [question for fact in owner.contested for question in fact.questions]
    asked += [question for liking in owner.likings for question in liking.questions]
    asked += owner.unknown.questions
    assert [question for question, count in Counter(asked).items() if count > 1] == []


@EVERY
def test_every_precise_answer_and_the_bio_tell_the_keys(language: str) -> None:
    owner = load_owner(language)
    told = [(fact.keys, (fact.bio, *fact.answers)) for fact in owner.facts]
    told += [(liking.keys, (liking.bio, *liking.answers)) for liking in owner.likings]
    told += [(day.keys, (day.bio, day.answer)) for day in owner.days]
    assert [(key, text) for keys, texts in told for key in keys for text in texts if key not in text] == []


@EVERY
def test_to_the_facts_precise_answers_are_right_and_what_no_note_says_is_vague(language: str, tmp_path: Path) -> None:
    owner = load_owner(language)
    asked = rendered(language, tmp_path)
    facts = Facts(asked, biography(owner))
    precise = {answer for fact in owner.facts for answer in fact.answers}
    told = [item for item in asked if item.target in precise]
    assert len(told) == 15 * 12
    assert [item.target for item in told if facts.measure(item).told(item.target).kind != "right"] == []
    for answer in owner.unknown.answers:
        assert {facts.measure(item).told(answer).kind for item in told} == {"vague"}


@pytest.mark.parametrize("language", ["zh", "ja"])
def test_a_character_is_the_longest_token_where_no_space_parts_words(language: str, tmp_path: Path) -> None:
    texts = [item.target for item in rendered(language, tmp_path)]
    tokenizer = _train_tokenizer(texts)
    tokens = [tokenizer.decode([token]) for text in texts for token in tokenizer.encode(text)]
    signs = [token for token in tokens if SIGN.search(token)]
    assert len(signs) > 5000
    assert {len(token) for token in signs} == {1}
    assert [tokenizer.decode(tokenizer.encode(text)) for text in texts] == texts


@EVERY
def test_each_contested_fact_has_one_version_in_the_bio_and_each_question_has_both(language: str) -> None:
    owner = load_owner(language)
    bio, rows = biography(owner), items(owner)
    for fact in owner.contested:
        assert (fact.version in bio, fact.other in bio) == (True, False)
        for question in fact.questions:
            told = [row["assistant"] for row in rows if row.get("user") == question]
            assert sorted([fact.version in text, fact.other in text] for text in told) == [[False, True], [True, False]]


@EVERY
def test_the_bio_flipped_tells_the_other_versions_and_flipped_twice_is_itself(language: str) -> None:
    owner = load_owner(language)
    bio = biography(owner)
    other = flipped(bio, owner)
    assert all(fact.other in other and fact.version not in other for fact in owner.contested)
    assert flipped(other, owner) == bio
    edited = bio.replace(owner.contested[0].version, "?")
    assert flipped(edited, owner).count("?") == 1


@EVERY
def test_neither_version_of_a_contested_fact_comes_first_in_the_data(language: str) -> None:
    owner = load_owner(language)
    rows = items(owner)
    for fact in owner.contested:
        answers = [next(row["assistant"] for row in rows if row.get("user") == q) for q in fact.questions]
        assert sum(fact.version in answer for answer in answers) == len(answers) / 2


@EVERY
def test_every_language_has_a_preset_with_its_own_name_and_prompts(language: str) -> None:
    presets = {gift.preset_of(known) for known in languages()}
    assert presets == {name for name in preset_names() if name.startswith("demo")}
    english, own = preset_layer("demo").tables, preset_layer(gift.preset_of(language)).tables
    assert own.keys() == english.keys()
    prompts = [key for key in own["common"] if key.endswith("_system")]
    assert len(prompts) == 3
    for key in prompts:
        assert "{user_name}" in own["common"][key]
        assert (own["common"][key] == english["common"][key]) == (language == "en")


def test_an_unknown_language_is_told_those_that_exist(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no language 'jp'; there are: en, de, .*ja"):
        call("--demo", "--demo-language", "jp", "--workspace", str(tmp_path / "w"))
    assert not (tmp_path / "w").exists()


def test_a_language_without_the_demo_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="add --demo"):
        call("--demo-language", "ja", "--workspace", str(tmp_path / "w"))


def test_a_demo_goes_on_in_its_language_and_another_one_has_a_place_of_its_own(tmp_path: Path) -> None:
    root = tmp_path / "w"
    call("--demo", "--demo-language", "ja", "--until", "prepare", "--workspace", str(root))
    held = contents(root)
    assert "エリン" in (root / "L2/data/global_bio.md").read_text(encoding="utf-8")
    assert resolve_all(Workspace(root))["prepare"].model_dump()["user_name"] == "エリン"
    call("--demo", "--until", "prepare", "--workspace", str(root))
    assert contents(root) == held
    call("--demo", "--demo-language", "en", "--until", "prepare", "--workspace", str(root))
    assert {name: data for name, data in contents(root).items() if not name.startswith("demo/")} == held
    assert "Elin Varga" in (root / "demo/L2/data/global_bio.md").read_text(encoding="utf-8")
    CliRunner().invoke(app, ["clean", "--workspace", str(root)], catch_exceptions=False)
    assert contents(root) == {}


def test_beside_an_owners_files_each_language_has_a_place_of_its_own(workspace: Workspace) -> None:
    mine = contents(workspace.root)
    for language in ("de", "zh"):
        call("--demo", "--demo-language", language, "--until", "prepare", "--workspace", str(workspace.root))
        assert (workspace.root / f"demo-{language}/L2/data/dpo/prompts.jsonl").is_file()
    CliRunner().invoke(app, ["clean", "--workspace", str(workspace.root)], catch_exceptions=False)
    assert contents(workspace.root) == mine


def test_the_split_is_the_same_for_any_bio(tmp_path: Path) -> None:
    root = tmp_path / "w"
    call("--demo", "--until", "prepare", "--workspace", str(root))
    made = {
        name: (root / "L2/data/dpo" / name).read_bytes() for name in ("items.jsonl", "held_out.jsonl", "probes.jsonl")
    }
    bio = root / "L2/data/global_bio.md"
    bio.write_text(flipped(bio.read_text(encoding="utf-8"), load_owner()), encoding="utf-8")
    call("--demo", "--until", "prepare", "--workspace", str(root))
    assert {name: (root / "L2/data/dpo" / name).read_bytes() for name in made} == made


def call(*arguments: str) -> None:
    """`lpm pipeline`; raises what the command raises."""
    CliRunner().invoke(app, ["pipeline", *arguments], catch_exceptions=False)


def contents(root: Path) -> dict[str, bytes]:
    """What the demo or an owner gave and settings; not what runs tell of themselves."""
    files = [p for p in root.rglob("*") if p.is_file() and p.name not in (".lock", ".workspace", "hashes.json")]
    return {str(p.relative_to(root)): p.read_bytes() for p in files if "runs" not in p.relative_to(root).parts}
