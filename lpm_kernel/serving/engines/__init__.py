"""The engines that serve a GGUF, in the order in which they are tried. A new one is one file and one line here."""

from lpm_kernel.serving.engines import llama_cpp_python, llama_server, xllamacpp
from lpm_kernel.serving.engines.base import Find, Program

AUTO = "auto"
ENGINES: dict[str, Find] = {
    llama_server.NAME: llama_server.find,
    xllamacpp.NAME: xllamacpp.find,
    llama_cpp_python.NAME: llama_cpp_python.find,
}
CURES = {
    llama_server.NAME: llama_server.CURE,
    xllamacpp.NAME: xllamacpp.CURE,
    llama_cpp_python.NAME: llama_cpp_python.CURE,
}
"""What puts an engine here."""


def find_programs(engine: str) -> list[Program]:
    """All programs here of that engine, or with AUTO of every engine, best first."""
    return [program for name, find in ENGINES.items() if engine in (AUTO, name) for program in find()]


def cure_for(engine: str) -> str:
    """What to do where it is not found."""
    return CURES.get(engine, CURES[xllamacpp.NAME])
