"""The owner's bio: what is read, and what is refused with the cure."""

import json
from pathlib import Path

import pytest

from lpm_kernel.errors import DataError
from lpm_kernel.owner.bio import MAX_BIO_BYTES, MAX_JSON_BYTES, read_bio


@pytest.mark.parametrize(
    ("name", "bio"),
    {
        "bio.md": "## Me\n" + "I keep bees. " * 8_000_000,
        "bio.json": json.dumps({"content": "蜂" * MAX_BIO_BYTES}),
        "shades.json": json.dumps({"content": "bees", "shades": "x" * MAX_JSON_BYTES}),
    }.items(),
)
def test_a_bio_of_any_size_is_refused_with_size_limit_and_cure(name: str, bio: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(bio, encoding="utf-8")
    with pytest.raises(DataError, match=rf"{name} has [\d,]+ bytes, at most [\d,]+ are read.*lpm bio edit.*notes"):
        read_bio(tmp_path / name)


@pytest.mark.parametrize("text", ["蜂" * (MAX_BIO_BYTES // 3), "b" * MAX_BIO_BYTES])
def test_a_bio_up_to_the_limit_is_read(text: str, tmp_path: Path) -> None:
    path = tmp_path / "bio.md"
    path.write_text(text, encoding="utf-8")
    assert read_bio(path) == text


@pytest.mark.parametrize("text", ["[" * 100_000, "9" * 5000, '"\\x', "[]", '{"content": 3}'])
def test_a_json_bio_that_holds_no_text_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "bio.json"
    path.write_text(text)
    with pytest.raises(DataError, match=r"bio\.json.*lpm bio edit"):
        read_bio(path)
