"""The door of `lpm serve`, before llama.cpp's own server, which answers every page that a browser shows.

A page of another origin can post to a server on loopback, and under a name that its owner lets resolve to 127.0.0.1
(DNS rebinding) it reads the answers too. So requests must name a loopback host (RFC 9110, 7.2), come from no other
origin (Fetch standard, Origin and Sec-Fetch-Site) and carry JSON; the rest never reaches the model. No reply tells a
path of this machine. Streams are handed on chunk by chunk.
"""

import asyncio
import contextlib
import hmac
import json
import re
import shlex
from collections.abc import AsyncGenerator, Iterable, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pydantic import SecretStr

from lpm_kernel.errors import ServiceError
from lpm_kernel.progress import inline, say
from lpm_kernel.serving import probe
from lpm_kernel.serving.endpoint import Endpoint, ServingConfig
from lpm_kernel.serving.http import NO_KEY, authorization
from lpm_kernel.serving.own_server import serve

if TYPE_CHECKING:
    import h11

LOOPBACK = re.compile(r"(localhost|127\.0\.0\.1|\[::1\])(:[0-9]{1,5})?", re.IGNORECASE)
"""A Host that no foreign name can be; any port, as behind `ssh -L`."""
OWN_SITES = frozenset({"same-origin", "none"})
ASKED = frozenset({"/v1/chat/completions", "/v1/completions"})
"""Routes that are handed to the model."""
LONGEST_HEAD_BYTES = 2**15
LONGEST_BODY_BYTES = 2**24
TOO_LONG = f"the request is longer than {LONGEST_BODY_BYTES} bytes"
CHUNK_BYTES = 2**16
PATIENCE_S = 60.0
"""For a whole request, and between two on one connection."""
WATCH_EVERY_S = 0.3
KEPT = frozenset({b"content-type", b"content-length", b"cache-control", b"retry-after"})
"""Headers of llama.cpp's replies that go on; what it allows other origins does not."""
GUARDS = [("X-Content-Type-Options", "nosniff"), ("Cross-Origin-Resource-Policy", "same-origin")]
JSON_TYPE = ("Content-Type", "application/json")


class RefusedRequestError(Exception):
    """What the visitor is told in place of an answer."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


@dataclass(frozen=True)
class Request:
    """What a visitor asks."""

    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    """Names in lower case."""
    body: bytes = b""

    def header(self, name: str) -> str | None:
        """Its value, several joined by commas; None without."""
        found = [value for key, value in self.headers if key == name]
        return ", ".join(found) if found else None

    @property
    def route(self) -> str:
        """The path without query."""
        return self.target.partition("?")[0]


def check(request: Request, key: SecretStr) -> None:
    """Raise RefusedRequestError for what a foreign page may have sent, and for a request without the key."""
    host = request.header("host") or ""
    if not LOOPBACK.fullmatch(host):
        raise RefusedRequestError(421, f"Host is {host!r}; this server answers as localhost, 127.0.0.1 and [::1] alone")
    if not request.target.startswith("/"):
        raise RefusedRequestError(400, "the request target must be a path, such as /v1/chat/completions")
    origin = request.header("origin")
    if origin is not None and origin.lower() != f"http://{host}".lower():
        raise RefusedRequestError(403, f"a page of {origin!r} may not use this server")
    if (site := request.header("sec-fetch-site")) is not None and site not in OWN_SITES:
        raise RefusedRequestError(403, "a page of another site may not use this server")
    if request.header("upgrade") is not None:
        raise RefusedRequestError(400, "this server speaks HTTP alone; leave out Upgrade")
    given = (request.header("authorization") or "").encode()
    if request.route != "/health" and not hmac.compare_digest(given, authorization(key).encode() or given):
        raise RefusedRequestError(401, "this server wants its key: Authorization: Bearer ...")
    known = {"/health": "GET", "/props": "GET", "/v1/models": "GET", **dict.fromkeys(ASKED, "POST")}
    if request.route not in known:
        raise RefusedRequestError(404, f"no such route; known: {', '.join(known)}")
    if request.method != known[request.route]:
        raise RefusedRequestError(405, f"{request.route} takes {known[request.route]}")
    kind = (request.header("content-type") or "").partition(";")[0].strip().lower()
    if request.method == "POST" and kind != "application/json":
        raise RefusedRequestError(415, "send JSON, and Content-Type: application/json with it")


def serve_forever(gguf_path: Path, *, port: int, log_path: Path, key: SecretStr = NO_KEY, key_shown: str = "") -> None:
    """Serve on exactly this loopback port until Ctrl-C; ServiceError when it is taken or the server dies.

    key: what a request must carry, when it is not empty; key_shown stands for it in the curl line.
    """
    if not probe.is_free(port):
        raise ServiceError(f"port {port} is taken: {probe.who_listens(port)}; stop that, or choose another --port")
    behind = ServingConfig.model_validate({"port": probe.any_free_port()})
    with serve(gguf_path, behind, log_path) as endpoint:
        try:
            asyncio.run(Door(endpoint, key).stay_open(port, _curl(port, endpoint, key_shown)))
        except KeyboardInterrupt:
            say("the server is stopped")


def _curl(port: int, endpoint: Endpoint, key_shown: str) -> str:
    """A line that works when it is pasted into a shell."""
    body = {"model": model_id(endpoint), "messages": [{"role": "user", "content": "Who am I?"}]}
    bearer = f' -H "Authorization: Bearer {key_shown}"' if key_shown else ""
    told = shlex.quote(json.dumps(body, ensure_ascii=False))
    return f"curl http://127.0.0.1:{port}/v1/chat/completions -H 'Content-Type: application/json'{bearer} -d {told}"


def model_id(endpoint: Endpoint) -> str:
    """The short name under which the model is asked for."""
    return Path(endpoint.model).stem


class Door:
    """Answers what it may and hands questions on to the server behind it."""

    def __init__(self, endpoint: Endpoint, key: SecretStr) -> None:
        self._endpoint, self._key = endpoint, key
        name = model_id(endpoint)
        model = {"id": name, "object": "model", "created": 0, "owned_by": "lpm"}
        self._own: dict[str, dict[str, Any]] = {
            "/health": {"status": "ok"},
            "/props": {
                "model_alias": name,
                "weights_sha256": endpoint.weights_sha256,
                "total_slots": endpoint.slots,
            },
            "/v1/models": {"object": "list", "data": [model]},
        }

    async def stay_open(self, port: int, curl: str) -> None:
        """Until the server behind dies (ServiceError); on ::1 too, where this machine has it."""
        try:
            servers = [await asyncio.start_server(self._attend, "127.0.0.1", port)]
        except OSError as error:
            raise ServiceError(f"port {port} was taken a moment ago ({error}); choose another --port") from None
        with contextlib.suppress(OSError):
            servers.append(await asyncio.start_server(self._attend, "::1", port))
        say(f"the model {inline(model_id(self._endpoint))} answers at http://127.0.0.1:{port}/v1 until Ctrl-C; try:")
        say(curl)
        try:
            while (health := self._endpoint.health()).state != "lost":
                await asyncio.sleep(WATCH_EVERY_S)
            raise ServiceError(health.trouble)
        finally:
            for server in servers:
                server.close()

    async def _attend(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, to its end."""
        visit = _Visit(reader, writer)
        try:
            while await self._answer(visit):
                pass
        except (OSError, TimeoutError, EOFError):
            pass  # the visitor is gone, or said nothing for too long
        finally:
            writer.close()

    async def _answer(self, visit: "_Visit") -> bool:
        """Read one request and answer it; whether another may follow on this connection."""
        try:
            request = await visit.request()
            check(request, self._key)
        except RefusedRequestError as refusal:
            challenge = [("WWW-Authenticate", "Bearer")] if refusal.status == 401 else []
            told = {"error": {"message": str(refusal), "type": "invalid_request_error", "code": refusal.status}}
            await visit.reply(refusal.status, told, [*challenge, ("Connection", "close")])
            return False
        if request.route in self._own:
            await visit.reply(200, self._own[request.route])
        else:
            await visit.while_there(self._hand_on(request, visit))
        return visit.may_go_on()

    async def _hand_on(self, request: Request, visit: "_Visit") -> None:
        """Ask the server behind; each piece of its reply goes on as it comes."""
        try:
            async with contextlib.aclosing(_ask(self._endpoint, request)) as events:
                async for event in events:
                    await visit.send(event)
        except _GoneError as error:
            if visit.has_begun():
                raise ConnectionError from None
            told = {"error": {"message": f"the model's server does not answer: {error}", "code": 502}}
            await visit.reply(502, told)


class _GoneError(Exception):
    """The server behind the door broke off."""


class _Visit:
    """One connection's side of HTTP/1.1 (h11)."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        import h11

        self._reader, self._writer = reader, writer
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=LONGEST_HEAD_BYTES)

    async def request(self) -> Request:
        """The next whole request; raises RefusedRequestError, EOFError at the end, TimeoutError after PATIENCE_S."""
        import h11

        try:
            async with asyncio.timeout(PATIENCE_S):
                return await self._whole_request()
        except h11.RemoteProtocolError as error:
            raise RefusedRequestError(error.error_status_hint, f"no HTTP/1.1 request: {error}") from None

    async def _whole_request(self) -> Request:
        import h11

        head, body = None, bytearray()
        while not isinstance(event := await self._event(), h11.EndOfMessage):
            if isinstance(event, h11.ConnectionClosed):
                raise EOFError
            if isinstance(event, h11.Request):
                head = event
                _refuse_framing(event.headers)
            elif isinstance(event, h11.Data):
                body += event.data
            if len(body) > LONGEST_BODY_BYTES:
                raise RefusedRequestError(413, TOO_LONG)
        assert head is not None
        headers = tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in head.headers)
        return Request(head.method.decode("latin-1"), head.target.decode("latin-1"), headers, bytes(body))

    async def _event(self) -> Any:
        import h11

        while (event := self._http.next_event()) is h11.NEED_DATA:
            if self._http.they_are_waiting_for_100_continue:
                await self.send(h11.InformationalResponse(status_code=100, headers=[]))
            self._http.receive_data(await self._reader.read(CHUNK_BYTES))
        return event

    async def reply(self, status: int, value: dict[str, Any], more: list[tuple[str, str]] | None = None) -> None:
        """One JSON object."""
        import h11

        raw = json.dumps(value).encode()
        headers = [JSON_TYPE, ("Content-Length", str(len(raw))), *GUARDS, *(more or [])]
        reason = HTTPStatus(status).phrase.encode()
        await self.send(h11.Response(status_code=status, headers=headers, reason=reason))
        await self.send(h11.Data(data=raw))
        await self.send(h11.EndOfMessage())

    async def send(self, event: "h11.Event") -> None:
        """One piece of a reply, at once."""
        self._writer.write(self._http.send(event) or b"")
        await self._writer.drain()

    def has_begun(self) -> bool:
        """Whether the reply's head is out."""
        import h11

        return self._http.our_state is not h11.SEND_RESPONSE

    def may_go_on(self) -> bool:
        """Whether the connection stays open, and ready for the next request then."""
        import h11

        if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
            return False
        self._http.start_next_cycle()
        return True

    async def while_there(self, work: Any) -> None:
        """Do the work, and stop when the visitor hangs up: nobody waits for the answer then."""
        working, leaving = asyncio.ensure_future(work), asyncio.ensure_future(self._hung_up())
        try:
            await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            leaving.cancel()
            if not working.done():
                working.cancel()
            await asyncio.gather(working, leaving, return_exceptions=True)
        if working.cancelled():
            raise EOFError
        working.result()

    async def _hung_up(self) -> None:
        """Returns when the visitor closes, or sends too much ahead; what it sends ahead is kept for later."""
        ahead_bytes = 0
        while (data := await self._reader.read(CHUNK_BYTES)) and ahead_bytes <= LONGEST_BODY_BYTES:
            self._http.receive_data(data)
            ahead_bytes += len(data)


def _refuse_framing(headers: Iterable[tuple[bytes, bytes]]) -> None:
    """A body that will be too long, or whose length is told twice, as in smuggled requests (RFC 9112, 6.1)."""
    lengths = [value for name, value in headers if name in (b"content-length", b"transfer-encoding")]
    if len(lengths) > 1:
        raise RefusedRequestError(400, "the length of the body is told twice")
    if lengths and lengths[0].isdigit() and int(lengths[0]) > LONGEST_BODY_BYTES:
        raise RefusedRequestError(413, TOO_LONG)


async def _ask(endpoint: Endpoint, request: Request) -> AsyncGenerator["h11.Event"]:
    """The events of the server's reply, its head with the headers that go on; raises _GoneError."""
    import h11

    place = urlsplit(endpoint.base_url)
    try:
        reader, writer = await asyncio.open_connection(place.hostname, place.port)
    except OSError as error:
        raise _GoneError(str(error)) from None
    http = h11.Connection(h11.CLIENT)
    try:
        for part in _question(place.netloc, endpoint.api_key, request):
            writer.write(http.send(part) or b"")
        while True:
            event = http.next_event()
            if event is h11.NEED_DATA:
                http.receive_data(await reader.read(CHUNK_BYTES))
            elif isinstance(event, h11.Response):
                kept = [(name, value) for name, value in event.headers if name in KEPT]
                head = [*kept, *((name.encode(), value.encode()) for name, value in GUARDS)]
                yield h11.Response(status_code=event.status_code, headers=head, reason=event.reason)
            elif isinstance(event, h11.Data | h11.EndOfMessage):
                yield event
                if isinstance(event, h11.EndOfMessage):
                    return
            else:
                raise _GoneError("it closed the connection")
    except (OSError, h11.RemoteProtocolError) as error:
        raise _GoneError(str(error)) from None
    finally:
        writer.close()


def _question(host: str, key: SecretStr, request: Request) -> Iterator["h11.Event"]:
    """The request as the server behind is asked it, with the key of ours that it wants."""
    import h11

    headers = [
        ("Host", host),
        ("Authorization", authorization(key)),
        JSON_TYPE,
        ("Content-Length", str(len(request.body))),
        ("Connection", "close"),
    ]
    yield h11.Request(method=request.method, target=request.route, headers=headers)
    yield h11.Data(data=request.body)
    yield h11.EndOfMessage()
