"""Laws of SFT and DPO, on a real two-layer model."""

import json
import math
import random
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lpm_kernel.demo.base_model import write_base_model
from lpm_kernel.errors import DataError, DivergedError, LpmError
from lpm_kernel.files import write_jsonl
from lpm_kernel.L2 import sft_train
from lpm_kernel.L2.dpo import dpo_train
from lpm_kernel.L2.dpo.utils import read_pairs
from lpm_kernel.models.adapter import read_adapter
from lpm_kernel.models.fingerprint import weights_fingerprint
from lpm_kernel.models.rendering import end_of_turn, render_all
from lpm_kernel.owner.items import ItemConfig, read_items
from lpm_kernel.records import Message, PreferencePair, Prompt
from lpm_kernel.training.pairs import PairTokens, tokenized

COLOURS = ("red", "blue", "green", "grey", "white", "black", "brown", "pink")
ANSWERS = ("It is red.", "\nIt is red.", " It is red. \n", "<think>\nhm\n</think>\n\nIt is red.")
SPECIAL = ("<|eot_id|>", "<|end_of_text|>", "<eos>", "<end_of_turn>", "<start_of_turn>", "<|end|>", "<|user|>")
SFT = {"batch_size": 4, "learning_rate": 2e-3, "logging_steps": 1, "save_steps": 2}
DPO: dict[str, Any] = {
    "batch_size": 2,
    "learning_rate": 2e-3,
    "logging_steps": 1,
    "save_steps": 2,
    "lora_r": 4,
    "min_pairs": 1,
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("base")
    write_base_model(path, [f"Which colour? It is {c}. system user assistant" for c in COLOURS] * 20, seed=1, layers=2)
    return path


@pytest.fixture
def items(tmp_path: Path) -> Path:
    """As prepare renders them."""
    path = tmp_path / "merged.json"
    path.write_text(
        json.dumps([{"user": f"Which colour {i}?", "assistant": f"It is {c}."} for i, c in enumerate(COLOURS)])
    )
    write_jsonl(tmp_path / "items.jsonl", read_items(path, ItemConfig(user_name="Ada"))[0])
    return tmp_path / "items.jsonl"


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    path = tmp_path / "dpo_direct.json"
    rows = [
        {"prompt": {"system": "", "user": f"Which colour {i}?"}, "chosen": f"It is {c}.", "rejected": "It is a colour."}
        for i, c in enumerate(COLOURS)
    ]
    path.write_text(json.dumps(rows))
    return path


def train_dpo(base: Path, pairs: Path, out: Path, **settings: Any) -> Path:
    work = settings.pop("work_path", out.parent / f"{out.name}.work")
    config = dpo_train.StageConfig(**(DPO | settings))
    dpo_train.run(config, base_model_path=base, training_data_path=pairs, adapter_path=out, work_path=work)
    return out


def train_sft(base: Path, items: Path, out: Path, held_out: Path | None = None, **settings: Any) -> Path:
    config = sft_train.StageConfig(**(SFT | settings))
    sft_train.run(
        config,
        base_model_path=base,
        training_data_path=items,
        held_out_path=held_out,
        adapter_path=out,
        work_path=out.parent / f"{out.name}.work",
    )
    return out


def adapter_bytes(path: Path) -> bytes:
    return (path / "adapter_model.safetensors").read_bytes()


def test_dpo_trains_the_prompt_with_its_generation_prompt_and_the_answer_to_its_end(base: Path, pairs: Path) -> None:
    from lpm_kernel.models.loading import load_tokenizer, quiet_libraries

    quiet_libraries()
    tokenizer = load_tokenizer(base)
    told, config = read_pairs(pairs), dpo_train.StageConfig(**DPO, eval_share=0)
    split = dpo_train.split_pairs(tokenized(tokenizer, told), config)
    rows = dpo_train.pair_trainer(config, base, split, tokenizer, pairs.parent / "work", "").train_dataset
    for pair, row in zip(told, rows, strict=True):
        messages = [message.model_dump() for message in pair.messages]
        shown = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        assert tokenizer.decode(row["prompt_ids"]) == shown
        for side, answer in (("chosen_ids", pair.chosen), ("rejected_ids", pair.rejected)):
            assert row[side] == [*tokenizer.encode(answer), tokenizer.eos_token_id]
            assert render_all(tokenizer, [(pair.messages, answer)])[0].answer == row[side]
        assert render_all(tokenizer, [(pair.messages, pair.chosen)])[0].prompt == row["prompt_ids"]


@pytest.fixture
def chat_model(base: Path, tmp_path: Path) -> Callable[[str, str], Path]:
    """The base model with another family's template, from trl's collection, and its special tokens."""

    def make(template: str, eos: str) -> Path:
        import trl
        from transformers import AutoTokenizer

        path = tmp_path / template
        shutil.copytree(base, path)
        tokenizer = AutoTokenizer.from_pretrained(base)
        tokenizer.add_special_tokens({"additional_special_tokens": list(SPECIAL), "bos_token": "<bos>"})
        tokenizer.eos_token = eos
        tokenizer.chat_template = (Path(trl.__file__).parent / f"chat_templates/{template}.jinja").read_text()
        tokenizer.save_pretrained(path)
        return path

    return make


@pytest.mark.parametrize(
    ("template", "eos", "end"),
    [
        ("qwen2_5", "<|im_end|>", "<|im_end|>"),
        ("qwen3", "<|im_end|>", "<|im_end|>"),
        ("llama3", "<|end_of_text|>", "<|eot_id|>"),
        ("gemma3", "<eos>", "<end_of_turn>"),
        ("phi3", "<|endoftext|>", "<|end|>"),
    ],
)
def test_sft_and_dpo_train_the_served_prompt_the_answer_as_it_is_and_the_templates_end_of_turn(
    chat_model: Callable[[str, str], Path], tmp_path: Path, template: str, eos: str, end: str
) -> None:
    from lpm_kernel.models.loading import load_tokenizer, quiet_libraries

    quiet_libraries()
    model = chat_model(template, eos)
    tokenizer = load_tokenizer(model)
    prompt = (Message(role="system", content="You are Ada."), Message(role="user", content="Which colour?"))
    pairs = [PreferencePair(messages=prompt, chosen=answer, rejected="It is a colour.") for answer in ANSWERS]
    config = dpo_train.StageConfig(**(DPO | {"num_train_epochs": 1}))
    split = dpo_train.PairSplit(tokenized(tokenizer, pairs), [])
    rows = dpo_train.pair_trainer(config, model, split, tokenizer, tmp_path / "w", "").train_dataset
    shown = tokenizer.apply_chat_template(
        [message.model_dump() for message in pairs[0].messages], tokenize=False, add_generation_prompt=True
    )
    for pair, row in zip(pairs, rows, strict=True):
        assert row["prompt_ids"] == tokenizer.encode(shown, add_special_tokens=False)
        for side, answer in (("chosen_ids", pair.chosen), ("rejected_ids", pair.rejected)):
            assert row[side] == tokenizer.encode(answer + end, add_special_tokens=False)
            assert row[side] == render_all(tokenizer, [(pair.messages, answer)])[0].answer


def test_a_template_whose_end_no_server_knows_ends_with_eos(base: Path) -> None:
    from lpm_kernel.models.loading import load_tokenizer

    tokenizer = load_tokenizer(base)
    tokenizer.chat_template = "{% for m in messages %}[{{ m['content'] }}]<|stop|>{% endfor %}"
    assert end_of_turn(tokenizer) == tokenizer.eos_token_id


@pytest.mark.parametrize("train", ["sft", "dpo"])
def test_a_template_that_takes_no_system_role_is_refused_by_name_before_training(
    chat_model: Callable[[str, str], Path], items: Path, pairs: Path, tmp_path: Path, train: str
) -> None:
    model = chat_model("gemma", "<eos>")
    with pytest.raises(DataError, match=r"chat template of .*gemma cannot render .*system.*; take a model"):
        train_sft(model, items, tmp_path / "out") if train == "sft" else train_dpo(model, pairs, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("ratio", [0.1, 0.9])
def test_a_run_of_one_update_learns(base: Path, pairs: Path, tmp_path: Path, ratio: float) -> None:
    from safetensors.torch import load_file

    out = train_dpo(base, pairs, tmp_path / "a", batch_size=8, num_train_epochs=1, eval_share=0, warmup_ratio=ratio)
    assert json.loads((out / "training_log.json").read_text())[-1]["step"] == 1
    weights = load_file(out / "adapter_model.safetensors")
    assert all(tensor.any() for name, tensor in weights.items() if "lora_B" in name)


def test_a_last_update_that_diverges_is_seen_in_the_evaluation_and_writes_no_adapter(
    base: Path, pairs: Path, tmp_path: Path
) -> None:
    settings = {"batch_size": 8, "num_train_epochs": 1, "eval_share": 0.2, "learning_rate": 1e30}
    for _ in ("first", "again: the checkpoint of the last update is not believed"):
        with pytest.raises(DivergedError, match="learning_rate"):
            train_dpo(base, pairs, tmp_path / "a", **settings)
        assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("rank_pattern", ["q_proj"]),
        ("rank_pattern", {"(": 4}),
        ("rank_pattern", {"q_proj": 0}),
        ("alpha_pattern", "q_proj"),
        ("alpha_pattern", {"q_proj": "4"}),
        ("modules_to_save", 5),
        ("r", 0),
        ("lora_alpha", math.nan),
    ],
)
def test_a_malformed_adapter_config_is_refused_by_field(tmp_path: Path, field: str, value: Any) -> None:
    config = {"peft_type": "LORA", "r": 4, "lora_alpha": 8}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config | {field: value}))
    with pytest.raises(DataError, match=rf"adapter_config\.json: {field} = .*expected"):
        read_adapter(tmp_path)


def test_the_same_seed_gives_the_same_adapter(base: Path, pairs: Path, tmp_path: Path) -> None:
    first, second = (train_dpo(base, pairs, tmp_path / name) for name in ("a", "b"))
    other = train_dpo(base, pairs, tmp_path / "c", seed=7)
    assert adapter_bytes(first) == adapter_bytes(second) != adapter_bytes(other)


def trainer_of(base: Path, pairs: Path, confidences: list[float], **settings: Any) -> Any:
    """On these pairs with these confidences, its adapter moved away from the reference."""
    import torch

    from lpm_kernel.models.loading import load_tokenizer, quiet_libraries

    quiet_libraries()
    tokenizer = load_tokenizer(base)
    told = [p.model_copy(update={"confidence": c}) for p, c in zip(read_pairs(pairs), confidences, strict=True)]
    config = dpo_train.StageConfig(**(DPO | {"eval_share": 0, "num_train_epochs": 2} | settings))
    split = dpo_train.split_pairs(tokenized(tokenizer, told), config)
    trainer = dpo_train.pair_trainer(config, base, split, tokenizer, pairs.parent / "work", "")
    torch.manual_seed(7)
    trainer.model.double()
    for name, parameter in trainer.model.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(std=0.3)
    return trainer


def loss_and_gradients(trainer: Any) -> tuple[float, dict[str, Any]]:
    """On all pairs, as one batch."""
    trainer.model.zero_grad()
    loss = trainer.compute_loss(trainer.model, trainer.data_collator(list(trainer.train_dataset)))
    loss.backward()
    gradients = {n: p.grad.clone() for n, p in trainer.model.named_parameters() if p.grad is not None}
    return float(loss.detach()), gradients


def plain_loss_and_gradients(
    trainer: Any, confidences: list[float], loss: str, smoothing: float
) -> tuple[float, dict[str, Any]]:
    """The formulas as their papers write them, in plain torch, a pair at a time."""
    import torch
    from torch.nn.functional import logsigmoid

    def log_prob(prompt: list[int], answer: list[int]) -> Any:
        logits = trainer.model(input_ids=torch.tensor([prompt + answer])).logits[0, :-1]
        picked = logits.log_softmax(-1)[range(len(logits)), (prompt + answer)[1:]]
        return picked[-len(answer) :].sum()

    trainer.model.zero_grad()
    losses = []
    for row, confidence in zip(trainer.train_dataset, confidences, strict=True):
        sides = [(row["prompt_ids"], row["chosen_ids"]), (row["prompt_ids"], row["rejected_ids"])]
        reference = [row["ref_chosen_logps"], row["ref_rejected_logps"]]
        with torch.no_grad(), trainer.model.disable_adapter():
            assert [float(log_prob(*side)) for side in sides] == pytest.approx(reference, abs=1e-4)
        chosen, rejected = (log_prob(*side) - ref for side, ref in zip(sides, reference, strict=True))
        x, e = trainer.beta * (chosen - rejected), 1 - confidence
        e = e * (1 - smoothing) + (1 - e) * smoothing
        if loss == "cdpo":
            losses.append((1 - e) * -logsigmoid(x) + e * -logsigmoid(-x))
        else:
            losses.append(((1 - e) * -logsigmoid(x) - e * -logsigmoid(-x)) / (1 - 2 * e))
    total: Any = torch.stack(losses).mean()
    total.backward()
    return float(total.detach()), {n: p.grad.clone() for n, p in trainer.model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize(("loss", "smoothing"), [("cdpo", 0.0), ("cdpo", 0.2), ("robust", 0.0), ("robust", 0.1)])
@pytest.mark.parametrize("seed", range(2))
def test_a_pairs_doubt_enters_loss_and_gradients_as_the_papers_say(
    base: Path, pairs: Path, loss: str, smoothing: float, seed: int
) -> None:
    draw = random.Random(seed)
    confidences = [draw.uniform(0.6, 1) for _ in COLOURS]
    trainer = trainer_of(base, pairs, confidences, loss=loss, label_smoothing=smoothing, seed=seed)
    found, expected = loss_and_gradients(trainer), plain_loss_and_gradients(trainer, confidences, loss, smoothing)
    assert found[0] == pytest.approx(expected[0], abs=1e-6)
    assert found[1].keys() == expected[1].keys()
    largest = max(float(gradient.abs().max()) for gradient in expected[1].values())
    # Norms and rotary angles are float32 in a float64 model too.
    apart = max(float((found[1][name] - expected[1][name]).abs().max()) for name in expected[1])
    assert apart < 3e-6 * max(1, largest)


@pytest.mark.parametrize("loss", ["cdpo", "robust"])
def test_certain_pairs_are_plain_dpo_to_the_bit(base: Path, pairs: Path, loss: str) -> None:
    from trl.trainer.dpo_trainer import DPOTrainer

    trainer = trainer_of(base, pairs, [1.0] * len(COLOURS), loss=loss)
    found = loss_and_gradients(trainer)
    batch = trainer.data_collator(list(trainer.train_dataset))
    batch.pop("slope")
    trainer.model.zero_grad()
    plain_loss: Any = DPOTrainer.compute_loss
    plain = plain_loss(trainer, trainer.model, batch | {"slope": 0 * batch["ref_chosen_logps"]})
    plain.backward()
    assert found[0] == float(plain.detach())
    assert all(bool((found[1][n] == p.grad).all()) for n, p in trainer.model.named_parameters() if p.grad is not None)


def test_a_pair_as_likely_wrong_as_right_teaches_nothing_at_the_start(base: Path, pairs: Path) -> None:
    sizes = []
    for confidence in (1.0, 0.75, 0.500001):
        trainer = trainer_of(base, pairs, [confidence] * len(COLOURS), loss="cdpo")
        for name, parameter in trainer.model.named_parameters():
            if "lora_B" in name:
                parameter.data.zero_()
        gradients = loss_and_gradients(trainer)[1]
        sizes.append(max(float(g.abs().max()) for g in gradients.values()))
    assert sizes[1] == pytest.approx(sizes[0] / 2, rel=1e-3)
    assert sizes[2] < sizes[0] / 1000


@pytest.mark.parametrize(
    "setting",
    [{"label_smoothing": 0.3}, {"loss": "robust", "label_smoothing": 0.3}, {"beta": 0.5}, {"learning_rate": 1e-3}],
)
def test_each_setting_of_the_loss_counts(base: Path, pairs: Path, tmp_path: Path, setting: dict[str, float]) -> None:
    usual = train_dpo(base, pairs, tmp_path / "usual")
    assert adapter_bytes(usual) != adapter_bytes(train_dpo(base, pairs, tmp_path / "other", **setting))


def test_a_killed_dpo_run_resumes_to_the_same_adapter(base: Path, pairs: Path, tmp_path: Path) -> None:
    whole = train_dpo(base, pairs, tmp_path / "whole")
    kept = sorted((tmp_path / "whole.work").glob("checkpoint-*"), key=lambda p: int(p.name.split("-")[1]))
    work = tmp_path / "resumed.work"
    shutil.copytree(kept[0], work / kept[0].name)
    shutil.copytree(kept[-1], work / "checkpoint-99")
    (work / "checkpoint-99/optimizer.pt").write_bytes(b"torn")
    resumed = train_dpo(base, pairs, tmp_path / "resumed", work_path=work)
    assert adapter_bytes(resumed) == adapter_bytes(whole)
    assert not (work / "checkpoint-99").exists()


def test_sft_killed_in_a_later_epoch_resumes_to_the_same_adapter(base: Path, items: Path, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"batch_size": 2, "save_steps": 3, "num_train_epochs": 3}
    whole = train_sft(base, items, tmp_path / "whole", **settings)
    shutil.copytree(tmp_path / "whole.work/checkpoint-9", tmp_path / "resumed.work/checkpoint-9")
    resumed = train_sft(base, items, tmp_path / "resumed", **settings)
    assert adapter_bytes(resumed) == adapter_bytes(whole)


def test_changed_pairs_do_not_resume_an_old_run(base: Path, pairs: Path, tmp_path: Path) -> None:
    work = tmp_path / "work"
    train_dpo(base, pairs, tmp_path / "old", work_path=work)
    pairs.write_text(json.dumps(json.loads(pairs.read_text())[::-1]))
    fresh = train_dpo(base, pairs, tmp_path / "fresh")
    assert adapter_bytes(train_dpo(base, pairs, tmp_path / "new", work_path=work)) == adapter_bytes(fresh)


def test_the_adapter_is_float32_and_names_its_base(base: Path, pairs: Path, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file

    out = train_dpo(base, pairs, tmp_path / "adapter", precision="bfloat16")
    assert {tensor.dtype for tensor in load_file(out / "adapter_model.safetensors").values()} == {torch.float32}
    assert json.loads((out / "lpm_adapter.json").read_text())["base_weights_sha256"] == weights_fingerprint(base)


def test_margins_grow_and_are_logged_for_both_sides(base: Path, pairs: Path, tmp_path: Path) -> None:
    out = train_dpo(base, pairs, tmp_path / "adapter", num_train_epochs=6, eval_share=0.3)
    log = json.loads((out / "training_log.json").read_text())
    margins = [entry["rewards/margins"] for entry in log if "rewards/margins" in entry]
    assert margins[-1] > margins[0]
    held_back = [entry for entry in log if "eval_rewards/margins" in entry]
    assert len(held_back) == 6
    assert all(entry["step"] >= 1 for entry in log)


def test_dpo_ends_early_when_margins_saturate(base: Path, pairs: Path, tmp_path: Path) -> None:
    out = train_dpo(base, pairs, tmp_path / "adapter", num_train_epochs=40, stop_margin=0.01)
    log = json.loads((out / "training_log.json").read_text())
    assert log[-1]["step"] < 40 * len(COLOURS) // DPO["batch_size"]


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_stops_within_a_step_and_keeps_the_last_good_checkpoint(
    base: Path, pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bad: float
) -> None:
    from lpm_kernel.training.pair_trainer import PairTrainer

    real: Callable[..., Any] = PairTrainer.compute_loss

    def poisoned(self: Any, *args: Any, **kwargs: Any) -> Any:
        return real(self, *args, **kwargs) * (bad if self.state.global_step == 3 else 1)

    monkeypatch.setattr(PairTrainer, "compute_loss", poisoned)
    with pytest.raises(DivergedError, match="step 4"):
        train_dpo(base, pairs, tmp_path / "adapter", eval_share=0)
    assert not (tmp_path / "adapter").exists()
    monkeypatch.undo()
    work = tmp_path / "adapter.work"
    assert [path.name for path in work.glob("checkpoint-*")] == ["checkpoint-2"]
    resumed = train_dpo(base, pairs, tmp_path / "adapter", eval_share=0)
    assert adapter_bytes(resumed) == adapter_bytes(train_dpo(base, pairs, tmp_path / "whole", eval_share=0))


@pytest.mark.parametrize("settings", [{"max_length": 16}, {"min_pairs": 100}])
def test_too_few_pairs_are_refused_with_the_cure(
    base: Path, pairs: Path, tmp_path: Path, settings: dict[str, int]
) -> None:
    with pytest.raises(DataError, match=r"dpo_data\.py"):
        train_dpo(base, pairs, tmp_path / "adapter", **settings)


def test_one_pair_is_no_training_set_unless_the_owner_says_so(base: Path, pairs: Path, tmp_path: Path) -> None:
    pairs.write_text(json.dumps(json.loads(pairs.read_text())[:1]))
    floor = dpo_train.StageConfig().min_pairs
    with pytest.raises(DataError, match=rf"1 are left to train on.*at least {floor}.*--min-pairs 1$"):
        train_dpo(base, pairs, tmp_path / "adapter", min_pairs=floor)
    assert (train_dpo(base, pairs, tmp_path / "adapter", min_pairs=1) / "adapter_model.safetensors").is_file()


def test_no_prompt_stands_on_both_sides() -> None:
    doubled = [PairTokens(("", str(number)), [number], [1], [2], 1.0) for number in range(8)] * 2
    split = dpo_train.split_pairs(doubled, dpo_train.StageConfig(eval_share=0.5))
    sides = [{pair.prompt_ids[0] for pair in side} for side in (split.train, split.held_back)]
    assert not sides[0] & sides[1]
    assert len(split.train) + len(split.held_back) == len(doubled)


def break_model(model: Path, defect: str) -> None:
    if defect == "template":
        (model / "chat_template.jinja").unlink()
    elif defect == "auto_map":
        config = json.loads((model / "config.json").read_text())
        (model / "config.json").write_text(json.dumps(config | {"auto_map": {"AutoModel": "evil.Model"}}))
    elif defect == "cut":
        weights = model / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])
    elif defect == "pickle":
        (model / "model.safetensors").rename(model / "pytorch_model.bin")
    else:
        (model / "config.json").unlink()


@pytest.mark.parametrize(
    ("defect", "words"),
    [
        ("template", "chat template"),
        ("auto_map", "auto_map"),
        ("pickle", "safetensors"),
        ("cut", "cut or damaged"),
        ("config", "config.json"),
    ],
)
def test_an_unfit_base_model_is_refused(base: Path, pairs: Path, tmp_path: Path, defect: str, words: str) -> None:
    model = tmp_path / "model"
    shutil.copytree(base, model)
    break_model(model, defect)
    with pytest.raises(LpmError, match=words):
        train_dpo(model, pairs, tmp_path / "adapter")
    assert not (tmp_path / "adapter").exists()


def test_sft_masks_the_prompt_and_trains_the_end_of_turn(base: Path) -> None:
    from lpm_kernel.models.loading import load_tokenizer

    tokenizer = load_tokenizer(base)
    prompt = Prompt(id="1", row=0, variant="memory", messages=(Message(role="user", content="Hi"),), target="Yes.")
    (feature,) = sft_train.tokenized(tokenizer, [prompt], 64)
    trained = [token for token in feature["labels"] if token != -100]
    assert tokenizer.decode(trained) == "Yes.<|im_end|>"
    assert feature["input_ids"][-len(trained) :] == trained


def test_sft_from_scratch_writes_a_model_that_has_learnt(base: Path, items: Path, tmp_path: Path) -> None:
    out = train_sft(base, items, tmp_path / "model", lora_r=0, num_train_epochs=25)
    log = json.loads((out / "training_log.json").read_text())
    losses = [entry["loss"] for entry in log if "loss" in entry]
    assert losses[-1] < losses[0] / 3
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        assert (out / name).read_bytes() == (base / name).read_bytes()
    assert weights_fingerprint(out) != weights_fingerprint(base)


def _updates(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("-")[2])


def test_dpo_of_all_weights_moves_the_margins_and_resumes_to_the_same_bytes(
    base: Path, pairs: Path, tmp_path: Path
) -> None:
    settings = {"lora_r": 0, "learning_rate": 1e-3, "num_train_epochs": 3, "eval_share": 0.2, "stop_margin": 0}
    out = train_dpo(base, pairs, tmp_path / "whole", **settings)
    log = json.loads((out / "training_log.json").read_text())
    margins = [entry["rewards/margins"] for entry in log if "rewards/margins" in entry]
    assert abs(margins[0]) < 1e-6 < 0.1 < margins[-1]
    assert (out / "config.json").read_bytes() == (base / "config.json").read_bytes()
    earlier, _ = sorted((tmp_path / "whole.work").glob("checkpoint-*"), key=_updates)
    shutil.copytree(earlier, tmp_path / "again.work" / earlier.name)
    again = train_dpo(base, pairs, tmp_path / "again", **settings)
    assert weights_fingerprint(again) == weights_fingerprint(out)


def test_a_model_that_hardly_moved_is_told_with_what_to_do(
    base: Path, pairs: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    train_dpo(base, pairs, tmp_path / "still", learning_rate=5e-6, num_train_epochs=1)
    assert re.search(
        r"margin -?0\.00 after \d updates at 5e-06: the model hardly moved; raise --learning-rate", caplog.text
    )


def test_warm_up_steps_are_counted_and_too_many_are_told(
    base: Path, pairs: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out = train_dpo(base, pairs, tmp_path / "a", num_train_epochs=3, warmup_steps=4, eval_share=0, stop_margin=0)
    rates = [entry["learning_rate"] for entry in json.loads((out / "training_log.json").read_text()) if "loss" in entry]
    assert rates[:5] == pytest.approx([rate * 2e-3 / 4 for rate in range(5)])
    train_dpo(base, pairs, tmp_path / "b", num_train_epochs=1, warmup_steps=10)
    assert "the rate rises over 10 updates (--warmup-steps), but there are" in caplog.text


def test_sft_writes_an_adapter_that_names_its_base(base: Path, items: Path, tmp_path: Path) -> None:
    first, second = (train_sft(base, items, tmp_path / name, num_train_epochs=1) for name in ("a", "b"))
    assert adapter_bytes(first) == adapter_bytes(second)
    assert json.loads((first / "lpm_adapter.json").read_text())["base_weights_sha256"] == weights_fingerprint(base)


def test_a_held_out_question_is_in_no_training_row() -> None:
    def asked(user: str, reference: str) -> Prompt:
        messages = (Message(role="system", content="s"), Message(role="user", content=user))
        return Prompt(id=reference, row=0, variant="memory", messages=messages, target=reference)

    rows = [asked("Where?", "In Visby."), asked("Where?", "Hard to say."), asked("When?", "In May.")]
    assert sft_train.without_questions(rows, [rows[0]]) == [rows[2]]


def test_sft_on_the_file_that_prepare_reads_names_the_one_that_it_writes(
    base: Path, items: Path, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match="lpm path items"):
        train_sft(base, items.parent / "merged.json", tmp_path / "out")


def test_sft_says_what_to_do_when_every_item_is_held_out(base: Path, items: Path, tmp_path: Path) -> None:
    shutil.copy(items, tmp_path / "held.jsonl")
    with pytest.raises(DataError, match="add items"):
        train_sft(base, items, tmp_path / "out", tmp_path / "held.jsonl")


@pytest.mark.parametrize(("hidden_size", "threads"), [(192, 1), (512, 2)])
def test_a_narrow_model_is_trained_on_one_thread(hidden_size: int, threads: int) -> None:
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    from lpm_kernel.models.loading import threads_for

    heads: dict[str, Any] = {"num_attention_heads": 4, "num_key_value_heads": 2}
    with torch.device("meta"):
        model = Qwen2ForCausalLM(Qwen2Config(hidden_size=hidden_size, num_hidden_layers=1, vocab_size=64, **heads))
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    with threads_for(model):
        assert torch.get_num_threads() == threads
    assert torch.get_num_threads() == 2
    torch.set_num_threads(before)
