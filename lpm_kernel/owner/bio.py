"""The owner's global bio: Markdown, or Second-Me's `global_bio.json`."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

from lpm_kernel.errors import DataError, MissingInputError
from lpm_kernel.files import key_of

MAX_BIO_BYTES = 256 * 1024
"""About 40,000 words: a bio says who somebody is; what they know and did belongs into the notes."""
MAX_JSON_BYTES = 64 * MAX_BIO_BYTES
"""Second-Me's file holds more than the text that is taken from it."""
TEMPLATE = """## Who I am
Name, age, where I live, who is close to me.

## What I do
Work, studies, projects.

## What I care about
Interests, habits, likes and dislikes, goals."""
CONTENT_KEYS = ("content_third_view", "content", "summary_third_view", "summary")
"""Of Second-Me's L1 bio, the fullest text first."""
HEADING = re.compile(r"^## +(?=\S)", re.MULTILINE)


@dataclass(frozen=True)
class Section:
    """A part of the bio."""

    title: str
    """The heading without its marks; empty for what stands before the first."""
    text: str
    """As it stands in the bio, with its heading."""


def sections(bio: str) -> list[Section]:
    """The bio from heading to heading; one without `## ` headings is one section."""
    starts = [match.start() for match in HEADING.finditer(bio)]
    bounds = zip([0, *starts], [*starts, len(bio)], strict=True)
    texts = [bio[start:end].strip() for start, end in bounds]
    return [Section(_title(text), text) for text in texts if text]


def digests(bio: str) -> dict[str, str]:
    """Heading -> SHA-256 of what stands below it, in the bio's order."""
    texts: dict[str, list[str]] = {}
    for section in sections(bio):
        texts.setdefault(section.title, []).append(section.text)
    return {title: key_of(parts) for title, parts in texts.items()}


def _title(text: str) -> str:
    return text.splitlines()[0].removeprefix("##").strip() if HEADING.match(text) else ""


def read_bio(path: Path) -> str:
    """The bio's text; raises MissingInputError, or DataError when it is empty, too large or unreadable."""
    cure = "write it with `lpm bio edit`: who you are, what you do and care about, in Markdown with `## ` sections"
    if not path.is_file():
        raise MissingInputError(f"there is no bio at {path}; {cure}")
    as_json = path.suffix == ".json"
    _refuse_large(path, path.stat().st_size, MAX_JSON_BYTES if as_json else MAX_BIO_BYTES)
    try:
        text = path.read_text(encoding="utf-8-sig")
        bio = (_from_json(text) if as_json else text).strip()
    except (ValueError, RecursionError) as error:  # ValueError: no UTF-8, no JSON, or a number of thousands of digits
        raise DataError(f"the bio {path} cannot be read ({error}); save it as UTF-8, or {cure}") from None
    if not bio:
        raise DataError(f"the bio {path} is empty; {cure}")
    if bio == TEMPLATE:
        raise DataError(f"the bio {path} is the template as it was; write what is true of you with `lpm bio edit`")
    _refuse_large(path, len(bio.encode(errors="surrogatepass")), MAX_BIO_BYTES)
    return bio


def _refuse_large(path: Path, size: int, most: int) -> None:
    if size > most:
        raise DataError(
            f"the bio {path} has {size:,} bytes, at most {most:,} are read; "
            "keep in it who you are (`lpm bio edit`), and put the details into your notes, merged.json"
        )


def _from_json(text: str) -> str:
    value = json.loads(text)
    if isinstance(value, dict):
        return next((value[key] for key in CONTENT_KEYS if isinstance(value.get(key), str) and value[key].strip()), "")
    return value if isinstance(value, str) else ""
