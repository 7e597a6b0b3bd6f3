"""How often chance alone promotes: the gate's exact test and the percentile bootstrap, on the same simulated runs.

python benchmarks/gate_null.py [--runs 20000] [--seed 1]

Each run draws the scores of its questions where nothing but chance parts the models: a question's score and its
opposite are as likely. Level 2.5 %, one-sided. Four tables: false promotions by kind of score and number of questions;
with questions on one note that move together; coverage of the interval for changes of facts that are not symmetric; and
how often the facts rule lets a change through. Prints Markdown to standard output.
"""

import argparse
from collections.abc import Callable

import numpy as np

from lpm_kernel.chance import ALPHA, chance_above, interval
from lpm_kernel.proof.gate import GateConfig

Scores = np.ndarray[tuple[int, ...], np.dtype[np.float64]]
Draw = Callable[[np.random.Generator, int], Scores]
"""Generator, questions -> win rate of each question."""
SAMPLES = 4
RESAMPLES = 1000
LEANS = {
    share: np.random.default_rng(0).beta(share, 1 - share, 10_000)
    for share in (0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5)
}
QUESTIONS = (8, 15, 20, 42, 200)


def coin(draw: np.random.Generator, questions: int) -> Scores:
    """A fair coin a comparison."""
    return np.asarray(draw.integers(0, 2, (questions, SAMPLES)).mean(axis=1))


def consistent_coin(draw: np.random.Generator, questions: int) -> Scores:
    """A coin that says the same of all comparisons of a question: answers within it are one cluster."""
    return draw.integers(0, 2, questions).astype(float)


def mostly_ties(draw: np.random.Generator, questions: int) -> Scores:
    """Nine of ten comparisons are ties."""
    return np.asarray(draw.choice([0.0, 0.5, 1.0], (questions, SAMPLES), p=[0.05, 0.9, 0.05]).mean(axis=1))


def skewed(draw: np.random.Generator, questions: int) -> Scores:
    """Most questions hardly differ, a few decide wholly one way or the other."""
    lead = draw.choice([0.0, 0.25, 1.0], questions, p=[0.6, 0.3, 0.1]) * draw.choice([-1, 1], questions)
    return np.asarray((1 + lead) / 2)


def clustered(draw: np.random.Generator, questions: int) -> Scores:
    """Each question leans its own way: Beta(0.5, 0.5), then a coin with that lean."""
    return np.asarray(draw.binomial(SAMPLES, draw.beta(0.5, 0.5, questions)) / SAMPLES)


KINDS: dict[str, Draw] = {
    "coin": coin,
    "consistent coin": consistent_coin,
    "mostly ties": mostly_ties,
    "skewed": skewed,
    "clustered answers": clustered,
}


def bootstrap_promotes(rates: Scores, draw: np.random.Generator) -> bool:
    """What the gate did before: the lower 95 % percentile bound over questions is above one half."""
    means = rates[draw.integers(0, len(rates), (RESAMPLES, len(rates)))].mean(axis=1)
    return bool(np.quantile(means, ALPHA) > 0.5)


def false_promotions(runs: int, draw: np.random.Generator) -> None:
    """One row a kind of score; the exact test and the bootstrap see the same runs."""
    print(f"\nFalse promotions in {runs} runs each, exact test / percentile bootstrap:\n")
    print("| scores | " + " | ".join(f"{n} questions" for n in QUESTIONS) + " |")
    print("|---" * (len(QUESTIONS) + 1) + "|")
    for name, kind in KINDS.items():
        cells = []
        for questions in QUESTIONS:
            count = runs if questions < 200 else runs // 5
            drawn = [kind(draw, questions) for _ in range(count)]
            exact = np.mean([chance_above(list(rates), 0.5) <= ALPHA for rates in drawn])
            old = np.mean([bootstrap_promotes(rates, draw) for rates in drawn[: runs // 5]])
            cells.append(f"{exact:.1%} / {old:.1%}")
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


def by_note(runs: int, draw: np.random.Generator) -> None:
    """42 questions on few or many notes, half of each score's variance the note's own."""
    print(f"\nFalse promotions in {runs} runs, 42 questions of which those on one note move together:\n")
    print("| notes | questions flip alone | as the gate does |")
    print("|---|---|---|")
    for notes in (7, 14, 21, 42):
        names = [f"note {n % notes}" for n in range(42)]
        alone = whole = 0
        for _ in range(runs):
            lean = draw.normal(size=notes)[np.arange(42) % notes] + draw.normal(size=42)
            rates = list(0.5 + np.clip(np.rint(lean * 2), -4, 4) / 8)
            alone += chance_above(rates, 0.5) <= ALPHA
            whole += chance_above(rates, 0.5, names) <= ALPHA
        print(f"| {notes} | {alone / runs:.1%} | {whole / runs:.1%} |", flush=True)


def wrong_shares(draw: np.random.Generator, questions: int, before: float, after: float) -> Scores:
    """Change of each question's share of wrong answers: a question leans to wrong ones or not, Beta of sum 1.

    Half of the questions lean as before, in the order of their quantiles; so a model and the next one are alike.
    """
    rank = draw.random(questions)
    moved = np.where(draw.random(questions) < 0.5, draw.random(questions), rank)
    sides = [
        draw.binomial(SAMPLES, np.quantile(LEANS[share], ranks)) for share, ranks in ((before, rank), (after, moved))
    ]
    return np.asarray((sides[1] - sides[0]) / SAMPLES)


def coverage(runs: int, draw: np.random.Generator) -> None:
    """The interval of a change that is skewed, as wrong facts are: how often the true change is below or above it."""
    print(
        f"\nTrue change of wrong facts outside the 95 % interval in {runs} runs, below / above (2.5 % each is meant):\n"
    )
    cases = ((0.05, 0.05), (0.05, 0.15), (0.3, 0.3), (0.5, 0.1))
    print("| questions | " + " | ".join(f"{b:g} -> {a:g}" for b, a in cases) + " |")
    print("|---" * (len(cases) + 1) + "|")
    for questions in (8, 20, 42, 200):
        cells = []
        for before, after in cases:
            below = above = 0
            count = runs if questions < 200 else runs // 5
            for _ in range(count):
                change = list(wrong_shares(draw, questions, before, after))
                below += chance_above(change, after - before) <= ALPHA
                above += chance_above([-c for c in change], before - after) <= ALPHA
            cells.append(f"{below / count:.1%} / {above / count:.1%}")
        print(f"| {questions} | " + " | ".join(cells) + " |", flush=True)


def let_through(runs: int, draw: np.random.Generator) -> None:
    """The facts rule's half on wrong facts: not surely risen, and not perhaps by more than the margin."""
    margins = (0.05, GateConfig().max_wrong_gain, 0.2)
    changes = ((0.05, 0.02), (0.05, 0.05), (0.05, 0.1), (0.05, 0.2), (0.05, 0.4), (0.3, 0.2), (0.3, 0.3))
    print(f"\nShare of {runs // 10} runs that the rule on wrong facts lets through, margins {margins}:\n")
    print("| questions | " + " | ".join(f"{b:g} -> {a:g}" for b, a in changes) + " |")
    print("|---" * (len(changes) + 1) + "|")
    for questions in (20, 42, 200):
        cells = []
        for before, after in changes:
            drawn = (list(wrong_shares(draw, questions, before, after)) for _ in range(runs // 10))
            bounds = [found for change in drawn if (found := interval(change))]
            passed = (np.mean([low <= 0 and high <= margin for low, high in bounds]) for margin in margins)
            cells.append(" / ".join(f"{share:.0%}" for share in passed))
        print(f"| {questions} | " + " | ".join(cells) + " |", flush=True)


def main() -> None:
    """All four tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=20_000, help="Simulated runs of each cell.")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    for table in (false_promotions, by_note, coverage, let_through):
        table(given.runs, np.random.default_rng(given.seed))


if __name__ == "__main__":
    main()
