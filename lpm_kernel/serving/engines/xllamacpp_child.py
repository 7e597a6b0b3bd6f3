"""llama.cpp's own server out of the xllamacpp wheel, as a process of its own; started by `serve`, never by hand."""

import signal
import sys
from contextlib import suppress
from importlib import import_module
from typing import Any

from lpm_kernel.serving.engines.base import Launch, child_key, child_launch


def main() -> None:
    """Serve until SIGTERM; for a model that cannot be loaded, llama.cpp's own words end the output."""
    try:
        server = _server(child_launch(__doc__))
    except RuntimeError as error:
        sys.exit(str(error))
    with suppress(OSError):  # a full disk takes no log, and the model can be served all the same
        print(f"listening at {server.listening_address}", flush=True)
    while True:
        signal.pause()


def _server(launch: Launch) -> Any:
    xllamacpp = import_module("xllamacpp")
    params = xllamacpp.CommonParams()
    params.model.path = str(launch.gguf_path)
    params.model_alias = {launch.model_id}
    params.hostnames = ["127.0.0.1"]
    params.port = launch.port
    key = child_key()
    params.api_keys = [key] if key else []
    params.cors_origins = f"http://127.0.0.1:{launch.port}"
    params.n_parallel = launch.slots
    params.n_ctx = launch.slots * launch.slot_tokens
    params.kv_unified = True
    params.cache_ram_mib = 0  # with idle slots cached, one conversation can leak into another (llama.cpp #27148)
    params.cache_idle_slots = False
    params.cpuparams.n_threads = launch.threads
    params.cpuparams_batch.n_threads = launch.threads
    params.reasoning_format = xllamacpp.common_reasoning_format.COMMON_REASONING_FORMAT_NONE
    params.force_pure_content_parser = True  # an answer is what the model wrote, thoughts and all
    params.endpoint_slots = False
    params.ui = False
    return xllamacpp.Server(params)


if __name__ == "__main__":
    main()
