"""Train a LoRA adapter with DPO on the preference pairs.

Loss: -log sigmoid(beta * ((log pi(w) - log pi_ref(w)) - (log pi(l) - log pi_ref(l)))), Rafailov et al. 2023, eq. 7;
the reference is the model before training. A pair's confidence is its share of the loss turned the right way round
(`training/doubt.py`). A part of the pairs is kept back to measure margins on.

`--lora_r 0` trains all weights and writes a whole model, so that there is nothing to merge.

Beside the adapter: `lpm_adapter.json` (the base it belongs to) and `training_log.json`, a list in order of the
updates: {"step", "epoch", "loss", "rewards/margins", "rewards/accuracies", ...} every --logging_steps, and the
same with the prefix `eval_` for the pairs kept back, once an epoch.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

if __package__ is None:
    sys.path[0] = str(Path(__file__).resolve().parents[3])
    from lpm_kernel.checkout import enter

    enter()

from pydantic import Field

from lpm_kernel.errors import DataError
from lpm_kernel.files import key_of
from lpm_kernel.L2.dpo.utils import read_pairs
from lpm_kernel.progress import say
from lpm_kernel.training.doubt import LossName, slope_of
from lpm_kernel.training.pairs import PairTokens, dataset_of, tokenized
from lpm_kernel.training.settings import TrainConfig

STANDARD_RATE = 1e-4
MOVED = 0.1
"""Below this margin the chosen answers are favoured by odds of 1.1 to 1 at most (e to the margin)."""


class StageConfig(TrainConfig):
    """Settings of DPO; the learning rate is one at which the update survives rounding to 16 bit."""

    num_train_epochs: float = Field(2.0, gt=0, description="Passes over the pairs.")
    learning_rate: float = Field(STANDARD_RATE, gt=0, description="Peak learning rate.")
    batch_size: int = Field(4, ge=1, description="Pairs per forward pass.")
    beta: float = Field(0.1, gt=0, description="Pull back to the reference model; higher stays closer.")
    loss: LossName = Field(
        "cdpo",
        description="How a pair's confidence counts. cdpo: a doubtful pair teaches less (Mitchell 2023); robust: "
        "unbiased (Chowdhury 2024), a doubtful pair weighs more. The same for pairs that are certain.",
    )
    label_smoothing: float = Field(
        0.0, ge=0, lt=0.5, description="Share of all pairs expected to be the wrong way round, beside their own doubt."
    )
    eval_share: float = Field(0.1, ge=0, lt=1, description="Share of the questions kept back to measure margins on.")
    stop_margin: float = Field(5.0, ge=0, description="End early when the logged margins stay above this; 0: never.")
    min_pairs: int = Field(
        10, ge=1, description="Fewer pairs to train on than this are refused: they are learnt by heart, nothing more."
    )


@dataclass(frozen=True)
class PairSplit:
    """Pairs to train on, and pairs to measure on."""

    train: list[PairTokens]
    held_back: list[PairTokens]


def run(
    config: StageConfig,
    *,
    base_model_path: Path,
    training_data_path: Path,
    adapter_path: Path,
    work_path: Path,
) -> None:
    """Train and write the adapter to `adapter_path`; checkpoints go to `work_path`.

    Raises DataError for too few pairs or a template without their roles, DivergedError when loss, gradient or a logged
    figure is no longer finite.
    """
    from lpm_kernel.models.folder import weight_shards
    from lpm_kernel.models.loading import check_base, load_tokenizer, quiet_libraries
    from lpm_kernel.training.checkpoints import binding_of
    from lpm_kernel.training.course import train

    check_base(base_model_path)
    quiet_libraries()
    tokenizer = load_tokenizer(base_model_path)
    pairs = read_pairs(training_data_path)
    split = split_pairs(tokenized(tokenizer, pairs), config)
    if len(split.train) < config.min_pairs:
        raise DataError(f"{training_data_path}: {_too_few(len(pairs), split, config)}")
    say(f"DPO: {len(split.train)} pairs to train on, {len(split.held_back)} kept back to measure on")
    unsure = [pair.confidence for pair in split.train if pair.confidence < 1]
    if unsure:
        say(
            f"  {len(unsure)} pairs carry a confidence below 1, {min(unsure):.2f} to {max(unsure):.2f}: the loss "
            f"({config.loss}) weighs them by it"
        )
    binding = binding_of(config.model_dump(), files=[training_data_path, *weight_shards(base_model_path)])
    trainer = pair_trainer(config, base_model_path, split, tokenizer, work_path, binding)
    places = {"base_model_path": base_model_path, "adapter_path": adapter_path, "work_path": work_path}
    train(trainer, "DPO", config, **places, binding=binding)
    say(_summary(trainer.state, config))


def _too_few(number: int, split: PairSplit, config: StageConfig) -> str:
    """What became of the pairs, and how to have more of them."""
    trained, kept = len(split.train), len(split.held_back)
    fewer = f"; or train on fewer: --min-pairs {trained}" if trained else ""
    return (
        f"of {number} pairs {trained} are left to train on ({kept} kept back to measure on, {number - trained - kept} "
        f"longer than --max-length {config.max_length}), expected at least {config.min_pairs}. Make more: more items "
        "or a higher --sample-fraction (lpm run prepare), more --answers, a higher --temperature or another judge "
        f"(dpo_data.py){fewer}"
    )


def split_pairs(pairs: Sequence[PairTokens], config: StageConfig) -> PairSplit:
    """Leave out what is too long, for a cut answer would teach to stop in the middle; keep back whole prompts.

    A prompt is kept back by its hash, so that none stands on both sides.
    """
    fitting = [pair for pair in pairs if pair.length <= config.max_length]
    if len(fitting) < len(pairs):
        say(f"DPO pairs longer than --max_length {config.max_length} tokens, left out: {len(pairs) - len(fitting)}")
    prompts = sorted({pair.texts for pair in fitting}, key=lambda texts: key_of("held back", config.seed, *texts))
    kept = set(prompts[: int(config.eval_share * len(prompts))])
    sides: dict[bool, list[PairTokens]] = {True: [], False: []}
    for pair in fitting:
        sides[pair.texts in kept].append(pair)
    return PairSplit(train=sides[False], held_back=sides[True])


def pair_trainer(
    config: StageConfig, base_model_path: Path, split: PairSplit, tokenizer: Any, work_path: Path, binding: str
) -> Any:
    """trl's trainer for these pairs; `binding` is what a checkpoint in work_path must carry to be taken up."""
    from transformers import set_seed
    from trl.trainer.dpo_config import DPOConfig

    from lpm_kernel.models.loading import choose_precision, load_model
    from lpm_kernel.training.arguments import trainer_arguments
    from lpm_kernel.training.callbacks import GuardGradients, ShowProgress, StopWhenSaturated, silence
    from lpm_kernel.training.checkpoints import MarkComplete
    from lpm_kernel.training.pair_trainer import PairTrainer
    from lpm_kernel.training.saving import lora_config

    set_seed(config.seed)
    precision = choose_precision(base_model_path, config.precision)
    slopes = [slope_of(config.loss, pair.confidence, config.label_smoothing) for pair in split.train + split.held_back]
    arguments = DPOConfig(
        **trainer_arguments(config, work_path, precision),
        beta=config.beta,
        loss_type=["sigmoid"],
        max_length=None,
        disable_dropout=config.lora_dropout == 0,
        # Without an adapter to switch off, the reference answers before the first update, or never.
        precompute_ref_log_probs=config.num_train_epochs > 1 or config.lora_r == 0 or any(slopes),
        eval_strategy="epoch" if split.held_back else "no",
    )

    callbacks = [MarkComplete(binding), GuardGradients(), ShowProgress("DPO")]
    if config.stop_margin:
        callbacks.append(StopWhenSaturated(config.stop_margin))
    trainer = PairTrainer(
        model=load_model(base_model_path, precision if config.lora_r else "float32"),
        args=arguments,
        train_dataset=dataset_of(split.train, slopes[: len(split.train)]),
        eval_dataset=dataset_of(split.held_back, slopes[len(split.train) :]) if split.held_back else None,
        processing_class=tokenizer,
        peft_config=lora_config(config) if config.lora_r else None,
        callbacks=callbacks,
    )
    silence(trainer)
    return trainer


def _summary(state: Any, config: StageConfig) -> str:
    last = {key: value for entry in state.log_history for key, value in entry.items()}
    margin = last.get("eval_rewards/margins", last.get("rewards/margins", 0.0))
    accuracy = last.get("eval_rewards/accuracies", last.get("rewards/accuracies", 0.0))
    early = "" if state.global_step >= state.max_steps else f" of {state.max_steps} planned (margins saturated)"
    told = f"DPO done: {state.global_step} updates{early}; margin {margin:.2f}, accuracy {accuracy:.0%}"
    if margin >= MOVED:
        return told
    return (
        f"{told}\n  margin {margin:.2f} after {state.global_step} updates at {config.learning_rate:g}: the model "
        f"hardly moved; raise --learning-rate ({STANDARD_RATE:g} is the standard) or --num-train-epochs, or make more "
        "pairs"
    )


if __name__ == "__main__":
    from lpm_kernel.commands.app import main

    main(["run", "dpo-train", *sys.argv[1:]])
