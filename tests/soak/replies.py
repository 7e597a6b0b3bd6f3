#!/usr/bin/env python3
"""Read hostile replies of a judge for as long as one likes, and hold the reader to its promises.

    .venv/bin/python tests/soak/replies.py --minutes 5 --seed 1

Half of the replies are put together from the words of verdicts, half are replies of the table, cut, joined, doubled and
strewn with any characters; one in a hundred is up to 120,000 characters long. Nothing but an opinion may come back,
within a second, with a reason that UTF-8 can hold; a reply of known words with the names of the two answers exchanged
must tell the exchanged verdict, and nothing but a known strength may come with it. Exit code 1, with the reply, when
one of these is violated.
"""

import argparse
import random
import sys
import time
from collections import Counter
from pathlib import Path

sys.path.insert(1, str(Path(__file__).resolve().parents[2]))
sys.path.insert(1, str(Path(__file__).resolve().parents[2] / "tests"))

from judge_replies import TABLE, UNITS
from test_judges import FRAGMENTS, exchanged

from lpm_kernel.judges.base import CLEAR, SLIGHT, swapped
from lpm_kernel.judges.pairwise import parse
from lpm_kernel.judges.spellings import LONGEST_PHRASE_CHARS

LONGEST_S = 1.0
LONG_SHARE = 0.01
LONGEST_CHARS = 120_000


def spoken(dice: random.Random) -> str:
    """A reply of known words."""
    return dice.choice(("", " ", " ", "\n")).join(dice.choices(FRAGMENTS, k=dice.randrange(1, 14)))


def mutated(dice: random.Random) -> str:
    """A reply of the table that went through a few accidents."""
    reply = dice.choice(TABLE)[0]
    for _ in range(dice.randrange(1, 6)):
        at, to = sorted(dice.randrange(len(reply) + 1) for _ in range(2))
        reply = dice.choice(
            (
                reply[:at] + reply[to:],
                reply[:at] + reply[at:to] * 2 + reply[to:],
                reply[:at] + dice.choice(TABLE)[0] + reply[at:],
                reply[:at] + chr(dice.randrange(0x110000)) + reply[at:],
                reply[:at] + dice.choice(UNITS) * dice.randrange(5) + reply[at:],
                reply[at:to] + reply[:at] + reply[to:],
            )
        )
    if dice.random() < LONG_SHARE:
        unit = dice.choice((*UNITS, reply or "x"))
        reply = (reply + unit * LONGEST_CHARS)[: dice.randrange(LONGEST_CHARS)] + reply
    return reply


def main() -> int:
    """Read until the time is over."""
    arguments = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    arguments.add_argument("--minutes", type=float, default=5)
    arguments.add_argument("--seed", type=int, default=1)
    options = arguments.parse_args()
    dice, outcomes, slowest_s = random.Random(options.seed), Counter[str](), 0.0
    end = time.monotonic() + 60 * options.minutes
    while time.monotonic() < end:
        from_words = dice.random() < 0.5
        reply = spoken(dice) if from_words else mutated(dice)
        began = time.thread_time()
        opinion = parse(reply)
        took_s = time.thread_time() - began
        for said in (opinion.reason, opinion.rests_on):
            said.encode()
        slowest_s = max(slowest_s, took_s)
        outcomes[opinion.outcome] += 1
        beyond = opinion.strength not in (None, SLIGHT, CLEAR) or len(opinion.rests_on) > LONGEST_PHRASE_CHARS
        turned = from_words and parse(exchanged(reply)).outcome != swapped(opinion.outcome)
        if took_s > LONGEST_S or turned or beyond:
            print(f"violated after {outcomes.total():,} replies, {took_s:.2f} s: {reply[:2000]!r}")
            return 1
    print(f"{outcomes.total():,} replies, {dict(outcomes)}, the slowest {1000 * slowest_s:.0f} ms of its own time")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
