"""Export a merged model as GGUF, and prove that the served file is the trained model.

llama.cpp's own converter writes the file. It is then opened and compared tensor by tensor, and served: rendered
prompts and token ids must equal those of transformers, or there is no export; greedy answers are compared and reported.
"""

import sys
from pathlib import Path

if __package__ is None:
    sys.path[0] = str(Path(__file__).resolve().parents[2])
    from lpm_kernel.by_path import enter

    enter()

import errno
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, ClassVar, Literal

from pydantic import Field

from lpm_kernel.errors import DataError, DiskError
from lpm_kernel.progress import say
from lpm_kernel.records import Prompt, read_jsonl, write_json
from lpm_kernel.serving.control_routes import Answer, ControlRoutes
from lpm_kernel.serving.converter import converting, find_converter
from lpm_kernel.serving.endpoint import ServingConfig
from lpm_kernel.serving.gguf_check import check_gguf
from lpm_kernel.serving.hostile_texts import HOSTILE
from lpm_kernel.serving.llama_cpp import serve
from lpm_kernel.training.model_files import read_model_config, read_object, weight_shards
from lpm_kernel.training.reference_answers import (
    GreedyAnswer,
    Rendered,
    end_ids,
    greedy_answers,
    render_prompt,
    until_end,
)
from lpm_kernel.training.weight_files import list_weights

DISK_ERRNOS = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS)
SLOTS = 4
"""Enough to compare with, and small in memory."""


class StageConfig(ServingConfig):
    """How the model is exported and compared."""

    operational: ClassVar[frozenset[str]] = frozenset({"converter_path"})

    outtype: Literal["f16", "bf16", "f32", "q8_0"] = Field(
        "f16", description="Format of the weights: 16, 16, 32 or 8.5 bits each."
    )
    converter_path: str = Field("llama.cpp", description="Folder with llama.cpp's convert_hf_to_gguf.py.")
    greedy_prompts: int = Field(20, ge=0, description="Prompts whose greedy answers are compared; 0: none.")
    greedy_tokens: int = Field(48, ge=1, description="Longest greedy answer compared, in tokens.")
    max_logprob_diff: float = Field(
        0.5,
        gt=0,
        description="Largest mean difference of the first tokens' log-probabilities, in nats; above it the GGUF is "
        "taken for another model's.",
    )


@dataclass(frozen=True)
class Reference:
    """What transformers makes of the prompts."""

    prompts: list[Rendered]
    answers: list[GreedyAnswer]
    """Of the first prompts, as many as are compared."""
    ends: set[int]
    """Token ids that end an answer."""
    chat_template: str
    vocabulary: int


@dataclass(frozen=True)
class Likeness:
    """How alike the greedy answers of both engines are."""

    equal: float
    """Share of answers that are the same, token by token."""
    prefix: float
    """Mean share of the leading tokens that agree, of the longer answer."""
    logprob_max_diff: float
    """Over the likeliest first tokens, in nats."""
    logprob_mean_diff: float


def run(
    config: StageConfig,
    *,
    model_path: Path,
    gguf_path: Path,
    report_path: Path,
    work_path: Path,
    prompts_path: Path | None = None,
) -> None:
    """Write the GGUF and the fidelity report; logs go to work_path.

    Raises MissingInputError without model or converter, DataError for a model that cannot be exported faithfully,
    ServiceError when no server runs; then neither file is left.
    """
    start = time.monotonic()
    conversations = _conversations(config, prompts_path)
    _check_model(model_path)
    converter_path = find_converter(config.converter_path)
    work_path.mkdir(parents=True, exist_ok=True)
    with _complete_or_absent(gguf_path, report_path):
        say(f"converting {model_path} to {config.outtype}")
        with converting(
            model_path,
            gguf_path,
            outtype=config.outtype,
            converter_path=converter_path,
            log_path=work_path / "convert.log",
        ) as conversion:
            reference = _reference(config, model_path, conversations)
            conversion.finish()
        report = check_fidelity(config, model_path, gguf_path, reference, work_path / "server.log")
        write_json(report_path, {**report, "seconds": round(time.monotonic() - start, 2)})


def check_fidelity(
    config: StageConfig, model_path: Path, gguf_path: Path, reference: Reference, log_path: Path
) -> dict[str, Any]:
    """Compare a GGUF with its model, on the disk and served; raises DataError when it is not that model."""
    shapes = {weight.name: weight.shape for weight in list_weights(weight_shards(model_path))}
    pre_tokenizer = check_gguf(
        gguf_path, shapes=shapes, vocabulary=reference.vocabulary, chat_template=reference.chat_template
    )
    served = config.model_copy(update={"slots": min(SLOTS, config.slots)})
    with serve(gguf_path, served, log_path) as endpoint:
        routes = ControlRoutes(endpoint)
        compared = [_check_prompt(routes, prompt) for prompt in reference.prompts]
        with ThreadPoolExecutor(endpoint.slots) as pool:
            asked = reference.prompts[: len(reference.answers)]
            answers = list(
                pool.map(lambda p: routes.greedy(routes.render(p.conversation), config.greedy_tokens), asked)
            )
    likeness = _compare(reference, answers) if answers else None
    if not any(compared):
        raise DataError(
            f"no prompt's token ids could be compared: none of {len(compared)} is in the Unicode normal form that the "
            f"tokenizer of {model_path} makes and llama.cpp does not; use a tokenizer with NFC or no normalizer"
        )
    _tell(len(compared), compared.count(True), likeness)
    if likeness and likeness.logprob_mean_diff > config.max_logprob_diff:
        raise DataError(
            f"{gguf_path} answers unlike {model_path}: first tokens differ by {likeness.logprob_mean_diff:.2f} nats in "
            f"the mean, at most {config.max_logprob_diff} is expected; it is another model's file: export again"
        )
    return {
        "prompts": len(compared),
        "template_equal": 1.0,
        "tokens_equal": 1.0,
        "prompts_compared": compared.count(True),
        "prompts_normalized": compared.count(False),
        "greedy_prompts": len(answers),
        "greedy_equal": likeness and likeness.equal,
        "greedy_prefix": likeness and likeness.prefix,
        "logprob_max_diff": likeness and likeness.logprob_max_diff,
        "logprob_mean_diff": likeness and likeness.logprob_mean_diff,
        "outtype": config.outtype,
        "engine": endpoint.engine,
        "bytes": gguf_path.stat().st_size,
        "pre_tokenizer": pre_tokenizer,
    }


@contextmanager
def _complete_or_absent(*paths: Path) -> Iterator[None]:
    try:
        yield
    except BaseException as error:
        for path in paths:
            path.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno in DISK_ERRNOS:
            raise DiskError(f"{paths[0]} could not be written ({error}); free space and start again") from error
        raise


def _check_model(model_path: Path) -> None:
    """Raise MissingInputError or DataError for a model that cannot be exported."""
    read_model_config(model_path)
    list_weights(weight_shards(model_path))
    settings_path = model_path / "tokenizer_config.json"
    settings = read_object(settings_path) if settings_path.is_file() else {}
    if not (settings.get("chat_template") or (model_path / "chat_template.jinja").is_file()):
        raise DataError(
            f"{model_path} has no chat template, so nobody can tell how to ask it; put chat_template.jinja there "
            "(the one that it was trained with), or start from the chat variant of the base model"
        )


def _conversations(config: StageConfig, prompts_path: Path | None) -> dict[str, list[dict[str, str]]]:
    """Name -> messages: prompts spread evenly over the file, then the built-in hostile texts."""
    own = list(read_jsonl(prompts_path, Prompt)) if prompts_path else []
    step = max(1, len(own) // max(1, config.greedy_prompts))
    chosen = own[::step][: config.greedy_prompts]
    named = {f"prompt {prompt.id}": [message.model_dump() for message in prompt.messages] for prompt in chosen}
    return named | {f"built-in text {name!r}": [{"role": "user", "content": text}] for name, text in HOSTILE.items()}


def _reference(config: StageConfig, model_path: Path, conversations: dict[str, list[dict[str, str]]]) -> Reference:
    from lpm_kernel.training.models import load_tokenizer, quiet_libraries

    quiet_libraries()
    tokenizer = load_tokenizer(model_path)
    prompts = [render_prompt(tokenizer, name, messages) for name, messages in conversations.items()]
    longest = int(read_model_config(model_path).get("max_position_embeddings") or config.slot_tokens)
    room = min(config.slot_tokens, longest) - config.greedy_tokens
    prompts.sort(key=lambda prompt: len(prompt.ids) > room or not prompt.normalized)
    fit = sum(len(prompt.ids) <= room and prompt.normalized for prompt in prompts)
    asked = prompts[: min(config.greedy_prompts, fit)]
    answers = greedy_answers(model_path, tokenizer, asked, config.greedy_tokens) if asked else []
    ends = end_ids(model_path, tokenizer)
    return Reference(prompts, answers, ends, str(tokenizer.chat_template), len(tokenizer))


def _check_prompt(routes: ControlRoutes, prompt: Rendered) -> bool:
    """Raise DataError when the server renders or tokenizes otherwise; False when token ids cannot be compared."""
    text = routes.render(prompt.conversation)
    if text not in (prompt.text, prompt.text.removeprefix(prompt.bos)):
        raise DataError(
            f"the server renders {prompt.name} otherwise than transformers (they part at character "
            f"{_parting(text, prompt.text)}), so the chat template does something that llama.cpp does not know; "
            "simplify chat_template.jinja"
        )
    if not prompt.normalized:
        return False
    ids = routes.token_ids(text)
    if ids != prompt.ids:
        raise DataError(
            f"the server tokenizes {prompt.name} otherwise than transformers (they part at token "
            f"{_parting(ids, prompt.ids)} of {len(prompt.ids)}), so it would serve another model than the trained one; "
            "use a tokenizer that llama.cpp knows (qwen2, gpt-2 or llama-bpe splitting; NFC or no normalizer)"
        )
    return True


def _compare(reference: Reference, answers: Sequence[Answer]) -> Likeness:
    prefixes, differences = [], []
    for ours, served in zip(reference.answers, answers, strict=True):
        ids = until_end(served.ids, reference.ends)
        longest = max(len(ours.ids), len(ids))
        prefixes.append(_parting(ours.ids, ids) / longest if longest else 1.0)
        differences += [abs(float(ours.first[id_]) - log_prob) for id_, log_prob in served.first.items()]
    return Likeness(
        equal=sum(prefix == 1 for prefix in prefixes) / len(prefixes),
        prefix=sum(prefixes) / len(prefixes),
        logprob_max_diff=max(differences, default=0.0),
        logprob_mean_diff=sum(differences) / max(1, len(differences)),
    )


def _parting(first: Sequence[Any], second: Sequence[Any]) -> int:
    """How many leading items agree."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(first, second, strict=False)))


def _tell(prompts: int, compared: int, likeness: Likeness | None) -> None:
    """prompts: rendered by both engines; compared: those of them whose token ids were compared."""
    say(f"  served and trained model agree on the template of {prompts} prompts")
    say(f"  and on the token ids of {compared} of {prompts} prompts")
    if compared < prompts:
        say("  the others hold characters that the tokenizer composes (Unicode normal form) and llama.cpp does not")
    if likeness:
        say(
            f"  greedy answers: {likeness.equal:.0%} the same, {likeness.prefix:.0%} of the leading tokens agree; "
            f"first-token log-probabilities differ by {likeness.logprob_max_diff:.4f} nats at most"
        )


if __name__ == "__main__":
    from lpm_kernel.commands.app import main

    main(["run", "export-gguf", *sys.argv[1:]])
