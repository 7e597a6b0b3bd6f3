"""`prepare` over the number of items: seconds, and how they grow.

python benchmarks/prepare.py [--items 1000 10000 100000]

Five items a note, in a fresh process for each size; seconds are of the processor, so that other work beside it counts
little. Prints one JSON line with seconds, peak memory and, for each step up in size, the ratio of the seconds.
"""

import argparse
import itertools
import json
import multiprocessing
import resource
import tempfile
import time
from pathlib import Path

from lpm_kernel.L2.prepare_data import StageConfig, run

BIO = "## Who\nMira Okafor, born 1987, lives in Trieste, near the Via Rossetti 14."


def main() -> None:
    """Measure each size in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, nargs="+", default=[1_000, 10_000, 100_000], help="How many, rising.")
    sizes = parser.parse_args().items
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        figures = [pool.apply(one_size, (size,)) for size in sizes]
    seconds, memory = zip(*figures, strict=True)
    ratios = [round(after / before, 1) for before, after in itertools.pairwise(seconds)]
    print(json.dumps({"figure": "prepare", "items": sizes, "cpu_s": seconds, "ratios": ratios, "peak_mib": memory}))


def one_size(items: int) -> tuple[float, int]:
    """Processor seconds of `run`, and the peak memory of the process in MiB."""
    rows = [
        {
            "user": f"What happened at place {n % 977} on day {n}?",
            "assistant": f"On day {n} she met Mira{n % 4999} in Trieste, and they walked to Via Rossetti {n}.",
            "doc_id": [n // 5],
        }
        for n in range(items)
    ]
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        (place / "merged.json").write_text(json.dumps(rows), encoding="utf-8")
        (place / "bio.md").write_text(BIO, encoding="utf-8")
        del rows
        made = {f"{name}_path": place / name for name in ("prompts", "held_out", "probes", "items", "account")}
        start = time.process_time()
        run(StageConfig(), merged_path=place / "merged.json", bio_path=place / "bio.md", **made)
        spent_s = time.process_time() - start
    return round(spent_s, 2), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


if __name__ == "__main__":
    main()
