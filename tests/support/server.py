"""Stand in for the servers of the data sets: no test sends a request to another host."""

import io
import urllib.request

import pytest

PAGE = b"<!DOCTYPE html>\n<html><head><title>502</title></head><body>Try later.</body></html>\n"
WAYS = ("well", "page", "no length", "cut", "cut without length", "reset", "not")


class Answer(io.BytesIO):
    """Answer with status 200; break the connection after the content if it `breaks`."""

    def __init__(self, content: bytes, length: int | None, breaks: bool = False):
        super().__init__(content)
        self.headers = {} if length is None else {"Content-Length": str(length)}
        self.breaks = breaks

    def read(self, size: int = -1) -> bytes:
        block = super().read(size)
        if self.breaks and not block:
            raise ConnectionResetError(104, "Connection reset by peer")
        return block


def answer(content: bytes, way: str) -> Answer:
    """Give `content` as a server does that works `well`, or in another of the `WAYS`."""
    half = content[: len(content) // 2]
    if way == "not":
        raise OSError("Name or service not known")
    return {
        "well": lambda: Answer(content, len(content)),
        "page": lambda: Answer(PAGE, len(PAGE)),
        "no length": lambda: Answer(content, None),
        "cut": lambda: Answer(half, len(content)),
        "cut without length": lambda: Answer(half, None),
        "reset": lambda: Answer(half, len(content), breaks=True),
    }[way]()


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    """Let files be fetched from this machine alone."""
    real = urllib.request.urlopen

    def open_file(url, timeout):
        return real(url, timeout=timeout) if url.startswith("file:") else answer(b"", "not")

    monkeypatch.setattr(urllib.request, "urlopen", open_file)
