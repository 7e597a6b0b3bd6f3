"""Laws of the export's bounds: what rounding explains passes, any real defect is refused with its likely cause."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from conftest import Lpm
from tiny_models import CHATML, EXPRESSIONS, HEADS, SHAPE, Export, make_tokenizer
from transformers import AutoModelForCausalLM

from lpm_kernel.errors import DataError, MissingInputError
from lpm_kernel.export import refusals
from lpm_kernel.export.fidelity import MAX_LOGPROB_DIFF
from lpm_kernel.L2 import export_gguf
from lpm_kernel.L2.export_gguf import StageConfig

WINDOW: dict[str, Any] = {"sliding_window": 512, "head_dim": 16}
Gguf = Any
Edit = Callable[[Gguf], None]


def make(path: Path, kind: str, **settings: Any) -> Path:
    """A random model of a class of transformers, with biases that are not zero."""
    make_tokenizer(EXPRESSIONS["llama-bpe"], CHATML, bos=False).save_pretrained(path)
    ids = {"bos_token_id": None, "eos_token_id": 2, "pad_token_id": 0, "vocab_size": 400}
    config = getattr(transformers, f"{kind}Config")(**{**SHAPE, **HEADS, **ids, **settings})
    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_config(config)
    for name, values in model.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(values, std=0.5)
    model.save_pretrained(path)
    return path


@pytest.fixture
def export(tmp_path: Path) -> Export:
    return Export(tmp_path)


@pytest.mark.parametrize(
    ("kind", "outtype", "settings"),
    [
        ("Qwen3", "f32", {"head_dim": 32}),
        ("Llama", "f16", {"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0}}),
        ("Olmo2", "bf16", {}),
        ("Mistral", "q8_0", {**WINDOW, "tie_word_embeddings": True}),
        ("Gemma3Text", "f16", {**WINDOW, "query_pre_attn_scalar": 16}),
    ],
)
def test_ordinary_shapes_pass_with_room(
    export: Export, tmp_path: Path, kind: str, outtype: str, settings: dict[str, Any]
) -> None:
    report = export.run(make(tmp_path / "model", kind, **settings), outtype=outtype)
    assert report["max_logprob_diff"] == MAX_LOGPROB_DIFF[outtype]
    assert report["logprob_mean_diff"] < report["max_logprob_diff"] * 0.7


@pytest.mark.parametrize("scalar", [256, 64])
def test_a_setting_that_the_converter_drops_is_named(export: Export, tmp_path: Path, scalar: int) -> None:
    """256 is what Gemma 3 takes when nothing is said, and still not what llama.cpp takes for heads of 16."""
    model_path = make(tmp_path / "model", "Gemma3Text", **WINDOW, query_pre_attn_scalar=scalar)
    with pytest.raises(DataError, match=f"query_pre_attn_scalar = {scalar}") as refused:
        export.run(model_path)
    assert not export.gguf_path.exists()
    measured, wide = map(float, re.findall(r"(?:by|--max-logprob-diff) ([\d.]+)", str(refused.value)))
    assert MAX_LOGPROB_DIFF["f16"] < measured < wide < measured * 1.2
    assert export.run(model_path, max_logprob_diff=wide)["max_logprob_diff"] == wide


def test_what_rounding_could_hide_is_told(export: Export, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    model_path = make(tmp_path / "model", "Gemma3Text", **WINDOW, query_pre_attn_scalar=17)
    assert 0.01 < export.run(model_path, outtype="q8_0")["logprob_mean_diff"] < 0.1
    assert "or of query_pre_attn_scalar = 17" in caplog.text
    assert "--outtype f16" in caplog.text


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A Qwen2 with biases, and its GGUF in f32; tests do not change them."""
    folder = tmp_path_factory.mktemp("exported")
    model_path = make(folder / "model", "Qwen2", rope_theta=20_000.0)
    Export(folder).run(model_path, outtype="f32", greedy_prompts=4)
    return model_path, folder / "lpm.gguf"


def tensor(gguf: Gguf, name: str) -> Any:
    return next(t.data for t in gguf.tensors if t.name == name)


def flip(gguf: Gguf) -> None:
    rows = tensor(gguf, "blk.0.ffn_down.weight")
    rows[:] = rows[::-1].copy()


def interleave(gguf: Gguf) -> None:
    """Rows of q and k in the order of the other rope convention, as a forgotten permutation leaves them."""
    for name in ("blk.0.attn_q.weight", "blk.0.attn_k.weight"):
        rows = tensor(gguf, name)
        rows[:] = rows.reshape(-1, 2, 8, rows.shape[1]).swapaxes(1, 2).reshape(rows.shape).copy()


def exchange(gguf: Gguf) -> None:
    k, v = tensor(gguf, "blk.1.attn_k.weight"), tensor(gguf, "blk.1.attn_v.weight")
    k[:], v[:] = v.copy(), k.copy()


def forget_bias(gguf: Gguf) -> None:
    tensor(gguf, "blk.0.attn_q.bias")[:] = 0


def set_number(key: str, value: float) -> Edit:
    def edit(gguf: Gguf) -> None:
        gguf.fields[key].parts[-1][:] = value

    return edit


@pytest.mark.parametrize(
    ("edit", "match"),
    [
        (flip, "holds every setting"),
        (interleave, "holds every setting"),
        (exchange, "holds every setting"),
        (forget_bias, "holds every setting"),
        (set_number("qwen2.rope.freq_base", 10_000.0), r"rope_parameters\.rope_theta = 20000"),
        (set_number("qwen2.attention.layer_norm_rms_epsilon", 0.1), "rms_norm_eps = 1e-06"),
    ],
)
def test_a_planted_defect_is_refused(exported: tuple[Path, Path], tmp_path: Path, edit: Edit, match: str) -> None:
    from gguf import GGUFReader

    model_path, gguf_path = exported
    damaged_path = Path(shutil.copyfile(gguf_path, tmp_path / "damaged.gguf"))
    reader = GGUFReader(damaged_path, "r+")
    edit(reader)
    reader.data.flush()
    config = StageConfig(greedy_tokens=4, threads=1, outtype="f32")
    trained = export_gguf.ask_trained(config, model_path, export_gguf.conversations_of(config, None))
    with pytest.raises(DataError, match=match):
        export_gguf.check_fidelity(config, model_path, damaged_path, trained, tmp_path / "log")


def change(path: Path, **settings: Any) -> Path:
    """Change config.json; None removes a key."""
    config = json.loads((path / "config.json").read_text()) | settings
    (path / "config.json").write_text(json.dumps({key: value for key, value in config.items() if value is not None}))
    return path


REFUSED: dict[str, tuple[str, dict[str, Any], dict[str, Any], str]] = {
    "tokenizer": ("Phi3", {}, {}, "put the base model's tokenizer.model into that folder"),
    "unknown": ("Qwen2", {}, {"architectures": ["Other"]}, "does not know the architecture Other"),
    "unnamed": ("Qwen2", {}, {"architectures": None}, '"architectures"'),
    "missing": ("GPTNeoX", {}, {}, "'rotary_pct' in config.json .* add it"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_refusal_is_one_sentence_with_its_cure(export: Export, tmp_path: Path, case: str) -> None:
    kind, settings, changed, match = REFUSED[case]
    model_path = change(make(tmp_path / "model", kind, **settings), **changed)
    with pytest.raises(DataError, match=match) as refused:
        export.run(model_path, greedy_prompts=0)
    assert "\n" not in str(refused.value)
    assert "Traceback" not in str(refused.value)
    log_path = tmp_path / "work" / "convert.log"
    assert "Traceback" in log_path.read_text() or case == "unknown"


def test_the_cure_for_a_missing_setting_works(export: Export, tmp_path: Path) -> None:
    model_path = change(make(tmp_path / "model", "GPTNeoX"), rotary_pct=0.25)
    assert export.run(model_path)["tokens_equal"] == 1


def test_a_model_without_tokenizer_is_refused_before_the_work(export: Export, tmp_path: Path) -> None:
    (make(tmp_path / "model", "Qwen2") / "tokenizer.json").unlink()
    with pytest.raises(MissingInputError, match=r"holds no tokenizer \(tokenizer.json"):
        export.run(tmp_path / "model")
    assert not (tmp_path / "work").exists()


def test_a_tokenizer_of_more_tokens_than_the_model_has_is_refused(export: Export, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"knows 4\d\d tokens, the model only 300"):
        export.run(make(tmp_path / "model", "Qwen2", vocab_size=300))


@pytest.mark.parametrize(
    ("line", "match"),
    [
        ("FileNotFoundError: File not found: /m/a b/tokenizer.model", "base model's tokenizer.model"),
        ("NotImplementedError: The rope scaling type odd is not supported yet", "rope scaling odd; .* yarn"),
        ("NotImplementedError: Quant method is not yet supported: 'awq'", "quantised by awq; .* q8_0"),
        ("NotImplementedError: 3-bit gptq dequantization is not yet implemented", "quantised by 3-bit gptq"),
        ("ValueError: Can not map tensor 'model.extra.weight'", "no place for the weight model.extra.weight"),
        ("ModuleNotFoundError: No module named 'mistral_common'", "pip install mistral_common"),
        ("numpy._core._exceptions._ArrayMemoryError: Unable to allocate 3 GiB", "memory does not suffice"),
        ("AssertionError", "says 'AssertionError'; start from another"),
        ("ValueError: {odd} {0} words", r"\{odd\} \{0\} words"),
    ],
)
def test_every_refusal_of_the_converter_is_a_sentence(line: str, match: str) -> None:
    assert re.search(match, refusals.explain(["Traceback (most recent call last):", '  File "x"', line]))


def test_the_command_ends_with_65_and_keeps_the_traceback_in_its_log(lpm: Lpm, tmp_path: Path) -> None:
    model_path, gguf_path = make(tmp_path / "model", "Phi3"), tmp_path / "lpm.gguf"
    done = lpm("run", "export-gguf", "--model-path", model_path, "--gguf-path", gguf_path, "--greedy-prompts", "0")
    assert (done.returncode, gguf_path.exists()) == (65, False)
    told = " ".join(done.stderr.split())
    assert "Traceback" not in told
    named = re.search(r"own words are in (\S+)", told)
    assert named is not None
    assert "Traceback" in Path(named[1]).read_text()
