"""The pydantic schema of a signature class: records cross borders by it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from dspex.programs._compile import Plan

if TYPE_CHECKING:
    from dspex.programs.signature import Signature

__all__ = ["record_schema"]


def record_schema(
    cls: type,
    plan: Plan,
    handler: GetCoreSchemaHandler,
    build: Callable[[Mapping[str, object]], object],
    to_dict: Callable[[Signature], dict[str, object]],
) -> CoreSchema:
    """
    Return the schema: records pass as they are, mappings and JSON objects with all fields become records.

    Written, a record is the object of its fields; details are never part of it.
    """
    fields = {}
    for field in plan.fields.values():
        inner = handler.generate_schema(field.codec.annotation)
        may_miss = field.has_default or (field.role == "output" and field.optional)
        if may_miss:
            inner = core_schema.with_default_schema(inner, default_factory=field.make_default)
        metadata = {"pydantic_js_updates": {"description": field.desc}} if field.desc else {}
        fields[field.name] = core_schema.typed_dict_field(inner, required=not may_miss, metadata=metadata)
    shape = core_schema.typed_dict_schema(fields, cls_name=plan.name)
    from_mapping = core_schema.no_info_after_validator_function(build, shape)
    return core_schema.json_or_python_schema(
        json_schema=from_mapping,
        python_schema=core_schema.union_schema([core_schema.is_instance_schema(cls), from_mapping]),
        serialization=core_schema.plain_serializer_function_ser_schema(to_dict, return_schema=shape),
    )
