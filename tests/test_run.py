"""`lpm run STEP`: its options are the stage's paths and settings, and only those given take part."""

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from conftest import ROOT, Lpm, Take
from test_pipeline import HEAVY
from typer.testing import CliRunner

from lpm_kernel.commands.app import app
from lpm_kernel.commands.run import SHARED
from lpm_kernel.config import Config
from lpm_kernel.errors import UsageError
from lpm_kernel.pipeline import STEPS, Step, config_kinds, step_named
from lpm_kernel.runner import run
from lpm_kernel.workspace.places import Workspace

NAMES = [*(step.name for step in STEPS), *SHARED]


@pytest.mark.parametrize(
    "given", [["--lora_r", "32"], ["--lora-r", "32"], ["--lora_r=32"], ["--lora-r=32"]], ids=" ".join
)
def test_both_spellings_of_a_flag_are_one_setting(given: list[str], take: Take) -> None:
    order = take("sft-train", *given)
    assert order.config.model_dump() == {**config_kinds()["sft-train"]().model_dump(), "lora_r": 32}
    assert order.config.flags == {"lora_r"}
    assert not order.paths


def test_the_last_of_two_spellings_counts(take: Take) -> None:
    assert take("dpo-train", "--lora-r", "3", "--lora_r=4").config.model_dump()["lora_r"] == 4


def test_a_flag_with_the_value_of_the_default_is_a_flag_all_the_same(take: Take) -> None:
    assert take("dpo-train", "--lora-r", "32").config.flags == {"lora_r"}
    assert take("dpo-train").config.flags == frozenset()


def test_the_documented_flags_of_the_seed_are_known(take: Take) -> None:
    documented = "--num_train_epochs 2 --learning_rate 5e-6 --lora_r 32 --lora_alpha 64 --batch_size 4"
    train = take("dpo-train", *documented.split())
    assert train.config.flags == {"num_train_epochs", "learning_rate", "lora_r", "lora_alpha", "batch_size"}
    merge = take("merge", "--base_model_path", "a", "--lora_adapter_path", "b", "--output_model_path", "c")
    assert merge.step.name == "dpo-merge"
    assert merge.paths == {role: Path(name).absolute() for role, name in zip(merge.paths, "abc", strict=True)}


def test_what_a_shared_script_makes_besides_stands_beside_it(take: Take) -> None:
    assert (
        take("export-gguf", "--model_path", "m", "--gguf_path", "x/a.gguf").paths["report_path"]
        == Path("x/a.fidelity.json").absolute()
    )
    given = take("export-gguf", "--model_path", "m", "--gguf_path", "a.gguf", "--report_path", "r.json")
    assert given.paths["report_path"] == Path("r.json").absolute()


@pytest.mark.parametrize(
    ("given", "value"),
    [
        (["--gradient-checkpointing"], True),
        (["--gradient_checkpointing", "--lora-r", "8"], True),
        (["--gradient-checkpointing", "true"], True),
        (["--gradient-checkpointing", "false"], False),
        (["--gradient_checkpointing=false"], False),
    ],
)
def test_a_switch_may_have_a_value_or_none(given: list[str], value: bool, take: Take) -> None:
    config = take("dpo-train", *given).config
    assert config.model_dump()["gradient_checkpointing"] is value
    assert "gradient_checkpointing" in config.flags


@pytest.mark.parametrize("given", [["--beta", "-1"], ["--beta=-1"]], ids=" ".join)
def test_a_bad_value_reaches_the_settings_as_it_was_typed_and_names_its_flag(given: list[str], take: Take) -> None:
    with pytest.raises(UsageError, match=r"beta = '-1' \(--beta\)"):
        take("dpo-train", *given)
    assert take("prepare", "--min-score", "-1.5").config.model_dump()["min_score"] == -1.5


@pytest.mark.parametrize("width", ["80", "120"])
@pytest.mark.parametrize("name", NAMES)
def test_the_help_of_a_step_tells_its_purpose_and_every_setting_whole(name: str, width: str) -> None:
    step = step_named(SHARED.get(name, name))
    text = shown(["run", name, "--help"], width)
    assert " ".join(str(step.stage.__doc__).split()) in text
    for role, artifact in {**step.needs, **step.makes, **step.uses}.items():
        assert f"{flag(role)} <path> {artifact} [" in text
    for key, field in config_kinds()[step.name].settings().items():
        assert re.search(rf"{flag(key)} <\w+> {re.escape(field.description or '')} \[[^]]*default: [^]]+\]", text), key


def test_the_help_of_run_lists_every_step_with_its_purpose() -> None:
    text = shown(["run", "--help"], "200")
    for name in NAMES:
        assert f"{name} {first_line(step_named(SHARED.get(name, name)))}" in text


def test_bounds_choices_and_defaults_are_told_as_one_would_type_them() -> None:
    text = shown(["run", "dpo-train", "--help"], "200")
    for told in ("[x>0; default: 0.1]", "[0<=x<1; default: 0.1]", "[auto|float32|bfloat16; default: auto]"):
        assert told in text
    assert "[default: false]" in text
    assert "[x>=0; default: 42]" in text


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("lpm ru", {"run"}),
        ("lpm run dpo-", {"dpo-data", "dpo-train", "dpo-merge", "dpo-gguf"}),
        ("lpm run dpo-train --lora", {"--lora-r", "--lora-alpha", "--lora-dropout"}),
        ("lpm run dpo-train --lora_", {"--lora_r", "--lora_alpha", "--lora_dropout"}),
        ("lpm run dpo-train --lora_r 8 --base", {"--base-model-path"}),
        ("lpm run dpo-train --precision ", {"auto", "float32", "bfloat16"}),
        ("lpm run dpo-train --gradient-checkpointing f", {"false"}),
        ("lpm pipeline --until e", {"evaluate"}),
        ("lpm path lpm", {"lpm.gguf"}),
        ("lpm status --preset s", {"second-me"}),
    ],
)
def test_the_shell_completes_steps_flags_and_values(line: str, offered: set[str]) -> None:
    env = {"_LPM_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(line.count(" "))}
    script = (
        "import sys\nfrom lpm_kernel.commands.app import main\n"
        "try: main([])\nfinally: print(*{m.split('.')[0] for m in sys.modules}, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, env={**os.environ, **env}
    )
    assert set(done.stdout.split()) == offered
    assert not set(done.stderr.split()) & HEAVY


def shown(arguments: list[str], width: str) -> str:
    """What a command prints, without frames and line breaks."""
    done = CliRunner().invoke(app, arguments, env={"COLUMNS": width}, prog_name="lpm")
    assert done.exit_code == 0
    return " ".join(re.sub(r"[│╭╮╰╯─]", " ", done.stdout).split())


def first_line(step: Step) -> str:
    return str(step.stage.__doc__).split("\n")[0]


def flag(key: str) -> str:
    return f"--{key.replace('_', '-')}"


def test_a_setting_given_to_the_chain_is_one_of_every_step_that_has_it(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Mapping[str, Config]] = []
    monkeypatch.setattr(run, "run_chain", lambda _, configs, **__: seen.append(configs))
    given = ["--judge", "reference", "--min_items=4", "--gradient-checkpointing", "--until", "prepare"]
    CliRunner().invoke(app, ["pipeline", *given, "--workspace", str(workspace.root)], catch_exceptions=False)
    settings = {step: config.model_dump() for step, config in seen[0].items()}
    assert {settings[step]["judge"] for step in ("dpo-data", "evaluate")} == {"reference"}
    assert settings["prepare"]["min_items"] == 4
    assert {settings[step]["gradient_checkpointing"] for step in ("sft-train", "dpo-train")} == {True}


def test_a_dry_run_tells_all_that_stands_against_it(lpm: Lpm, workspace: Workspace) -> None:
    told = lpm("pipeline", "--dry-run", "--judge", "openai", "--workspace", workspace.root)
    assert told.returncode == 66
    assert "key not set" in told.stderr
    assert "base_models" in told.stderr
    (workspace.place("lpm.gguf").parent).mkdir(parents=True)
    workspace.place("lpm.gguf").write_text("mine")
    blocked = lpm("pipeline", "--dry-run", "--json", "--until", "dpo-data", "--workspace", workspace.root)
    assert blocked.returncode == 77
    assert "OPENAI_API_KEY" in blocked.stderr


@pytest.mark.parametrize("wrong", [["--judgge", "reference"], ["--judge", "nobody"], ["--min-items", "few"]])
def test_a_wrong_setting_of_the_chain_is_a_usage_error(wrong: list[str], lpm: Lpm, workspace: Workspace) -> None:
    assert lpm("pipeline", *wrong, "--dry-run", "--workspace", workspace.root).returncode == 64
