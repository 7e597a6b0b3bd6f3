"""A peft LoRA adapter on disk, read without peft: what it does to each base tensor. Anything unknown is refused.

File format: adapter_config.json + adapter_model.safetensors as peft 0.21 writes them.
LoRA: https://arxiv.org/abs/2106.09685 (W + alpha/r B A); rsLoRA: https://arxiv.org/abs/2312.03732 (alpha/sqrt(r)).
"""

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lpm_kernel.errors import DataError, MissingInputError
from lpm_kernel.models.folder import check_entries, read_model_object
from lpm_kernel.models.foreign import bounded

if TYPE_CHECKING:
    import torch

ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
UNDERSTOOD = frozenset(
    (
        *("peft_type", "task_type", "auto_mapping", "peft_version", "base_model_name_or_path", "revision"),
        *("inference_mode", "r", "lora_alpha", "rank_pattern", "alpha_pattern", "use_rslora", "lora_dropout"),
        *("target_modules", "exclude_modules", "layers_to_transform", "layers_pattern", "modules_to_save", "bias"),
        *("fan_in_fan_out", "init_lora_weights", "eva_config", "loftq_config", "qalora_group_size"),
        *("megatron_core", "ensure_weight_tying"),
    )
)
"""Fields that we follow, or that only mattered while training; any other field must be empty or false."""
BASE_KEEPING_INITS = (True, False, None, "gaussian", "orthogonal", "eva")
"""Values of init_lora_weights that leave the base weights alone; pissa, olora, corda and others change them."""
PREFIX = "base_model.model."
LORA_KEY = re.compile(r"(.+)\.lora_(A|B)\.weight")


@dataclass(frozen=True)
class LowRank:
    """W + scale * left @ right. left: (rows, r), right: (r, columns), both as stored."""

    left: "torch.Tensor"
    right: "torch.Tensor"
    scale: float

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the base tensor that this fits."""
        return self.left.shape[0], self.right.shape[1]

    def apply(self, block: "torch.Tensor", start: int) -> "torch.Tensor":
        """Rows [start, start + len(block)) of the tensor, fp64 in and out."""
        import torch

        left = self.left[start : start + block.shape[0]].double()
        return torch.addmm(block, left, self.right.double(), alpha=self.scale)


@dataclass(frozen=True)
class Replacement:
    """A whole trained tensor: modules_to_save, or a trained bias."""

    value: "torch.Tensor"

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the base tensor that this fits."""
        return tuple(self.value.shape)

    def apply(self, block: "torch.Tensor", start: int) -> "torch.Tensor":
        """Rows [start, start + len(block)) of the trained tensor, in fp64."""
        return self.value[start : start + block.shape[0]].double()


Update = LowRank | Replacement


def read_adapter(adapter_path: Path) -> dict[str, Update]:
    """Base tensor name (`model.layers.0.self_attn.q_proj.weight`) -> its update.

    Raises MissingInputError, or DataError for an adapter that is no plain LoRA, naming the field and the cure.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    config = read_model_object(adapter_path / ADAPTER_CONFIG)
    check_entries(adapter_path)
    _refuse_unknown(adapter_path / ADAPTER_CONFIG, config)
    weights_path = adapter_path / ADAPTER_WEIGHTS
    if not weights_path.is_file():
        if (adapter_path / "adapter_model.bin").is_file():
            raise DataError(f"{adapter_path} holds adapter_model.bin, a pickle; save it with safe_serialization=True")
        raise MissingInputError(f"{weights_path} is not there; train the adapter again, or give its directory")
    try:
        tensors = load_file(weights_path)
    except SafetensorError as error:
        raise DataError(f"{weights_path} is cut or damaged ({error}); train the adapter again") from None
    return _updates(config, tensors)


def match_base(updates: Mapping[str, Update], shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Update]:
    """The updates under the names that the base's files use; raises DataError when the adapter is of another model."""
    matched: dict[str, Update] = {}
    for name, update in updates.items():
        known = next((n for n in (name, name.partition(".")[2]) if n in shapes), None)
        if known is None:
            raise DataError(
                f"the adapter changes {name}, which the base model does not have; give the base that it was trained on"
                + (" (tied embeddings: train without lm_head among the modules)" if "lm_head" in name else "")
            )
        if shapes[known] != update.shape:
            raise DataError(
                f"the adapter's {name} is for shape {update.shape}, the base model's is {shapes[known]}; "
                "this is an adapter of another model: give the base that it was trained on"
            )
        matched[known] = update
    return matched


def _refuse_unknown(path: Path, config: Mapping[str, Any]) -> None:
    """Raise DataError for every field that would change the sum and that we do not follow."""
    if config.get("peft_type") != "LORA":
        raise DataError(f"{path}: peft_type is {config.get('peft_type')!r}, expected 'LORA'; train a LoRA adapter")
    for field, value in config.items():
        if field not in UNDERSTOOD and value not in (None, False, [], {}):
            raise DataError(
                f"{path}: {field} = {value!r} is not supported by this merge; train a plain LoRA adapter without it, "
                "or merge with peft's merge_and_unload and give the merged model"
            )
    _refuse_malformed(path, config)
    init = config.get("init_lora_weights")
    if init not in BASE_KEEPING_INITS:
        raise DataError(
            f"{path}: init_lora_weights = {init!r} changes the base weights, so the sum with the base would be wrong; "
            "convert the adapter with peft's path_initial_model_for_weight_conversion, or train with the default"
        )


def _refuse_malformed(path: Path, config: Mapping[str, Any]) -> None:
    """Raise DataError for a field of the wrong form, naming it."""
    patterns = {field: config.get(field) or {} for field in ("rank_pattern", "alpha_pattern")}
    expected = {
        **{field: (config.get(field), "a number above 0", _is_size) for field in ("r", "lora_alpha")},
        **{field: (value, "regular expressions with numbers above 0", _is_sizes) for field, value in patterns.items()},
        "modules_to_save": (config.get("modules_to_save") or [], "a list of names", _is_names),
    }
    for field, (value, form, fits) in expected.items():
        if not fits(value):
            raise DataError(f"{path}: {field} = {value!r}, expected {form}; train the adapter again")


def _is_size(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf


def _is_sizes(value: object) -> bool:
    return isinstance(value, dict) and all(_is_regex(key) and _is_size(size) for key, size in value.items())


def _is_regex(pattern: str) -> bool:
    try:
        re.compile(pattern)
    except (re.error, RecursionError, OverflowError):
        return False
    return True


def _is_names(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def _updates(config: Mapping[str, Any], tensors: Mapping[str, "torch.Tensor"]) -> dict[str, Update]:
    pairs: dict[str, dict[str, torch.Tensor]] = {}
    updates: dict[str, Update] = {}
    for key, tensor in tensors.items():
        name = key.removeprefix(PREFIX)
        if match := LORA_KEY.fullmatch(name):
            pairs.setdefault(match[1], {})[match[2]] = tensor
        elif key.startswith(PREFIX) and _is_saved_whole(config, name):
            updates[name.replace(".base_layer.", ".")] = Replacement(tensor)
        else:
            raise DataError(f"the adapter's {key} is no plain LoRA tensor; train a plain LoRA adapter on linear layers")
    sizes = _sizes(config, list(pairs))
    for module, pair in pairs.items():
        if set(pair) != {"A", "B"}:
            raise DataError(f"the adapter has lora_{next(iter(pair))} of {module} but not its partner; train it again")
        updates[f"{module}.weight"] = _low_rank(config, module, *sizes[module], pair["A"], pair["B"])
    if not updates:
        raise DataError("the adapter holds no tensors; train it again")
    return updates


def _sizes(config: Mapping[str, Any], modules: Sequence[str]) -> dict[str, tuple[float, float]]:
    """Module -> rank and alpha; patterns, where there are any, are matched within bounds."""
    ranks, alphas = config.get("rank_pattern"), config.get("alpha_pattern")
    found: Iterator[tuple[float, float]] = (
        (_by_pattern(ranks, m, config["r"]), _by_pattern(alphas, m, config["lora_alpha"])) for m in modules
    )
    if ranks or alphas:
        cure = "write the modules' names as they are, or train the adapter again"
        found = bounded(
            found, f"{ADAPTER_CONFIG}: matching rank_pattern {ranks!s:.200} and alpha_pattern {alphas!s:.200}", cure
        )
    return dict(zip(modules, found, strict=True))


def _low_rank(
    config: Mapping[str, Any], module: str, rank: float, alpha: float, a: "torch.Tensor", b: "torch.Tensor"
) -> LowRank:
    """a: (r, in), b: (out, r). Raises DataError when the ranks of config and tensors differ."""
    if a.dim() != 2 or b.dim() != 2 or not a.shape[0] == b.shape[1] == rank:
        raise DataError(
            f"the adapter's {module} has A {tuple(a.shape)} and B {tuple(b.shape)}, expected rank {rank} as "
            "adapter_config.json says; config and weights are of different runs, or not of a linear layer"
        )
    scale = alpha / math.sqrt(rank) if config.get("use_rslora") else alpha / rank
    return LowRank(a.T, b.T, scale) if config.get("fan_in_fan_out") else LowRank(b, a, scale)


def _by_pattern(patterns: Mapping[str, Any] | None, module: str, default: float) -> float:
    """The first pattern that matches the module's name or its end, as peft's get_pattern_key."""
    for pattern, value in (patterns or {}).items():
        if re.match(rf"(.*\.)?({pattern})$", module):
            return float(value)
    return float(default)


def _is_saved_whole(config: Mapping[str, Any], name: str) -> bool:
    saved: Iterable[str] = config.get("modules_to_save") or ()
    if any(f"{module}." in name for module in saved):  # peft: a module is saved when its name ends so
        return True
    return config.get("bias", "none") != "none" and name.endswith(".bias") and ".lora_" not in name
