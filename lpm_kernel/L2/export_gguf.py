"""Export a merged model as GGUF, and prove that the served file is the trained model.

llama.cpp's own converter writes the file. It is then opened and compared tensor by tensor, and served: rendered
prompts and token ids must equal those of transformers, and the likeliest first tokens must be as likely as the format
allows, or there is no export; greedy answers are compared and reported.
"""

import sys
from pathlib import Path

if __package__ is None:
    sys.path[0] = str(Path(__file__).resolve().parents[2])
    from lpm_kernel.checkout import enter

    enter()

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar, Literal

from pydantic import Field

from lpm_kernel.errors import DataError, Finding, MissingInputError, translated
from lpm_kernel.export import fidelity
from lpm_kernel.export.completeness import check_gguf
from lpm_kernel.export.converter import converter_sha256, converting, find_converter
from lpm_kernel.export.hostile_texts import HOSTILE
from lpm_kernel.export.lost_settings import lost_settings
from lpm_kernel.export.trained_answers import end_ids, greedy_answers, render_prompts
from lpm_kernel.files import read_jsonl, write_json
from lpm_kernel.models.folder import read_model_config, read_model_object
from lpm_kernel.models.loading import check_base
from lpm_kernel.models.weights import read_weights
from lpm_kernel.progress import say
from lpm_kernel.records import Prompt
from lpm_kernel.serving.endpoint import ServingConfig
from lpm_kernel.serving.own_server import serve

SLOTS = 4
"""Enough to compare with, and small in memory."""
VOCABULARIES = ("tokenizer.json", "vocab.json", "*.model", "tekken.json")
"""Files of which a model needs one to have a tokenizer."""


class StageConfig(ServingConfig):
    """How the model is exported and compared."""

    own_word: ClassVar[frozenset[str]] = frozenset({"converter_path"})
    operational: ClassVar[frozenset[str]] = frozenset({"converter_path", "convert_timeout_s"})

    outtype: Literal["f16", "bf16", "f32", "q8_0"] = Field(
        "f16", description="Format of the weights: 16, 16, 32 or 8.5 bits each."
    )
    converter_path: str = Field(
        "llama.cpp", description="Folder with llama.cpp's convert_hf_to_gguf.py; a relative one begins in the checkout."
    )
    convert_timeout_s: float = Field(7200, gt=0, description="Longest time that the converter may take, in seconds.")
    greedy_prompts: int = Field(20, ge=0, description="Prompts whose greedy answers are compared; 0: none.")
    greedy_tokens: int = Field(48, ge=1, description="Longest greedy answer compared, in tokens.")
    max_logprob_diff: float | None = Field(
        None,
        gt=0,
        description="Largest mean difference of the likeliest first tokens' log-probabilities, in nats, above which "
        "there is no export. Unset: by format, "
        + ", ".join(f"{bound:g} for {outtype}" for outtype, bound in fidelity.MAX_LOGPROB_DIFF.items())
        + ".",
    )


def preflight(config: StageConfig) -> list[Finding]:
    """Whether the converter is here."""
    try:
        return [Finding("GGUF converter", str(find_converter(config.converter_path)))]
    except MissingInputError:
        return [Finding("GGUF converter", "not there", False, "bash scripts/setup", MissingInputError)]


def versions(config: StageConfig) -> dict[str, str]:
    """Which converter made the file."""
    return {"converter": converter_sha256(find_converter(config.converter_path))}


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
    ServiceError when no server runs or the converter hangs; then neither file is left.
    """
    start = time.monotonic()
    conversations = conversations_of(config, prompts_path)
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
            timeout_s=config.convert_timeout_s,
        ) as conversion:
            trained = ask_trained(config, model_path, conversations)
            conversion.finish()
        found = check_fidelity(config, model_path, gguf_path, trained, work_path / "server.log")
        write_json(report_path, found.model_copy(update={"seconds": round(time.monotonic() - start, 2)}))


def check_fidelity(
    config: StageConfig, model_path: Path, gguf_path: Path, trained: fidelity.Trained, log_path: Path
) -> fidelity.Fidelity:
    """Compare a GGUF with its model, on the disk and served; raises DataError when it is not that model."""
    shapes = {weight.name: weight.shape for weight in read_weights(model_path)}
    pre_tokenizer = check_gguf(
        gguf_path, shapes=shapes, vocabulary=trained.vocabulary, chat_template=trained.chat_template
    )
    served = config.model_copy(update={"slots": min(SLOTS, config.slots)})
    with serve(gguf_path, served, log_path) as endpoint:
        checks = fidelity.compare_prompts(endpoint, trained)
        likeness = fidelity.compare_answers(endpoint, trained, config.greedy_tokens)
    fidelity.refuse_prompts(checks, model_path)
    found = fidelity.measured(
        checks,
        likeness,
        answers=len(trained.answers),
        max_logprob_diff=config.max_logprob_diff or fidelity.MAX_LOGPROB_DIFF[config.outtype],
        outtype=config.outtype,
        engine=endpoint.engine,
        bytes=gguf_path.stat().st_size,
        pre_tokenizer=pre_tokenizer,
    )
    lost = lost_settings(model_path, gguf_path)
    fidelity.refuse_likelihoods(found, lost, model_path)
    fidelity.tell(found, lost)
    return found


@contextmanager
def _complete_or_absent(*paths: Path) -> Iterator[None]:
    try:
        with translated(paths[0]):
            yield
    except BaseException:
        for path in paths:
            path.unlink(missing_ok=True)
        raise


def _check_model(model_path: Path) -> None:
    """Raise MissingInputError or DataError for a model that cannot be exported."""
    check_base(model_path)
    if not any(path for name in VOCABULARIES for path in model_path.glob(name)):
        raise MissingInputError(
            f"{model_path} holds no tokenizer ({', '.join(VOCABULARIES)}); put the base model's tokenizer files there"
        )
    settings_path = model_path / "tokenizer_config.json"
    settings = read_model_object(settings_path) if settings_path.is_file() else {}
    if not (settings.get("chat_template") or (model_path / "chat_template.jinja").is_file()):
        raise DataError(
            f"{model_path} has no chat template, so nobody can tell how to ask it; put chat_template.jinja there "
            "(the one that it was trained with), or start from the chat variant of the base model"
        )


def conversations_of(config: StageConfig, prompts_path: Path | None) -> dict[str, list[dict[str, str]]]:
    """Name -> messages: prompts spread evenly over the file, then the built-in hostile texts."""
    own = list(read_jsonl(prompts_path, Prompt)) if prompts_path else []
    step = max(1, len(own) // max(1, config.greedy_prompts))
    chosen = own[::step][: config.greedy_prompts]
    named = {f"prompt {prompt.id}": [message.model_dump() for message in prompt.messages] for prompt in chosen}
    return named | {f"built-in text {name!r}": [{"role": "user", "content": text}] for name, text in HOSTILE.items()}


def ask_trained(
    config: StageConfig, model_path: Path, conversations: dict[str, list[dict[str, str]]]
) -> fidelity.Trained:
    """What transformers makes of the conversations, by name; greedy answers to the first that fit."""
    from lpm_kernel.models.loading import load_tokenizer, quiet_libraries

    quiet_libraries()
    tokenizer = load_tokenizer(model_path)
    rows = int(read_model_config(model_path).get("vocab_size") or len(tokenizer))
    if len(tokenizer) > rows:
        raise DataError(
            f"{model_path}: its tokenizer knows {len(tokenizer)} tokens, the model only {rows} (vocab_size); "
            "use the tokenizer files of the base model"
        )
    prompts = render_prompts(tokenizer, conversations)
    longest = int(read_model_config(model_path).get("max_position_embeddings") or config.slot_tokens)
    room = min(config.slot_tokens, longest) - config.greedy_tokens
    prompts.sort(key=lambda prompt: len(prompt.ids) > room or not prompt.normalized)
    fit = sum(len(prompt.ids) <= room and prompt.normalized for prompt in prompts)
    asked = prompts[: min(config.greedy_prompts, fit)]
    answers = greedy_answers(model_path, tokenizer, asked, config.greedy_tokens) if asked else []
    ends = end_ids(model_path, tokenizer)
    return fidelity.Trained(prompts, answers, ends, str(tokenizer.chat_template), len(tokenizer))


if __name__ == "__main__":
    from lpm_kernel.commands.app import main

    main(["run", "export-gguf", *sys.argv[1:]])
