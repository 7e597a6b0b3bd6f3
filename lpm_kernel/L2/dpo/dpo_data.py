"""Let the SFT model answer every prompt several times, judge the answers by the bio, and write the pairs."""

import sys
from pathlib import Path

if __package__ is None:
    sys.path[0] = str(Path(__file__).resolve().parents[3])
    from lpm_kernel.by_path import enter

    enter()

import asyncio
from collections import Counter
from collections.abc import Sequence

from pydantic import Field

from lpm_kernel.errors import DataError, ServiceError
from lpm_kernel.hashing import file_sha256, key_of
from lpm_kernel.journal import Journal, open_journal
from lpm_kernel.judges import pairwise
from lpm_kernel.judges.base import JudgeConfig, Question
from lpm_kernel.L2.bounded import map_bounded
from lpm_kernel.L2.dpo.pairing import Choice, choose, comparisons, distinct, too_few
from lpm_kernel.L2.judging import Bench, open_judge
from lpm_kernel.L2.sampling import SamplingConfig, sample
from lpm_kernel.preferences.bio import read_bio
from lpm_kernel.progress import say, tally
from lpm_kernel.records import Answer, Evidence, Prompt, Verdict, read_jsonl, write_json, write_jsonl
from lpm_kernel.serving.client import ChatClient, RefusedError
from lpm_kernel.serving.endpoint import Endpoint, ServingConfig
from lpm_kernel.serving.http import on_loopback
from lpm_kernel.serving.llama_cpp import answering
from lpm_kernel.serving.probe import props


class StageConfig(ServingConfig, SamplingConfig, JudgeConfig):
    """Sampling, serving and judging."""

    answers: int = Field(3, ge=2, le=16, description="Answers to each prompt.")


def run(
    config: StageConfig,
    *,
    prompts_path: Path,
    bio_path: Path,
    gguf_path: Path | None,
    full_path: Path,
    direct_path: Path,
    verdicts_path: Path,
    account_path: Path,
    work_path: Path,
) -> None:
    """Raises ServiceError when the model or the judge is down, DataError when no pair came out; the journal stays."""
    bio = read_bio(bio_path)
    prompts = list(read_jsonl(prompts_path, Prompt))
    with (
        answering(gguf_path, config, work_path / "server.log") as endpoint,
        open_journal(work_path / "journal.sqlite") as journal,
    ):
        model = _identity(endpoint, gguf_path)
        if gguf_path is not None and model != file_sha256(gguf_path):
            say(f"warning: that server does not serve {gguf_path}; pairs teach best when the model to train answers")
        evidence = asyncio.run(_synthesise(prompts, bio, endpoint, model, journal, config))
    served = {"model": endpoint.model, "engine": endpoint.engine, "ours": endpoint.ours, "identity": model}
    account = _account(evidence) | {"served": served}
    say(_sentence(account))
    _refuse_if_worthless(evidence, account, config)
    write_json(full_path, [_full(p, e) for p, e in zip(prompts, evidence, strict=True) if e.chosen is not None])
    write_json(direct_path, [_direct(p, e) for p, e in zip(prompts, evidence, strict=True) if e.chosen is not None])
    write_jsonl(verdicts_path, evidence)
    write_json(account_path, account)


async def _synthesise(
    prompts: Sequence[Prompt], bio: str, endpoint: Endpoint, model: str, journal: Journal, config: StageConfig
) -> list[Evidence]:
    """Sampling and judging overlap: a prompt is judged as soon as its answers are there."""
    in_flight = max(1, endpoint.slots // config.answers) + 1
    async with (
        ChatClient(endpoint, timeout_s=config.answer_timeout_s, max_in_flight=in_flight) as client,
        open_judge(config) as judge,
    ):
        bench = Bench(judge, journal)

        async def one(prompt: Prompt) -> Evidence:
            try:
                answers = await sample(client, journal, prompt, config, count=config.answers, model=model)
            except RefusedError as error:
                say(f"  item {prompt.row} is dropped: {error}")
                return _dropped(prompt, "refused_by_server")
            return await _judge(prompt, answers, bio, bench)

        try:
            return await map_bounded(one, prompts, width=in_flight + config.judge_in_flight, label="prompts")
        finally:
            await journal.flush()


async def _judge(prompt: Prompt, answers: Sequence[Answer], bio: str, bench: Bench) -> Evidence:
    indices = distinct(answers)
    question = Question(prompt.user, prompt.reference, bio)
    texts = [answer.text for answer in answers]
    verdicts = [await bench.verdict(prompt.id, question, texts, i, j) for i, j in comparisons(indices)]
    choice = choose(verdicts) if verdicts else too_few(answers)
    evidence = _dropped(prompt, str(choice)).model_copy(update={"answers": tuple(answers), "verdicts": tuple(verdicts)})
    if isinstance(choice, Choice):
        return evidence.model_copy(update={**vars(choice), "dropped": None})
    return evidence


def _dropped(prompt: Prompt, reason: str) -> Evidence:
    return Evidence(
        prompt_id=prompt.id,
        row=prompt.row,
        variant=prompt.variant,
        answers=(),
        verdicts=(),
        chosen=None,
        rejected=None,
        dropped=reason,
    )


def _identity(endpoint: Endpoint, gguf_path: Path | None) -> str:
    """What the answers in the journal belong to: the weights that are served, else what the server tells of itself."""
    if endpoint.ours and gguf_path is not None:
        return file_sha256(gguf_path)
    told = props(endpoint.base_url, endpoint.api_key)
    served = Path(str(told.get("model_path", "")))
    if on_loopback(endpoint.base_url) and served.is_file():
        return file_sha256(served)
    return key_of(endpoint.base_url, endpoint.model, told.get("model_path"), told.get("build_info"))


def _account(evidence: Sequence[Evidence]) -> dict[str, object]:
    """prompts = pairs + dropped, exactly."""
    dropped = Counter(e.dropped for e in evidence if e.dropped)
    verdicts = Counter(v.outcome for e in evidence for v in e.verdicts)
    finish = Counter(a.finish_reason for e in evidence for a in e.answers)
    return {
        "prompts": len(evidence),
        "pairs": sum(e.chosen is not None for e in evidence),
        "dropped": dict(sorted(dropped.items())),
        "verdicts": dict(sorted(verdicts.items())),
        "answers": dict(sorted(finish.items())),
    }


def _sentence(account: dict[str, object]) -> str:
    dropped = account["dropped"]
    assert isinstance(dropped, dict)
    total = sum(dropped.values())
    return f"pairs: {account['prompts']} prompts = {account['pairs']} pairs + {total} dropped{tally(dropped)}"


def _refuse_if_worthless(evidence: Sequence[Evidence], account: dict[str, object], config: StageConfig) -> None:
    verdicts = [v for e in evidence for v in e.verdicts]
    failed = [v for v in verdicts if v.outcome == "failed"]
    if verdicts and len(failed) / len(verdicts) > config.judge_failed_share:
        raise ServiceError(
            f"{len(failed)} of {len(verdicts)} verdicts failed (allowed: {config.judge_failed_share:.0%}); the last: "
            f"{failed[-1].reason}. No pairs are written. Try another --judge-model, or --judge reference"
        )
    if not account["pairs"]:
        raise DataError(
            f"no prompt gave a pair ({_sentence(account)}). Raise --temperature or --answers for more different answers"
        )


def _full(prompt: Prompt, evidence: Evidence) -> dict[str, object]:
    """A row of dpo_full.json, field for field as the reference system writes it."""
    assert evidence.chosen is not None and evidence.rejected is not None
    texts = [answer.text for answer in evidence.answers]
    return {
        "user": prompt.user,
        "label": prompt.reference,
        "traces": texts,
        "eval_prompt": pairwise.SYSTEM,
        "infer_prompt": prompt.system,
        "chosen_response": texts[evidence.chosen],
        "rejected_response": texts[evidence.rejected],
        "detailed_analysis": _analysis(texts, evidence.verdicts, evidence.chosen, evidence.rejected),
    }


def _direct(prompt: Prompt, evidence: Evidence) -> dict[str, object]:
    """A row of dpo_direct.json, the input of dpo_train."""
    assert evidence.chosen is not None and evidence.rejected is not None
    return {
        "prompt": {"system": prompt.system, "user": prompt.user},
        "chosen": evidence.answers[evidence.chosen].text,
        "rejected": evidence.answers[evidence.rejected].text,
    }


def _analysis(texts: Sequence[str], verdicts: Sequence[Verdict], chosen: int, rejected: int) -> str:
    """The tally of each answer, in the reference system's wording; counted by answer, not by text."""
    tally = {i: Counter[str]() for i in range(len(texts))}
    for v in verdicts:
        won = {"first": (v.first, v.second), "second": (v.second, v.first)}.get(v.outcome)
        if won:
            tally[won[0]]["wins"] += 1
            tally[won[1]]["losses"] += 1
        elif v.outcome == "tie":
            tally[v.first]["ties"] += 1
            tally[v.second]["ties"] += 1

    def rate(index: int) -> float:
        return tally[index]["wins"] / tally[index].total() if tally[index].total() else 0.0

    lines = [
        f"Chosen Response: {texts[chosen]} (Win Rate: {rate(chosen):.2f})",
        f"Rejected Response: {texts[rejected]} (Win Rate: {rate(rejected):.2f})",
        "Comparison Details:",
        *(
            f"{t}: Wins={tally[i]['wins']}, Losses={tally[i]['losses']}, Ties={tally[i]['ties']}"
            for i, t in enumerate(texts)
        ),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    from lpm_kernel.cli import main

    main(["run", "dpo-data", *sys.argv[1:]])
