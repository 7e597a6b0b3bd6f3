"""Ask a llama.cpp server what it makes of a conversation: the rendered prompt, its token ids, the greedy answer."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lpm_kernel.errors import ServiceError
from lpm_kernel.serving.endpoint import DEATH_NOTICE_S, POLL_S, Endpoint
from lpm_kernel.serving.http import UnansweredError, fetch_json, root_of
from lpm_kernel.urls import shown_url

TIMEOUT_S = 600.0
TOP = 10
"""Tokens whose log-probability is asked for."""

Conversation = Sequence[dict[str, str]]


@dataclass(frozen=True)
class GreedyReply:
    """A greedy answer with what the server thought of its first token."""

    ids: list[int]
    first: dict[int, float]
    """Token id -> natural logarithm of its probability, for the TOP likeliest first tokens.

    Empty when the first token is part of a character only: llama.cpp tells no probabilities then.
    """


class ControlRoutes:
    """Questions to llama.cpp's own routes; every method raises ServiceError."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._root = root_of(endpoint.base_url)

    def render(self, conversation: Conversation) -> str:
        """The prompt as the server's template engine writes it, without a leading BOS that tokenizing adds."""
        return str(self._post("/apply-template", {"messages": list(conversation)})["prompt"])

    def token_ids(self, prompt: str) -> list[int]:
        """Ids of a rendered prompt, tokenized as the chat route does: special tokens added and parsed."""
        body = {"content": prompt, "add_special": True, "parse_special": True}
        return list(self._post("/tokenize", body)["tokens"])

    def greedy(self, prompt: str, max_tokens: int) -> GreedyReply:
        """The likeliest continuation of a rendered prompt, which is tokenized as the chat route does."""
        body = {"prompt": prompt, "n_predict": max_tokens, "temperature": 0, "top_k": 1, "repeat_penalty": 1.0}
        extra = {"n_probs": TOP, "return_tokens": True, "cache_prompt": False}
        reply = self._post("/completion", body | extra)
        steps, ids = reply.get("completion_probabilities") or [], [int(id_) for id_ in reply["tokens"]]
        told = steps[:1] if ids and steps and steps[0]["id"] == ids[0] else []
        return GreedyReply(
            ids, {int(top["id"]): float(top["logprob"]) for step in told for top in step["top_logprobs"]}
        )

    def _post(self, route: str, body: dict[str, Any]) -> dict[str, Any]:
        """Ask until there is a reply, or a fault by which our own server was not started again."""
        while True:
            starts = self._endpoint.health().starts
            try:
                return fetch_json(self._root + route, api_key=self._endpoint.api_key, body=body, timeout_s=TIMEOUT_S)
            except UnansweredError as error:
                if not self._came_back(starts):
                    told = f"{shown_url(self._root)}{route}: {error}; see the log of the server, and start again"
                    raise ServiceError(told) from None

    def _came_back(self, starts: int) -> bool:
        """Wait while our own server is being started again."""
        time.sleep(DEATH_NOTICE_S)
        while (back := self._endpoint.came_back(starts)) is None:
            time.sleep(POLL_S)
        return back
