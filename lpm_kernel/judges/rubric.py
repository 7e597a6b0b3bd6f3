"""By what a language model judges, in the owner's language: `rubrics/<language>.toml`, a file a language."""

import tomllib
from functools import cache
from importlib import resources

from lpm_kernel.records import Record

FALLBACK = "en"


class Rubric(Record):
    """A file of `rubrics/`."""

    name: str
    """Of the language, in itself."""
    stranger: str
    """A bio that is nobody's."""


@cache
def rubric_in(language: str) -> Rubric:
    """Of a language by its code (ISO 639-1); the English one where there is none of its own."""
    folder = resources.files("lpm_kernel.judges") / "rubrics"
    file = folder / f"{language}.toml"
    known = file if language.isalpha() and file.is_file() else folder / f"{FALLBACK}.toml"
    return Rubric.model_validate(tomllib.loads(known.read_text(encoding="utf-8")))
