"""The files of a Hugging Face model directory: which hold the weights, which the tokenizer, and what is refused."""

import json
import shutil
from fnmatch import fnmatch
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


def read_model_object(path: Path) -> dict[str, Any]:
    """A JSON object of a model or adapter; raises MissingInputError or DataError."""
    return read_object(path, "give the directory of a complete Hugging Face model or adapter")


def read_model_config(model_path: Path) -> dict[str, Any]:
    """config.json of a model that runs no code of its own; raises MissingInputError or DataError."""
    config = read_model_object(model_path / "config.json")
    for name in REMOTE_CODE_FILES:
        if (model_path / name).is_file() and "auto_map" in read_model_object(model_path / name):
            raise DataError(
                f"{model_path / name}: auto_map names Python code that the model would run (trust_remote_code); "
                "that is refused: use a model whose architecture transformers itself knows"
            )
    return config


def weight_shards(model_path: Path) -> list[Path]:
    """The safetensors files that the model's weights lie in, sorted; raises MissingInputError or DataError."""
    if (model_path / INDEX).is_file():
        named = sorted(set(read_model_object(model_path / INDEX).get("weight_map", {}).values()))
        shards = [model_path / Path(name).name for name in named]
    else:
        shards = [model_path / WEIGHTS]
    missing = [path.name for path in shards if not path.is_file()]
    if not missing and shards:
        return shards
    if any(model_path.glob("*.bin")):
        raise DataError(
            f"{model_path} holds .bin weights (pickles, which can run code), expected safetensors; "
            "convert it once: AutoModelForCausalLM.from_pretrained(...).save_pretrained(...) writes safetensors"
        )
    raise MissingInputError(f"{model_path} lacks {', '.join(missing) or WEIGHTS}; fetch or make the model again")


def copy_files(source_path: Path, target_path: Path, patterns: tuple[str, ...]) -> list[str]:
    """Copy the files that match and are not there yet, byte for byte; returns their names relative to the source."""
    names = sorted(str(path.relative_to(source_path)) for path in source_path.rglob("*") if path.is_file())
    chosen = [n for n in names if any(fnmatch(n, p) for p in patterns) and not (target_path / n).exists()]
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
