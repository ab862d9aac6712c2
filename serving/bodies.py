"""Bodies of requests, read up to a limit."""

from starlette.requests import Request


class TooLarge(Exception):
    """The body is larger than it may be."""


async def read_body(request: Request, max_bytes: int) -> bytes:
    """Returns the body. Raises TooLarge if it has more than `max_bytes`, however much its header announces."""
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > max_bytes:
            raise TooLarge(f"the body is larger than {max_bytes} bytes.")
    return bytes(body)
