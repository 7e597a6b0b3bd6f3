"""The engines that serve a GGUF, in the order in which they are tried. A new one is one file and one line here."""

from lpm_kernel.serving.engines import llama_cpp_python, llama_server, xllamacpp
from lpm_kernel.serving.engines.base import Engine, Program

AUTO = "auto"
ENGINES: dict[str, Engine] = {
    llama_server.NAME: Engine(llama_server.find, cure=llama_server.CURE),
    xllamacpp.NAME: Engine(xllamacpp.find, cure=xllamacpp.CURE),
    llama_cpp_python.NAME: Engine(llama_cpp_python.find, cure=llama_cpp_python.CURE),
}


def find_programs(engine: str) -> list[Program]:
    """All programs here of that engine, or with AUTO of every engine, best first."""
    return [program for name, known in ENGINES.items() if engine in (AUTO, name) for program in known.find()]


def cure_for(engine: str) -> str:
    """What to do where it is not found."""
    return ENGINES.get(engine, ENGINES[xllamacpp.NAME]).cure
