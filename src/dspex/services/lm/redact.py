"""Secrets that a server repeats, taken out before anything else sees its answer."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Final, TypeVar
from urllib.parse import quote

from dspex.errors import LMError
from dspex.protocols.lm import LMDelta
from dspex.protocols.printable import printable
from dspex.protocols.texts import DeltaTexts, with_texts

__all__ = ["REDACTED", "DeltaRedactor", "Redactor"]

T = TypeVar("T")

REDACTED: Final = "[key]"
SHORTEST: Final = 8
"""Characters of a secret; a shorter one is a stand-in such as ``none``, and may be any word."""


class Redactor:
    """
    Replaces secrets in what a server says, however it writes them: plainly, in JSON, in an address, in base64.

    A key that the server has masked itself (``sk-abc***xyz``) is left as it is.

    Args:
        secrets: The text that nobody may read anywhere.
    """

    __slots__ = ("_beginnings", "_firsts", "_forms", "_longest")

    def __init__(self, secrets: Iterable[str]) -> None:
        forms = {form for secret in secrets if len(secret) >= SHORTEST for form in _forms(secret)}
        self._forms = tuple((form, form.encode()) for form in sorted(forms, key=len, reverse=True))
        self._beginnings = frozenset(form[:size] for form in forms for size in range(1, len(form)))
        self._firsts = frozenset(form[0] for form in forms)
        self._longest = max(map(len, forms), default=0)

    def __bool__(self) -> bool:
        return bool(self._forms)

    def text(self, text: str) -> str:
        """Return a text without the secrets."""
        for form, _ in self._forms:
            if form in text:
                text = text.replace(form, REDACTED)
        return text

    def answer(self, headers: Mapping[str, str], body: bytes) -> tuple[Mapping[str, str], bytes]:
        """
        Return an answer's headers and bytes without the secrets: before it is read, so that none is cut in its middle.

        Where there are none, both are the same objects.
        """
        values = "\n".join(headers.values())
        for form, written in self._forms:
            if form in values:
                headers = {name: value.replace(form, REDACTED) for name, value in headers.items()}
            if written in body:
                body = body.replace(written, REDACTED.encode())
        return headers, body

    def beginning(self, text: str) -> int:
        """Return how many characters at the end of a text may be the beginning of a secret."""
        for at in range(max(0, len(text) - self._longest + 1), len(text)):
            if text[at] in self._firsts and text[at:] in self._beginnings:
                return len(text) - at
        return 0

    def record(self, value: T) -> T:
        """Return a record or JSON value without the secrets in its texts; the same object where there are none."""
        return with_texts(value, self.text) if self._forms else value

    def error(self, error: LMError) -> LMError:
        """Take the secrets out of an error, and escape what could take over a terminal or forge a line of a log."""
        error.args = tuple(printable(self.text(each)) if isinstance(each, str) else each for each in error.args)
        for name in ("code", "request_id", "partial", "text"):
            value = getattr(error, name, None)
            if isinstance(value, str):
                made = self.text(value)
                setattr(error, name, made if name in ("partial", "text") else printable(made))
        return error


class DeltaRedactor(DeltaTexts):
    """
    Redacts an answer that comes in pieces: what may be the beginning of a secret waits for what follows.

    Args:
        redactor: Knows the secrets.
        on_delta: Where redacted pieces go.
    """

    __slots__ = ("_redactor",)

    def __init__(self, redactor: Redactor, on_delta: Callable[[LMDelta], Awaitable[object]]) -> None:
        super().__init__(on_delta)
        self._redactor = redactor

    def split(self, text: str) -> tuple[str, str]:
        """Return the text without the secrets, and what at its end may be the beginning of one."""
        text = self._redactor.text(text)
        at = len(text) - self._redactor.beginning(text)
        return text[:at], text[at:]


def _forms(secret: str) -> Iterable[str]:
    yield secret
    yield json.dumps(secret)[1:-1]
    yield quote(secret, safe="")
    yield re.sub(r"%[0-9A-F]{2}", lambda found: found[0].lower(), quote(secret, safe=""))
    for before in range(3):  # base64 depends on where in its threes of bytes the secret begins
        coded = base64.b64encode(b"\0" * before + secret.encode()).rstrip(b"=").decode()
        middle = coded[-(-before * 8 // 6) :]
        middle = middle[: len(middle) - (1 if (before + len(secret.encode())) % 3 else 0)]
        if len(middle) >= SHORTEST:
            yield middle
            yield middle.translate(str.maketrans("+/", "-_"))
