"""One file to the texts of its passages; runs in the process that reads files, or wherever its caller likes."""

from __future__ import annotations

import codecs
import io
import os
import stat
from collections.abc import Iterator
from typing import Any, Final

from dspex.services.documents.limits import PassageSizes, ReadLimits
from dspex.services.documents.sections import DocumentSection, html_sections, markdown_sections, plain_sections

__all__ = ["BadFile", "parse_file"]

_MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_AS_BROWSERS_READ: Final = {"iso8859-1": "windows-1252", "ascii": "windows-1252"}


class BadFile(Exception):
    """A file cannot be read; the words say why, for whoever knows its name."""


def parse_file(path: str, kind: str, encoding: str, limits: ReadLimits, sizes: PassageSizes) -> dict[str, object]:
    """
    Return ``{"passages": [[headings, text, page], …], "notes": […]}`` of a file, in its order.

    Args:
        path: The file.
        kind: ``text``, ``markdown``, ``html`` or ``pdf``.
        encoding: The encoding of text without a mark of its own; of HTML, where it names none.
        limits: Its bounds; time is the caller's part.
        sizes: How long passages are.

    Raises:
        BadFile: It cannot be read, is too large, or is not of its kind.
        Exception: Any exception of a library that meets a damaged file.
    """
    data = _bytes_of(path, limits)
    notes: list[str] = []
    if kind == "pdf":
        sections = _pdf_sections(data, int(limits.bytes), notes)
    elif kind == "html":
        sections = html_sections(_text_of(data, _declared(data) or encoding))
    else:
        text = _text_of(data, encoding)
        sections = markdown_sections(text) if kind == "markdown" else plain_sections(text)
    passages = list(_split(sections, sizes, kind))
    if not passages:
        notes.append("there is no text in it")
    return {"passages": passages, "notes": notes}


def _split(sections: list[DocumentSection], sizes: PassageSizes, kind: str) -> Iterator[tuple[list[str], str, int]]:
    from semantic_text_splitter import MarkdownSplitter, TextSplitter

    room = (sizes.least, sizes.most)
    splitter = (MarkdownSplitter if kind == "markdown" else TextSplitter)(room, overlap=sizes.overlap)
    for section in sections:
        # Most sections are short, and a splitter takes blanks at both ends away: so do we
        chunks = [section.text.strip()] if len(section.text) <= sizes.most else splitter.chunks(section.text)
        for text in chunks:
            if text.strip():
                yield list(section.path), text, section.page


def _bytes_of(path: str, limits: ReadLimits) -> bytes:
    try:
        with open(path, "rb", opener=_open_without_waiting) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise BadFile("it is not a file")
            data = file.read(int(limits.bytes) + 1)
    except OSError as error:
        raise BadFile(f"it cannot be read: {error.strerror or error}") from error
    if len(data) > limits.bytes:
        raise BadFile(f"it has more than {int(limits.bytes):,} bytes")
    return data


def _open_without_waiting(path: str, flags: int) -> int:
    """Open a file; a pipe that has taken its place meanwhile does not hold us."""
    return os.open(path, flags | os.O_NONBLOCK)


def _text_of(data: bytes, encoding: str) -> str:
    for mark, marked in _MARKS:
        if data.startswith(mark):
            encoding = marked
            break
    try:
        text = data.decode(encoding)
    except (UnicodeDecodeError, UnicodeError) as error:
        at = f" at byte {error.start}" if isinstance(error, UnicodeDecodeError) else ""
        raise BadFile(f"it is not {encoding.upper()}{at}: encoding= names another one") from error
    except LookupError as error:
        raise BadFile(f"it names an encoding that nobody knows, {encoding!r}") from error
    if "\0" in text:
        raise BadFile("it is not text: there are zero bytes in it")
    return text


def _declared(data: bytes) -> str:
    """Return the encoding that a page names for itself, as browsers read it; empty where it names none."""
    from bs4.dammit import EncodingDetector

    found = EncodingDetector.find_declared_encoding(data, is_html=True)
    if found is None:
        return ""
    try:
        name = codecs.lookup(found).name
    except LookupError:
        return found
    return _AS_BROWSERS_READ.get(name, name)


# --- PDF ------------------------------------------------------------------------------------------------------


def _pdf_sections(data: bytes, most: int, notes: list[str]) -> list[DocumentSection]:
    if b"%PDF-" not in data[:1024]:
        raise BadFile("it is not a PDF")
    from pypdf import PdfReader
    from pypdf.errors import PyPdfError

    try:
        reader = PdfReader(io.BytesIO(data))
        if reader.is_encrypted and not reader.decrypt(""):
            raise BadFile("it is locked with a password")
        title = _title(reader)
        sections, empty, size = list[DocumentSection](), 0, 0
        for number, page in enumerate(reader.pages, 1):
            text = _whole_text(page.extract_text())
            size += len(text)
            if size > most:
                raise BadFile(f"its text has more than {most:,} characters")
            empty += not text.strip()
            if text.strip():
                sections.append(DocumentSection((title,) if title else (), text, number))
    except PyPdfError as error:
        raise BadFile(f"it is damaged, or not a PDF ({type(error).__name__}: {str(error)[:300]})") from error
    if empty and not sections:
        raise BadFile(f"none of its {empty} pages holds text: pictures of text are not read")
    if empty:
        notes.append(f"{empty} of {empty + len(sections)} pages hold no text")
    return sections


def _whole_text(text: str) -> str:
    """Return text that every index can hold: zero bytes and halves of characters, which PDFs may have, are replaced."""
    return text.replace("\0", "\ufffd").encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _title(reader: Any) -> str:  # of a library whose module is an extra
    """Return the title that a PDF has for itself; a damaged one has none."""
    try:
        title = reader.metadata.title if reader.metadata is not None else None
    except Exception:  # noqa: BLE001 - the title of a damaged file is not worth the file
        return ""
    return " ".join(_whole_text(title).split()) if isinstance(title, str) else ""
