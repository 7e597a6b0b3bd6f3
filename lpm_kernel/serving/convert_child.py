"""Run upstream's convert_hf_to_gguf.py without network: `convert_child.py CONVERTER_PATH PRE_TOKENIZER ARGUMENTS...`.

Started by `converter.py`, never by hand, and by path, so it imports nothing of ours. PRE_TOKENIZER is used where
upstream, which hashes the token ids of a test text, does not know the vocabulary; empty means to give up there.
"""

import runpy
import sys
from pathlib import Path
from typing import Any

UNKNOWN_PRE_TOKENIZER = 65
"""Exit code: upstream does not know the vocabulary, and neither do we."""


def main() -> None:
    """Exits as the converter does, or with UNKNOWN_PRE_TOKENIZER."""
    converter_path, pre_tokenizer = Path(sys.argv[1]), sys.argv[2]
    sys.addaudithook(_refuse_network)
    sys.path[:0] = [str(converter_path / "gguf-py"), str(converter_path)]
    _name_pre_tokenizer(pre_tokenizer)
    script = str(converter_path / "convert_hf_to_gguf.py")
    sys.argv = [script, *sys.argv[3:]]
    runpy.run_path(script, run_name="__main__")


def _name_pre_tokenizer(name: str) -> None:
    from conversion.base import TextModel  # type: ignore[import-not-found]

    known = TextModel.get_vocab_base_pre

    def get_vocab_base_pre(self: Any, tokenizer: Any) -> str:
        try:
            return str(known(self, tokenizer))
        except NotImplementedError:
            if not name:
                sys.exit(UNKNOWN_PRE_TOKENIZER)
            return name

    TextModel.get_vocab_base_pre = get_vocab_base_pre


def _refuse_network(event: str, arguments: tuple[Any, ...]) -> None:
    if event in ("socket.connect", "socket.getaddrinfo", "socket.bind"):
        raise PermissionError(f"the converter runs without network; refused {event} {arguments[1:]}")


if __name__ == "__main__":
    main()
