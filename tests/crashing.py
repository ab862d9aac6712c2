"""In place of what answers studies: as a decoder that crashes on one study and hangs on another."""

import os
from typing import Any


def crashing(pipe: Any, *_: object) -> None:
    pipe.send("")
    while True:
        study = pipe.recv()
        if study.name == "crashes":
            os._exit(11)
        if study.name != "hangs":
            pipe.send({"study": study.name, "outcome": "answered"})
