"""The owner's global bio: Markdown, or Second-Me's `global_bio.json`."""

import json
from pathlib import Path

from lpm_kernel.errors import DataError, MissingInputError

CONTENT_KEYS = ("content_third_view", "content", "summary_third_view", "summary")
"""Of Second-Me's L1 bio, the fullest text first."""


def read_bio(path: Path) -> str:
    """The bio's text; raises MissingInputError, or DataError when it is empty or unreadable."""
    cure = "write it with `lpm bio edit`: who you are, what you do and care about, in Markdown with `## ` sections"
    if not path.is_file():
        raise MissingInputError(f"there is no bio at {path}; {cure}")
    try:
        text = path.read_text(encoding="utf-8-sig")
        bio = _from_json(text) if path.suffix == ".json" else text
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DataError(f"the bio {path} cannot be read ({error}); save it as UTF-8, or {cure}") from None
    if not bio.strip():
        raise DataError(f"the bio {path} is empty; {cure}")
    return bio.strip()


def _from_json(text: str) -> str:
    value = json.loads(text)
    if isinstance(value, dict):
        return next((value[key] for key in CONTENT_KEYS if isinstance(value.get(key), str) and value[key].strip()), "")
    return value if isinstance(value, str) else ""
