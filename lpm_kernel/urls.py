"""Base URLs of servers: what is one, without user and password, and whether it is this machine."""

import re
from ipaddress import ip_address
from urllib.parse import unquote, urlsplit

SCHEME = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]*://|^//")
HOST_AND_PORT = re.compile(r"(\[[^\]@]*\]|[^:/?#@\[]*)(:[0-9]+)?([/?#]|$)")
"""How a URL goes on behind user and password."""
NO_PART = re.compile(r"[\x00-\x20\x7f-\x9f?#\\<>\"{}|^`]")
"""Of a base URL: what no URL holds (RFC 3986, 2), and what begins a query or a fragment."""
LOGIN_IN_TEXT = re.compile(r"(?<=://)[^\s<>\"'|]*@")


def split_login(url: str) -> tuple[str, str]:
    """(`user:password` as written, the URL without it), even where an @ or a slash in it is not escaped."""
    scheme = "".join(SCHEME.findall(url))
    rest, login = url.removeprefix(scheme), ""
    while "@" in rest and not HOST_AND_PORT.match(rest):
        part, _, rest = rest.partition("@")
        login = f"{login}@{part}" if login else part
    return login, scheme + rest


def login_of(url: str) -> str:
    """`user:password` of a URL with its escapes read; empty where it has none."""
    user, colon, password = split_login(url)[0].partition(":")
    return unquote(user) + colon + unquote(password)


def shown_url(url: str) -> str:
    """The URL without user, password and query: what a person, a log or a record may see."""
    return re.split(r"[?#]", split_login(url)[1])[0]


def without_logins(text: str) -> str:
    """The text with users and passwords taken out of the URLs that it quotes."""
    return LOGIN_IN_TEXT.sub("", text)


def is_base_url(url: str) -> bool:
    """Whether it is http or https with a host, without user, password, query and fragment."""
    try:
        parts = urlsplit(url)
        named = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
    return named and "@" not in parts.netloc and not NO_PART.search(url)


def host_of(url: str) -> str:
    """The URL's host in lower case, without port; empty where there is none."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def on_loopback(url: str) -> bool:
    """Whether the URL's host is this machine: localhost, 127.0.0.0/8 or ::1."""
    host = host_of(url)
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
