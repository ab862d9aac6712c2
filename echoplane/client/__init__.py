"""Python client of the HTTP service, synchronous and asynchronous.

    with Client("http://127.0.0.1:3000", token=TOKEN) as client:
        answer = client.answer("clip.dcm", "echo-view-video")

A request that got no answer because of the connection or the load (429, 503) is sent again, later and later and at
random times, no earlier than `Retry-After` says; each try of a request has the same idempotency key. A file's name is
never sent.
"""

from echoplane.client.bodies import Answer, Explanation, FileAnswer, Model, Problem
from echoplane.client.clients import AsyncClient, Client, ServiceError

__all__ = ["Answer", "AsyncClient", "Client", "Explanation", "FileAnswer", "Model", "Problem", "ServiceError"]
