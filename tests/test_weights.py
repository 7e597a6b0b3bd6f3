"""Training, merge and export read the same weights of a model folder, or all refuse it."""

import json
import math
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from test_merge import edit, make_adapter, weights_of
from tiny_models import make_model

from lpm_kernel.errors import DataError, LpmError, MissingInputError
from lpm_kernel.export.converter import converting, find_converter
from lpm_kernel.L2 import export_gguf, merge_lora_weights
from lpm_kernel.models.adapter import read_adapter
from lpm_kernel.models.fingerprint import weights_fingerprint
from lpm_kernel.models.folder import INDEX, WEIGHTS, read_model_config
from lpm_kernel.models.loading import check_base, load_model, load_tokenizer
from lpm_kernel.models.weights import read_weights

pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")
Spoil = Callable[[Path], object]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("whole") / "model", llama=True)


@pytest.fixture(scope="module")
def whole_gguf(whole: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported(whole, tmp_path_factory.mktemp("gguf"))


@pytest.fixture
def model(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "model"))


def split(model: Path, weight_map: dict[str, Any] | None = None) -> None:
    """Into two shards and their index."""
    tensors = load_file(model / WEIGHTS)
    found = {name: f"model-0000{i % 2 + 1}-of-00002.safetensors" for i, name in enumerate(sorted(tensors))}
    for shard in set(found.values()):
        save_file({name: tensors[name] for name in found if found[name] == shard}, model / shard, {"format": "pt"})
    (model / WEIGHTS).unlink()
    write_index(model, weight_map or found)


def write_index(model: Path, weight_map: object, **more: object) -> None:
    (model / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": weight_map, **more}))


def others(model: Path, name: str) -> None:
    """Weights of another model under a name that some reader may take."""
    tensors = {key: tensor + 1 for key, tensor in load_file(next(iter(model.glob("*.safetensors")))).items()}
    save_file(tensors, model / name, {"format": "pt"})


def index_of_itself(model: Path) -> None:
    write_index(model, dict.fromkeys(load_file(model / WEIGHTS), WEIGHTS))


def beside_pickles(model: Path) -> None:
    torch.save({k: t + 1 for k, t in load_file(model / WEIGHTS).items()}, model / "pytorch_model.bin")
    (model / "consolidated.00.pth").write_bytes(b"x")


def sharded_beside_variants(model: Path) -> None:
    split(model)
    others(model, "model.fp16.safetensors")
    others(model, "model-00001-of-00003.safetensors")
    (model / "onnx").mkdir()
    others(model, "onnx/model.safetensors")


def cached(model: Path) -> None:
    """As `hf download` lays it out: a snapshot of links to blobs, which the owner links to in turn."""
    snapshot, blobs = model.parent / "hub/models--a--b/snapshots/0f", model.parent / "hub/models--a--b/blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for file in list(model.iterdir()):
        file.rename(blobs / f"sha-{file.name}")
        (snapshot / file.name).symlink_to(f"../../blobs/sha-{file.name}")
    model.rmdir()
    model.symlink_to(snapshot)


@pytest.mark.parametrize("arrange", [index_of_itself, beside_pickles, sharded_beside_variants, cached])
def test_training_merge_and_export_read_the_same_weights(
    arrange: Spoil, model: Path, whole: Path, whole_gguf: Path, tmp_path: Path
) -> None:
    arrange(model)
    check_base(model)
    trained = {name: tensor.detach() for name, tensor in load_model(model, "float32").state_dict().items()}
    adapter = make_adapter(tmp_path / "adapter", model, size=0.0)
    config = merge_lora_weights.StageConfig()
    merge_lora_weights.run(
        config, base_model_path=model, lora_adapter_path=adapter, output_model_path=tmp_path / "merged"
    )
    merged, expected = weights_of(tmp_path / "merged"), load_file(whole / WEIGHTS)
    assert merged.keys() == trained.keys() == expected.keys() == {weight.name for weight in read_weights(model)}
    assert all(torch.equal(tensor, merged[n]) and torch.equal(tensor, trained[n]) for n, tensor in expected.items())
    assert weight_bytes(exported(model, tmp_path)) == weight_bytes(whole_gguf)
    assert (weights_fingerprint(model) == weights_fingerprint(whole)) is (arrange is not sharded_beside_variants)
    assert not any(path.is_symlink() for path in (tmp_path / "merged").iterdir())


def exported(model: Path, tmp_path: Path) -> Path:
    converter, gguf = find_converter("llama.cpp"), tmp_path / "model.gguf"
    with converting(
        model, gguf, outtype="f32", converter_path=converter, log_path=tmp_path / "log", timeout_s=200
    ) as made:
        made.finish()
    return gguf


def weight_bytes(gguf: Path) -> dict[str, bytes]:
    from gguf import GGUFReader

    return {tensor.name: tensor.data.tobytes() for tensor in GGUFReader(gguf).tensors}


def replaced(field: str, value: object) -> Spoil:
    return lambda model: edit(model / "config.json", **{field: value})


def linked(name: str, target: str) -> Spoil:
    def spoil(model: Path) -> None:
        (model.parent / "secret").write_text("secret")
        (model / name).unlink(missing_ok=True)
        (model / name).symlink_to(target)

    return spoil


def missing_last_layer(model: Path) -> None:
    tensors = {name: t for name, t in load_file(model / WEIGHTS).items() if name != "model.layers.1.mlp.up_proj.weight"}
    save_file(tensors, model / WEIGHTS, {"format": "pt"})


def poisoned(value: float) -> Spoil:
    def spoil(model: Path) -> None:
        tensors = load_file(model / WEIGHTS)
        tensors["model.norm.weight"][3] = value
        save_file(tensors, model / WEIGHTS, {"format": "pt"})

    return spoil


def beside_an_index(model: Path) -> None:
    split(model)
    others(model, WEIGHTS)


def twice(model: Path) -> None:
    split(model)
    shards = sorted(model.glob("model-*"))
    save_file({**load_file(shards[0]), **load_file(shards[1])}, shards[1], {"format": "pt"})


REFUSED: dict[str, tuple[Spoil, str]] = {
    "a file beside an index": (beside_an_index, "model.safetensors beside model.safetensors.index.json"),
    "a variant without an index": (lambda m: others(m, "model.fp16.safetensors"), "holds model.fp16.safetensors"),
    "an adapter in the base": (lambda m: (m / "adapter_config.json").write_text("{}"), "holds adapter_config.json"),
    "weights by name": (replaced("transformers_weights", "x.safetensors"), "transformers_weights"),
    "quantised": (replaced("quantization_config", {"bits": 4}), "quantization_config"),
    "code": (replaced("auto_map", {"AutoModel": "evil.Model"}), "auto_map"),
    "a tensor twice": (twice, "a tensor twice"),
    "an index of more": (lambda m: write_index(m, {"x.weight": WEIGHTS}), "other tensors than its index"),
    "an index without metadata": (lambda m: write_index(m, {"x": WEIGHTS}, metadata=None), "expected .*metadata"),
    "an index of an empty map": (lambda m: write_index(m, {}), "expected .*weight_map"),
    "an index of a list": (lambda m: write_index(m, [WEIGHTS]), "expected .*weight_map"),
    "an index of numbers": (lambda m: write_index(m, {"x": 1}), "x lies in 1"),
    "an index of null": (lambda m: write_index(m, {"x": None}), "x lies in None"),
    "an index of paths": (lambda m: write_index(m, {"x": "../model/model.safetensors"}), r"lies in '\.\./"),
    "an index of absolute paths": (lambda m: write_index(m, {"x": "/etc/model.safetensors"}), "lies in '/etc"),
    "an index of pickles": (lambda m: write_index(m, {"x": "x.bin"}), "lies in 'x.bin'"),
    "a lacking shard": (lambda m: split(m, {"x": "model-9.safetensors"}), "lacks model-9.safetensors"),
    "a tokenizer from outside": (linked("tokenizer.json", "../secret"), "link out of its folder"),
    "any file from outside": (linked("notes.txt", "/etc/passwd"), "link out of its folder, to /etc/passwd"),
    "a linked folder": (linked("additional_chat_templates", "/etc"), "link out of its folder"),
    "a dangling link": (linked("vocab.json", "gone"), "leads nowhere"),
    "a link to itself": (linked("vocab.json", "vocab.json"), "leads nowhere"),
    "a pipe": (lambda m: os.mkfifo(m / "vocab.json"), "neither a file nor a folder"),
    "another width": (replaced("hidden_size", 32), r"shape|is \(400, 64\), config.json asks for \(400, 32\)"),
    "an absurd width": (replaced("hidden_size", 10**12), "hidden_size = 1000000000000, expected"),
    "a width in words": (replaced("hidden_size", "wide"), "hidden_size = 'wide', expected"),
    "no heads": (replaced("num_attention_heads", 0), "num_attention_heads = 0, expected"),
    "many layers": (replaced("num_hidden_layers", 9999), "asks for 9999 layers, the weights hold 2"),
    "no architecture": (replaced("model_type", "nonsense"), "cannot be loaded"),
    "a dtype of its own": (replaced("dtype", "float7"), "dtype = 'float7', expected"),
    "a part that is none": (replaced("text_config", 3), "in the place of an object"),
    "a lacking tensor": (missing_last_layer, "lacks 1 weights .*up_proj"),
    "NaN": (poisoned(math.nan), "model.norm.weight holds NaN or infinity"),
    "infinity": (poisoned(math.inf), "model.norm.weight holds NaN or infinity"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_be_read_differently_or_not_at_all_is_refused_with_a_sentence(name: str, model: Path) -> None:
    spoil, told = REFUSED[name]
    spoil(model)
    with pytest.raises((DataError, MissingInputError), match=told):
        check_and_load(model)


def check_and_load(model: Path) -> None:
    """As a training stage does."""
    check_base(model)
    load_tokenizer(model)
    load_model(model, "float32")


BOTH = [name for name in REFUSED if name not in ("another width", "many layers", "no architecture", "a lacking tensor")]


@pytest.mark.parametrize("name", BOTH)
def test_what_training_refuses_for_its_files_merge_and_export_refuse_too(
    name: str, model: Path, whole: Path, tmp_path: Path
) -> None:
    adapter = make_adapter(tmp_path / "adapter", whole)
    REFUSED[name][0](model)
    with pytest.raises((DataError, MissingInputError)):
        merge_lora_weights.run(
            merge_lora_weights.StageConfig(),
            base_model_path=model,
            lora_adapter_path=adapter,
            output_model_path=tmp_path / "merged",
        )
    assert not (tmp_path / "merged").exists()
    with pytest.raises((DataError, MissingInputError)):
        export_gguf._check_model(model)


def test_an_adapter_whose_files_lead_elsewhere_is_refused(whole: Path, tmp_path: Path) -> None:
    adapter = make_adapter(tmp_path / "adapter", whole)
    (adapter / "adapter_model.safetensors").rename(tmp_path / "elsewhere")
    (adapter / "adapter_model.safetensors").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DataError, match="link out of its folder"):
        read_adapter(adapter)


def damages(raw: bytes) -> Iterator[bytes]:
    """Cut, a zeroed page, a flipped bit, other JSON: at the start, inside and at the end."""
    for at in (0, len(raw) // 2, len(raw) - 2):
        yield raw[:at]
        yield raw[:at] + bytes(min(4096, len(raw) - at)) + raw[at + 4096 :]
        yield raw[:at] + bytes([raw[at] ^ 0x20]) + raw[at + 1 :]
    yield from (b"[]", b"null", b'{"model": 3}', b"\xff\xfe", b"[" * 100_000)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json"])
def test_a_damaged_file_of_a_model_never_ends_in_a_traceback(name: str, model: Path) -> None:
    refused = []
    for raw in damages((model / name).read_bytes()):
        (model / name).write_bytes(raw)
        try:
            check_and_load(model)
        except LpmError:  # a flipped bit may well do no harm
            refused.append(raw)
    assert {b"", b"[]", b"\xff\xfe"} <= set(refused)


def test_a_whole_model_is_read(model: Path) -> None:
    assert read_model_config(model)["model_type"] == "llama"
    check_and_load(model)
