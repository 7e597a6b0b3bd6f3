"""Laws of the embedded demo: the owner's data, the bio, and the base model made from them."""

import json
from collections import Counter
from pathlib import Path

import pytest

from lpm_kernel.demo.owner import biography, items, load_owner, write_owner
from lpm_kernel.demo.write import write_demo
from lpm_kernel.judges.facts import facts_of
from lpm_kernel.preferences.second_me import SecondMeConfig, read_rows
from lpm_kernel.records import Prompt

CONFIG = SecondMeConfig(user_name="Elin")


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("demo")
    write_demo(path / "merged.json", path / "bio.md", path / "base", config=CONFIG, seed=3)
    return path


def rows(demo: Path) -> list[Prompt]:
    return read_rows(demo / "merged.json", CONFIG)[0]


def test_every_item_is_usable_and_every_variant_occurs(demo: Path) -> None:
    usable, skipped = read_rows(demo / "merged.json", CONFIG)
    assert not skipped
    assert 250 <= len(usable) <= 400
    assert set(Counter(row.variant for row in usable)) == {
        *("memory", "diversity", "context", "feedback", "dated", "time_qa", "exact_day", "bio_qa")
    }
    assert any("score" in item and "reasoning" in item for item in items(load_owner()))


def test_each_precise_answer_holds_the_keys_that_the_bio_confirms() -> None:
    owner = load_owner()
    bio = biography(owner)
    for fact in owner.facts:
        assert len(set(fact.questions)) == len(fact.questions)
        for answer in fact.answers:
            stated = facts_of(answer, bio, "")
            assert {key.casefold() for key in fact.keys} <= stated, f"{fact.note}: {answer}"


def test_vague_answers_state_no_fact() -> None:
    owner = load_owner()
    bio = biography(owner)
    for fact in owner.facts:
        for vague in owner.vague:
            assert not facts_of(vague.format(topic=fact.topic), bio, "")


def test_a_fact_is_told_by_its_own_note_only(demo: Path) -> None:
    bio = (demo / "bio.md").read_text(encoding="utf-8")
    keys = {key.casefold(): fact.note for fact in load_owner().facts for key in fact.keys}
    for row in rows(demo):
        for fact in facts_of(row.reference, bio, "") & keys.keys():
            assert row.notes == (keys[fact],)


def test_the_owner_is_written_the_same_each_time(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_owner(tmp_path / name / "merged.json", tmp_path / name / "bio.md")
    assert (tmp_path / "a/merged.json").read_bytes() == (tmp_path / "b/merged.json").read_bytes()
    assert (tmp_path / "a/bio.md").read_bytes() == (tmp_path / "b/bio.md").read_bytes()


def test_the_base_model_is_seeded(demo: Path, tmp_path: Path) -> None:
    for seed in (3, 4):
        write_demo(tmp_path / "m.json", tmp_path / "b.md", tmp_path / str(seed), config=CONFIG, seed=seed)
    weights = (demo / "base/model.safetensors").read_bytes()
    assert weights == (tmp_path / "3/model.safetensors").read_bytes()
    assert weights != (tmp_path / "4/model.safetensors").read_bytes()
    assert (demo / "base/tokenizer.json").read_bytes() == (tmp_path / "4/tokenizer.json").read_bytes()


def test_the_tokenizer_gives_back_any_text_and_speaks_chatml(demo: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(demo / "base")
    for text in ("You grew up in Visby.", "Größe 猫 🎻", "a\n\n  b\t1987"):
        assert tokenizer.decode(tokenizer.encode(text)) == text
    turn = [{"role": "system", "content": ""}, {"role": "user", "content": "Hi"}]
    shown = tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
    assert shown == "<|im_start|>system\n<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    assert tokenizer.convert_ids_to_tokens(tokenizer.eos_token_id) == "<|im_end|>"


def test_the_bio_is_markdown_with_sections(demo: Path) -> None:
    bio = (demo / "bio.md").read_text(encoding="utf-8")
    assert bio.startswith("# Elin Varga\n")
    assert bio.count("\n## ") >= 5
    json.loads((demo / "merged.json").read_text(encoding="utf-8"))
