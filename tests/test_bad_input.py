"""Bad input: one message with the cure, the right exit code, and nothing that was there is lost."""

import hashlib
import json
import re
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, Lpm, owner_items
from scripted_server import ScriptedServer
from tiny_gguf import write_tiny_gguf

from lpm_kernel.demo.base_model import write_base_model
from lpm_kernel.workspace.places import Workspace

Spoil = Callable[[Workspace], None]


@dataclass(frozen=True)
class Case:
    """A spoilt workspace, the command, and what must come of it. `{server}` in env is the scripted server's root."""

    spoil: Spoil
    arguments: tuple[str, ...]
    code: int
    told: str
    env: dict[str, str] = field(default_factory=dict)


def merged(raw: bytes) -> Spoil:
    def spoil(w: Workspace) -> None:
        w.place("merged.json").write_bytes(raw)

    return spoil


def without(name: str) -> Spoil:
    return lambda w: w.place(name).unlink()


def given(*spoils: Spoil) -> Spoil:
    def spoil_all(w: Workspace) -> None:
        for spoil in spoils:
            spoil(w)

    return spoil_all


def nothing(_: Workspace) -> None:
    """The workspace stays as it is."""


def cut_gguf(w: Workspace) -> None:
    path = w.place("lpm.gguf")
    path.parent.mkdir(parents=True)
    write_tiny_gguf(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def no_gguf(w: Workspace) -> None:
    w.place("lpm.gguf").parent.mkdir(parents=True)
    w.place("lpm.gguf").write_text("hello")


def model(name: str, **config: object) -> Spoil:
    """A folder that says it is a Qwen2, without weights."""

    def spoil(w: Workspace) -> None:
        w.place(name).mkdir(parents=True)
        settings = {"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"], **config}
        (w.place(name) / "config.json").write_text(json.dumps(settings))

    return spoil


def settings(text: str) -> Spoil:
    def spoil(w: Workspace) -> None:
        w.settings_path.parent.mkdir(parents=True)
        w.settings_path.write_text(text)

    return spoil


RUBBISH: list[Any] = [
    None,
    1,
    "x",
    [],
    {"user": "x" * 1_000_000, "assistant": "y"},
    {"user": "\ud800", "assistant": "z"},
    {},
]
ENDPOINT = {"LPM_ENDPOINT": "{server}/model/v1", "OPENAI_API_KEY": "canary-key", "LPM_ACCEPT_JUDGE": "true"}
JUDGE = "OPENAI_BASE_URL"

CASES = {
    "empty JSON": Case(merged(b""), ("run", "prepare"), 65, r"merged\.json is empty; expected a JSON list"),
    "invalid JSON": Case(merged(b'[{"user": '), ("run", "prepare"), 65, r"is not JSON .*expected a list"),
    "not a list": Case(merged(b'{"user": "x"}'), ("run", "prepare"), 65, "expected a list of items"),
    "rubbish rows": Case(
        merged(json.dumps(RUBBISH * 9).encode()), ("run", "prepare"), 65, r"0 usable items.*broken_unicode.*too_long"
    ),
    "broken UTF-8": Case(merged(b'[{"user": "\xff\xfe", "assistant": "a"}]'), ("run", "prepare"), 65, "broken_unicode"),
    "fewer than 10": Case(
        merged(json.dumps(owner_items()[:9]).encode()), ("run", "prepare"), 65, r"at least 10 are needed.*--min-items"
    ),
    "no data": Case(without("merged.json"), ("run", "prepare"), 66, r"merged\.json is not there"),
    "no bio": Case(without("global_bio"), ("run", "prepare"), 66, r"global_bio\.md is not there.*lpm bio edit"),
    "no model": Case(nothing, ("pipeline",), 66, r"base_models.*(.|\n)*lpm pipeline --demo"),
    "no model for the pairs": Case(nothing, ("run", "dpo-data"), 66, r"lpm\.gguf|sft-gguf", {"OPENAI_API_KEY": "k"}),
    "no key": Case(
        nothing, ("run", "dpo-data"), 77, "OPENAI_API_KEY.*--judge reference", {"LPM_ENDPOINT": "{server}/model/v1"}
    ),
    "wrong key": Case(nothing, ("run", "dpo-data"), 77, "OPENAI_API_KEY", {**ENDPOINT, JUDGE: "{server}/401/v1"}),
    "judge down": Case(
        nothing, ("run", "dpo-data"), 69, "judge is down.*are kept", {**ENDPOINT, JUDGE: "http://127.0.0.1:9/v1"}
    ),
    "judge in prose": Case(
        nothing,
        ("run", "dpo-data"),
        69,
        "no reply of the judge.*holds no verdict.*are kept",
        {**ENDPOINT, JUDGE: "{server}/judge-prose/v1"},
    ),
    "endpoint is no model": Case(
        nothing, ("run", "dpo-data"), 69, "does not answer", {**ENDPOINT, "LPM_ENDPOINT": "{server}/stranger/v1"}
    ),
    "GGUF cut in half": Case(
        cut_gguf, ("run", "dpo-data", "--judge", "reference"), 65, r"lpm\.gguf.*(cut|short|bytes)"
    ),
    "GGUF that is none": Case(
        no_gguf,
        ("run", "dpo-data", "--judge", "reference"),
        65,
        r"lpm\.gguf",
    ),
    "model with code": Case(
        model("merged_model", auto_map={"AutoModel": "evil.Model"}), ("run", "sft-gguf"), 65, "auto_map"
    ),
    "model without weights": Case(model("merged_model"), ("run", "sft-gguf"), 66, "safetensors"),
    "no pairs": Case(model("merged_model"), ("run", "dpo-train"), 66, r"dpo_direct\.json is not there.*dpo-data"),
    "unknown step": Case(nothing, ("run", "dpo-trian"), 64, "no step is called 'dpo-trian'.*did you mean 'dpo-train'"),
    "unknown last step": Case(
        nothing, ("pipeline", "--until", "evalaute"), 64, "no step is called 'evalaute'.*did you mean 'evaluate'"
    ),
    "unknown flag": Case(
        nothing,
        ("run", "dpo-train", "--lora_rank", "8"),
        64,
        r"lpm run dpo-train: .*'--lora_rank'.*mean '--lora-r",
    ),
    "unknown option": Case(nothing, ("status", "--jsn"), 64, r"lpm status: .*'--jsn'.*did you mean '--json'"),
    "missing value": Case(nothing, ("run", "dpo-train", "--lora_r"), 64, "--lora_r needs a value"),
    "missing value elsewhere": Case(nothing, ("status", "--preset"), 64, "lpm status: --preset needs a value"),
    "an option as a value": Case(
        nothing, ("run", "dpo-data", "--judge-model", "--slots", "3"), 64, "--judge-model needs a value"
    ),
    "a word too many": Case(nothing, ("run", "prepare", "now"), 64, r"lpm run prepare: .*extra argument.*now.*--help"),
    "script without paths": Case(
        nothing,
        ("run", "merge", "--lora_adapter_path", "b"),
        64,
        "merge: --base-model-path, --output-model-path must be",
    ),
    "no artifact": Case(nothing, ("path",), 64, r"lpm path: missing argument.*see lpm path --help"),
    "empty path": Case(nothing, ("run", "prepare", "--bio-path", ""), 64, "--bio_path is empty"),
    "bad value": Case(nothing, ("run", "dpo-train", "--beta", "-1"), 64, r"beta = '-1' \(--beta\)"),
    "unknown command": Case(nothing, ("pipelin",), 64, "no command is called 'pipelin'.*did you mean 'pipeline'"),
    "no port": Case(nothing, ("serve", "--port", "0"), 64, "lpm serve: .*--port.*see lpm serve --help"),
    "unknown artifact": Case(nothing, ("path", "lmp.gguf"), 64, "known: merged.json"),
    "unknown preset": Case(nothing, ("status", "--preset", "secondme"), 78, "did you mean 'second-me'"),
    "misspelt table": Case(settings("[dpo-trian]\n"), ("status",), 78, "did you mean 'dpo-train'"),
    "misspelt key": Case(settings("[dpo-train]\nlora_rr = 1\n"), ("status",), 78, "did you mean 'lora_r'"),
    "misspelt variable": Case(nothing, ("status",), 78, "LPM_DPO_TRAIN_BETA", {"LPM_DPO_TRAIN_BTA": "1"}),
    "a link out": Case(
        lambda w: (w.root / "runs").symlink_to("/"), ("run", "prepare"), 73, "runs is a link out of the workspace"
    ),
    "path that is not there": Case(
        nothing,
        ("run", "merge", "--base_model_path", "a", "--lora_adapter_path", "b", "--output_model_path", "c"),
        66,
        "a is not there",
    ),
}


def owners_files(workspace: Workspace) -> dict[str, str]:
    """Hash of every file that was there before the run: all but the run's own records."""
    files = [p for p in workspace.root.rglob("*") if p.is_file() and "runs" not in p.parts and p.name != ".lock"]
    return {str(p): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.mark.parametrize("name", CASES)
def test_bad_input_gives_one_message_its_code_and_loses_nothing(name: str, workspace: Workspace, lpm: Lpm) -> None:
    case = CASES[name]
    case.spoil(workspace)
    before = owners_files(workspace)
    with ScriptedServer() as server:
        env = {key: value.replace("{server}", server.root_url) for key, value in case.env.items()}
        done = lpm(*case.arguments, env={"LPM_WORKSPACE": str(workspace.root), **env})
    message = done.stderr[done.stderr.rfind("error:") :]
    assert done.returncode == case.code, done.stderr
    assert re.search(case.told, message), done.stderr
    assert "Traceback" not in done.stderr
    assert "canary-key" not in done.stderr + done.stdout
    assert before.items() <= owners_files(workspace).items()


def test_a_base_model_without_chat_template_is_refused_by_name(workspace: Workspace, lpm: Lpm) -> None:
    write_base_model(workspace.place("merged_model"), ["some words to learn"], seed=1)
    (workspace.place("merged_model") / "chat_template.jinja").unlink()
    done = lpm("run", "sft-gguf", env={"LPM_WORKSPACE": str(workspace.root)})
    assert done.returncode == 65
    assert re.search(r"error: .*merged_model.* chat template.*chat_template\.jinja", done.stderr), done.stderr
    assert workspace.find("lpm.gguf") is None


def test_weights_cut_in_half_are_refused_by_name(workspace: Workspace, lpm: Lpm) -> None:
    write_base_model(workspace.place("merged_model"), ["some words to learn"], seed=1)
    weights = workspace.place("merged_model") / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])
    done = lpm("run", "sft-gguf", env={"LPM_WORKSPACE": str(workspace.root)})
    assert done.returncode == 65
    assert re.search(r"error: .*model\.safetensors is cut or damaged", done.stderr), done.stderr


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")
def test_the_adapter_of_another_model_is_refused_and_the_merged_model_stays(workspace: Workspace, lpm: Lpm) -> None:
    from test_merge import MODELS, make_adapter, make_base

    make_base(workspace.place("merged_model"), MODELS["qwen2"])
    other = make_base(workspace.root / "other", MODELS["llama"])
    make_adapter(workspace.place("adapter"), other)
    (workspace.place("adapter") / "lpm_adapter.json").write_text('{"base_weights_sha256": "0"}')
    workspace.place("dpo_merged_model").mkdir()
    (workspace.place("dpo_merged_model") / "config.json").write_text("mine")
    done = lpm("run", "dpo-merge", env={"LPM_WORKSPACE": str(workspace.root)})
    assert done.returncode == 65
    assert re.search(r"error: .*adapter", done.stderr), done.stderr
    assert (workspace.place("dpo_merged_model") / "config.json").read_text() == "mine"


def test_a_stranger_on_the_port_is_told_and_left_alone(workspace: Workspace, lpm: Lpm) -> None:
    write_tiny_gguf_into(workspace)
    with ScriptedServer("stranger") as stranger:
        arguments = ["run", "dpo-data", "--judge", "reference", "--port", str(stranger.port), "--max-tokens", "4"]
        done = lpm(*arguments, env={"LPM_WORKSPACE": str(workspace.root)})
        assert not stranger.calls
    assert str(stranger.port) in done.stderr
    assert "with xllamacpp" in done.stderr
    assert f"xllamacpp at http://127.0.0.1:{stranger.port}/" not in done.stderr


def test_serving_on_a_taken_port_is_refused(workspace: Workspace, lpm: Lpm) -> None:
    write_tiny_gguf_into(workspace)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = lpm("serve", "--port", str(port), env={"LPM_WORKSPACE": str(workspace.root)})
    assert done.returncode == 69
    assert str(port) in done.stderr


def test_a_full_disk_stops_the_run_and_what_was_there_stays(tmp_path: Path) -> None:
    items = json.dumps([{"user": f"Question {n}? {'x' * 900}", "assistant": f"Answer {n}."} for n in range(300)])
    script = f"""
        set -e; mount -t tmpfs -o size=600k none {tmp_path}; mkdir -p {tmp_path}/L2/data
        cat > {tmp_path}/L2/data/merged.json; echo '## Who
        Ada.' > {tmp_path}/L2/data/global_bio.md
        set +e; {sys.executable} -m lpm_kernel run prepare --workspace {tmp_path}; code=$?
        sha256sum < {tmp_path}/L2/data/merged.json; find {tmp_path} -name 'prompts*' -o -name '.lpm-tmp*'; exit $code"""
    done = subprocess.run(
        ["unshare", "--mount", "--map-root-user", "sh", "-c", script],
        input=items,
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    if "unshare" in done.stderr or "mount:" in done.stderr:
        pytest.skip("this machine lets us mount no tmpfs")
    assert done.returncode == 74, done.stderr
    assert "free space" in done.stderr
    assert done.stdout.split() == [hashlib.sha256(items.encode()).hexdigest(), "-"]


def test_a_path_in_no_encoding_is_told(workspace: Workspace) -> None:
    arguments: list[str | bytes | Path] = ["run", "prepare", "--bio-path", b"/\xff", "--workspace", workspace.root]
    done = subprocess.run([sys.executable, "-m", "lpm_kernel", *arguments], capture_output=True, cwd=ROOT)
    assert (done.returncode, b"Traceback" in done.stderr) == (66, False)


def write_tiny_gguf_into(workspace: Workspace) -> None:
    workspace.place("lpm.gguf").parent.mkdir(parents=True)
    write_tiny_gguf(workspace.place("lpm.gguf"))
