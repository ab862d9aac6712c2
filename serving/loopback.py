"""Decides if an address can be reached from this machine alone; requests to it need no token, in any process here."""

import ipaddress
from collections.abc import Mapping
from typing import Any


def is_loopback(address: str) -> bool:
    """Returns True for an IP address of this machine alone; a name is none."""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def came_by_loopback(scope: Mapping[str, Any]) -> bool:
    """Judges a request by the local address that the client connected to; no header sent by the client counts.

    `scope` is the request's ASGI scope.
    """
    server = scope.get("server")
    return server is not None and is_loopback(server[0])
