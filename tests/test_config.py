"""One field is the flag, the TOML key and the environment variable; later layers win; misspelt names are told."""

from base64 import b64decode
from pathlib import Path

import pytest
from pydantic import Field

from lpm_kernel.config import Config, Layer, check_layer, environment_layer, preset_names, resolve, toml_layer
from lpm_kernel.errors import ConfigError, UsageError
from lpm_kernel.judges import JUDGES
from lpm_kernel.judges.base import JudgeKind
from lpm_kernel.L2.dpo import utils
from lpm_kernel.L2.dpo.dpo_data import StageConfig as DataConfig
from lpm_kernel.pipeline import STEPS, config_kinds
from lpm_kernel.runner.settings import resolve_all
from lpm_kernel.workspace.places import Workspace


class Sample(Config):
    beta: float = Field(0.1, gt=0, description="A number.")
    seed: int = Field(1, description="A seed.")


KINDS: dict[str, type[Config]] = {"dpo-train": Sample}


def test_later_layers_win() -> None:
    layers = [Layer("preset", {"dpo-train": {"beta": 0.2, "seed": 2}}), Layer("file", {"common": {"seed": 3}})]
    assert resolve(Sample, "dpo-train", [], {}) == Sample(beta=0.1, seed=1)
    assert resolve(Sample, "dpo-train", layers, {}) == Sample(beta=0.2, seed=3)
    layers.append(environment_layer(KINDS, {"LPM_DPO_TRAIN_BETA": "0.4"}))
    assert resolve(Sample, "dpo-train", layers, {}).beta == 0.4
    assert resolve(Sample, "dpo-train", layers, {"beta": "0.5"}).beta == 0.5


@pytest.mark.parametrize(
    ("tables", "told"),
    [
        ({"dpo-trian": {}}, r"\[dpo-trian\].*did you mean 'dpo-train'"),
        ({"dpo-train": {"bata": 1}}, r"no key 'bata'.*did you mean 'beta'"),
        ({"dpo-train": 5}, "must be a table"),
    ],
)
def test_a_misspelt_name_is_an_error_that_tells_the_right_one(tables: dict[str, object], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        check_layer(Layer("lpm.toml", tables), KINDS)  # type: ignore[arg-type]


def test_an_unknown_environment_variable_is_told() -> None:
    with pytest.raises(ConfigError, match=r"LPM_DPO_TRAIN_BATA.*LPM_DPO_TRAIN_BETA"):
        environment_layer(KINDS, {"LPM_DPO_TRAIN_BATA": "1"})
    assert environment_layer(KINDS, {"LPM_WORKSPACE": "x", "HOME": "y"}).tables == {}


def test_a_bad_value_names_its_origin() -> None:
    with pytest.raises(ConfigError, match=r"beta = '-1' \(environment\)"):
        resolve(Sample, "dpo-train", [environment_layer(KINDS, {"LPM_DPO_TRAIN_BETA": "-1"})], {})
    with pytest.raises(UsageError, match=r"beta = 'x' \(--beta\)"):
        resolve(Sample, "dpo-train", [], {"beta": "x"})


def test_a_broken_settings_file_tells_the_line(tmp_path: Path) -> None:
    (tmp_path / "lpm.toml").write_text("[dpo-train\n")
    with pytest.raises(ConfigError, match="line 1"):
        toml_layer(tmp_path / "lpm.toml")


@pytest.mark.parametrize("preset", preset_names())
def test_every_shipped_preset_loads(preset: str, tmp_path: Path) -> None:
    assert set(resolve_all(Workspace(tmp_path), preset=preset)) == {s.name for s in STEPS}


@pytest.mark.parametrize(("step", "kind"), config_kinds().items())
def test_every_setting_is_described(step: str, kind: type[Config]) -> None:
    for name, field in kind.model_fields.items():
        assert len(field.description or "") > 10, f"{step}: {name}"


def test_a_secret_comes_from_its_variable_alone_and_no_record_holds_it(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "canary-key")
    config = resolve_all(workspace)["dpo-data"]
    assert isinstance(config, DataConfig)
    assert config.judge_api_key.get_secret_value() == "canary-key"
    assert "canary-key" not in repr(config) + str(config.recorded())
    assert not {"judge_api_key", "endpoint_api_key"} & (config.recorded().keys() | config.settings().keys())


def test_a_secret_in_a_settings_file_is_refused_with_its_place(workspace: Workspace) -> None:
    workspace.settings_path.parent.mkdir(parents=True)
    workspace.settings_path.write_text('[dpo-data]\njudge_api_key = "canary-key"\n')
    with pytest.raises(ConfigError, match=r"judge_api_key is a secret; put OPENAI_API_KEY=\.\.\. into \.env") as caught:
        resolve_all(workspace)
    assert "canary-key" not in str(caught.value)


def test_the_documented_settings_are_the_lowest_layer(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    def base_url() -> object:
        return resolve_all(workspace)["dpo-data"].model_dump()["judge_base_url"]

    monkeypatch.setattr(utils, "OPENAI_BASE_URL", "http://documented/v1")
    assert base_url() == "http://documented/v1"
    monkeypatch.setenv("OPENAI_BASE_URL", "http://variable/v1")
    assert base_url() == "http://variable/v1"
    monkeypatch.setenv("LPM_JUDGE_BASE_URL", "http://setting/v1")
    assert base_url() == "http://setting/v1"


def test_a_common_assignment_reaches_every_step_that_knows_the_key(workspace: Workspace) -> None:
    configs = resolve_all(workspace, assignments=["common.judge=reference"])
    judges = {step: config.model_dump()["judge"] for step, config in configs.items() if "judge" in config.settings()}
    assert judges == dict.fromkeys(("judge-exam", "dpo-data", "evaluate"), "reference")


def test_a_name_that_is_none_of_those_known_names_the_nearest(workspace: Workspace) -> None:
    with pytest.raises(UsageError, match=rf"judge = 'refrence' .*{', '.join(JUDGES)} .*did you mean 'reference'"):
        resolve_all(workspace, flags={"dpo-data": {"judge": "refrence"}})


@pytest.mark.parametrize("kind", JUDGES.values(), ids=JUDGES)
def test_the_settings_of_every_judge_are_settings_of_every_stage_that_judges(kind: JudgeKind) -> None:
    for step in ("dpo-data", "evaluate"):
        assert kind.settings.model_fields.keys() <= config_kinds()[step].model_fields.keys()


@pytest.mark.parametrize("key", ["sk-canary\r", " sk-canary\n"])
def test_a_key_from_a_file_with_other_line_ends_is_the_key(
    key: str, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", key)
    config = resolve_all(workspace)["dpo-data"]
    assert isinstance(config, DataConfig)
    assert config.judge_api_key.get_secret_value() == "sk-canary"


@pytest.mark.parametrize("key", ["sk-canary\nx", "sk-canary\u00e9"])
def test_a_key_that_no_header_can_carry_is_refused_untold(
    key: str, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", key)
    with pytest.raises(ConfigError, match="OPENAI_API_KEY") as caught:
        resolve_all(workspace)
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["user:canary@127.0.0.1:9/v1", "http://u:canary@h/v1", "http://h/v1?api_key=canary", "h/v1#canary"]
)
def test_a_url_with_a_secret_on_the_command_line_or_in_a_settings_file_is_refused_untold(
    url: str, workspace: Workspace
) -> None:
    with pytest.raises(UsageError, match="endpoint") as flag:
        resolve_all(workspace, assignments=[f"dpo-data.endpoint={url}"])
    workspace.settings_path.parent.mkdir(parents=True)
    workspace.settings_path.write_text(f'[common]\njudge_base_url = "{url}"\n')
    with pytest.raises(ConfigError, match="judge_base_url") as file:
        resolve_all(workspace)
    assert "canary" not in f"{flag.value} {file.value}"


@pytest.mark.parametrize(
    ("login", "user_and_password"),
    [
        ("ada:canary", "ada:canary"),
        ("ada:c@na@ry", "ada:c@na@ry"),
        ("ada:c/na?ry#", "ada:c/na?ry#"),
        ("u:%40x", "u:@x"),
        ("sk-canary", "sk-canary"),
    ],
)
def test_a_password_in_the_url_of_a_variable_becomes_the_key_and_leaves_the_url(
    login: str, user_and_password: str, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", f"https://{login}@h:1/v1")
    config = resolve_all(workspace)["dpo-data"]
    assert isinstance(config, DataConfig)
    assert config.judge_base_url == "https://h:1/v1"
    assert login not in repr(config) + str(config.recorded())
    assert b64decode(config.judge_api_key.get_secret_value().removeprefix("Basic ")).decode() == user_and_password


def foreign(workspace: Workspace, settings: str = "", dotenv: str = "") -> None:
    """A workspace with settings of somebody else's."""
    workspace.settings_path.parent.mkdir(parents=True)
    workspace.settings_path.write_text(settings)
    (workspace.root / ".env").write_text(dotenv)


def test_a_key_goes_nowhere_that_a_workspace_from_elsewhere_names(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "canary")
    foreign(workspace, dotenv="OPENAI_BASE_URL=https://thief.example/v1\n")
    with pytest.raises(ConfigError, match=r"thief\.example.*would be sent your OPENAI_API_KEY"):
        resolve_all(workspace)
    (workspace.root / ".env").write_text("OPENAI_BASE_URL=https://h/v1\nOPENAI_API_KEY=its-own\n")
    monkeypatch.delenv("OPENAI_API_KEY")
    config = resolve_all(workspace)["dpo-data"]
    assert isinstance(config, DataConfig)
    assert (config.judge_base_url, config.judge_api_key.get_secret_value()) == ("https://h/v1", "its-own")


def test_a_dotenv_file_that_came_along_reads_no_variable_of_ours(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "canary")
    foreign(workspace, dotenv="OPENAI_BASE_URL=http://127.0.0.1/${OPENAI_API_KEY}\n")
    with pytest.raises(ConfigError, match="judge_base_url") as caught:
        resolve_all(workspace)
    assert "canary" not in str(caught.value)


def test_a_workspace_from_elsewhere_names_no_program_to_run(workspace: Workspace) -> None:
    foreign(workspace, settings='[sft-gguf]\nconverter_path = "/tmp/evil"\n')
    with pytest.raises(ConfigError, match=r"converter_path.*names a program.*lpm init --workspace"):
        resolve_all(workspace)


@pytest.mark.parametrize("name", [".env", "configs/lpm.toml"])
def test_settings_that_others_may_write_are_refused(name: str, workspace: Workspace) -> None:
    foreign(workspace)
    (workspace.root / name).chmod(0o666)
    with pytest.raises(ConfigError, match=r"can be written by others \(mode 666\); chmod go-w"):
        resolve_all(workspace)


def test_a_dotenv_file_that_is_no_utf8_is_told_with_its_place(workspace: Workspace) -> None:
    (workspace.root / ".env").write_bytes(b"OPENAI_API_KEY=\xff\n")
    with pytest.raises(ConfigError, match=r"\.env is not UTF-8.*byte 15"):
        resolve_all(workspace)


OPERATIONAL = {
    "dpo-data": "engine slots threads port start_timeout_s answer_timeout_s judge_in_flight judge_failed_share "
    "judge_timeout_s",
    "sft-gguf": "engine slots threads port start_timeout_s converter_path convert_timeout_s",
    "prepare": "",
    "dpo-train": "",
}


@pytest.mark.parametrize(("step", "names"), OPERATIONAL.items(), ids=OPERATIONAL)
def test_these_settings_and_no_others_make_nothing_stale(step: str, names: str) -> None:
    assert config_kinds()[step].all_operational() == set(names.split())
