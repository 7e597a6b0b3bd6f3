"""The owner's items, as Second-Me's `merged.json` holds them: a JSON list -> Prompt, rendered as SFT renders them.

Ten variants: the eight below, memory twice (preference QA and self QA), and any of them filtered (`score`).

| variant     | told by                             | user text                         | target           |
|-------------|-------------------------------------|-----------------------------------|------------------|
| context     | no assistant, enhanced_request      | request                           | enhanced_request |
| feedback    | no assistant, user_feedback         | request and expert's response     | user_feedback    |
| bio_qa      | no assistant, query                 | query                             | answer           |
| time_qa     | is_timeqa                           | `<|ME|>` user; system has the day | assistant        |
| dated       | timestamp                           | `<|ME|>` user; empty system       | assistant        |
| exact_day   | exact_day                           | `<|ME|>` user                     | assistant        |
| diversity   | doc_id, entity_name, question_type  | user                              | assistant        |
| memory      | user (preference QA and self QA)    | user                              | assistant        |

Any of them may carry `score` and `reasoning` (a filtered file). Null and missing are the same.
Texts are taken in Unicode form C: tokenizers compose characters when they train, and llama.cpp does not when it
serves, so only composed text has the same tokens in both.
"""

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from typing import Any

from pydantic import Field

from lpm_kernel.config import Config
from lpm_kernel.errors import DataError, MissingInputError
from lpm_kernel.files import key_of
from lpm_kernel.progress import progress
from lpm_kernel.records import Message, Prompt, is_sound

LEGACY_PREFIX = "<|ME|>"
NOTHING = {"", "none", "null"}
"""What a generator writes when it has no answer."""
CONTROL_TOKEN = re.compile(r"<[|\uff5c][^|\uff5c<>\s]{1,40}[|\uff5c]>|</?s>|<(?:start|end)_of_turn>|\[/?INST\]")
"""Template tokens inside a text would be read as control by every server and tokenizer."""
DECODER = json.JSONDecoder()
GAP = re.compile(r"[ \t\n\r]*")
PART = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}]|[^"\[\]{}:,\s]+', re.DOTALL)
"""Of a JSON text: a string, a bracket, or a number or word."""
UNREADABLE = object()
MARKS = 30
"""More combining marks in a row are no text, and to order them takes the square of their number (Unicode, UAX 15)."""
THINK = re.compile(r"\s*<think>(?P<think>.*?)</think>\s*(?:<answer>(?P<answer>.*?)</answer>)?", re.DOTALL)

MEMORY_SYSTEM = (
    "You are {user_name}'s second self. You know {user_name}'s notes, experiences and habits. "
    "Answer {user_name} helpfully, from these memories, and say so when they do not hold the answer."
)
CONTEXT_SYSTEM = (
    "You are {user_name}'s second self. Rewrite the request that {user_name} is about to send to an expert, "
    "and add what your memories of {user_name} hold that the expert should know."
)
FEEDBACK_SYSTEM = (
    "You are {user_name}'s second self. Judge the expert's response to {user_name}'s request as {user_name} would, "
    "from your memories, and say what suits and what is missing."
)
THINKING = " Think first, between <think> and </think>, and then answer."


class ItemConfig(Config):
    """How items are rendered, once for SFT and for the preference pairs."""

    user_name: str = Field("User", min_length=1, description="The owner's name, as the prompts call them.")
    memory_system: str = Field(MEMORY_SYSTEM, description="System prompt of questions; {user_name} is filled in.")
    context_system: str = Field(CONTEXT_SYSTEM, description="System prompt of requests to be enriched.")
    feedback_system: str = Field(FEEDBACK_SYSTEM, description="System prompt of feedback on an expert's response.")
    thinking: bool = Field(False, description="The SFT model was trained to think first (CoT).")
    max_item_chars: int = Field(24_000, ge=1, description="Longer items are skipped, in characters of all texts.")


@dataclass(frozen=True)
class ItemTexts:
    """The texts of one item before it becomes a Prompt."""

    variant: str
    system: str
    user: str
    target: str


class SkippedItemError(Exception):
    """An item that cannot be used; its argument is the reason code."""


def read_items(path: Path, config: ItemConfig) -> tuple[list[Prompt], Counter[str]]:
    """All usable items in file order, and the skipped ones counted by reason: usable + skipped = items.

    Raises MissingInputError, or DataError when the file is not a JSON list.
    """
    prompts: dict[str, Prompt] = {}
    skipped: Counter[str] = Counter()
    for row, item in enumerate(_items(path)):
        try:
            prompt = to_prompt(item, row, config)
        except SkippedItemError as error:
            skipped[str(error)] += 1
            continue
        first = prompts.get(prompt.id)
        if first is not None:
            skipped["duplicate"] += 1
            prompt = first.model_copy(update={"notes": tuple(dict.fromkeys(first.notes + prompt.notes))})
        prompts[prompt.id] = prompt
    return list(prompts.values()), skipped


def name_in(system: str) -> str:
    """The owner's name in a system prompt of questions as it is by default; empty for another one."""
    before, _, after = MEMORY_SYSTEM.partition("{user_name}")
    name = system.removeprefix(before).partition(after.partition("{user_name}")[0])[0]
    return name if system.startswith(MEMORY_SYSTEM.replace("{user_name}", name)) else ""


def same_question(prompt: Prompt) -> str:
    """A key that is equal for the same question in another case, spacing, punctuation or prefix."""
    return same_text(prompt.user.removeprefix(LEGACY_PREFIX))


def same_text(text: str) -> str:
    """A key that is equal for the same text in another case, spacing or punctuation."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(re.findall(r"\w+", folded)) or folded.strip()


def to_prompt(item: object, row: int, config: ItemConfig) -> Prompt:
    """One item as SFT renders it; raises SkippedItemError with a reason code."""
    if item is UNREADABLE:
        raise SkippedItemError("unreadable")
    if not isinstance(item, dict):
        raise SkippedItemError("not_an_object")
    present = {key: value for key, value in item.items() if value is not None}
    rendered = _render(present, config)
    texts = (rendered.system, rendered.user, rendered.target)
    if sum(map(len, texts)) > config.max_item_chars:
        raise SkippedItemError("too_long")
    messages = (_system_message(rendered.system), Message(role="user", content=rendered.user))
    return Prompt(
        id=key_of([m.model_dump() for m in messages], rendered.target)[:16],
        row=row,
        variant=rendered.variant,
        messages=messages,
        target=rendered.target,
        notes=_notes(present),
        score=_score(present),
    )


@lru_cache(maxsize=64)
def _system_message(text: str) -> Message:
    """One object for all items that share it: a million of them differ in few."""
    return Message(role="system", content=text)


def question_messages(text: str, config: ItemConfig) -> tuple[Message, ...]:
    """A question as memory items ask it."""
    return (_system_message(_system(config.memory_system, config)), Message(role="user", content=text))


def _system(template: str, config: ItemConfig) -> str:
    return template.replace("{user_name}", config.user_name) + (THINKING if config.thinking else "")


def _items(path: Path) -> Iterator[Any]:
    """The items one by one, so that no more than the file's text is held; raises what `read_items` does."""
    text = _text_of(path)
    start = _behind_gap(text, 0)
    try:
        if text[start] != "[":
            raise DataError(f"{path} holds a JSON {type(json.loads(text)).__name__}; expected a list of items")
        with progress("characters read", len(text)) as shown:
            for item, end in _elements(text, start + 1):
                shown.advance(end - shown.done)
                yield item
            shown.advance(len(text) - shown.done)
    except (ValueError, RecursionError) as error:  # RecursionError: brackets that are no list of items
        raise DataError(f"{path} is not JSON ({error}); expected a list of items; write the file again") from None


def _text_of(path: Path) -> str:
    if not path.is_file():
        raise MissingInputError(f"{path} is not there; put the SFT data there, or try the demo: lpm pipeline --demo")
    # A broken byte becomes a lone surrogate, so that only its own item is skipped.
    text = path.read_bytes().decode("utf-8", errors="surrogateescape").removeprefix("\ufeff")
    if not text.strip():
        raise DataError(f"{path} is empty; expected a JSON list of items, as Second-Me writes it")
    return text


def _elements(text: str, start: int) -> Iterator[tuple[Any, int]]:
    """Each value of the list whose bracket opens before `start`, and where it ends; raises JSONDecodeError."""
    at = _behind_gap(text, start)
    sign = text[at : at + 1]
    while sign != "]":
        value, at = _value(text, at)
        yield value, at
        at = _behind_gap(text, at)
        sign = text[at : at + 1]
        if sign == ",":
            at = _behind_gap(text, at + 1)
        elif sign != "]":
            raise json.JSONDecodeError("Expecting ',' delimiter", text, at)
    if (rest := _behind_gap(text, at + 1)) < len(text):
        raise json.JSONDecodeError("Extra data", text, rest)


def _value(text: str, at: int) -> tuple[Any, int]:
    """The value that begins at `at`, UNREADABLE where Python cannot hold it, and where it ends."""
    try:
        return DECODER.raw_decode(text, at)
    except json.JSONDecodeError:
        raise
    except (ValueError, RecursionError):  # a number of thousands of digits, or brackets deeper than Python's stack
        return UNREADABLE, _behind_value(text, at)


def _behind_value(text: str, at: int) -> int:
    """Where the value that begins at `at` ends, by its brackets alone."""
    depth = 0
    for part in PART.finditer(text, at):
        depth += (part[0] in "[{") - (part[0] in "]}")
        if depth <= 0:
            return part.end() if depth == 0 else part.start()
    return len(text)


def _behind_gap(text: str, at: int) -> int:
    match = GAP.match(text, at)
    return match.end() if match else at


def _render(item: Mapping[str, Any], config: ItemConfig) -> ItemTexts:
    name = config.user_name

    def text(key: str, reason: str) -> str:
        return _text(item, key, reason)

    def system(template: str) -> str:
        return _system(template, config)

    if "assistant" not in item and "enhanced_request" in item:
        user = f"{name}'s request is: {text('user_request', 'no_question')}"
        return ItemTexts("context", system(config.context_system), user, text("enhanced_request", "no_answer"))
    if "assistant" not in item and item.keys() & {"user_feedback", "expert_response"}:
        user = f"{name}'s request is: {text('user_request', 'no_question')}\n"
        user += f"Expert's response is: {text('expert_response', 'no_question')}"
        return ItemTexts("feedback", system(config.feedback_system), user, text("user_feedback", "no_answer"))
    if "assistant" not in item and "query" in item:
        target = text("answer", "no_answer") if config.thinking else _without_thinking(text("answer", "no_answer"))
        return ItemTexts("bio_qa", system(config.memory_system), text("query", "no_question"), target)

    user, target = text("user", "no_question"), text("assistant", "no_answer")
    if str(item.get("is_timeqa", "false")).casefold() not in ("false", "0", ""):
        today = f"You are a helpful assistant.\n\nToday’s date is {_stamp(item, 'timestamp')}"  # noqa: RUF001
        return ItemTexts("time_qa", today, LEGACY_PREFIX + user, target)
    if "timestamp" in item:
        return ItemTexts("dated", "", LEGACY_PREFIX + user, target)
    if "exact_day" in item:
        return ItemTexts("exact_day", "You are a helpful assistant.", LEGACY_PREFIX + user, target)
    variant = "diversity" if item.keys() & {"doc_id", "entity_name", "question_type"} else "memory"
    return ItemTexts(variant, system(config.memory_system), user, target)


def _text(item: Mapping[str, Any], key: str, missing: str) -> str:
    """A field's text; raises SkippedItemError when it is missing, empty, or not sound text."""
    value = item.get(key)
    if value is None:
        raise SkippedItemError(missing)
    if not isinstance(value, str):
        raise SkippedItemError("not_text")
    bare = value.removeprefix(LEGACY_PREFIX)
    if bare.strip(" \t\r\n.").casefold() in NOTHING:
        raise SkippedItemError(missing)
    if not is_sound(value) or "\x00" in value:
        raise SkippedItemError("broken_unicode")
    if CONTROL_TOKEN.search(bare):
        raise SkippedItemError("control_token")
    if _most_marks(bare) > MARKS:
        raise SkippedItemError("piled_marks")
    return unicodedata.normalize("NFC", bare).strip("\n")


def _most_marks(text: str) -> int:
    """The longest run of combining marks."""
    if text.isascii():
        return 0
    runs = (sum(1 for _ in run) for is_mark, run in groupby(map(unicodedata.combining, text), bool) if is_mark)
    return max(runs, default=0)


def _stamp(item: Mapping[str, Any], key: str) -> str:
    value = item.get(key)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    return _text(item, key, "no_timestamp")


def _without_thinking(answer: str) -> str:
    match = THINK.match(answer)
    if match is None:
        return answer
    bare = match["answer"] if match["answer"] is not None else answer[match.end() :]
    if not bare.strip():
        raise SkippedItemError("no_answer")
    return bare.strip()


def _notes(item: Mapping[str, Any]) -> tuple[str, ...]:
    """Note ids as text; numbers that a table library turned into 7.0 are 7 again."""
    value = item.get("doc_id")
    ids = value if isinstance(value, list) else [value]
    numbers = (int(note) if isinstance(note, float) and note.is_integer() else note for note in ids)
    texts = (str(note).strip() for note in numbers if isinstance(note, str | int) and not isinstance(note, bool))
    return tuple(dict.fromkeys(text for text in texts if text and is_sound(text)))


def _score(item: Mapping[str, Any]) -> float | None:
    value = item.get("score")
    try:
        return None if value is None or isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        return None  # what is no number says nothing about the item
