"""Is the served GGUF the trained model? Compared on the disk, by its template, its tokens, its likeliest answers."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import takewhile
from math import ceil, floor, log10
from pathlib import Path
from typing import Any, Literal

from lpm_kernel.errors import DataError
from lpm_kernel.export.trained_answers import GreedyAnswer, RenderedPrompt, until_end
from lpm_kernel.progress import say
from lpm_kernel.records import Record
from lpm_kernel.serving.control_routes import ControlRoutes, GreedyReply
from lpm_kernel.serving.endpoint import Endpoint

MAX_LOGPROB_DIFF: Mapping[str, float] = {"f32": 0.01, "f16": 0.01, "bf16": 0.03, "q8_0": 0.1}
"""Format -> the mean difference of the likeliest first tokens' log-probabilities that rounding explains, in nats.

Measured over architectures by benchmarks/export_fidelity.py; the table is in docs/export-fidelity.md.
"""
Agreement = Literal["equal", "other_text", "other_tokens", "not_comparable"]


class Fidelity(Record):
    """`lpm.fidelity.json`: how alike the served and the trained model are. Shares are of 0 to 1."""

    prompts: int
    """Rendered by both engines."""
    template_equal: float
    """Share of the prompts that both render to the same text."""
    tokens_equal: float | None
    """Share of the compared prompts with the same token ids; None when none could be compared."""
    prompts_compared: int
    """By token ids."""
    prompts_normalized: int
    """Left out of that, because the tokenizer composes their characters and llama.cpp does not."""
    greedy_prompts: int
    greedy_equal: float | None
    """Share of the greedy answers that are the same, token by token."""
    greedy_prefix: float | None
    """Mean share of the leading tokens that agree, of the longer answer."""
    logprob_max_diff: float | None
    """Over the likeliest first tokens, in nats."""
    logprob_mean_diff: float | None
    max_logprob_diff: float | None = None
    """The bound that the mean was held to."""
    outtype: str
    engine: str
    bytes: int
    pre_tokenizer: str
    seconds: float = 0.0


@dataclass(frozen=True)
class Trained:
    """What transformers makes of the prompts."""

    prompts: list[RenderedPrompt]
    answers: list[GreedyAnswer]
    """Of the first prompts, as many as are compared."""
    ends: set[int]
    """Token ids that end an answer."""
    chat_template: str
    vocabulary: int


@dataclass(frozen=True)
class PromptCheck:
    """One prompt as both engines see it."""

    prompt: RenderedPrompt
    agreement: Agreement
    parting: int = 0
    """Characters or tokens up to which they agree."""


@dataclass(frozen=True)
class Likeness:
    """How alike the greedy answers of both engines are; the fields are Fidelity's."""

    greedy_equal: float | None = None
    greedy_prefix: float | None = None
    logprob_max_diff: float | None = None
    logprob_mean_diff: float | None = None


def compare_prompts(endpoint: Endpoint, trained: Trained) -> list[PromptCheck]:
    """Render and tokenize every prompt on the server."""
    routes = ControlRoutes(endpoint)
    return [_check(routes, prompt) for prompt in trained.prompts]


def compare_answers(endpoint: Endpoint, trained: Trained, max_tokens: int) -> Likeness:
    """Let the server answer greedily what transformers answered."""
    if not trained.answers:
        return Likeness()
    routes = ControlRoutes(endpoint)

    def greedy(prompt: RenderedPrompt) -> GreedyReply:
        return routes.greedy(routes.render(prompt.conversation), max_tokens)

    with ThreadPoolExecutor(endpoint.slots) as pool:
        return _likeness(trained, list(pool.map(greedy, trained.prompts[: len(trained.answers)])))


def measured(checks: Sequence[PromptCheck], likeness: Likeness, answers: int, **about: Any) -> Fidelity:
    """All of it as one record; `about` are Fidelity's fields on the file and the engine."""
    rendered = [check for check in checks if check.agreement != "other_text"]
    compared = [check for check in rendered if check.agreement != "not_comparable"]
    equal = [check for check in compared if check.agreement == "equal"]
    return Fidelity(
        prompts=len(checks),
        template_equal=len(rendered) / len(checks),
        tokens_equal=len(equal) / len(compared) if compared else None,
        prompts_compared=len(compared),
        prompts_normalized=len(rendered) - len(compared),
        greedy_prompts=answers,
        **vars(likeness),
        **about,
    )


def refuse_prompts(checks: Sequence[PromptCheck], model_path: Path) -> None:
    """Raise DataError when the server sees another text or other tokens than transformers."""
    for check in checks:
        _refuse_prompt(check)
    if all(check.agreement == "not_comparable" for check in checks):
        raise DataError(
            f"no prompt's token ids could be compared: none of {len(checks)} is in the Unicode normal form that the "
            f"tokenizer of {model_path} makes and llama.cpp does not; use a tokenizer with NFC or no normalizer"
        )


def refuse_likelihoods(found: Fidelity, lost: Sequence[str], model_path: Path) -> None:
    """Raise DataError when the served likelihoods are not the model's; `lost` are the settings under suspicion."""
    mean, bound = found.logprob_mean_diff, found.max_logprob_diff
    if mean is None or bound is None or mean <= bound:
        return
    cause = (
        f"most likely llama.cpp's converter does not carry over {', '.join(lost)}, which no value in the GGUF's header "
        "stands for; take a base model without that, or a newer converter"
        if lost
        else "rounding alone does not explain that, and the GGUF's header holds every setting of config.json, so its "
        "weights are others or llama.cpp computes this architecture otherwise; export again, and if it stays so take "
        "another base model"
    )
    raise DataError(
        f"the GGUF answers unlike {model_path}: the likeliest first tokens' log-probabilities differ by {mean:.3f} "
        f"nats in the mean and {found.logprob_max_diff:.2f} at most, expected for {found.outtype}: at most {bound:g} "
        f"in the mean; {cause}; to take it as it is, set --max-logprob-diff {_above(mean)}"
    )


def _above(value: float) -> str:
    """The value with two digits, rounded up."""
    digits = 1 - floor(log10(value))
    return f"{ceil(value * 10**digits) / 10**digits:g}"


def tell(fidelity: Fidelity, lost: Sequence[str]) -> None:
    """In sentences; `lost` are the settings under suspicion, told where the format's rounding could hide their loss."""
    say(f"  served and trained model agree on the template of {fidelity.prompts} prompts")
    say(f"  and on the token ids of {fidelity.prompts_compared} of {fidelity.prompts} prompts")
    if fidelity.prompts_normalized:
        say("  the others hold characters that the tokenizer composes (Unicode normal form) and llama.cpp does not")
    if fidelity.greedy_equal is not None:
        say(
            f"  greedy answers: {fidelity.greedy_equal:.0%} the same, {fidelity.greedy_prefix:.0%} of the leading "
            f"tokens agree; first-token log-probabilities differ by {fidelity.logprob_max_diff:.4f} nats at most"
        )
    rounding = fidelity.outtype not in ("f32", "f16")
    if lost and rounding and (fidelity.logprob_mean_diff or 0) > MAX_LOGPROB_DIFF["f16"]:
        say(
            f"  the mean difference of {fidelity.logprob_mean_diff:.3f} nats may come of rounding to "
            f"{fidelity.outtype}, or of {', '.join(lost)}, which the GGUF's header does not hold: "
            "export once with --outtype f16 to know"
        )


def _check(routes: ControlRoutes, prompt: RenderedPrompt) -> PromptCheck:
    text = routes.render(prompt.conversation)
    if text not in (prompt.text, prompt.text.removeprefix(prompt.bos)):
        return PromptCheck(prompt, "other_text", _parting(text, prompt.text))
    if not prompt.normalized:
        return PromptCheck(prompt, "not_comparable")
    ids = routes.token_ids(text)
    return PromptCheck(prompt, "equal" if ids == prompt.ids else "other_tokens", _parting(ids, prompt.ids))


def _refuse_prompt(check: PromptCheck) -> None:
    if check.agreement == "other_text":
        raise DataError(
            f"the server renders {check.prompt.name} otherwise than transformers (they part at character "
            f"{check.parting}), so the chat template does something that llama.cpp does not know; "
            "simplify chat_template.jinja"
        )
    if check.agreement == "other_tokens":
        raise DataError(
            f"the server tokenizes {check.prompt.name} otherwise than transformers (they part at token "
            f"{check.parting} of {len(check.prompt.ids)}), so it would serve another model than the trained one; "
            "use a tokenizer that llama.cpp knows (qwen2, gpt-2 or llama-bpe splitting; NFC or no normalizer)"
        )


def _likeness(trained: Trained, replies: Sequence[GreedyReply]) -> Likeness:
    prefixes, differences = [], []
    for ours, served in zip(trained.answers, replies, strict=True):
        ids = until_end(served.ids, trained.ends)
        longest = max(len(ours.ids), len(ids))
        prefixes.append(_parting(ours.ids, ids) / longest if longest else 1.0)
        differences += [abs(float(ours.first[id_]) - log_prob) for id_, log_prob in served.first.items()]
    return Likeness(
        greedy_equal=sum(prefix == 1 for prefix in prefixes) / len(prefixes),
        greedy_prefix=sum(prefixes) / len(prefixes),
        logprob_max_diff=max(differences, default=0.0),
        logprob_mean_diff=sum(differences) / max(1, len(differences)),
    )


def _parting(first: Sequence[Any], second: Sequence[Any]) -> int:
    """How many leading items agree."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(first, second, strict=False)))
