"""Small PDF files, made by hand: whole ones, and one that unpacks to more than anybody wants."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

__all__ = ["packed_bomb", "pdf"]


def pdf(pages: Sequence[str], title: str = "") -> bytes:
    """Return a PDF with a line of text a page; an empty text is a page without any."""
    contents = [f"BT /F1 12 Tf 72 720 Td ({text}) Tj ET".encode() if text else b"" for text in pages]
    return _put_together([(content, b"") for content in contents], title)


def packed_bomb(size: int) -> bytes:
    """Return a PDF of one page whose content unpacks, twice, to so many bytes."""
    content = b"BT /F1 12 Tf (x) Tj ET " + b" " * size
    twice = zlib.compress(zlib.compress(content, 9), 9)
    return _put_together([(twice, b" /Filter [/FlateDecode /FlateDecode]")], "")


def _put_together(contents: Sequence[tuple[bytes, bytes]], title: str) -> bytes:
    first = 5
    kids = " ".join(f"{first + 2 * at} 0 R" for at in range(len(contents)))
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {len(contents)} >>".encode(),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
        f"<< /Title ({title}) >>".encode(),
    ]
    for at, (content, how) in enumerate(contents):
        number = first + 2 * at
        page = f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents {number + 1} 0 R "
        objects.append(f"{page}/Resources << /Font << /F1 3 0 R >> >> >>".encode())
        objects.append(b"<< /Length %d%s >>\nstream\n%s\nendstream" % (len(content), how, content))
    out, places = bytearray(b"%PDF-1.4\n"), list[int]()
    for number, body in enumerate(objects, 1):
        places.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    out += b"".join(b"%010d 00000 n \n" % place for place in places)
    out += b"trailer\n<< /Size %d /Root 1 0 R /Info 4 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, table)
    return bytes(out)
