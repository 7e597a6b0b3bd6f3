"""Tokens a second of each engine that is here, on one 0.36B-shape Q8_0 GGUF, asked as dpo-data asks.

python benchmarks/engines.py [--rounds 3] [--prompts 10]

358M parameters (896 wide, 24 layers, vocabulary 1,024), 12 slots, 3 answers of 64 tokens to prompts of 172. The engines
take turns, so that other work on the machine troubles all alike: trust the ratios. Prints one JSON line.
"""

import argparse
import asyncio
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:1] = [str(ROOT), str(ROOT / "tests")]
from tiny_gguf import Shape, write_tiny_gguf  # noqa: E402

from lpm_kernel.records import Message  # noqa: E402
from lpm_kernel.serving.client import ChatClient  # noqa: E402
from lpm_kernel.serving.concurrency import together  # noqa: E402
from lpm_kernel.serving.control_routes import ControlRoutes  # noqa: E402
from lpm_kernel.serving.endpoint import Endpoint, ServingConfig  # noqa: E402
from lpm_kernel.serving.engines import ENGINES  # noqa: E402
from lpm_kernel.serving.own_server import serve  # noqa: E402
from lpm_kernel.serving.probe import any_free_port  # noqa: E402

SHAPE = Shape(width=896, inner=4864, layers=24, heads=14, kv_heads=2, vocabulary=1024)
PROMPT_TOKENS, ANSWER_TOKENS, ANSWERS, SLOTS = 172, 64, 3, 12
LETTERS = "abcdefg ijklmnopqrsuvwxyz"
"""Without t and h, so that each is a token."""


def main() -> None:
    """Let the engines take turns."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="Turns of each engine.")
    parser.add_argument("--prompts", type=int, default=10, help="Prompts a turn.")
    given = parser.parse_args()
    names = [name for name, engine in ENGINES.items() if engine.find()]
    speeds: dict[str, list[float]] = {name: [] for name in names}
    with tempfile.TemporaryDirectory() as folder:
        gguf_path = write_tiny_gguf(Path(folder, "model.gguf"), kind="q8_0", shape=SHAPE)
        for round_ in range(given.rounds):
            for name in names:
                speeds[name].append(one_turn(name, gguf_path, given.prompts, round_))
                load = os.getloadavg()[0]
                print(f"round {round_}, {name}: {speeds[name][-1]:.1f} tok/s, load {load:.1f}", file=sys.stderr)
    medians = {name: round(statistics.median(found), 1) for name, found in speeds.items()}
    print(json.dumps({"figure": "engines", "tokens_per_s": medians, "of": speeds, "load": os.getloadavg()[0]}))


def one_turn(engine: str, gguf_path: Path, prompts: int, seed: int) -> float:
    """Tokens written a second, the reading of the prompts included."""
    wanted = {"engine": engine, "port": any_free_port(), "slots": SLOTS, "slot_tokens": 512, "start_timeout_s": 900}
    with serve(gguf_path, ServingConfig.model_validate(wanted), gguf_path.with_name(f"{engine}.log")) as endpoint:
        routes = ControlRoutes(endpoint)
        frame = len(routes.token_ids(routes.render([{"role": "user", "content": ""}])))
        dice = random.Random(seed)
        texts = ["".join(dice.choices(LETTERS, k=PROMPT_TOKENS - frame)) for _ in range(prompts)]
        begun = time.monotonic()
        asyncio.run(ask(endpoint, texts))
        return prompts * ANSWERS * ANSWER_TOKENS / (time.monotonic() - begun)


async def ask(endpoint: Endpoint, texts: Sequence[str]) -> None:
    """As many questions in flight as dpo-data has."""
    in_flight = max(1, endpoint.slots // ANSWERS) + 1
    async with ChatClient(endpoint, timeout_s=600, max_in_flight=in_flight) as client:

        async def one(text: str) -> None:
            asked = [Message(role="user", content=text)]
            found = await client.chat(asked, n=ANSWERS, temperature=0.7, max_tokens=ANSWER_TOKENS, seed=1)
            assert {c.finish_reason for c in found} == {"length"}, "an answer ended early"

        await together(*map(one, texts))


if __name__ == "__main__":
    main()
