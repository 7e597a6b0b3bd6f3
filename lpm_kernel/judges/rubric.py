"""By what a language model judges, in the owner's language: `rubrics/<language>.toml`, a file a language."""

import tomllib
from functools import cache
from importlib import resources

from lpm_kernel.owner.language import language_name
from lpm_kernel.records import Record, Task

FALLBACK = "en"


class Rubric(Record):
    """A file of `rubrics/`."""

    name: str
    """Of the language, in itself."""
    rules: str
    """What holds for every question, and how to reply."""
    stranger: str
    """A bio that is nobody's."""
    tasks: dict[Task, str]
    """What counts besides, by what the question asks."""
    other: str = ""
    """What is said of a language that has no rubric."""


@cache
def rubric_in(language: str) -> Rubric:
    """Of a language by its code (ISO 639-1); the English one where there is none of its own."""
    folder = resources.files("lpm_kernel.judges") / "rubrics"
    file = folder / f"{language}.toml"
    known = file if language.isalpha() and file.is_file() else folder / f"{FALLBACK}.toml"
    return Rubric.model_validate(tomllib.loads(known.read_text(encoding="utf-8")))


@cache
def instruction(language: str, task: Task) -> str:
    """The judge's system prompt: the rules first, which all questions share, then what the task asks."""
    rubric = rubric_in(language)
    named = rubric.other.format(language=language_name(language)) if language not in ("", FALLBACK) else ""
    return "\n\n".join(filter(None, (rubric.rules, rubric.tasks[task], named)))
