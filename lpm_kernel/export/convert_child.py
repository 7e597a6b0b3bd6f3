"""Run upstream's convert_hf_to_gguf.py without network: `convert_child.py CONVERTER_PATH ARGUMENTS...`.

Started by `converter.py`, never by hand, and by path, so it imports nothing of ours. Where upstream, which hashes the
token ids of a test text, does not know a BPE vocabulary, its pre-tokenizer is detected from the tokenizer that
transformers loads; that one counts, since training used it, and it is not always what tokenizer.json says.
"""

import errno
import json
import re
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

UNKNOWN_PRE_TOKENIZER = 65
"""Exit code: upstream does not know the vocabulary, and neither do we; the log's last line tells how it splits."""
REFUSED = 128
"""Added to the errno of what disk or memory refused, the exit code: on a full disk no log can tell it."""
NUMPY_CUT_SHORT = r"\d+ requested and \d+ written"
"""What `tofile` says, without an errno, when the disk took only a part."""
REFUSALS = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG, errno.ENOMEM)


def main() -> None:
    """Exits as the converter does, with UNKNOWN_PRE_TOKENIZER, or with REFUSED + an errno."""
    converter_path = Path(sys.argv[1])
    sys.addaudithook(_refuse_network)
    sys.path[:0] = [str(converter_path / "gguf-py"), str(converter_path)]
    _know_more_pre_tokenizers()
    _read_config_as_written()
    script = str(converter_path / "convert_hf_to_gguf.py")
    sys.argv = [script, *sys.argv[2:]]
    try:
        runpy.run_path(script, run_name="__main__")
    except (OSError, MemoryError) as error:
        number = errno.ENOMEM if isinstance(error, MemoryError) else error.errno
        if re.search(NUMPY_CUT_SHORT, str(error)):
            number = errno.EIO
        if number not in REFUSALS:
            raise
        sys.exit(REFUSED + number)


def _know_more_pre_tokenizers() -> None:
    from conversion.base import TextModel  # type: ignore[import-not-found]

    known = TextModel.get_vocab_base_pre

    def get_vocab_base_pre(self: Any, tokenizer: Any) -> str:
        try:
            return str(known(self, tokenizer))
        except NotImplementedError:
            self.gguf_writer.add_add_bos_token(_adds_bos(tokenizer))
            return _detect(json.loads(tokenizer.backend_tokenizer.to_str()))

    TextModel.get_vocab_base_pre = get_vocab_base_pre


def _read_config_as_written() -> None:
    """transformers 5 renames settings as it reads them (rotary_pct), so what it dropped is taken from config.json."""
    from conversion.base import ModelBase

    read: Callable[[Path, bool], dict[str, Any]] = ModelBase.load_hparams

    def load_hparams(dir_model: Path, is_mistral_format: bool) -> dict[str, Any]:
        path = dir_model / "config.json"
        written = json.loads(path.read_text(encoding="utf-8")) if path.is_file() and not is_mistral_format else {}
        return {**written, **read(dir_model, is_mistral_format)}

    ModelBase.load_hparams = staticmethod(load_hparams)


def _detect(tokenizer: dict[str, Any]) -> str:
    detect = runpy.run_path(str(Path(__file__).with_name("pre_tokenizer.py")))["detect"]
    name = str(detect(tokenizer))
    if not name:
        print(json.dumps(tokenizer.get("pre_tokenizer"), ensure_ascii=False), file=sys.stderr, flush=True)
        sys.exit(UNKNOWN_PRE_TOKENIZER)
    return name


def _adds_bos(tokenizer: Any) -> bool:
    """llama.cpp has a default of its own for each pre-tokenizer, so what transformers does is written down."""
    return bool(tokenizer.bos_token_id is not None and tokenizer("a").input_ids[:1] == [tokenizer.bos_token_id])


def _refuse_network(event: str, arguments: tuple[Any, ...]) -> None:
    if event in ("socket.connect", "socket.getaddrinfo", "socket.bind"):
        raise PermissionError(f"the converter runs without network; refused {event} {arguments[1:]}")


if __name__ == "__main__":
    main()
