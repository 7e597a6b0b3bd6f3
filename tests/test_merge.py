"""Laws of the merge: the merged model is the adapter's model, rounded once; or there is no output."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig, PretrainedConfig, Qwen2Config

from lpm_kernel.errors import DataError, DiskError, LpmError, MissingInputError, OutputError
from lpm_kernel.L2 import merge_lora_weights
from lpm_kernel.L2.merge_lora_weights import StageConfig
from lpm_kernel.models.fingerprint import ADAPTER_RECORD, weights_fingerprint
from lpm_kernel.models.rounding import round_once

pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")
"""peft 0.21 under transformers 5.23."""

SMALL: dict[str, Any] = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
HEADS: dict[str, Any] = {"num_attention_heads": 4, "num_key_value_heads": 2}
TOKENIZER = {
    "tokenizer.json": b'{"x": "\xc3\xa9"}\r\n',
    "chat_template.jinja": b"{{ messages }}\n\n",
    "merges.txt": b"a b",
}
MODELS: dict[str, PretrainedConfig] = {
    "qwen2": Qwen2Config(**SMALL, **HEADS, tie_word_embeddings=True),
    "llama": LlamaConfig(**SMALL, **HEADS, tie_word_embeddings=False),
}
IDS = torch.arange(12).reshape(1, 12) * 5 % 64
Run = Callable[..., Path]


def make_base(path: Path, config: PretrainedConfig, dtype: str = "float32", **save: Any) -> Path:
    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_config(config).to(getattr(torch, dtype))
    model.save_pretrained(path, **save)
    for name, data in TOKENIZER.items():
        (path / name).write_bytes(data)
    (path / "pytorch_model.bin").write_bytes(b"a pickle")
    return path


def make_adapter(path: Path, base_path: Path, size: float = 0.02, **lora: Any) -> Path:
    """An adapter as if trained: peft's own, with random A and B."""
    torch.manual_seed(2)
    base = AutoModelForCausalLM.from_pretrained(base_path, dtype=torch.float32)
    settings = {"r": 4, "lora_alpha": 8, "target_modules": "all-linear", "task_type": "CAUSAL_LM", **lora}
    model = get_peft_model(base, LoraConfig(**settings))
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=size if "lora_B" in name else 0.2)
    model.save_pretrained(str(path), save_embedding_layers=False)
    return path


def adapter_logits(base_path: Path, adapter_path: Path) -> torch.Tensor:
    base = AutoModelForCausalLM.from_pretrained(base_path, dtype=torch.float32)
    with torch.no_grad():
        found: torch.Tensor = PeftModel.from_pretrained(base, adapter_path)(IDS).logits
    return found


def logits(model_path: Path) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = AutoModelForCausalLM.from_pretrained(model_path, dtype=torch.float32)(IDS).logits
    return found


def weights_of(path: Path) -> dict[str, torch.Tensor]:
    return {name: tensor for file in sorted(path.glob("*.safetensors")) for name, tensor in load_file(file).items()}


def edit(path: Path, **fields: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


@pytest.fixture
def merge(tmp_path: Path) -> Run:
    def run(base_path: Path, adapter_path: Path, **settings: Any) -> Path:
        output_path = tmp_path / "merged"
        merge_lora_weights.run(
            StageConfig(**settings),
            base_model_path=base_path,
            lora_adapter_path=adapter_path,
            output_model_path=output_path,
        )
        return output_path

    return run


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bf16 Qwen2 with tied embeddings; tests do not change it."""
    return make_base(tmp_path_factory.mktemp("base"), MODELS["qwen2"], "bfloat16")


@pytest.fixture(scope="module")
def adapter(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of `base`; tests do not change it."""
    return make_adapter(tmp_path_factory.mktemp("adapter"), base)


@pytest.fixture
def own_adapter(adapter: Path, tmp_path: Path) -> Path:
    """A copy of `adapter` to spoil."""
    path = tmp_path / "own_adapter"
    path.mkdir()
    for file in adapter.iterdir():
        (path / file.name).write_bytes(file.read_bytes())
    return path


@pytest.mark.parametrize("shard", ["1GB", "20KB"])
@pytest.mark.parametrize("family", MODELS)
def test_merged_logits_equal_adapter_logits(tmp_path: Path, merge: Run, family: str, shard: str) -> None:
    base_path = make_base(tmp_path / "base", MODELS[family], max_shard_size=shard)
    adapter_path = make_adapter(tmp_path / "adapter", base_path)
    merged_path = merge(base_path, adapter_path)
    wanted = adapter_logits(base_path, adapter_path)
    assert (logits(base_path) - wanted).abs().max() > 1e-2
    torch.testing.assert_close(logits(merged_path), wanted, atol=2e-5, rtol=1e-5)
    assert (merged_path / "model.safetensors.index.json").exists() == (shard == "20KB")


@pytest.mark.parametrize(
    "lora",
    [
        {"use_rslora": True},
        {"rank_pattern": {"q_proj": 2, "layers.1.mlp.up_proj": 8}, "alpha_pattern": {"q_proj": 3}},
        {"use_rslora": True, "rank_pattern": {"o_proj": 2}, "alpha_pattern": {".*layers.0.*down_proj": 32}},
        {"modules_to_save": ["norm", "lm_head"], "target_modules": ["q_proj", "up_proj"]},
        {"bias": "all"},
    ],
    ids=lambda lora: "+".join(lora),
)
def test_variants_of_lora_equal_peft(tmp_path: Path, merge: Run, lora: dict[str, Any]) -> None:
    base_path = make_base(tmp_path / "base", Qwen2Config(**SMALL, **HEADS, tie_word_embeddings=False))
    adapter_path = make_adapter(tmp_path / "adapter", base_path, **lora)
    wanted = adapter_logits(base_path, adapter_path)
    torch.testing.assert_close(logits(merge(base_path, adapter_path)), wanted, atol=2e-5, rtol=1e-5)


def test_transposed_linear_layers_equal_peft(tmp_path: Path, merge: Run) -> None:
    config = GPT2Config(vocab_size=64, n_positions=32, n_embd=32, n_layer=2, n_head=4)
    base_path = make_base(tmp_path / "base", config)
    adapter_path = make_adapter(
        tmp_path / "adapter", base_path, target_modules=["c_attn", "c_proj"], fan_in_fan_out=True
    )
    wanted = adapter_logits(base_path, adapter_path)
    torch.testing.assert_close(logits(merge(base_path, adapter_path)), wanted, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_no_weight_differs_from_fp64_rounded_once(base: Path, adapter: Path, merge: Run, dtype: str) -> None:
    merged, before, lora = weights_of(merge(base, adapter, dtype=dtype)), weights_of(base), weights_of(adapter)
    for name, tensor in merged.items():
        stem = f"base_model.model.{name.removesuffix('.weight')}"
        exact = before[name].double().numpy()
        if f"{stem}.lora_A.weight" in lora:
            exact = (
                exact + 2.0 * (lora[f"{stem}.lora_B.weight"].double() @ lora[f"{stem}.lora_A.weight"].double()).numpy()
            )
        assert np.array_equal(tensor.double().numpy(), nearest_values(exact, dtype)), name


def nearest_values(exact: NDArray[np.float64], dtype: str) -> NDArray[np.float64]:
    """fp64 to the nearest value of the dtype, by numpy, and for bf16 by scaling to 8 significant bits."""
    if dtype != "bfloat16":
        return exact.astype(dtype).astype("float64")
    mantissa, exponent = np.frexp(exact)
    rounded: NDArray[np.float64] = np.ldexp(np.rint(mantissa * 256), exponent - 8)
    return rounded


def test_rounding_is_single_where_two_roundings_would_differ() -> None:
    just_above_a_tie = torch.tensor([1 + 2**-8 + 2**-40, -(1 + 2**-8 + 2**-40), 1 + 2**-8], dtype=torch.float64)
    assert just_above_a_tie.bfloat16().tolist() == [1.0, -1.0, 1.0]
    assert round_once(just_above_a_tie, torch.bfloat16).tolist() == [1 + 2**-7, -(1 + 2**-7), 1.0]
    tiny = torch.tensor([1e-60, -1e-60, math.inf, 0.0], dtype=torch.float64)
    assert round_once(tiny, torch.float16).tolist() == [0.0, -0.0, math.inf, 0.0]


def test_tokenizer_files_are_the_bases_and_nothing_else_comes_along(base: Path, own_adapter: Path, merge: Run) -> None:
    (own_adapter / "chat_template.jinja").write_bytes(b"of the adapter")
    merged_path = merge(base, own_adapter)
    assert {name: (merged_path / name).read_bytes() for name in TOKENIZER} == TOKENIZER
    others = {path.name for path in merged_path.iterdir()} - set(TOKENIZER)
    assert others == {"model.safetensors", "config.json", "generation_config.json", "merge_report.json"}


def test_untouched_tensors_are_copied_bit_for_bit(base: Path, adapter: Path, merge: Run) -> None:
    merged_path = merge(base, adapter, dtype="bfloat16")
    before, after = weights_of(base), weights_of(merged_path)
    assert (merged_path / "config.json").read_bytes() == (base / "config.json").read_bytes()
    untouched = [name for name in before if "norm" in name or "embed" in name or "bias" in name]
    assert untouched
    assert all(torch.equal(before[name], after[name]) for name in untouched)


def test_auto_keeps_small_updates_of_a_bf16_base_by_choosing_float16(base: Path, adapter: Path, merge: Run) -> None:
    merged_path = merge(base, adapter)
    assert {tensor.dtype for tensor in weights_of(merged_path).values()} == {torch.float16}
    assert json.loads((merged_path / "config.json").read_text())["dtype"] == "float16"


def test_auto_takes_float32_when_a_weight_is_beyond_float16(tmp_path: Path, merge: Run) -> None:
    base_path = make_base(tmp_path / "base", MODELS["qwen2"], "bfloat16")
    weights = weights_of(base_path)
    weights["model.layers.1.mlp.down_proj.weight"][0, 0] = 1e5
    save_file(weights, base_path / "model.safetensors", metadata={"format": "pt"})
    adapter_path = make_adapter(tmp_path / "adapter", base_path)
    merged_path = merge(base_path, adapter_path)
    assert {tensor.dtype for tensor in weights_of(merged_path).values()} == {torch.float32}
    assert (merged_path / "tokenizer.json").exists()


@pytest.mark.parametrize(("dtype", "least", "most"), [("float32", 0.999, 1.001), ("bfloat16", -0.5, 0.6)])
def test_report_tells_how_much_of_a_tiny_update_survived(
    tmp_path: Path, base: Path, merge: Run, dtype: str, least: float, most: float
) -> None:
    adapter_path = make_adapter(tmp_path / "adapter", base, size=2e-6)
    report = json.loads((merge(base, adapter_path, dtype=dtype) / "merge_report.json").read_text())
    assert least < report["update_retained"]["projection"] < most
    assert report["tensors_merged"] == 14
    assert report["dtype"] == dtype


def test_a_fully_trained_model_is_copied_with_the_bases_tokenizer(tmp_path: Path, base: Path, merge: Run) -> None:
    trained_path = make_base(tmp_path / "trained", MODELS["llama"], "bfloat16")
    for name in TOKENIZER:
        (trained_path / name).unlink()
    merged_path = merge(base, trained_path)
    assert weights_of(merged_path).keys() == weights_of(trained_path).keys()
    assert all(torch.equal(tensor, weights_of(trained_path)[name]) for name, tensor in weights_of(merged_path).items())
    assert (merged_path / "merges.txt").read_bytes() == TOKENIZER["merges.txt"]


@pytest.mark.parametrize("base_dtype", ["float32", "bfloat16"])
def test_a_fully_trained_model_is_rounded_once_as_a_merge_would_and_the_report_tells_what_survived(
    tmp_path: Path, merge: Run, base_dtype: str
) -> None:
    base_path = make_base(tmp_path / "base", MODELS["qwen2"], base_dtype)
    model = AutoModelForCausalLM.from_pretrained(base_path, dtype=torch.float32)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=1e-3)
    model.save_pretrained(tmp_path / "trained")
    merged_path = merge(base_path, tmp_path / "trained")
    stored = {"float32": torch.float32, "bfloat16": torch.float16}[base_dtype]
    merged = weights_of(merged_path)
    for name, tensor in weights_of(tmp_path / "trained").items():
        assert torch.equal(merged[name], round_once(tensor.double(), stored)), name
    report = json.loads((merged_path / "merge_report.json").read_text())
    assert report["update_retained"]["projection"] == pytest.approx(1, abs=0.02)
    assert report["base_dtype"] == base_dtype
    assert json.loads((merged_path / "config.json").read_text())["dtype"] == str(stored).removeprefix("torch.")


def test_a_whole_model_of_another_shape_is_refused_and_one_that_learnt_nothing_is_told(
    base: Path, tmp_path: Path, merge: Run
) -> None:
    other = make_base(tmp_path / "other", Qwen2Config(**{**SMALL, "vocab_size": 65}, **HEADS))
    with pytest.raises(DataError, match=r"embed_tokens.weight is \[65, 32\], but \[64, 32\]"):
        merge(base, other)
    report = json.loads((merge(base, base) / "merge_report.json").read_text())
    assert report["update_retained"]["projection"] is None


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("use_dora", True),
        ("peft_type", "LOHA"),
        ("lora_bias", True),
        ("trainable_token_indices", [1, 2]),
        ("init_lora_weights", "pissa"),
        ("layer_replication", [[0, 1]]),
        ("r", 2),
        ("a_field_of_next_year", 1),
    ],
)
def test_what_is_no_plain_lora_is_refused_by_name(
    base: Path, own_adapter: Path, merge: Run, tmp_path: Path, field: str, value: Any
) -> None:
    edit(own_adapter / "adapter_config.json", **{field: value})
    with pytest.raises(DataError, match=field if field != "r" else "rank 2"):
        merge(base, own_adapter)
    assert not (tmp_path / "merged").exists()


@pytest.mark.parametrize("changed", [{"hidden_size": 64}, {"num_hidden_layers": 1}])
def test_an_adapter_of_another_model_is_refused(tmp_path: Path, adapter: Path, merge: Run, changed: Any) -> None:
    other_path = make_base(tmp_path / "other", Qwen2Config(**(SMALL | HEADS | changed)))
    with pytest.raises(DataError, match="base that it was trained on"):
        merge(other_path, adapter)


def test_an_adapter_that_recorded_other_weights_is_refused(own_adapter: Path, base: Path, merge: Run) -> None:
    record_path = own_adapter / ADAPTER_RECORD
    record_path.write_text(json.dumps({"base_weights_sha256": "0" * 64}))
    with pytest.raises(DataError, match="was trained on weights 0000"):
        merge(base, own_adapter)
    record_path.write_text(json.dumps({"base_weights_sha256": weights_fingerprint(base)}))
    assert (merge(base, own_adapter) / "config.json").exists()


@pytest.mark.parametrize("target", ["lm_head", "embed_tokens"])
def test_changing_tied_or_embedding_weights_is_refused(tmp_path: Path, base: Path, merge: Run, target: str) -> None:
    untied_path = make_base(tmp_path / "untied", Qwen2Config(**SMALL, **HEADS, tie_word_embeddings=False))
    adapter_path = make_adapter(tmp_path / "adapter", untied_path, target_modules=[target])
    with pytest.raises(DataError, match=r"lm_head|no plain LoRA"):
        merge(base, adapter_path)


@pytest.mark.parametrize(
    ("file", "fields", "message"),
    [
        ("config.json", {"auto_map": {"AutoModel": "evil.Model"}}, "auto_map"),
        ("tokenizer_config.json", {"auto_map": {"AutoTokenizer": "evil.T"}}, "auto_map"),
        ("config.json", {"quantization_config": {"bits": 4}}, "quantization_config"),
    ],
)
def test_models_that_bring_code_or_are_quantised_are_refused(
    tmp_path: Path, adapter: Path, merge: Run, file: str, fields: Any, message: str
) -> None:
    base_path = make_base(tmp_path / "base", MODELS["qwen2"])
    (base_path / file).touch()
    (base_path / file).write_text((base_path / file).read_text() or "{}")
    edit(base_path / file, **fields)
    with pytest.raises(DataError, match=message):
        merge(base_path, adapter)


def test_pickled_missing_and_cut_weights_are_refused(tmp_path: Path, adapter: Path, merge: Run) -> None:
    base_path = make_base(tmp_path / "base", MODELS["qwen2"])
    data = (base_path / "model.safetensors").read_bytes()
    (base_path / "model.safetensors").write_bytes(data[: len(data) // 2])
    with pytest.raises(DataError, match="cut or damaged"):
        merge(base_path, adapter)
    (base_path / "model.safetensors").unlink()
    with pytest.raises(DataError, match="pickles"):
        merge(base_path, adapter)
    (base_path / "pytorch_model.bin").unlink()
    with pytest.raises(MissingInputError):
        merge(base_path, adapter)


def test_a_diverged_adapter_leaves_nothing(base: Path, own_adapter: Path, merge: Run, tmp_path: Path) -> None:
    weights = weights_of(own_adapter)
    weights[next(name for name in weights if "lora_B" in name)][0, 0] = math.nan
    save_file(weights, own_adapter / "adapter_model.safetensors")
    with pytest.raises(DataError, match="not finite"):
        merge(base, own_adapter)
    assert not (tmp_path / "merged").exists()


@pytest.mark.parametrize(
    ("fault", "expected"), [(KeyboardInterrupt(), KeyboardInterrupt), (OSError(28, "full"), DiskError)]
)
def test_an_interrupted_merge_leaves_nothing(
    base: Path, adapter: Path, merge: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Any, expected: Any
) -> None:
    def interrupted(*_: object) -> None:
        assert any((tmp_path / "merged").iterdir())
        raise fault

    monkeypatch.setattr(merge_lora_weights, "write_index", interrupted)
    with pytest.raises(expected):
        merge(base, adapter)
    assert not (tmp_path / "merged").exists()


def test_a_full_output_folder_is_never_touched(base: Path, adapter: Path, merge: Run, tmp_path: Path) -> None:
    (tmp_path / "merged").mkdir()
    (tmp_path / "merged" / "mine.txt").write_text("mine")
    with pytest.raises(OutputError) as caught:
        merge(base, adapter)
    assert isinstance(caught.value, LpmError)
    assert (tmp_path / "merged" / "mine.txt").read_text() == "mine"
