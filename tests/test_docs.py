"""The docs can fail: what they name is there, what the code tells is as the code has it, and examples run."""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import BIO, ROOT, Take
from typer.main import get_command
from typer.testing import CliRunner

from lpm_kernel.commands.app import app
from lpm_kernel.config import preset_layer, resolve
from lpm_kernel.L2.dpo.utils import pair_of, write_pairs
from lpm_kernel.L2.prepare_data import StageConfig as PrepareConfig
from lpm_kernel.owner.items import to_prompt
from lpm_kernel.records import Evidence, Prompt
from lpm_kernel.workspace.places import Workspace

TRACKED = subprocess.run(["git", "ls-files"], capture_output=True, text=True, cwd=ROOT).stdout.split()
HISTORY = {"CHANGELOG.md", "docs/log.md"}
PAGES = {name: (ROOT / name).read_text(encoding="utf-8") for name in TRACKED if name.endswith(".md")}
README, ONE_ITEM = PAGES["README.md"], PAGES["docs/one-item.md"]
COMMAND = re.compile(r"(?:`|^|[A-Z_]+=\S+ )lpm ((?:[^`\n\\]|\\\n)+)", re.MULTILINE)
NAMED_FILE = re.compile(r"\b(?:lpm_kernel|scripts|tests|benchmarks|docs)/[\w./-]*\w")
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
NAMED_FUNCTION = re.compile(r"`([\w/]+\.py): (\w+)`")


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page, re.DOTALL)


@pytest.mark.parametrize("script", ["docs", "house"])
def test_what_the_code_tells_is_up_to_date(script: str) -> None:
    told = subprocess.run([sys.executable, f"scripts/{script}", "--check"], capture_output=True, text=True, cwd=ROOT)
    assert not told.returncode, told.stderr


def test_every_relative_link_leads_somewhere() -> None:
    for name, text in PAGES.items():
        for target in re.findall(r"\]\(([^)#:]+)\)", text):
            assert ((ROOT / name).parent / target).exists(), f"{name}: {target}"


def test_every_file_that_the_docs_name_is_there() -> None:
    for name in PAGES.keys() - HISTORY:
        for path in NAMED_FILE.findall(PAGES[name]):
            assert (ROOT / path).exists(), f"{name}: {path}"


def test_every_lpm_command_and_option_of_the_docs_exists() -> None:
    named = [(name, command) for name in PAGES.keys() - HISTORY for command in COMMAND.findall(PAGES[name])]
    assert len(named) > 20
    for name, told in named:
        words = told.replace("\\\n", " ").split("#")[0].split()
        command, context = _follow([word.strip("\"'") for word in words])
        known = {option for parameter in command.get_params(context) for option in parameter.opts}
        for option in (word.split("=")[0].replace("_", "-") for word in words if word.startswith("--")):
            assert option in known, f"{name}: lpm {told}"


def _follow(words: list[str]) -> tuple[Any, Any]:
    """The command that the words name, as far as they name one; a name in capitals stands for any."""
    command: Any = get_command(app)
    context = command.make_context("lpm", [], resilient_parsing=True)
    for word in words:
        if word.startswith("-") or word.isupper() or not hasattr(command, "list_commands"):
            break
        command = command.get_command(context, word.strip(".,;:"))
        assert command is not None, f"lpm {' '.join(words)}: no command is called {word}"
        context = command.make_context(word, [], resilient_parsing=True)
    return command, context


@pytest.mark.parametrize("script", ["dpo-train", "merge"])
def test_the_flags_of_the_readmes_scripts_are_known(script: str, take: Take) -> None:
    text = " ".join(blocks(README, "bash")).replace("\\", " ")
    file = {"dpo-train": "dpo_train.py", "merge": "merge_lora_weights.py"}[script]
    flags = re.search(rf"{file}((?:\s+--\w+\s+\S+)+)", text)
    assert flags is not None
    order = take(script, *flags[1].replace('"', "").split())
    assert order.step.stage.__name__.endswith(file.removesuffix(".py"))


def test_the_readmes_merged_json_is_prepared_as_the_readme_says(workspace: Workspace) -> None:
    (items,) = blocks(README, "json")
    (options,) = re.findall(r"`lpm (run prepare [^`]+)`", README)
    workspace.place("merged.json").write_text(items, encoding="utf-8")
    workspace.place("global_bio").write_text(BIO, encoding="utf-8")
    CliRunner().invoke(app, [*options.split(), "--workspace", str(workspace.root)], catch_exceptions=False)
    account = json.loads(workspace.place("items_account").read_text(encoding="utf-8"))
    assert account["usable"] == len(json.loads(items))
    assert account["prompts"]
    assert account["held_out"]


def test_every_function_that_the_docs_name_exists() -> None:
    named = {(path, name) for text in PAGES.values() for path, name in NAMED_FUNCTION.findall(text)}
    assert len(named) > 30
    for path, name in named:
        body = ast.parse((ROOT / "lpm_kernel" / path).read_text(encoding="utf-8")).body
        assert name in [node.name for node in body if isinstance(node, DEFINITIONS)], f"{path}: {name}"


def test_the_item_of_the_docs_becomes_the_prompt_and_the_pair_that_they_show(tmp_path: Path) -> None:
    item, line, evidence, row = map(json.loads, blocks(ONE_ITEM, "json"))
    prompt = Prompt.model_validate(line)
    assert to_prompt(item, 0, resolve(PrepareConfig, "prepare", [preset_layer("demo")], {})) == prompt
    write_pairs(tmp_path / "pairs.json", [pair_of(prompt, Evidence.model_validate(evidence))])
    assert json.loads((tmp_path / "pairs.json").read_text(encoding="utf-8")) == [row]


def test_no_doc_holds_a_placeholder() -> None:
    for name, text in PAGES.items():
        assert not re.search(r"@[A-Z_]+@|TODO|XXX", text), name
