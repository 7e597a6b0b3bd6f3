"""llama.cpp's own server out of the xllamacpp wheel, as a process of its own; started by `serve`, never by hand.

The API key comes in the environment (LLAMA_API_KEY, as llama-server reads it), never on the command line.
"""

import argparse
import os
import signal
import sys
from importlib import import_module
from typing import Any


def main() -> None:
    """Serve until SIGTERM; for a model that cannot be loaded, llama.cpp's own words end the output."""
    options = _options()
    try:
        server = _server(options)
    except RuntimeError as error:
        sys.exit(str(error))
    print(f"listening at {server.listening_address}", flush=True)
    while True:
        signal.pause()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--slots", type=int, required=True)
    parser.add_argument("--context-tokens", type=int, required=True, help="over all slots")
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--alias", required=True, help="what replies call the model, in place of its path")
    return parser.parse_args()


def _server(options: argparse.Namespace) -> Any:
    xllamacpp = import_module("xllamacpp")
    params = xllamacpp.CommonParams()
    params.model.path = options.model
    params.model_alias = {options.alias}
    params.hostnames = ["127.0.0.1"]
    params.port = options.port
    key = os.environ.pop("LLAMA_API_KEY", "")
    params.api_keys = [key] if key else []
    params.cors_origins = f"http://127.0.0.1:{options.port}"
    params.n_parallel = options.slots
    params.n_ctx = options.context_tokens
    params.kv_unified = True
    params.cache_ram_mib = 0  # with idle slots cached, one conversation can leak into another (llama.cpp #27148)
    params.cache_idle_slots = False
    params.cpuparams.n_threads = options.threads
    params.cpuparams_batch.n_threads = options.threads
    params.reasoning_format = xllamacpp.common_reasoning_format.COMMON_REASONING_FORMAT_NONE
    params.force_pure_content_parser = True  # an answer is what the model wrote, thoughts and all
    params.endpoint_slots = False
    params.ui = False
    return xllamacpp.Server(params)


if __name__ == "__main__":
    main()
