"""The folder in which somebody works is not trusted: of what lies there, nothing is read, imported or executed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_gguf import write_tiny_gguf

from lpm_kernel.checkout import CHECKOUT
from lpm_kernel.export.converter import find_converter
from lpm_kernel.runner.settings import open_workspace
from lpm_kernel.serving.child import clean_environment, find_program
from lpm_kernel.serving.endpoint import ServingConfig
from lpm_kernel.serving.engines import llama_server
from lpm_kernel.serving.own_server import serve
from lpm_kernel.serving.probe import any_free_port
from lpm_kernel.workspace.places import Workspace

MODULES = ("torch", "gguf", "json", "sitecustomize", "xllamacpp", "typing_extensions", "h11")
PROGRAMS = ("llama.cpp/build/bin/llama-server", "llama.cpp/build/llama_server", "llama-server", "git")
WATCH = """
import os, sys
def told(event, arguments):
    if event in ("open", "os.listdir", "os.scandir", "subprocess.Popen", "os.exec", "import"):
        for word in map(str, arguments):
            if {folder!r} in os.path.join(os.getcwd() if word[:1] == "." else "", word):
                os.write(2, f"TOUCHED {{event}} {{word}}\\n".encode())
sys.addaudithook(told)
os.write(2, b"WATCHING\\n")
"""


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    """A folder in which everything that might be read or executed leaves a mark."""
    folder = tmp_path / "foreign"
    mark = tmp_path / "mark"
    python = f"open({str(mark)!r}, 'a').write(__name__ + ' ')\n"
    texts = {
        ".env": "OPENAI_BASE_URL=http://thief.example/v1\nLPM_WORKSPACE=evil\nLPM_PRESET=nonsense\n",
        "configs/lpm.toml": 'preset = "nonsense"\n',
        "resources/configs/lpm.toml": 'preset = "nonsense"\n',
        "pyproject.toml": "[project]\n",
        "lpm_kernel/__init__.py": python,
        "lpm_kernel/__main__.py": python,
        "llama.cpp/convert_hf_to_gguf.py": python,
        "llama.cpp/conversion/base.py": python,
        "llama.cpp/gguf-py/gguf/__init__.py": python,
        **{f"{name}.py": python for name in MODULES},
        **{name: f"#!/bin/sh\necho {name} >> {mark}\n" for name in PROGRAMS},
    }
    for name, text in texts.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    for name in PROGRAMS:
        (folder / name).chmod(0o755)
    return folder


@pytest.mark.parametrize("command", [["status"], ["doctor"], ["steps"], ["run", "prepare"], ["path", "lpm.gguf"]])
def test_nothing_of_a_foreign_folder_is_read_or_executed(
    command: list[str], foreign: Path, workspace: Workspace, tmp_path: Path
) -> None:
    watcher = tmp_path / "watch"
    watcher.mkdir()
    (watcher / "sitecustomize.py").write_text(WATCH.format(folder=str(foreign)))
    environ = {k: v for k, v in os.environ.items() if not k.startswith(("LPM_", "OPENAI_"))}
    environ |= {"OPENAI_API_KEY": "canary", "PATH": f".:{os.environ['PATH']}:", "PYTHONPATH": str(watcher)}
    lpm = Path(sys.executable).with_name("lpm")
    told = subprocess.run(
        [lpm, *command, "--workspace", str(workspace.root)] if command != ["steps"] else [lpm, *command],
        cwd=foreign,
        env=environ,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "Traceback" not in told.stderr
    assert "WATCHING" in told.stderr
    assert "TOUCHED" not in told.stderr
    assert not (tmp_path / "mark").exists()
    assert "thief" not in told.stdout + told.stderr


def test_the_default_workspace_is_no_folder_of_the_current_one(foreign: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(foreign)
    monkeypatch.delenv("LPM_WORKSPACE", raising=False)
    assert not open_workspace().root.is_relative_to(foreign)


def test_a_server_and_a_converter_of_the_current_folder_are_not_found(
    foreign: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(foreign)
    monkeypatch.setenv("PATH", f".:{os.environ['PATH']}::llama.cpp/build/bin")
    assert not [p for p in llama_server.find() if str(foreign) in str(Path(p.path).resolve())]
    assert not str(find_program("llama-server")).startswith((str(foreign), ".", "llama"))
    assert find_converter("llama.cpp").is_relative_to(CHECKOUT)


def test_a_child_imports_nothing_of_the_current_folder_and_stands_elsewhere(
    foreign: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gguf_path = write_tiny_gguf(tmp_path / "tiny.gguf")
    monkeypatch.chdir(foreign)
    monkeypatch.setenv("PYTHONPATH", ":.")
    config = ServingConfig(engine="xllamacpp", port=any_free_port())
    with serve(gguf_path, config, tmp_path / "server.log") as endpoint:
        assert str(Path(f"/proc/{endpoint.pid}/cwd").readlink()) == "/"
    assert not (tmp_path / "mark").exists()


def test_a_child_gets_of_the_environment_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DATABASE_URL", "HTTPS_PROXY", "OPENAI_BASE_URL", "GH_PAT", "XDG_SESSION_TOKEN", "LLAMA_ARG_HOST"):
        monkeypatch.setenv(name, "https://u:canary@h")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    environ = clean_environment()
    assert "canary" not in str(environ)
    assert environ["CUDA_VISIBLE_DEVICES"] == "1"
    assert environ["PATH"]
