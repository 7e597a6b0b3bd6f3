"""Short questions to a server besides chat: is it there, is it ready, what does it serve, does it answer."""

import socket
from typing import Any

from pydantic import SecretStr

from lpm_kernel.progress import inline
from lpm_kernel.serving.http import NO_KEY, UnansweredError, fetch_json, root_of

HEALTH_TIMEOUT_S = 2.0
SMOKE_TIMEOUT_S = 60.0
"""For the first answer, which may have to read a model from the disk."""


def ask_health(base_url: str) -> None:
    """Raises UnansweredError until llama.cpp's server is ready: with status 503 while it loads its model."""
    fetch_json(f"{root_of(base_url)}/health", timeout_s=HEALTH_TIMEOUT_S)


def listed_models(base_url: str, api_key: SecretStr) -> list[str]:
    """The ids under /v1/models; raises UnansweredError when that is no OpenAI-style list."""
    listed = fetch_json(f"{base_url}/models", api_key=api_key).get("data")
    names = [m.get("id") for m in listed if isinstance(m, dict)] if isinstance(listed, list) else []
    models = [name for name in names if isinstance(name, str) and name]
    if not models:
        raise UnansweredError("it lists no model under /v1/models")
    return models


def props(base_url: str, api_key: SecretStr) -> dict[str, Any]:
    """llama.cpp's /props (model_path, total_slots, chat_template, ...); empty for another kind of server."""
    try:
        return fetch_json(f"{root_of(base_url)}/props", api_key=api_key)
    except UnansweredError:
        return {}


def answers_chat(base_url: str, api_key: SecretStr, model: str, timeout_s: float) -> None:
    """One tiny completion; raises UnansweredError unless a choice with a message comes back in time."""
    question = "Say hello in one word, and nothing else: no greeting before it, no explanation after it."
    body = {"model": model, "messages": [{"role": "user", "content": question}], "max_tokens": 4, "temperature": 0}
    reply = fetch_json(f"{base_url}/chat/completions", api_key=api_key, body=body, timeout_s=timeout_s)
    try:
        reply["choices"][0]["message"]["content"]
    except (KeyError, IndexError, TypeError):
        raise UnansweredError("it does not answer a chat with choices and messages") from None


def is_free(port: int) -> bool:
    """Whether nobody listens on the port at 127.0.0.1, where our own server would."""
    with socket.socket() as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def any_free_port() -> int:
    """A port that nobody listens on just now."""
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        return int(trial.getsockname()[1])


def who_listens(port: int) -> str:
    """`free`, the model of an OpenAI-compatible server, or that it is another program; sends no key."""
    if is_free(port):
        return "free"
    try:
        return f"a server with the model {inline(listed_models(f'http://127.0.0.1:{port}/v1', NO_KEY)[0])}"
    except UnansweredError as error:
        locked = error.status in (401, 403)
        return "a server that wants a key" if locked else f"another program, no model server ({error})"
