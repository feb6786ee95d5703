"""Predictions: records whose fields are known only at run time."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, Self

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from dspex.programs.signature import Signature, values_of

__all__ = ["Prediction"]


class Prediction(Signature):
    """
    A record for which type checkers know no fields: every attribute is ``Any``.

    Signatures written as strings return one; programs that assemble an answer themselves make one::

        return dspex.Prediction(answer=answer, passages=passages)
    """

    __slots__ = ("_free_",)
    _free_: dict[str, object]

    def __init__(self, **fields: object) -> None:
        self._free_ = fields

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...

        def __setattr__(self, name: str, value: object) -> None: ...

    else:

        def __getattr__(self, name: str) -> object:
            if name[:1] != "_" and not type(self)._plan_.fields and name in self._free_:
                return self._free_[name]
            return Signature.__getattr__(self, name)

    def _values_(self) -> dict[str, object]:
        """Return the fields that are set, by name; values are not copied."""
        return super()._values_() if type(self)._plan_.fields else dict(self._free_)

    def __eq__(self, other: object) -> bool:
        """Tell whether it says the same: predictions have no class of their own that could differ."""
        if not isinstance(other, Prediction):
            return super().__eq__(other)
        mine, theirs = type(self)._plan_.fields, type(other)._plan_.fields
        return (not mine or not theirs or mine.keys() == theirs.keys()) and self._values_() == other._values_()

    def __copy__(self) -> Self:
        return super().__copy__() if type(self)._plan_.fields else type(self)(**self._free_)

    def __deepcopy__(self, memo: dict[int, object]) -> Self:
        return (
            super().__deepcopy__(memo) if type(self)._plan_.fields else type(self)(**copy.deepcopy(self._free_, memo))
        )

    __hash__ = None

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value!r}" for name, value in values_of(self).items())
        return f"{type(self).__name__}({shown})"

    @classmethod
    def __get_pydantic_core_schema__(cls, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        """As for every record; without declared fields it is any object."""
        if cls._plan_.fields:
            return super().__get_pydantic_core_schema__(source, handler)
        shape = core_schema.dict_schema(core_schema.str_schema(), core_schema.any_schema())
        from_mapping = core_schema.no_info_after_validator_function(lambda fields: cls(**fields), shape)
        return core_schema.json_or_python_schema(
            json_schema=from_mapping,
            python_schema=core_schema.union_schema([core_schema.is_instance_schema(cls), from_mapping]),
            serialization=core_schema.plain_serializer_function_ser_schema(values_of, return_schema=shape),
        )


Signature._string_base_ = Prediction
