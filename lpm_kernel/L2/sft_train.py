"""Fine-tune the base model on the owner's items: the answer and its end token carry the loss, the prompt does not.

`--lora_r 0` trains all weights and writes a whole model (for a model that is trained from scratch).
The items are those that `prepare` rendered; questions of the evaluation, held-out ones and probes, are left out, in
whatever item they are asked.
"""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

if __package__ is None:
    sys.path[0] = str(Path(__file__).resolve().parents[2])
    from lpm_kernel.checkout import enter

    enter()

from pydantic import Field

from lpm_kernel.errors import DataError
from lpm_kernel.files import read_jsonl
from lpm_kernel.owner.items import same_question
from lpm_kernel.progress import say, tally
from lpm_kernel.records import Probe, Prompt
from lpm_kernel.training.settings import RANK, TrainConfig


class StageConfig(TrainConfig):
    """Settings of SFT; rank, dropout and batch are Second-Me's, the learning rate is one for small models."""

    num_train_epochs: float = Field(3.0, gt=0, description="Passes over the items.")
    learning_rate: float = Field(2e-4, gt=0, description="Peak learning rate.")
    batch_size: int = Field(2, ge=1, description="Items per forward pass.")
    lora_r: int = Field(8, ge=0, description=RANK)
    lora_alpha: int = Field(16, ge=1, description="LoRA's scale: the adapter counts alpha / r.")
    lora_dropout: float = Field(0.1, ge=0, lt=1, description="Dropout on the adapter's input, a probability.")


def run(
    config: StageConfig,
    *,
    base_model_path: Path,
    training_data_path: Path,
    adapter_path: Path,
    work_path: Path,
    held_out_path: Path | None = None,
    probes_path: Path | None = None,
) -> None:
    """Train and write an adapter, or with rank 0 a whole model, to `adapter_path`.

    Raises DataError when no item is left to train on or the template lacks a role, DivergedError when the loss is no
    longer finite.
    """
    from lpm_kernel.models.folder import weight_shards
    from lpm_kernel.models.loading import check_base, load_tokenizer, quiet_libraries
    from lpm_kernel.training.checkpoints import binding_of
    from lpm_kernel.training.course import train

    check_base(base_model_path)
    quiet_libraries()
    items = _training_items(training_data_path, held_out_path, probes_path)
    tokenizer = load_tokenizer(base_model_path)
    features = tokenized(tokenizer, items, config.max_length)
    binding = binding_of(config.model_dump(), features, files=weight_shards(base_model_path))
    trainer = _trainer(config, base_model_path, features, tokenizer, work_path, binding)
    places = {"base_model_path": base_model_path, "adapter_path": adapter_path, "work_path": work_path}
    train(trainer, "SFT", config, **places, binding=binding)
    say(f"SFT done: {len(features)} items, {trainer.state.global_step} updates")


def _training_items(items_path: Path, held_out_path: Path | None, probes_path: Path | None) -> list[Prompt]:
    if items_path.is_file() and items_path.read_bytes()[:1] == b"[":
        raise DataError(
            f"{items_path} is a JSON list; SFT trains on the items that `lpm run prepare` renders of it, so that it "
            "asks as DPO does: leave --training_data_path out, or give the path that `lpm path items` tells"
        )
    items = list(read_jsonl(items_path, Prompt))
    unheld = without_questions(items, read_jsonl(held_out_path, Prompt) if held_out_path else ())
    probes = read_jsonl(probes_path, Probe) if probes_path else ()
    kept = without_questions(unheld, (probe.prompt for probe in probes))
    left_out = {"held_out": len(items) - len(unheld), "probes": len(unheld) - len(kept)}
    say(f"SFT items: {len(kept)} used, {sum(left_out.values())} left out{tally(left_out)}")
    if not kept:
        raise DataError(
            f"{items_path} leaves no item to train on{tally(left_out)}; add items with a question and an answer"
        )
    return kept


def without_questions(items: Iterable[Prompt], questions: Iterable[Prompt]) -> list[Prompt]:
    """The items that ask none of these questions, whatever their case, spacing or answer."""
    asked = {same_question(prompt) for prompt in questions}
    return [item for item in items if same_question(item) not in asked]


def tokenized(tokenizer: Any, items: Iterable[Prompt], max_length: int) -> list[dict[str, list[int]]]:
    """input_ids and labels of each item that fits; labels are -100 on the prompt."""
    from lpm_kernel.models.rendering import render_all

    features, too_long = [], 0
    for tokens in render_all(tokenizer, [(item.messages, item.target) for item in items]):
        if len(tokens.prompt) + len(tokens.answer) > max_length:
            too_long += 1
            continue
        labels = [-100] * len(tokens.prompt) + tokens.answer
        features.append({"input_ids": tokens.prompt + tokens.answer, "labels": labels})
    if too_long:
        say(f"SFT items longer than --max_length {max_length} tokens, left out: {too_long}")
    if not features:
        raise DataError(f"no item fits into --max_length {max_length} tokens; raise it")
    return features


def _trainer(
    config: StageConfig,
    base_model_path: Path,
    features: list[dict[str, list[int]]],
    tokenizer: Any,
    work_path: Path,
    binding: str,
) -> Any:
    from transformers import DataCollatorForSeq2Seq, Trainer, TrainingArguments, set_seed

    from lpm_kernel.models.loading import choose_precision
    from lpm_kernel.training.arguments import FloorWarmup, trainer_arguments
    from lpm_kernel.training.callbacks import GuardGradients, GuardLoss, ShowProgress, silence
    from lpm_kernel.training.checkpoints import MarkComplete
    from lpm_kernel.training.order import SeededOrder

    class SftTrainer(GuardLoss, FloorWarmup, Trainer):
        """transformers' Trainer that stops at a loss that is not finite, with an order that a resumed run repeats."""

        def _get_train_sampler(self, train_dataset: Any = None) -> SeededOrder:  # noqa: ARG002 - transformers' signature
            lengths = [len(feature["input_ids"]) for feature in features]
            return SeededOrder(config.batch_size * config.gradient_accumulation_steps, lengths, config.seed)

    set_seed(config.seed)
    precision = choose_precision(base_model_path, config.precision)
    arguments = TrainingArguments(**trainer_arguments(config, work_path, precision))
    trainer = SftTrainer(
        model=_model(config, base_model_path, precision),
        args=arguments,
        train_dataset=features,
        data_collator=DataCollatorForSeq2Seq(tokenizer, pad_to_multiple_of=None),
        processing_class=tokenizer,
        callbacks=[MarkComplete(binding), GuardGradients(), ShowProgress("SFT")],
    )
    silence(trainer)
    return trainer


def _model(config: StageConfig, base_model_path: Path, precision: str) -> Any:
    from peft import get_peft_model

    from lpm_kernel.models.loading import load_model
    from lpm_kernel.training.saving import lora_config

    if config.lora_r == 0:
        return load_model(base_model_path, "float32")  # updates of all weights are lost in 16 bit
    return get_peft_model(load_model(base_model_path, precision), lora_config(config))


if __name__ == "__main__":
    from lpm_kernel.commands.app import main

    main(["run", "sft-train", *sys.argv[1:]])
