"""The owner's global bio: Markdown, or Second-Me's `global_bio.json`."""

import json
from pathlib import Path

from lpm_kernel.errors import DataError, MissingInputError

MAX_BIO_BYTES = 256 * 1024
"""The bio stands whole in every prompt of a judge: this is about 65,000 tokens in Latin scripts and 90,000 in Chinese,
which leaves room for a question and its answers in the 128,000 tokens that today's judges read."""
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
            f"the bio {path} has {size:,} bytes, at most {most:,} are read: every prompt of the judge holds it whole; "
            "keep in it who you are (`lpm bio edit`), and put the details into your notes, merged.json"
        )


def _from_json(text: str) -> str:
    value = json.loads(text)
    if isinstance(value, dict):
        return next((value[key] for key in CONTENT_KEYS if isinstance(value.get(key), str) and value[key].strip()), "")
    return value if isinstance(value, str) else ""
