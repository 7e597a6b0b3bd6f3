"""One GGUF through llama-cpp-python's bindings of llama.h: a prompt is read once, and its answers are written together.

The package's `Llama` class is left aside: it writes one answer at a time, takes its own chat template in place of a
file's that looks alike, and loses the end of tokens longer than 32 bytes.
"""

import ctypes
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, Literal

import llama_cpp
import numpy as np
from jinja2 import TemplateError
from llama_cpp.llama_chat_format import Jinja2ChatFormatter

from lpm_kernel.serving.engines.base import Launch

BATCH_TOKENS = 512
PIECE_BYTES = 64
TOP_K, MIN_P = 40, 0.05
"""As llama.cpp's own server draws where a request says nothing."""


@dataclass
class Written:
    """One answer as it grows."""

    ids: list[int]
    finish_reason: Literal["stop", "length"] = "length"


Row = tuple[int, int, int, bool]
"""Token id, its position, its sequence, and whether the next token's probabilities are wanted."""


class Model:
    """Not for two threads at once."""

    def __init__(self, launch: Launch) -> None:
        llama_cpp.llama_backend_init()
        self._slots, self._slot_tokens = launch.slots, launch.slot_tokens
        wanted = llama_cpp.llama_model_default_params()
        wanted.n_gpu_layers = 999
        self._model = llama_cpp.llama_model_load_from_file(os.fsencode(launch.gguf_path), wanted)
        if not self._model:
            raise ValueError(f"llama.cpp cannot load {launch.gguf_path}; its reason stands above")
        self._vocab = llama_cpp.llama_model_get_vocab(self._model)
        self._template = self._read_template()
        self._context = llama_cpp.llama_init_from_model(self._model, _context_params(launch))
        if not self._context:
            raise ValueError(f"no memory for {launch.slots} slots of {launch.slot_tokens} tokens")
        self._memory = llama_cpp.llama_get_memory(self._context)
        self._batch = llama_cpp.llama_batch_init(max(BATCH_TOKENS, launch.slots), 0, 1)
        self._in_memory: list[int] = []
        """Token ids that sequence 0 holds, for the next prompt to begin with."""

    def render(self, messages: Sequence[dict[str, Any]]) -> str:
        """The prompt as the model's chat template writes it, without a leading BOS that tokenizing adds."""
        try:
            prompt = str(self._template(messages=list(messages)).prompt)
        except (TemplateError, ValueError, TypeError) as error:
            raise ValueError(f"the chat template refuses the messages: {error}") from error
        adds_bos = llama_cpp.llama_vocab_get_add_bos(self._vocab)
        return prompt.removeprefix(self._template.bos_token) if adds_bos else prompt

    def token_ids(self, text: str, *, add_special: bool = True, parse_special: bool = True) -> list[int]:
        raw = text.encode("utf-8", errors="replace")
        room = len(raw) + 16
        ids = (llama_cpp.llama_token * room)()
        count = llama_cpp.llama_tokenize(self._vocab, raw, len(raw), ids, room, add_special, parse_special)
        if count < 0:
            raise ValueError(f"a text of {len(raw)} bytes became {-count} tokens")
        return list(ids[:count])

    def text(self, ids: Sequence[int]) -> str:
        """What the tokens spell; those of the control kind spell nothing."""
        return b"".join(map(self._piece, ids)).decode("utf-8", errors="replace")

    def write(
        self,
        prompt: Sequence[int],
        seeds: Sequence[int],
        *,
        temperature: float,
        top_p: float,
        max_tokens: int,
        is_unwanted: Callable[[], bool],
    ) -> list[Written]:
        """An answer for each seed; the prompt is read once for as many as there are slots.

        temperature: at 0 the likeliest token is taken. max_tokens: -1 for as many as fit. Cut when is_unwanted.
        Raises ValueError for a prompt that does not fit a slot.
        """
        room = self._slot_tokens - len(prompt)
        if room < 1 or not prompt:
            raise ValueError(f"the prompt has {len(prompt)} tokens, 1 to {self._slot_tokens - 1} fit a slot")
        longest = room if max_tokens < 0 else min(room, max_tokens)
        answers: list[Written] = []
        try:
            for first in range(0, len(seeds), self._slots):
                self._read(prompt)
                samplers = [_sampler(temperature, top_p, seed) for seed in seeds[first : first + self._slots]]
                answers += self._grow(len(prompt), samplers, longest, is_unwanted)
        except BaseException:
            self._forget()
            raise
        return answers

    def first_token(self, prompt: Sequence[int], top: int) -> list[tuple[int, float]]:
        """(id, natural logarithm of its probability) of the `top` likeliest tokens after the prompt."""
        self._forget()
        self._read(prompt)
        size = llama_cpp.llama_vocab_n_tokens(self._vocab)
        told = llama_cpp.llama_get_logits_ith(self._context, -1)
        logits = np.ctypeslib.as_array(told, (size,)).astype(np.float64)
        logprobs = logits - logits.max()
        logprobs -= np.log(np.exp(logprobs).sum())
        return [(int(id_), float(logprobs[id_])) for id_ in np.argsort(-logprobs, kind="stable")[:top]]

    def _read_template(self) -> Jinja2ChatFormatter:
        template = llama_cpp.llama_model_chat_template(self._model, None)
        if not template:
            raise ValueError("the GGUF has no chat template, so nobody can tell how to ask the model")
        eos, bos = (self._name(f(self._vocab)) for f in (llama_cpp.llama_vocab_eos, llama_cpp.llama_vocab_bos))
        return Jinja2ChatFormatter(template.decode("utf-8"), eos_token=eos, bos_token=bos)

    def _name(self, id_: int) -> str:
        return llama_cpp.llama_vocab_get_text(self._vocab, id_).decode("utf-8") if id_ >= 0 else ""

    def _piece(self, id_: int) -> bytes:
        spelt = ctypes.create_string_buffer(PIECE_BYTES)
        count = llama_cpp.llama_token_to_piece(self._vocab, id_, spelt, len(spelt), 0, False)
        if count < 0:
            spelt = ctypes.create_string_buffer(-count)
            count = llama_cpp.llama_token_to_piece(self._vocab, id_, spelt, len(spelt), 0, False)
        return bytes(spelt.raw[:count])

    def _forget(self) -> None:
        llama_cpp.llama_memory_clear(self._memory, True)
        self._in_memory = []

    def _read(self, prompt: Sequence[int]) -> None:
        """Bring sequence 0 to the prompt, from where it parts from the last one; its last token is always read."""
        pairs = zip(self._in_memory, prompt[:-1], strict=False)
        same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
        if not llama_cpp.llama_memory_seq_rm(self._memory, 0, same, -1):  # a recurrent model keeps no past
            self._forget()
            same = 0
        last = len(prompt) - 1
        rows = [(prompt[i], i, 0, i == last) for i in range(same, len(prompt))]
        for start in range(0, len(rows), BATCH_TOKENS):
            self._decode(rows[start : start + BATCH_TOKENS])
        self._in_memory = list(prompt)

    def _grow(
        self, start: int, samplers: Sequence[Any], longest: int, is_unwanted: Callable[[], bool]
    ) -> list[Written]:
        """Sequence j continues the prompt with sampler j, until all have ended."""
        for sequence in range(1, len(samplers)):
            llama_cpp.llama_memory_seq_cp(self._memory, 0, sequence, -1, -1)
        answers = [Written([]) for _ in samplers]
        places = dict.fromkeys(range(len(samplers)), -1)
        """Sequence that has not ended -> the row of the last batch that tells its next token."""
        while places and longest and not is_unwanted():
            rows: list[Row] = []
            for sequence, place in list(places.items()):
                ids = answers[sequence].ids
                id_ = llama_cpp.llama_sampler_sample(samplers[sequence], self._context, place)
                ended = llama_cpp.llama_vocab_is_eog(self._vocab, id_)
                if ended:
                    answers[sequence].finish_reason = "stop"
                else:
                    ids.append(id_)
                if ended or len(ids) == longest:
                    del places[sequence]
                    continue
                places[sequence] = len(rows)
                rows.append((id_, start + len(ids) - 1, sequence, True))
            if rows:
                self._decode(rows)
        for sampler in samplers:
            llama_cpp.llama_sampler_free(sampler)
        for sequence in range(1, len(samplers)):
            llama_cpp.llama_memory_seq_rm(self._memory, sequence, -1, -1)
        if not llama_cpp.llama_memory_seq_rm(self._memory, 0, start, -1):
            self._forget()
        return answers

    def _decode(self, rows: Sequence[Row]) -> None:
        batch = self._batch
        batch.n_tokens = len(rows)
        for i, (id_, position, sequence, is_wanted) in enumerate(rows):
            batch.token[i], batch.pos[i], batch.logits[i] = id_, position, is_wanted
            batch.n_seq_id[i], batch.seq_id[i][0] = 1, sequence
        if code := llama_cpp.llama_decode(self._context, batch):
            raise RuntimeError(f"llama_decode failed with {code}")


def _context_params(launch: Launch) -> Any:
    params = llama_cpp.llama_context_default_params()
    params.n_ctx = launch.slots * launch.slot_tokens
    params.n_batch = max(BATCH_TOKENS, launch.slots)
    params.n_seq_max = launch.slots
    params.kv_unified = True
    params.n_threads = params.n_threads_batch = launch.threads
    return params


def _sampler(temperature: float, top_p: float, seed: int) -> Any:
    """In the order of llama.cpp's own server."""
    chain = llama_cpp.llama_sampler_chain_init(llama_cpp.llama_sampler_chain_default_params())
    for link in _links(temperature, top_p, seed):
        llama_cpp.llama_sampler_chain_add(chain, link)
    return chain


def _links(temperature: float, top_p: float, seed: int) -> Iterator[Any]:
    if temperature <= 0:
        yield llama_cpp.llama_sampler_init_greedy()
        return
    yield llama_cpp.llama_sampler_init_top_k(TOP_K)
    yield llama_cpp.llama_sampler_init_top_p(top_p, 1)
    yield llama_cpp.llama_sampler_init_min_p(MIN_P, 1)
    yield llama_cpp.llama_sampler_init_temp(temperature)
    yield llama_cpp.llama_sampler_init_dist(seed)
