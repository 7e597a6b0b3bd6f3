"""Whoever judges is asked in the owner's language, and every language says the same."""

import pytest

from lpm_kernel.judges.rubric import rubric_in
from lpm_kernel.judges.stranger import stranger_bio

LANGUAGES = ("en", "de", "fr", "es", "pt", "zh", "ja")


def test_each_language_has_a_stranger_of_its_own_and_others_the_english_one() -> None:
    assert len({stranger_bio(language) for language in LANGUAGES}) == len(LANGUAGES)
    assert stranger_bio("fi") == stranger_bio("en") == stranger_bio()


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_strangers_bio_has_two_sections(language: str) -> None:
    assert rubric_in(language).stranger.count("## ") == 2


@pytest.mark.parametrize("language", ["", "../en", "en.toml", "EN", "中文"])
def test_a_language_that_is_none_is_judged_in_english(language: str) -> None:
    assert rubric_in(language).name == "English"
