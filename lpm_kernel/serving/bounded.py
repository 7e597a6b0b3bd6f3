"""A reply of a chat server that may not be endless. This module loads httpx2: import it where a client opens."""

from collections.abc import AsyncIterator
from typing import Any

from httpx2 import AsyncByteStream, ReadError, Response

from lpm_kernel.serving.http import LONGEST_REPLY_BYTES


async def bound(response: Response) -> None:
    """Let the reply be no longer than LONGEST_REPLY_BYTES, nor packed so that it could become longer.

    An event hook of httpx2, with which openai asks. Raises ReadError, which the client takes for a fault of the server.
    """
    packed = response.headers.get("content-encoding", "identity")
    if packed != "identity":
        raise ReadError(f"the reply is packed ({packed}), which was not asked for")
    response.stream = _Bounded(response.stream)


class _Bounded(AsyncByteStream):
    """A reply's body up to a length; httpx reads it chunk by chunk."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        length = 0
        async for chunk in self._stream:
            length += len(chunk)
            if length > LONGEST_REPLY_BYTES:
                raise ReadError(f"the reply is longer than {LONGEST_REPLY_BYTES} bytes")
            yield chunk

    async def aclose(self) -> None:
        await self._stream.aclose()
