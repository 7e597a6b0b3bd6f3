"""What is installed and what CI runs: pins and hashes agree, and what a file names is there."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, SLOW
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from ruamel.yaml import YAML

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
ASKED, EXTRAS = PROJECT["project"]["dependencies"], PROJECT["project"]["optional-dependencies"]
SETUP = (ROOT / "scripts/setup").read_text(encoding="utf-8")
Build = Callable[..., subprocess.CompletedProcess[str]]
PIN = re.compile(r"([\w.-]+)==([\w.]+)")


def lines(name: str) -> list[str]:
    return [text for text in (ROOT / name).read_text(encoding="utf-8").splitlines() if not text.startswith("#")]


def pins(name: str) -> dict[str, str]:
    """The versions that a file of pins names, by the normal form of the library's name."""
    found = [PIN.match(text) for text in lines(name) if not text.startswith(" ")]
    assert all(found), name
    return {canonicalize_name(pin[1]): pin[2] for pin in found if pin}


def yaml(name: str) -> Any:
    return YAML(typ="safe").load(ROOT / name)


def test_the_lock_names_the_versions_of_the_constraints_and_leaves_torch_to_its_version() -> None:
    pinned = pins("constraints.txt")
    assert re.fullmatch(r"\d+\.\d+\.\d+", pinned.pop("torch"))
    assert pinned == pins("requirements.lock"), "run scripts/lock"


def test_every_entry_of_the_lock_has_hashes_and_nothing_else() -> None:
    text = "\n".join(lines("requirements.lock")) + "\n"
    entry = re.compile(rf"{PIN.pattern}(?: \\\n    --hash=sha256:[0-9a-f]{{64}})+\n")
    assert re.fullmatch(rf"(?:{entry.pattern})+", text)


@pytest.mark.parametrize("table", [table for extra, table in {"": ASKED, **EXTRAS}.items() if extra != "llama-cpp"])
def test_every_library_that_the_project_asks_for_is_pinned_within_its_bounds(table: list[str]) -> None:
    pinned = pins("constraints.txt")
    for wanted in map(Requirement, [*table, *PROJECT["build-system"]["requires"]]):
        assert wanted.specifier.contains(pinned[canonicalize_name(wanted.name)]), wanted


def test_setup_the_project_and_ci_mean_the_same_pythons() -> None:
    taken = re.findall(r"3\.\d+", next(text for text in SETUP.splitlines() if text.startswith("    3.")))
    ci = yaml(".github/workflows/ci.yml")["jobs"]["run"]["strategy"]["matrix"]["python"]
    allowed = SpecifierSet(PROJECT["project"]["requires-python"])
    assert ci == [taken[0], taken[-1]]
    assert f"Python {taken[0]} to {taken[-1]}" in SETUP
    assert [f"3.{minor}" for minor in range(99) if f"3.{minor}" in allowed] == taken


def test_setup_refuses_another_python_before_it_makes_anything(tmp_path: Path) -> None:
    for name in ("constraints.txt", "requirements.lock", "pyproject.toml", "scripts/setup"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    refused = subprocess.run(
        ["bash", "scripts/setup"], capture_output=True, text=True, cwd=tmp_path, env={**os.environ, "PYTHON": "false"}
    )
    assert refused.returncode == 69
    assert re.search(r"false is no Python that starts, and Python 3.* will do; name one with PYTHON=", refused.stderr)
    assert not (tmp_path / ".venv").exists()


def test_ci_may_only_read_takes_actions_by_their_hash_and_runs_scripts_that_are_there() -> None:
    workflow = yaml(".github/workflows/ci.yml")
    steps = workflow["jobs"]["run"]["steps"]
    assert workflow["permissions"] == {"contents": "read"}
    assert all(re.fullmatch(r"actions/[\w-]+@[0-9a-f]{40}", step["uses"]) for step in steps if "uses" in step)
    commands = [shlex.split(step["run"]) for step in steps if "run" in step]
    commands += [shlex.split(text) for text in lines(".ci/run") if text.startswith("bash ")]
    assert len(commands) == 3
    assert all(program == "bash" and (ROOT / script).is_file() for program, script in commands)


def test_the_hooks_before_a_commit_are_programs_of_this_environment() -> None:
    (repository,) = yaml(".pre-commit-config.yaml")["repos"]
    programs = {Path(shlex.split(hook["entry"])[0]) for hook in repository["hooks"]}
    assert repository["repo"] == "local"
    assert len(programs) == 3
    assert all(p.parent == Path(".venv/bin") and (Path(sys.executable).parent / p.name).is_file() for p in programs)


def test_every_file_that_a_quick_run_leaves_out_is_there() -> None:
    assert {path.stem for path in (ROOT / "tests").glob("test_*.py")} >= SLOW


def test_the_extra_the_converter_and_the_native_server_are_of_one_version() -> None:
    script = (ROOT / "scripts/fetch_converter").read_text(encoding="utf-8")
    version = re.search(r"^version=(\S+)$", script, re.MULTILINE)
    assert version
    assert EXTRAS["llama-cpp"] == [f"llama-cpp-python=={version[1]}"]
    assert "fetch_converter --source" in (ROOT / "scripts/build-llama-cpp").read_text(encoding="utf-8")


# scripts/build-llama-cpp, with cmake, ninja and the trial replaced -------------------------------------------------

NINJA = """#!/bin/sh
[ "$1" != --version ] || exit 0
echo "ninja $*" >> calls
[ ! -e break ] || { rm break; exit 1; }
mkdir -p llama.cpp/build/bin && printf '#!/bin/sh\n' > llama.cpp/build/bin/llama-server
chmod +x llama.cpp/build/bin/llama-server
"""
PIECES = ("CMakeLists.txt", "cmake", "common", "ggml", "include", "scripts", "src", "tools", "vendor")


@pytest.fixture
def building(tmp_path: Path) -> Build:
    """`scripts/build-llama-cpp` in a checkout that has its source; the calls of ninja stand in `calls`."""
    for name in ("build-llama-cpp", "fetch_converter"):
        (tmp_path / "scripts").mkdir(exist_ok=True)
        shutil.copy(ROOT / "scripts" / name, tmp_path / "scripts" / name)
    for piece in PIECES:
        (tmp_path / "llama.cpp" / piece).mkdir(parents=True)
    programs = {"llama.cpp/.tools/bin/cmake": "#!/bin/sh\n", "llama.cpp/.tools/bin/ninja": NINJA}
    for name, text in {**programs, ".venv/bin/python": "#!/bin/sh\n"}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)

    def build(**environment: str) -> subprocess.CompletedProcess[str]:
        command = ["bash", str(tmp_path / "scripts/build-llama-cpp")]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, env={**os.environ, **environment})

    return build


def test_a_build_that_broke_off_goes_on_and_a_finished_one_does_nothing(building: Build, tmp_path: Path) -> None:
    (tmp_path / "break").touch()
    broken = building()
    assert (broken.returncode, "started again, it goes on" in broken.stderr) == (70, True)
    assert "llama-server serves" in building().stderr
    calls = (tmp_path / "calls").read_text()
    again = building(CXX="/bin/false")
    assert (again.returncode, again.stderr, (tmp_path / "calls").read_text()) == (0, "", calls)
    (tmp_path / "llama.cpp/build/bin/llama-server").unlink()
    assert "llama-server serves" in building().stderr


def test_without_a_compiler_the_cure_is_told_before_anything_is_fetched(building: Build, tmp_path: Path) -> None:
    told = building(CXX="/bin/false")
    assert (told.returncode, "apt-get install build-essential" in told.stderr) == (69, True)
    assert not (tmp_path / "llama.cpp/build").exists()


def test_a_build_that_is_not_ours_is_left_alone(building: Build, tmp_path: Path) -> None:
    theirs = tmp_path / "llama.cpp/build/bin/llama-server"
    theirs.parent.mkdir(parents=True)
    assert building().returncode == 73
    theirs.write_text("#!/bin/sh\n")
    theirs.chmod(0o755)
    told = building()
    assert (told.returncode, "not built by us" in told.stderr) == (0, True)
    assert not (tmp_path / "calls").exists()
