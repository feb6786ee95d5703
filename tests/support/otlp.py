"""Spans of OpenTelemetry as OTLP over HTTP has them: the few fields of its protobuf that a collector needs."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.trace import SpanContext

__all__ = ["export_request"]


def export_request(spans: Iterable[ReadableSpan], resource: Mapping[str, object]) -> bytes:
    """Return an ``ExportTraceServiceRequest``, to be posted to ``/v1/traces`` as ``application/x-protobuf``."""
    scope = _part(1, _part(1, b"dspex")) + b"".join(_part(2, _span(each)) for each in spans)
    return _part(1, _part(1, _attributes(1, resource)) + _part(2, scope))


def _span(span: ReadableSpan) -> bytes:
    parts = [_ids(span.context), _part(5, span.name.encode()), _number(6, span.kind.value + 1)]
    if span.parent is not None:
        parts.append(_part(4, span.parent.span_id.to_bytes(8, "big")))
    parts += [_fixed(7, span.start_time or 0), _fixed(8, span.end_time or 0), _attributes(9, span.attributes or {})]
    for event in span.events:
        told = _fixed(1, event.timestamp) + _part(2, event.name.encode()) + _attributes(3, event.attributes or {})
        parts.append(_part(11, told))
    parts += [_part(13, _ids(link.context)) for link in span.links]
    words = (span.status.description or "").encode()
    parts.append(_part(15, _part(2, words) + _number(3, span.status.status_code.value)))
    return b"".join(parts)


def _ids(context: SpanContext) -> bytes:
    return _part(1, context.trace_id.to_bytes(16, "big")) + _part(2, context.span_id.to_bytes(8, "big"))


def _attributes(field: int, attributes: Mapping[str, object]) -> bytes:
    pairs = [_part(1, name.encode()) + _part(2, _value(value)) for name, value in attributes.items()]
    return b"".join(_part(field, each) for each in pairs)


def _value(value: object) -> bytes:
    if isinstance(value, bool):
        return _number(2, int(value))
    if isinstance(value, int):
        return _number(3, value & (2**64 - 1))
    if isinstance(value, float):
        return _tag(4, 1) + struct.pack("<d", value)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return _part(5, b"".join(_part(1, _value(each)) for each in value))
    return _part(1, str(value).encode())


# --- protobuf -----------------------------------------------------------------------------------------------


def _part(field: int, data: bytes) -> bytes:
    return _tag(field, 2) + _varint(len(data)) + data


def _number(field: int, value: int) -> bytes:
    return _tag(field, 0) + _varint(value)


def _fixed(field: int, value: int) -> bytes:
    return _tag(field, 1) + struct.pack("<Q", value)


def _tag(field: int, kind: int) -> bytes:
    return _varint(field << 3 | kind)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
