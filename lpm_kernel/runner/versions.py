"""Which model the evidence stands for: the new one after `promote`, else the SFT model."""

from pathlib import Path

from lpm_kernel.errors import MissingInputError
from lpm_kernel.files import read_record
from lpm_kernel.progress import say
from lpm_kernel.proof.evaluation import Evaluation
from lpm_kernel.workspace.places import Workspace


def best_gguf(workspace: Workspace) -> Path:
    """The GGUF to serve; raises MissingInputError when there is none."""
    new, old = workspace.find("dpo_lpm.gguf"), workspace.find("lpm.gguf")
    evaluation = workspace.find("evaluation.json")
    manifest = workspace.manifest(evaluation) if evaluation else None
    judged = new and evaluation and manifest and manifest.inputs.get("after_gguf_path") == workspace.digest(new)
    if new and evaluation and judged and read_record(evaluation, Evaluation).decision == "promote":
        say(f"serving the promoted model {new}")
        return new
    if old is None:
        raise MissingInputError(f"{workspace.place('lpm.gguf')} is not there; run lpm pipeline, or give --model PATH")
    say(f"serving the SFT model {old}: no evaluation promotes a newer one")
    return old
