"""Laws of the export: the served GGUF sees the same tokens and says the same as the trained model; or there is none."""

import json
import os
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tiny_models import CHATML, EXPRESSIONS, Export, make_model, make_tokenizer
from tokenizers import normalizers

from lpm_kernel.errors import DataError, MissingInputError, ServiceError
from lpm_kernel.export import converter
from lpm_kernel.export.completeness import check_gguf
from lpm_kernel.export.fidelity import Agreement, Likeness, PromptCheck, Trained, measured
from lpm_kernel.export.hostile_texts import HOSTILE
from lpm_kernel.export.trained_answers import render_prompts
from lpm_kernel.files import write_jsonl
from lpm_kernel.L2 import export_gguf
from lpm_kernel.L2.export_gguf import StageConfig
from lpm_kernel.models.weights import read_weights
from lpm_kernel.records import Message, Prompt


@pytest.fixture
def export(tmp_path: Path) -> Export:
    return Export(tmp_path)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Qwen2 with ChatML; tests do not change it."""
    return make_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def exported(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`model` as f32 GGUF."""
    export = Export(tmp_path_factory.mktemp("exported"))
    report = export.run(model, outtype="f32")
    assert report["pre_tokenizer"] == "qwen2"
    assert report["greedy_equal"] > 0.9
    assert report["bytes"] == export.gguf_path.stat().st_size
    return export.gguf_path


@pytest.mark.parametrize(
    ("name", "outtype", "bos"),
    [("gpt-2", "bf16", True), ("llama-bpe", "q8_0", False), ("qwen35", "f16", True), ("gpt-4o", "f16", False)],
)
def test_served_tokens_template_and_answers_equal_the_trained_models(
    export: Export, tmp_path: Path, name: str, outtype: str, bos: bool
) -> None:
    template = "{{ bos_token }}" * bos + CHATML
    report = export.run(make_model(tmp_path / "model", name, llama=True, template=template, bos=bos), outtype=outtype)
    assert (report["pre_tokenizer"], report["outtype"], report["prompts"]) == (name, outtype, len(HOSTILE))
    assert report["template_equal"] == report["tokens_equal"] == 1
    assert report["greedy_prefix"] > 0.3
    assert report["logprob_max_diff"] < {"f16": 0.05, "bf16": 0.5, "q8_0": 1.0}[outtype]


def test_the_owners_prompts_are_compared_too(export: Export, model: Path, tmp_path: Path) -> None:
    messages = (Message(role="system", content="You are Léa."), Message(role="user", content="Who are you?"))
    decomposed = (Message(role="user", content="e\u0301 is two code points"),)
    prompts = [
        Prompt(id=f"{i}", row=i, variant="memory", messages=m, target="") for i, m in enumerate((messages, decomposed))
    ]
    write_jsonl(tmp_path / "prompts.jsonl", prompts)
    report = export.run(model, tmp_path / "prompts.jsonl", greedy_prompts=2, outtype="q8_0")
    assert (report["prompts"], report["greedy_prompts"], report["prompts_normalized"]) == (len(HOSTILE) + 2, 2, 1)


@pytest.mark.parametrize(
    ("normalizer", "composed", "decomposed"),
    [
        (None, True, True),
        (normalizers.NFC(), True, False),
        (normalizers.NFD(), False, True),
        (normalizers.Sequence([normalizers.Prepend("_"), normalizers.Sequence([normalizers.NFKC()])]), True, False),
        (normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")]), True, True),
        (normalizers.Replace('"type":"NFC"', ""), True, True),
    ],
)
def test_only_what_a_unicode_normal_form_changes_is_not_compared(
    normalizer: Any, composed: bool, decomposed: bool
) -> None:
    """Llama-2's Prepend and Replace change every text, and llama.cpp does the same."""
    tokenizer = make_tokenizer(EXPRESSIONS["gpt-2"], CHATML, bos=False)
    tokenizer.backend_tokenizer.normalizer = normalizer
    for text, expected in (("\u00e9 a", composed), ("e\u0301 a", decomposed)):
        (rendered,) = render_prompts(tokenizer, {"p": [{"role": "user", "content": text}]})
        assert rendered.normalized is expected


def test_the_report_counts_only_what_was_compared(
    exported: Path, model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = trained_of(model)
    first, *rest = whole.prompts
    for compared in (1, 0):
        skipped = [replace(p, normalized=False) for p in rest + [first] * (1 - compared)]
        partly = replace(whole, prompts=[first] * compared + skipped, answers=whole.answers[:compared])
        check = partial(export_gguf.check_fidelity, StageConfig(greedy_tokens=12), model, exported, partly)
        if compared:
            report = check(tmp_path / "log")
            assert (report.prompts_compared, report.template_equal, report.tokens_equal) == (1, 1.0, 1.0)
            assert report.prompts_normalized == len(whole.prompts) - 1
            assert f"token ids of 1 of {len(whole.prompts)} prompts" in caplog.text
        else:
            with pytest.raises(DataError, match="no prompt's token ids could be compared"):
                check(tmp_path / "log")


def test_the_shares_are_measured_not_assumed(model: Path) -> None:
    prompts = trained_of(model).prompts[:4]
    seen: tuple[Agreement, ...] = ("equal", "other_text", "other_tokens", "not_comparable")
    checks = [PromptCheck(prompt, agreement) for prompt, agreement in zip(prompts, seen, strict=True)]
    about = {"outtype": "f16", "engine": "e", "bytes": 1, "pre_tokenizer": "qwen2"}
    found = measured(checks, Likeness(), answers=0, **about)
    assert (found.template_equal, found.tokens_equal) == (0.75, 0.5)
    assert (found.prompts_compared, found.prompts_normalized, found.greedy_equal) == (2, 1, None)


def test_an_unknown_pre_tokenizer_is_refused(export: Export, tmp_path: Path) -> None:
    export.refuse(make_model(tmp_path / "model", "[aeiou]+", llama=True), match="llama.cpp does not know")


def test_what_transformers_loads_counts_not_what_tokenizer_json_says(export: Export, tmp_path: Path) -> None:
    """transformers gives every Qwen2 model its own splitting, so training saw that."""
    assert export.run(make_model(tmp_path / "model", "gpt-2"), greedy_prompts=0)["pre_tokenizer"] == "qwen2"


@pytest.mark.parametrize(
    ("template", "match"),
    [("{{ messages[0]['content'] | title }}", "renders built-in"), ("{{ raise_exception('no') }}", "cannot render")],
)
def test_a_template_that_renders_otherwise_or_not_at_all_is_refused(
    export: Export, tmp_path: Path, template: str, match: str
) -> None:
    export.refuse(make_model(tmp_path / "model", template=CHATML + template), match=match)


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json"])
def test_a_model_with_code_of_its_own_is_refused(export: Export, tmp_path: Path, file: str) -> None:
    path = make_model(tmp_path / "model") / file
    path.write_text(json.dumps(json.loads(path.read_text()) | {"auto_map": {"AutoModel": "evil.Model"}}))
    export.refuse(path.parent, match="auto_map")


def test_a_model_without_chat_template_is_refused(export: Export, tmp_path: Path) -> None:
    export.refuse(make_model(tmp_path / "model", template=""), match=r"no chat template.*chat_template\.jinja")


def test_a_missing_converter_names_the_set_up(export: Export, model: Path) -> None:
    export.refuse(model, match="scripts/setup", converter_path="no/such/folder")


def trained_of(model_path: Path) -> Trained:
    config = StageConfig(greedy_tokens=12)
    return export_gguf.ask_trained(config, model_path, export_gguf.conversations_of(config, None))


@pytest.mark.parametrize(("changed", "match"), [({"seed": 2}, "answers unlike"), ({"name": "gpt-2"}, "tokenizes")])
def test_a_gguf_of_another_model_fails_the_fidelity_check(
    exported: Path, tmp_path: Path, changed: dict[str, Any], match: str
) -> None:
    other_path = make_model(tmp_path / "other", **changed)
    with pytest.raises(DataError, match=match):
        export_gguf.check_fidelity(
            StageConfig(greedy_tokens=12), other_path, exported, trained_of(other_path), tmp_path / "log"
        )


def test_a_gguf_that_lacks_anything_fails_the_check(exported: Path, model: Path, tmp_path: Path) -> None:
    shapes = {w.name: w.shape for w in read_weights(model)}
    whole: dict[str, Any] = {"shapes": shapes, "vocabulary": 400, "chat_template": CHATML}
    assert check_gguf(exported, **whole) == "qwen2"
    norm = "model.norm.weight"
    for change in (
        {"shapes": shapes | {norm: (65,)}},
        {"shapes": shapes | {"model.layers.2.mlp.up_proj.weight": (96, 64)}},
        {"shapes": {name: shape for name, shape in shapes.items() if name != norm}},
        {"vocabulary": 401},
        {"chat_template": CHATML.rstrip("\n")},
    ):
        with pytest.raises(DataError, match="export"):
            check_gguf(exported, **(whole | change))
    (tmp_path / "half.gguf").write_bytes(exported.read_bytes()[: exported.stat().st_size // 2])
    with pytest.raises(DataError, match="no whole GGUF"):
        check_gguf(tmp_path / "half.gguf", **whole)


def test_the_converter_sees_no_secrets_and_no_network(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The converter is replaced by a script that tells what it sees."""
    monkeypatch.setenv("OPENAI_API_KEY", "canary")
    fake = tmp_path / "llama.cpp"
    for part in converter.PARTS:
        (fake / part).parent.mkdir(parents=True, exist_ok=True)
        (fake / part).write_text("")
    (fake / "conversion" / "base.py").write_text(
        "class ModelBase:\n    load_hparams = None\nclass TextModel:\n    get_vocab_base_pre = None\n"
    )
    (fake / "convert_hf_to_gguf.py").write_text(
        "import os, socket\nprint(sorted(os.environ))\nsocket.create_connection(('127.0.0.1', 9))\n"
    )
    log_path = tmp_path / "log"
    with converter.converting(
        model, tmp_path / "x.gguf", outtype="f16", converter_path=fake, log_path=log_path, timeout_s=60
    ) as conversion:
        with pytest.raises(DataError, match="without network"):
            conversion.finish()
        assert os.getpgid(0) != conversion.child.pid
    assert "OPENAI" not in log_path.read_text()
    assert "HF_HUB_OFFLINE" in log_path.read_text()


def test_the_converter_ends_with_the_block(model: Path, tmp_path: Path) -> None:
    path = converter.find_converter("llama.cpp")
    with (  # noqa: PT012 - the error has to pass through `converting`
        pytest.raises(MissingInputError),
        converter.converting(
            model, tmp_path / "x.gguf", outtype="f16", converter_path=path, log_path=tmp_path / "log", timeout_s=60
        ) as conversion,
    ):
        assert conversion.child.wait(0) is None
        raise MissingInputError("anything")
    assert conversion.child.wait(0) is not None


def test_a_converter_that_hangs_ends_at_its_deadline(model: Path, tmp_path: Path) -> None:
    fake = tmp_path / "llama.cpp"
    for part in converter.PARTS:
        (fake / part).parent.mkdir(parents=True, exist_ok=True)
        (fake / part).write_text("import time\ntime.sleep(60)\n")
    log_path, start = tmp_path / "log", time.monotonic()
    with (
        pytest.raises(ServiceError, match="convert-timeout-s"),
        converter.converting(
            model, tmp_path / "x.gguf", outtype="f16", converter_path=fake, log_path=log_path, timeout_s=0.5
        ) as conversion,
    ):
        conversion.finish()
    assert conversion.child.wait(0) is not None
    assert time.monotonic() - start < 20
