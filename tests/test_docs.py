"""The docs can fail: what the README names is there, and what is there it names."""

import re
import subprocess

import pytest
from conftest import ROOT, Take
from typer.main import get_command

from lpm_kernel.commands.app import app
from lpm_kernel.pipeline import STEPS

README = (ROOT / "README.md").read_text(encoding="utf-8")
TRACKED = subprocess.run(["git", "ls-files"], capture_output=True, text=True, cwd=ROOT).stdout.split()
SHELL = [line for block in re.findall(r"```bash\n(.*?)```", README, re.DOTALL) for line in block.splitlines()]
COMMANDS = set(get_command(app).list_commands(None))  # type: ignore[attr-defined]


def test_every_relative_link_leads_somewhere() -> None:
    for page in [ROOT / name for name in TRACKED if name.endswith(".md")]:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page}: {target}"


def test_every_lpm_command_of_the_readme_exists() -> None:
    named = re.findall(r"(?:`|^)lpm ([a-z]+)(?: ([a-z-]+))?", README, re.MULTILINE)
    assert {command for command, _ in named} <= COMMANDS
    assert {step for command, step in named if command == "run" and step} <= {s.name for s in STEPS}


@pytest.mark.parametrize("script", ["dpo-train", "merge"])
def test_the_flags_of_the_readmes_scripts_are_known(script: str, take: Take) -> None:
    text = " ".join(SHELL).replace("\\", " ")
    file = {"dpo-train": "dpo_train.py", "merge": "merge_lora_weights.py"}[script]
    flags = re.search(rf"{file}((?:\s+--\w+\s+\S+)+)", text)
    assert flags is not None
    order = take(script, *flags[1].replace('"', "").split())
    assert order.step.stage.__name__.endswith(file.removesuffix(".py"))


def test_no_doc_holds_a_placeholder() -> None:
    for name in TRACKED:
        if name.endswith(".md"):
            assert not re.search(r"@[A-Z_]+@|TODO|XXX", (ROOT / name).read_text(encoding="utf-8")), name
