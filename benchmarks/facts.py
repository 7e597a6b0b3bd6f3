"""Facts over the number of items, in a script with spaces and one without: seconds, memory, and how they grow.

python benchmarks/facts.py [--items 1000 10000 100000]

A_NOTE items a note, each size and script in a fresh process; seconds are of the processor. `build` is `Facts` itself,
`ask` the measure of each item's question and the telling of another note's answer. Prints one JSON line a script.
"""

import argparse
import itertools
import json
import multiprocessing
import random
import resource
import time

from lpm_kernel.owner.facts import Facts
from lpm_kernel.records import Message, Prompt

SCRIPTS = ("latin", "han")
A_NOTE = 5
"""Items; for each, the answer of the one so much further on is told."""
HAN = [chr(0x4E00 + number) for number in range(2_500)]


def main() -> None:
    """Measure each size in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, nargs="+", default=[1_000, 10_000, 100_000], help="How many, rising.")
    sizes = parser.parse_args().items
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        for script in SCRIPTS:
            build, ask, memory = zip(*(pool.apply(one_size, (size, script)) for size in sizes), strict=True)
            ratios = [round(after / before, 1) for before, after in itertools.pairwise(build)]
            figure = {"figure": "facts", "script": script, "items": sizes, "build_cpu_s": build, "ratios": ratios}
            print(json.dumps(figure | {"ask_cpu_s": ask, "peak_mib": memory}), flush=True)


def one_size(size: int, script: str) -> tuple[float, float, int]:
    """Processor seconds of building and of asking, and the peak memory of the process in MiB."""
    items = [_item(number, script, random.Random(number)) for number in range(size)]
    start = time.process_time()
    facts = Facts(items, "Mira lives in Trieste.")
    built = time.process_time()
    for number, item in enumerate(items):
        facts.measure(item).told(items[(number + A_NOTE) % size].target)
    asked = time.process_time()
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return round(built - start, 2), round(asked - built, 2), peak_mib


def _item(number: int, script: str, chance: random.Random) -> Prompt:
    if script == "han":
        one, other = ("".join(chance.choices(HAN, k=2)) for _ in range(2))
        question, answer = f"我在第{number}天遇到了谁", f"第{number}天你在{one}遇到了{other}并一起去散步。"
    else:
        one, other = ("".join(chance.choices("abcdefghilmnoprstuv", k=6)).capitalize() for _ in range(2))
        question, answer = f"Whom did I meet on day {number}?", f"On day {number} you met {one}, and you saw {other}."
    messages = (Message(role="user", content=question),)
    return Prompt(
        id=str(number),
        row=number,
        variant="diversity",
        messages=messages,
        target=answer,
        notes=(f"n{number // A_NOTE}",),
    )


if __name__ == "__main__":
    main()
