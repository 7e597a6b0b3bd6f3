"""Which of k answers is preferred over which, from the verdicts; or why there is no pair."""

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from lpm_kernel.records import Answer, Verdict


@dataclass(frozen=True)
class Choice:
    """Indices among the prompt's answers."""

    chosen: int
    rejected: int


def distinct(answers: Sequence[Answer]) -> list[int]:
    """Indices of whole, non-empty answers, one of each wording (Unicode form, case and spaces aside)."""
    seen: dict[str, int] = {}
    for index, answer in enumerate(answers):
        if answer.finish_reason == "stop" and answer.text.strip():
            seen.setdefault(" ".join(unicodedata.normalize("NFKC", answer.text).casefold().split()), index)
    return list(seen.values())


def too_few(answers: Sequence[Answer]) -> str:
    """Why there are not two distinct answers."""
    whole = [a for a in answers if a.finish_reason == "stop" and a.text.strip()]
    return "identical_answers" if len(whole) > 1 else "cut_or_empty_answers"


def comparisons(indices: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Every unordered pair once, lower index first."""
    return ((i, j) for n, i in enumerate(indices) for j in indices[n + 1 :])


def choose(verdicts: Sequence[Verdict]) -> Choice | str:
    """The won comparison with the widest gap in wins minus losses (Copeland); else the reason to drop the prompt.

    Only a comparison that was won outright can become the pair, and no pair comes of a cycle.
    """
    won = [(v.first, v.second) if v.outcome == "first" else (v.second, v.first) for v in verdicts if _decided(v)]
    if not won:
        return _no_winner(verdicts)
    if _has_cycle(won):
        return "cycle"
    points = {index: 0 for edge in won for index in edge}
    for winner, loser in won:
        points[winner] += 1
        points[loser] -= 1
    winner, loser = min(won, key=lambda edge: (points[edge[1]] - points[edge[0]], edge))
    return Choice(winner, loser)


def _decided(verdict: Verdict) -> bool:
    return verdict.outcome in ("first", "second")


def _no_winner(verdicts: Sequence[Verdict]) -> str:
    if any(v.outcome == "failed" for v in verdicts):
        return "verdict_failed"
    if any(len(set(v.orders)) > 1 for v in verdicts):
        return "orders_disagree"
    return "tie"


def _has_cycle(won: Sequence[tuple[int, int]]) -> bool:
    """Take away answers that lost nothing until none is left; what stays is a cycle."""
    edges = set(won)
    while edges:
        losers = {loser for _, loser in edges}
        kept = {edge for edge in edges if edge[0] in losers}
        if kept == edges:
            return True
        edges = kept
    return False
