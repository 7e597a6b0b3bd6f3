"""What a model folder brings along and is executed: its template and its patterns, in a child that can be ended.

A loop in a template or a regular expression may take for ever or all memory, and holds the interpreter while it does,
so that no timer of this process could end it. The child is a fork: it starts in milliseconds, and knows the tokenizer.
"""

import contextlib
import ctypes
import multiprocessing
import os
import resource
import signal
import sys
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import TypeVar

import psutil

from lpm_kernel.errors import DataError, LpmError

R = TypeVar("R")
DEADLINE_S = 20.0
"""For one result, which takes milliseconds where nothing is wrong."""
MEMORY_BYTES = 2 * 1024**3
"""What the child may take beside the memory that it shares with us."""
PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Failure:
    """What the child sends when it cannot go on."""

    told: str


class End:
    """What the child sends behind the last result."""


def bounded(results: Iterable[R], what: str, cure: str) -> Iterator[R]:
    """The results, which are computed in the child as they are asked for, in order; they must be picklable.

    Raises DataError when one of them takes longer than DEADLINE_S, needs more than MEMORY_BYTES or cannot be computed,
    and whatever LpmError computing them raises. `what` is executed, as the subject of the sentence.
    """
    ours, theirs = multiprocessing.Pipe(duplex=False)
    child = multiprocessing.get_context("fork").Process(target=_send_all, args=(results, theirs, os.getpid()))
    with warnings.catch_warnings():
        # Python 3.12 warns of a fork beside threads: this child takes none of their locks, and would end if it did.
        warnings.simplefilter("ignore", DeprecationWarning)
        child.start()
    theirs.close()
    try:
        while True:
            if not ours.poll(DEADLINE_S):
                raise DataError(f"{what} did not end within {DEADLINE_S:g} s, expected milliseconds; {cure}")
            found = ours.recv()
            if isinstance(found, End):
                return
            if isinstance(found, LpmError):
                raise found
            if isinstance(found, Failure):
                raise DataError(f"{what} {found.told}; {cure}")
            yield found
    except EOFError:
        raise DataError(f"{what} ended the process that executed it, most likely by its memory; {cure}") from None
    finally:
        child.kill()
        child.join()
        child.close()
        ours.close()


def _send_all(results: Iterable[object], to: Connection, parent_pid: int) -> None:
    """In the child: send each result, then that there are no more."""
    _confine(parent_pid)
    try:
        for result in results:
            to.send(result)
        to.send(End())
    except LpmError as error:
        to.send(error)
    except MemoryError:
        to.send(Failure(f"needs more than {MEMORY_BYTES / 1024**3:g} GiB of memory"))
    except BaseException as error:  # also the panic of a Rust library, which is no Exception
        to.send(Failure(f"cannot be executed ({type(error).__name__}: {str(error)[:300]})"))


def _confine(parent_pid: int) -> None:
    """No signal handler of ours, no word on the terminal, no core file, a memory limit, and an end with the parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent_pid:
        os._exit(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    most = psutil.Process().memory_info().vms + MEMORY_BYTES
    with contextlib.suppress(ValueError, OSError):  # a system that has no such limit, or a lower one
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
