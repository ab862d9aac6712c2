"""Decides if an address can be reached from this machine alone; requests to it need no token, in any process here."""

import ipaddress
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit


def is_loopback(address: str) -> bool:
    """Returns True for an IP address of this machine alone; a name is none."""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def came_by_loopback(scope: Mapping[str, Any]) -> bool:
    """Judges a request by the local address that the client connected to. `scope` is the request's ASGI scope.

    Headers that the client sends can only refuse it: a browser states in Host and Origin whose page asks. A page of
    another site reaches this machine's ports, also under a name of its own that it lets point here (DNS rebinding).
    """
    server = scope.get("server")
    stated = [value.decode("latin-1") for name, value in scope["headers"] if name in (b"host", b"origin")]
    return server is not None and is_loopback(server[0]) and all(map(_names_this_machine, stated))


def _names_this_machine(host_or_origin: str) -> bool:
    try:
        name = urlsplit(host_or_origin if "://" in host_or_origin else f"//{host_or_origin}").hostname or ""
    except ValueError:
        return False
    return name == "localhost" or is_loopback(name)
