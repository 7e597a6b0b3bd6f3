"""The files of a Hugging Face model directory: which hold the weights, which the tokenizer, and what is refused.

transformers trains a directory, our merge sums it, llama.cpp's converter exports it, and each has rules of its own for
the files that count. So a directory that they would read differently is refused here, for all of them:
- transformers prefers model.safetensors to an index beside it, the other two the index;
- without an index the converter reads every model*.safetensors, variants too;
- transformers loads the adapter whose adapter_config.json lies beside config.json, and the file that the
  configuration names as transformers_weights;
- a quantised model is dequantised by each in its own way.

Links: the directory itself may be one, and a link in it may lead to a file of the same directory or of the Hugging
Face cache that the directory is a snapshot of (`snapshots/<revision>/x -> ../../blobs/<hash>`). Any other is refused,
so that no file from elsewhere is taken for the tokenizer and copied beside the merged model.
"""

import json
import shutil
from pathlib import Path
from typing import Any

from lpm_kernel.errors import DataError, MissingInputError
from lpm_kernel.files import read_object

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
GENERATION_CONFIG = "generation_config.json"
TOKENIZER_FILES = (
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.json", "vocab.txt", "merges.txt", "tokenizer.model", "spiece.model", "*.bpe.model", "tekken.json"),
    *("chat_template.jinja", "chat_template.json", "additional_chat_templates/*.jinja"),
)
REMOTE_CODE_FILES = ("config.json", "tokenizer_config.json", GENERATION_CONFIG)
PARTS = ("text_config",)
"""Objects in config.json that describe the language model of a larger one."""
SIZES = {
    **dict.fromkeys(("vocab_size", "hidden_size", "intermediate_size", "max_position_embeddings", "head_dim"), 10**9),
    **dict.fromkeys(("num_hidden_layers", "num_attention_heads", "num_key_value_heads"), 10**4),
}
"""Field of config.json -> the largest value that is believed; one by one they are compared with the weights later."""
FLOATS = ("float32", "float16", "bfloat16", "float64")


def read_model_object(path: Path) -> dict[str, Any]:
    """A JSON object of a model or adapter; raises MissingInputError or DataError."""
    return read_object(path, "give the directory of a complete Hugging Face model or adapter")


def read_model_config(model_path: Path) -> dict[str, Any]:
    """config.json of a model that all who read the directory understand alike, and that runs no code of its own.

    Raises MissingInputError or DataError.
    """
    path = model_path / "config.json"
    config = read_model_object(path)
    check_entries(model_path)
    for name in REMOTE_CODE_FILES:
        if (model_path / name).is_file() and "auto_map" in read_model_object(model_path / name):
            raise DataError(
                f"{model_path / name}: auto_map names Python code that the model would run (trust_remote_code); "
                "that is refused: use a model whose architecture transformers itself knows"
            )
    if (model_path / "adapter_config.json").exists():
        raise DataError(
            f"{model_path} holds adapter_config.json beside config.json: training would load that adapter too, the "
            "export would not; move the adapter's files to a folder of their own, and merge it first if it belongs in"
        )
    for part in (config, *(config[key] for key in PARTS if key in config)):
        _check_config(path, part)
    return config


def check_entries(folder: Path) -> None:
    """Raise DataError for a link that leads elsewhere or nowhere, and for what is neither file nor folder."""
    root = folder.resolve()
    homes = [root, root.parent.parent / "blobs"] if root.parent.name == "snapshots" else [root]
    for entry in [*folder.iterdir(), *folder.glob("additional_chat_templates/*")]:
        try:
            target = entry.resolve(strict=True)
        except (OSError, RuntimeError):  # a loop is a RuntimeError in Python 3.11
            raise DataError(f"{entry} is a link that leads nowhere; fetch or make the model again") from None
        if not any(target.is_relative_to(home) for home in homes):
            raise DataError(
                f"{entry} is a link out of its folder, to {target}; copy the file there, or link the whole folder"
            )
        if not target.is_file() and not target.is_dir():
            raise DataError(f"{entry} is neither a file nor a folder; take it away")


def weight_shards(model_path: Path) -> list[Path]:
    """The safetensors files that the model's weights lie in, sorted; raises MissingInputError or DataError."""
    index_path = model_path / INDEX
    named = sorted(set(read_weight_map(model_path).values())) if index_path.is_file() else [WEIGHTS]
    missing = [name for name in named if not (model_path / name).is_file()]
    if missing and any(model_path.glob("*.bin")):
        raise DataError(
            f"{model_path} holds .bin weights (pickles, which can run code), expected safetensors; "
            "convert it once: AutoModelForCausalLM.from_pretrained(...).save_pretrained(...) writes safetensors"
        )
    if missing:
        raise MissingInputError(f"{model_path} lacks {', '.join(missing)}; fetch or make the model again")
    beside = INDEX if index_path.is_file() else WEIGHTS
    others = [WEIGHTS] if beside == INDEX else [path.name for path in model_path.glob("model*.safetensors")]
    unlisted = sorted(name for name in others if name not in named and (model_path / name).is_file())
    if unlisted:
        raise DataError(
            f"{model_path} holds {unlisted[0]} beside {beside}: training and export would read "
            "different weights; move the one that does not belong to the model out of the folder"
        )
    return [model_path / name for name in named]


def read_weight_map(model_path: Path) -> dict[str, str]:
    """Tensor -> shard, as the index has it; raises DataError for an index that not all readers take."""
    path = model_path / INDEX
    index = read_model_object(path)
    weight_map = index.get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map or not isinstance(index.get("metadata"), dict):
        raise DataError(
            f'{path}: expected {{"metadata": {{...}}, "weight_map": {{tensor: file}}}}; fetch or make the model again'
        )
    for tensor, name in weight_map.items():
        if not isinstance(name, str) or Path(name).name != name or not name.endswith(".safetensors"):
            raise DataError(
                f"{path}: {tensor} lies in {name!r}, expected the name of a .safetensors file in the same folder; "
                "fetch or make the model again"
            )
    return weight_map


def copy_files(source_path: Path, target_path: Path, patterns: tuple[str, ...]) -> list[str]:
    """Copy the files that match and are not there yet, byte for byte; returns their names relative to the source."""
    found = {str(p.relative_to(source_path)) for pattern in patterns for p in source_path.glob(pattern) if p.is_file()}
    chosen = sorted(name for name in found if not (target_path / name).exists())
    for name in chosen:
        (target_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source_path / name, target_path / name)
    return chosen


def copy_config(source_path: Path, target_path: Path, dtype: str) -> None:
    """config.json byte for byte, or with its dtype fields set where they name another one."""
    config = read_model_object(source_path / "config.json")
    parts = [part for part in (config, config.get("text_config")) if isinstance(part, dict)]
    named = [(part, key) for part in parts for key in ("dtype", "torch_dtype") if key in part]
    if all(part[key] == dtype for part, key in named):
        copy_files(source_path, target_path, ("config.json",))
        return
    for part, key in named:
        part[key] = dtype
    (target_path / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def _check_config(path: Path, config: object) -> None:
    """Raise DataError for what would make readers disagree, and for sizes that no model has."""
    if not isinstance(config, dict):
        raise DataError(f"{path}: {config!r} in the place of an object; fetch or make the model again")
    if config.get("quantization_config") is not None:
        raise DataError(
            f"{path}: quantization_config, so the weights are rounded already; "
            "use the model's bfloat16, float16 or float32 release"
        )
    if config.get("transformers_weights") is not None:
        raise DataError(
            f"{path}: transformers_weights names other weights than the merge and the export read; take that line out"
        )
    for field, bound in SIZES.items():
        value = config.get(field)
        if value is not None and (type(value) is not int or not 0 < value <= bound):
            raise DataError(
                f"{path}: {field} = {value!r}, expected a whole number from 1 to {bound}; fetch or make the model again"
            )
    for field in ("dtype", "torch_dtype"):
        value = config.get(field)
        if value is not None and value not in FLOATS:
            raise DataError(f"{path}: {field} = {value!r}, expected one of {', '.join(FLOATS)}; correct it")
