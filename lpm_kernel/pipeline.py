"""The chain as one table: each step, what it needs and what it makes."""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lpm_kernel.errors import UsageError

if TYPE_CHECKING:
    from lpm_kernel.config import Config


@dataclass(frozen=True)
class Step:
    """A stage at its place in the chain. Roles are the path arguments of the stage's `run`."""

    name: str
    module: str
    needs: Mapping[str, str]
    """Role -> artifact that must be there; a changed one makes the step stale."""
    makes: Mapping[str, str]
    """Role -> artifact; the first is the one whose presence without our manifest means that it was given."""
    uses: Mapping[str, str] = field(default_factory=dict)
    """Role -> artifact that is shown or compared when it is there; it makes nothing stale."""
    replaceable: frozenset[str] = frozenset()
    """Roles of `needs` that a server which the user started stands in for."""
    resumes: bool = False
    """The stage takes `work_path`, where it finds what a killed run of it left."""
    journals: bool = False
    """What is in `work_path` stays of worth after the step is done: answers and verdicts."""


STEPS: tuple[Step, ...] = (
    Step(
        "prepare",
        "lpm_kernel.L2.prepare_data",
        needs={"merged_path": "merged.json", "bio_path": "global_bio"},
        makes={
            "prompts_path": "prompts",
            "held_out_path": "held_out",
            "account_path": "items_account",
        },
    ),
    Step(
        "sft-train",
        "lpm_kernel.L2.sft_train",
        needs={
            "base_model_path": "base_model",
            "training_data_path": "merged.json",
            "held_out_path": "held_out",
        },
        makes={"adapter_path": "personal_model"},
        resumes=True,
    ),
    Step(
        "sft-merge",
        "lpm_kernel.L2.merge_lora_weights",
        needs={"base_model_path": "base_model", "lora_adapter_path": "personal_model"},
        makes={"output_model_path": "merged_model"},
    ),
    Step(
        "sft-gguf",
        "lpm_kernel.L2.export_gguf",
        needs={"model_path": "merged_model"},
        makes={"gguf_path": "lpm.gguf", "report_path": "fidelity"},
        uses={"prompts_path": "prompts"},
        resumes=True,
    ),
    Step(
        "dpo-data",
        "lpm_kernel.L2.dpo.dpo_data",
        needs={
            "prompts_path": "prompts",
            "bio_path": "global_bio",
            "gguf_path": "lpm.gguf",
        },
        makes={
            "direct_path": "dpo_direct.json",
            "full_path": "dpo_full.json",
            "verdicts_path": "verdicts",
            "account_path": "pairs_account",
        },
        replaceable=frozenset({"gguf_path"}),
        resumes=True,
        journals=True,
    ),
    Step(
        "dpo-train",
        "lpm_kernel.L2.dpo.dpo_train",
        needs={
            "base_model_path": "merged_model",
            "training_data_path": "dpo_direct.json",
        },
        makes={"adapter_path": "adapter"},
        resumes=True,
    ),
    Step(
        "dpo-merge",
        "lpm_kernel.L2.merge_lora_weights",
        needs={"base_model_path": "merged_model", "lora_adapter_path": "adapter"},
        makes={"output_model_path": "dpo_merged_model"},
    ),
    Step(
        "dpo-gguf",
        "lpm_kernel.L2.export_gguf",
        needs={"model_path": "dpo_merged_model"},
        makes={"gguf_path": "dpo_lpm.gguf", "report_path": "dpo_fidelity"},
        uses={"prompts_path": "prompts"},
        resumes=True,
    ),
    Step(
        "evaluate",
        "lpm_kernel.L2.evaluate_model",
        needs={
            "before_gguf_path": "lpm.gguf",
            "after_gguf_path": "dpo_lpm.gguf",
            "held_out_path": "held_out",
            "bio_path": "global_bio",
        },
        makes={"evaluation_path": "evaluation.json", "report_path": "report.html"},
        uses={
            "verdicts_path": "verdicts",
            "prompts_path": "prompts",
            "adapter_path": "adapter",
            "merged_model_path": "dpo_merged_model",
            "fidelity_path": "dpo_fidelity",
        },
        resumes=True,
        journals=True,
    ),
)


def step_named(name: str) -> Step:
    """Raises UsageError for a name that is not in the table, with the nearest that is."""
    names = [step.name for step in STEPS]
    if name not in names:
        from lpm_kernel.config import nearest

        raise UsageError(f"no step is called {name!r}{nearest(name, names)}; known: {', '.join(names)}")
    return STEPS[names.index(name)]


def maker_of(artifact: str) -> Step | None:
    """The step that makes an artifact; None for what the owner gives."""
    return next((s for s in STEPS if artifact in s.makes.values()), None)


def kinds() -> dict[str, type["Config"]]:
    """Step -> its StageConfig. Imports the stages, which import nothing heavy."""
    return {s.name: importlib.import_module(s.module).StageConfig for s in STEPS}
