"""Who may ask the local server what: a token, the right host, and no other site's pages."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie

from holdfast.errors import ConfigError

_TOKEN_BYTES = 24


@dataclass(frozen=True)
class Access:
    """The rules of one server. names: what it is called in a Host header, port included.

    Other users of the machine reach loopback ports too, so that reading needs the token as well:
    it comes once in the address that is printed, then as a cookie. Writing needs, besides, a
    second token in a header, which only this server's own pages hold.
    """

    port: int
    names: frozenset[str]
    token: str = field(default_factory=lambda: secrets.token_urlsafe(_TOKEN_BYTES), repr=False)

    @property
    def cookie_name(self) -> str:
        """Cookies do not tell ports apart, so the name does."""
        return f"holdfast-{self.port}"

    @property
    def write_token(self) -> str:
        """What a page sends along when it writes; says nothing about the token itself."""
        return hmac.new(self.token.encode(), b"write", hashlib.sha256).hexdigest()

    def knows_host(self, headers: Mapping[str, str]) -> bool:
        """Whether the browser means this server: a name that was made to point here is not one."""
        return (headers.get("Host") or "").lower() in self.names

    def may_read(self, headers: Mapping[str, str]) -> bool:
        """Whether the cookie is ours."""
        try:
            found = SimpleCookie(headers.get("Cookie") or "").get(self.cookie_name)
        except CookieError:
            return False
        return found is not None and self.is_token(found.value)

    def may_write(self, headers: Mapping[str, str]) -> bool:
        """Whether a page of ours asks, and not another site in the same browser."""
        origin = headers.get("Origin")
        if origin is not None and origin not in {f"http://{name}" for name in self.names}:
            return False
        if headers.get("Sec-Fetch-Site", "same-origin") != "same-origin":
            return False
        given = headers.get("X-Holdfast-Token") or ""
        same = hmac.compare_digest(given.encode(errors="replace"), self.write_token.encode())
        return same and self.may_read(headers)

    def is_token(self, text: str) -> bool:
        """Whether the text is the token, in a time that does not tell how nearly."""
        return hmac.compare_digest(text.encode(errors="replace"), self.token.encode())

    def cookie(self) -> str:
        """The header that hands the token over to the browser."""
        return f"{self.cookie_name}={self.token}; Path=/; HttpOnly; SameSite=Strict"


def access_for(host: str, port: int) -> Access:
    """The rules of a server bound to this host and port."""
    names = {host, "localhost", "127.0.0.1"} if is_loopback(host) else {host}
    shown = {f"[{name}]" if ":" in name else name for name in names}
    return Access(port, frozenset(f"{name}:{port}".lower() for name in shown))


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches the address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_host(host: str, *, allow_remote: bool) -> None:
    """Raises ConfigError for an address that others reach, unless that is wanted."""
    if not allow_remote and not is_loopback(host):
        raise ConfigError(
            f"{host} can be reached from other machines, and the pages are not encrypted",
            fix="leave --host out and forward the port with ssh -L, or add --allow-remote",
        )
