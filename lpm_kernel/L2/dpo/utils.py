"""The pairs file, the contract between dpo_data and dpo_train; and the three settings that the seed documents.

`dpo_direct.json` is a JSON list of `{"prompt": {"system", "user"}, "chosen", "rejected"}`, all strings.
"""

import json
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from lpm_kernel.errors import DataError, MissingInputError
from lpm_kernel.records import Message, Record

# Honoured when filled in, but a source file is no safe for a key: prefer the environment, or `.env`,
# and for the bio `resources/L2/data/global_bio.md`.
OPENAI_API_KEY = ""
OPENAI_BASE_URL = ""
GLOBAL_BIO = ""


class PairPrompt(Record):
    """What stands before the answer. An empty system text is still a system message, as in SFT."""

    system: str
    user: str


class Pair(Record):
    """One row of dpo_direct.json."""

    prompt: PairPrompt
    chosen: str
    rejected: str

    @property
    def messages(self) -> tuple[Message, ...]:
        """The prompt as a conversation that ends with the user's turn."""
        system = Message(role="system", content=self.prompt.system)
        return (system, Message(role="user", content=self.prompt.user))


def read_pairs(path: Path) -> list[Pair]:
    """All pairs; raises MissingInputError, or DataError with the row that breaks the contract."""
    if not path.is_file():
        raise MissingInputError(f"{path} is not there; make it with: python lpm_kernel/L2/dpo/dpo_data.py")
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
        pairs = TypeAdapter(list[Pair]).validate_python(rows)
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DataError(f"{path} is not JSON ({error}); make it again with dpo_data.py") from None
    except ValidationError as error:
        first = error.errors()[0]
        raise DataError(f"{path}: row {first['loc']}: {first['msg']}; expected {Pair.__doc__}") from None
    for row, pair in enumerate(pairs):
        texts = (pair.prompt.system, pair.prompt.user, pair.chosen, pair.rejected)
        if any("\ud800" <= character <= "\udfff" for text in texts for character in text):
            raise DataError(f"{path}: row {row} holds a lone surrogate, which is no text; remove the row")
        if pair.chosen == pair.rejected:
            raise DataError(f"{path}: row {row} has the same chosen and rejected answer; remove it or judge again")
    return pairs
