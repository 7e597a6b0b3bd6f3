"""The chain as one table: each step, what it needs and what it makes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from lpm_kernel.config import Config, nearest
from lpm_kernel.errors import UsageError
from lpm_kernel.L2 import evaluate_model, export_gguf, judge_exam, merge_lora_weights, prepare_data, sft_train
from lpm_kernel.L2.dpo import dpo_data, dpo_train


@dataclass(frozen=True)
class Step:
    """A stage at its place in the chain. Roles are the path arguments of the stage's `run`."""

    name: str
    stage: ModuleType
    needs: Mapping[str, str]
    """Role -> artifact that must be there; a changed one makes the step stale."""
    makes: Mapping[str, str]
    """Role -> artifact; the first is the one whose presence without our manifest means that it was given."""
    uses: Mapping[str, str] = field(default_factory=dict)
    """Role -> artifact that is shown or compared when it is there; it makes nothing stale."""
    heeds: Mapping[str, str] = field(default_factory=dict)
    """Role -> artifact that only the owner gives and that may be absent; that it comes, changes or goes makes the step
    stale."""
    replaceable: Mapping[str, Callable[[Any], bool]] = field(default_factory=dict)
    """Role of `needs` -> whether, with these settings, something else stands in for it."""
    resumes: bool = False
    """The stage takes `work_path`, where it finds what a killed run of it left."""
    journals: bool = False
    """What is in `work_path` stays of worth after the step is done: answers and verdicts."""
    names_run: bool = False
    """The stage takes `run_path`, the folder of the run's record: what it makes names the run."""
    account: str | None = None
    """Role of `makes` that the stage writes, whole, even when it ends without a result."""

    @property
    def config_kind(self) -> type[Config]:
        """The stage's settings."""
        return self.stage.StageConfig  # type: ignore[no-any-return]


STEPS: tuple[Step, ...] = (
    Step(
        "prepare",
        prepare_data,
        needs={"merged_path": "merged.json", "bio_path": "global_bio"},
        makes={
            "prompts_path": "prompts",
            "held_out_path": "held_out",
            "probes_path": "probes",
            "items_path": "items",
            "account_path": "items_account",
        },
    ),
    Step(
        "judge-exam",
        judge_exam,
        needs={"items_path": "items", "bio_path": "global_bio"},
        makes={"examination_path": "examination"},
        resumes=True,
        journals=True,
        account="examination_path",
    ),
    Step(
        "sft-train",
        sft_train,
        needs={
            "base_model_path": "base_model",
            "training_data_path": "items",
            "held_out_path": "held_out",
            "probes_path": "probes",
        },
        makes={"adapter_path": "personal_model"},
        resumes=True,
    ),
    Step(
        "sft-merge",
        merge_lora_weights,
        needs={"base_model_path": "base_model", "lora_adapter_path": "personal_model"},
        makes={"output_model_path": "merged_model"},
    ),
    Step(
        "sft-gguf",
        export_gguf,
        needs={"model_path": "merged_model"},
        makes={"gguf_path": "lpm.gguf", "report_path": "fidelity"},
        uses={"prompts_path": "prompts"},
        resumes=True,
    ),
    Step(
        "dpo-data",
        dpo_data,
        needs={
            "prompts_path": "prompts",
            "items_path": "items",
            "bio_path": "global_bio",
            "examination_path": "examination",
            "gguf_path": "lpm.gguf",
        },
        makes={
            "direct_path": "dpo_direct.json",
            "full_path": "dpo_full.json",
            "verdicts_path": "verdicts",
            "account_path": "pairs_account",
        },
        heeds={"votes_path": "votes", "choices_path": "choices"},
        replaceable={"gguf_path": dpo_data.has_other_server, "examination_path": dpo_data.examines_itself},
        resumes=True,
        journals=True,
        account="account_path",
    ),
    Step(
        "dpo-train",
        dpo_train,
        needs={"base_model_path": "merged_model", "training_data_path": "dpo_direct.json"},
        makes={"adapter_path": "adapter"},
        resumes=True,
    ),
    Step(
        "dpo-merge",
        merge_lora_weights,
        needs={"base_model_path": "merged_model", "lora_adapter_path": "adapter"},
        makes={"output_model_path": "dpo_merged_model"},
    ),
    Step(
        "dpo-gguf",
        export_gguf,
        needs={"model_path": "dpo_merged_model"},
        makes={"gguf_path": "dpo_lpm.gguf", "report_path": "dpo_fidelity"},
        uses={"prompts_path": "prompts"},
        resumes=True,
    ),
    Step(
        "evaluate",
        evaluate_model,
        needs={
            "before_gguf_path": "lpm.gguf",
            "after_gguf_path": "dpo_lpm.gguf",
            "held_out_path": "held_out",
            "probes_path": "probes",
            "items_path": "items",
            "bio_path": "global_bio",
            "examination_path": "examination",
        },
        makes={"evaluation_path": "evaluation.json", "report_path": "report.html"},
        uses={
            "verdicts_path": "verdicts",
            "prompts_path": "prompts",
            "adapter_path": "adapter",
            "merged_model_path": "dpo_merged_model",
            "fidelity_path": "dpo_fidelity",
        },
        replaceable={"examination_path": evaluate_model.examines_itself},
        resumes=True,
        journals=True,
        names_run=True,
    ),
)


def step_named(name: str) -> Step:
    """Raises UsageError for a name that is not in the table, with the nearest that is."""
    names = [step.name for step in STEPS]
    if name not in names:
        raise UsageError(f"no step is called {name!r}{nearest(name, names)}; known: {', '.join(names)}")
    return STEPS[names.index(name)]


def maker_of(artifact: str) -> Step | None:
    """The step that makes an artifact; None for what the owner gives."""
    return next((s for s in STEPS if artifact in s.makes.values()), None)


def config_kinds() -> dict[str, type[Config]]:
    """Step -> its StageConfig."""
    return {s.name: s.config_kind for s in STEPS}
