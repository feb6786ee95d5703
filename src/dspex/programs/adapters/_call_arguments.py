"""Arguments of a call as a model wrote them: as they are, repaired where that is certain, or an error to tell it."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import TypeAdapter

from dspex.programs.adapters._exact_json import DoubleKey, exact_json
from dspex.programs.adapters._repair import repaired
from dspex.protocols.call_shapes import arguments_of, is_cut
from dspex.protocols.content import ToolCall
from dspex.protocols.marked_calls import has_marks

__all__ = ["read_arguments"]


def read_arguments(call: ToolCall) -> tuple[Mapping[str, object], bool]:
    """
    Return a call's arguments, and whether they took a repair; of numbers every digit is kept.

    Raises:
        ValueError: They are not an object, end too early, or have one name twice; the message is for the model.
    """
    if call.arguments is not None:
        try:
            written = exact_json(call.raw) if call.raw else None
        except DoubleKey:
            raise
        except ValueError:
            written = None
        return (written if isinstance(written, dict) and written == call.arguments else call.arguments), False
    raw, arguments = arguments_of(call.raw)
    if arguments is not None:
        return arguments, False
    if raw.lstrip()[:1] not in ("{", "[", "`") and has_marks(raw):  # read as elements, marks would become the names
        raise ValueError("they do not fit into their marks")
    if is_cut(raw):  # completed, half of what the model meant would be done
        raise ValueError("they end too early")
    return repaired(_OBJECT, raw, ValueError("they are not a JSON object"))[0], True


_OBJECT: TypeAdapter[dict[str, object]] = TypeAdapter(dict[str, object])
