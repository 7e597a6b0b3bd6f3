"""A changed byte is noticed, whatever the times of the file say; what was read is not read again."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from dying_publisher import MANIFEST

from lpm_kernel import files, progress
from lpm_kernel.config import Config
from lpm_kernel.errors import DataError
from lpm_kernel.files import file_sha256
from lpm_kernel.pipeline import STEPS, config_kinds, maker_of
from lpm_kernel.runner.run_record import RunStatus, latest_status
from lpm_kernel.runner.state import chain_states, refuse_changed_inputs
from lpm_kernel.runner.versions import current_gguf
from lpm_kernel.workspace.lock import lock
from lpm_kernel.workspace.manifest import files_of, manifest_path
from lpm_kernel.workspace.places import ARTIFACTS, Workspace
from lpm_kernel.workspace.publish import building, publish

CONFIGS: dict[str, Config] = {name: kind() for name, kind in config_kinds().items()}
MADE = [artifact for step in STEPS for artifact in step.makes.values()]
HASHES = "runs/hashes.json"


@pytest.fixture
def chain(workspace: Workspace) -> Workspace:
    """Every artifact made, from what is there, as the runner records it; and its hashes kept."""
    base = workspace.base_model_place("mine")
    base.mkdir(parents=True)
    (base / "config.json").write_text("{}")
    for step in STEPS:
        places = {role: workspace.place(artifact) for role, artifact in step.makes.items()}
        inputs = {role: workspace.digest(workspace.find(a) or base) for role, a in step.needs.items()}
        with building(places) as drafts:
            for role, draft in drafts.items():
                if ARTIFACTS[step.makes[role]][0].endswith("/"):
                    draft.mkdir()
                    (draft / "model.safetensors").write_text(f"weights of {role}")
                (draft / "config.json" if draft.is_dir() else draft).write_text(f"content of {role}")
            settings = {"config": CONFIGS[step.name].recorded(), "inputs": inputs, "making": step.name}
            publish(workspace, drafts, places, MANIFEST.model_copy(update={"step": step.name, **settings}))
    states = chain_states(workspace, CONFIGS, STEPS[-1].name)
    assert not [state for state in states.values() if state.must_run]
    workspace.hashes.save()
    return Workspace(workspace.root)


def stale(workspace: Workspace) -> dict[str, str]:
    """Step -> why, of those that must run; as a command finds it that has read nothing yet."""
    states = chain_states(Workspace(workspace.root), CONFIGS, STEPS[-1].name)
    return {name: state.reason for name, state in states.items() if state.must_run}


def flip(path: Path) -> None:
    """One bit, of the same size, with the times set back."""
    stat, raw = path.stat(), bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def believe(workspace: Workspace, path: Path) -> None:
    """The cache of hashes says of the changed file what it said before, as if its stamp could be forged."""
    cache = json.loads((workspace.root / HASHES).read_text())
    cache[str(path)] = [*files.stamp_of(path), cache[str(path)][-1]]
    (workspace.root / HASHES).write_text(json.dumps(cache))


@pytest.mark.parametrize("artifact", MADE)
def test_a_flipped_bit_in_any_file_of_any_artifact_is_noticed(artifact: str, chain: Workspace) -> None:
    maker = maker_of(artifact)
    assert maker
    for name, file in files_of(chain.place(artifact)).items():
        flip(file)
        told = stale(chain)[maker.name]
        assert f"{file} changed since {maker.name} made it" == told, name
        for step in (s for s in STEPS if artifact in {*s.needs.values(), *s.uses.values()}):
            with pytest.raises(DataError, match=r"changed since.*lpm run"):
                refuse_changed_inputs(step, Workspace(chain.root), {})
        flip(file)
        assert not stale(chain)


@pytest.mark.parametrize("artifact", MADE)
def test_a_command_that_writes_believes_no_earlier_one(artifact: str, chain: Workspace) -> None:
    file = next(iter(files_of(chain.place(artifact)).values()))
    flip(file)
    believe(chain, file)
    writer = Workspace(chain.root)
    assert writer.manifest(writer.place(artifact)), "a command that only looks is fooled by a forged stamp"
    with lock(writer):
        assert writer.manifest(writer.place(artifact)) is None


@pytest.mark.parametrize("artifact", ["merged.json", "global_bio", "base_model"])
def test_a_changed_input_of_the_owner_makes_its_steps_stale(artifact: str, chain: Workspace) -> None:
    path = chain.find(artifact)
    assert path
    flip(path / "config.json" if path.is_dir() else path)
    assert f"{artifact} changed" in stale(chain).values()


def test_a_damaged_model_is_not_served(chain: Workspace) -> None:
    assert current_gguf(Workspace(chain.root)) == chain.place("lpm.gguf")
    flip(chain.place("lpm.gguf"))
    believe(chain, chain.place("lpm.gguf"))
    with pytest.raises(DataError, match=r"lpm\.gguf changed since sft-gguf made it.*lpm serve --model"):
        current_gguf(Workspace(chain.root))


def cut(raw: bytes) -> bytes:
    return raw[: len(raw) // 2]


RUBBISH: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "cut": cut,
    "zeroed": lambda raw: bytes(len(raw)),
    "no UTF-8": lambda _: b"\xff\xfe\x00",
    "deep": lambda _: b"[" * 100_000,
    "null": lambda _: b"null",
    "a list": lambda _: b"[1]",
    "a number": lambda _: b"1e999",
    "foreign": lambda _: b'{"/x": 1, "\\u0000": [], "\\ud800": [1, "x"], "steps": 3, "files": [], "making": {}}',
    "a name too long": lambda _: json.dumps({"/" + "x" * 9999: [1, 2, 3, 4, 5, "0" * 64]}).encode(),
}


@pytest.mark.parametrize("name", RUBBISH)
def test_a_damaged_cache_of_hashes_is_made_anew(name: str, chain: Workspace) -> None:
    path = chain.root / HASHES
    path.write_bytes(RUBBISH[name](path.read_bytes()))
    assert not stale(chain)
    reader = Workspace(chain.root)
    reader.digest(reader.place("lpm.gguf"))
    reader.hashes.save()
    assert json.loads(path.read_text())[str(reader.place("lpm.gguf"))][-1] == file_sha256(reader.place("lpm.gguf"))


@pytest.mark.parametrize("wrong", [1, None, [], [1], ["x"] * 6, {"a": 1}])
def test_an_entry_of_another_form_is_not_believed(wrong: Any, chain: Workspace) -> None:
    cache = dict.fromkeys(json.loads((chain.root / HASHES).read_text()), wrong)
    (chain.root / HASHES).write_text(json.dumps(cache))
    assert not stale(chain)


@pytest.mark.parametrize("name", RUBBISH)
@pytest.mark.parametrize("artifact", ["lpm.gguf", "adapter"])
def test_what_has_a_damaged_manifest_is_not_ours_and_is_kept(artifact: str, name: str, chain: Workspace) -> None:
    path, maker = manifest_path(chain.place(artifact)), maker_of(artifact)
    assert maker
    path.write_bytes(RUBBISH[name](path.read_bytes()))
    assert f"{path} is damaged, so {chain.place(artifact).name} counts as not made by us" == stale(chain)[maker.name]
    places = {"x": chain.place(artifact)}
    with building(places) as drafts:
        drafts["x"].write_text("new")
        publish(chain, drafts, places, MANIFEST)
    assert chain.place(artifact).with_name(f"{chain.place(artifact).name}.kept-1").exists()


def test_any_flipped_bit_of_a_manifest_is_noticed(chain: Workspace) -> None:
    path = manifest_path(chain.place("adapter"))
    raw = path.read_bytes()
    for at in range(0, len(raw), 7):
        path.write_bytes(raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :])
        if raw[at : at + 1].strip():
            assert chain.manifest(chain.place("adapter")) is None, raw[at - 20 : at + 20]
    path.write_bytes(raw)
    assert chain.manifest(chain.place("adapter"))


@pytest.mark.parametrize("name", RUBBISH)
def test_a_damaged_status_is_told_and_set_aside(
    name: str, workspace: Workspace, caplog: pytest.LogCaptureFixture
) -> None:
    place = workspace.runs_path / "r1/status.json"
    place.parent.mkdir(parents=True)
    (workspace.runs_path / "latest").write_text("r1")
    raw = RUBBISH[name](RunStatus(run="r1").model_dump_json().encode())
    place.write_bytes(raw)
    with caplog.at_level("INFO"):
        assert latest_status(workspace) == RunStatus(run=None)
    assert f"{place} cannot be read" in caplog.text
    assert place.with_name("status.json.damaged").read_bytes() == raw
    caplog.clear()
    assert latest_status(workspace) == RunStatus(run=None)
    assert not caplog.text


def test_a_file_is_read_once_a_command(chain: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []
    really = files._read_sha256

    def noted(path: Path, size: int) -> str:
        read.append(path)
        return really(path, size)

    monkeypatch.setattr(files, "_read_sha256", noted)
    monkeypatch.setattr(files, "_read", {})
    monkeypatch.setattr(files, "TICK_NS", 0)
    with lock(chain):
        for _ in range(3):
            chain_states(chain, CONFIGS, STEPS[-1].name)
            file_sha256(chain.place("lpm.gguf"))
    assert sorted(read) == sorted(set(read))
    assert chain.place("lpm.gguf") in read


def test_a_large_file_is_read_in_chunks_that_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "large.gguf"
    path.write_bytes(os.urandom(5 << 20))
    expected = file_sha256(path)
    monkeypatch.setattr(files, "SLOW_BYTES", 1 << 20)
    monkeypatch.setattr(files, "CHUNK_BYTES", 1 << 20)
    monkeypatch.setattr(progress, "WORTH_A_LINE_S", 0.0)
    assert files._read_sha256(path, size=5 << 20) == expected
    assert "reading large.gguf, MB 5/5 100%" in capsys.readouterr().err
