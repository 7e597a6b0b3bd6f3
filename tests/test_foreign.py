"""What a foreign model folder brings along and is executed ends in time, with a sentence."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from tokenizers import Regex
from tokenizers.pre_tokenizers import Split

from lpm_kernel.demo.base_model import write_base_model
from lpm_kernel.errors import DataError
from lpm_kernel.export.trained_answers import render_prompts
from lpm_kernel.L2 import sft_train
from lpm_kernel.models import adapter, foreign
from lpm_kernel.models.foreign import bounded
from lpm_kernel.models.loading import load_tokenizer
from lpm_kernel.models.rendering import end_of_turn, render_all
from lpm_kernel.records import Message, Prompt

LOOPS = "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}"
TEMPLATES = {
    "nested loops": (LOOPS, "did not end within 1 s"),
    "a power": ("{{ 9 ** (9 ** (9 ** 9)) }}", "did not end within 1 s"),
    "a long text": ("{{ 'a' * 10 ** 11 }}", "needs more than 2 GiB"),
    "a text that grows": (
        "{% set n = namespace(x='a') %}{% for a in range(99) %}{% set n.x = n.x ~ n.x %}{% endfor %}",
        "needs more than 2 GiB|did not end",
    ),
    "no end of calls": ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "RecursionError"),
    "a division by zero": ("{{ 1 // 0 }}", "ZeroDivisionError"),
}
ASKED = [Message(role="user", content="a" * 40 + "!")]


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(foreign, "DEADLINE_S", 1.0)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    write_base_model(tmp_path / "model", ["some words to learn"], seed=1)
    return tmp_path / "model"


def with_template(model: Path, template: str) -> Any:
    (model / "chat_template.jinja").write_text(template)
    return load_tokenizer(model)


@pytest.mark.parametrize(("template", "told"), TEMPLATES.values(), ids=TEMPLATES)
def test_a_template_without_end_is_refused_wherever_it_is_rendered(model: Path, template: str, told: str) -> None:
    tokenizer = with_template(model, template)
    for use in (
        lambda: end_of_turn(tokenizer),
        lambda: render_all(tokenizer, [(ASKED, "b")]),
        lambda: render_prompts(tokenizer, {"p": [{"role": "user", "content": "a"}]}),
    ):
        start = time.monotonic()
        with pytest.raises(DataError, match=rf"template or tokenizer of .*model .*({told}).*; .*another model"):
            use()
        assert time.monotonic() - start < 20


@pytest.mark.parametrize(
    ("pattern", "told"), [("(a+)+$", "cannot be executed"), ("a+(?!.)b?[bd]", "did not end within 1 s")]
)
def test_a_pattern_of_the_tokenizer_without_end_is_refused(model: Path, pattern: str, told: str) -> None:
    tokenizer = load_tokenizer(model)
    tokenizer.backend_tokenizer.pre_tokenizer = Split(Regex(pattern), "isolated")
    with pytest.raises(DataError, match=rf"template or tokenizer of .*model {told}.*another model"):
        render_all(tokenizer, [(ASKED, "a" * 200_000 + "!")])


def test_a_pattern_that_no_tokenizer_takes_is_refused(model: Path) -> None:
    path = model / "tokenizer.json"
    split = {"type": "Split", "pattern": {"Regex": "(" * 5000}, "behavior": "Isolated", "invert": False}
    path.write_text(json.dumps(json.loads(path.read_text()) | {"pre_tokenizer": split}))
    with pytest.raises(DataError, match=r"model: its tokenizer cannot be loaded .*Oniguruma"):
        load_tokenizer(model)


@pytest.mark.parametrize("field", ["rank_pattern", "alpha_pattern"])
def test_a_pattern_of_an_adapter_without_end_is_refused(field: str) -> None:
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 2, field: {"(a+)+": 2}}
    module = "base_model.model." + "a" * 40 + "!.q_proj"
    tensors = {f"{module}.lora_{side}.weight": torch.ones(2, 2) for side in "AB"}
    with pytest.raises(DataError, match=rf"{field}.* did not end within 1 s.*train the adapter again"):
        adapter._updates(config, tensors)


@pytest.mark.parametrize("pattern", ["(?:" * 3000 + ")" * 3000, "a{99999999999999}", "("])
def test_what_is_no_pattern_is_refused_by_its_field(pattern: str, tmp_path: Path) -> None:
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 2, "rank_pattern": {pattern: 2}}
    with pytest.raises(DataError, match=r"rank_pattern.*train the adapter again"):
        adapter._refuse_malformed(tmp_path, config)


def test_training_ends_with_the_sentence_in_any_thread(model: Path, tmp_path: Path) -> None:
    with_template(model, LOOPS)
    item = Prompt(id="1", row=0, variant="memory", messages=tuple(ASKED), target="Yes.")
    (tmp_path / "items.jsonl").write_text(item.model_dump_json())
    raised: list[BaseException] = []

    def train() -> None:
        try:
            sft_train.run(
                sft_train.StageConfig(),
                base_model_path=model,
                training_data_path=tmp_path / "items.jsonl",
                adapter_path=tmp_path / "adapter",
                work_path=tmp_path / "work",
            )
        except DataError as error:
            raised.append(error)

    thread = threading.Thread(target=train)
    thread.start()
    thread.join(60)
    assert "did not end within" in str(raised[0])
    assert not (tmp_path / "adapter").exists()


def test_results_come_in_order_and_an_error_of_ours_as_it_is() -> None:
    def numbers() -> Any:
        yield from range(1000)
        raise DataError("the thousandth")

    found: list[int] = []
    with pytest.raises(DataError, match=r"^the thousandth$"):
        found.extend(bounded(numbers(), "it", "mend it"))
    assert list(bounded([None, 1], "it", "mend it")) == [None, 1]


def test_the_child_ends_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    program = "from lpm_kernel.models.foreign import bounded\nimport re, sys\n"
    program += "list(bounded((re.match('(a+)+$', 'a' * 60 + 'b') for _ in [0]), 'it', 'mend it'))"
    parent = subprocess.Popen([sys.executable, "-c", program], cwd=tmp_path)
    deadline = time.monotonic() + 30
    while not (children := psutil.Process(parent.pid).children()) and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.5)
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    _, alive = psutil.wait_procs(children, timeout=5)
    assert children
    assert not alive
