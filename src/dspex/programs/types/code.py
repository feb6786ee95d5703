"""Source code as fields."""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, Self, cast, get_args, get_origin

from typing_extensions import TypeVar

from dspex.programs.types.field_type import FieldType

__all__ = ["Code"]

L = TypeVar("L", bound=str, default=str)

_WHOLE = re.compile(r"(`{3,})[^\n`]*\n(?:(.*)\n)?\1", re.DOTALL)
_INSIDE = re.compile(r"^(`{3,})[^\n`]*\n(?:(.*?)\n)?\1[^\S\n]*$", re.DOTALL | re.MULTILINE)
_OPENED = re.compile(r"\s*(`{3,})[^\n`]*(?:\n|\Z)")


class Code(FieldType, str, Generic[L]):
    """
    Source code, a ``str`` with a language: ``Code["python"]``, or ``Code[Literal["python"]]`` for type checkers.

    A model is shown and asked for a fenced block; what is read is the code inside it, exactly.
    """

    __slots__ = ()

    language: ClassVar[str] = ""
    in_words: ClassVar[str] = "source code in a fenced block: ```, a new line, the code, a new line, ```"

    if not TYPE_CHECKING:

        def __class_getitem__(cls, language: Any) -> type[Code]:
            """Return the type of code in that language, the same class each time."""
            if get_origin(language) is Literal:
                (language,) = get_args(language)
            if isinstance(language, TypeVar) or language is str:
                return cls
            if not isinstance(language, str) or not re.fullmatch(r"[\w.+#-]+", language):
                raise TypeError(f"Code[{language!r}]: expected a language, such as Code['python']")
            return _in_language(language)

    def to_text(self) -> str:
        """Return a fenced block; its fence is longer than any in the code."""
        fence = "`" * max(3, 1 + max((len(run) for run in re.findall(r"`{3,}", self)), default=0))
        return f"{fence}{self.language}\n{self!s}\n{fence}"

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Read the first fenced block; text without one is code as it is."""
        found = _WHOLE.fullmatch(text) or _INSIDE.search(text)
        return cls((found[2] or "") if found is not None else text)

    @classmethod
    def so_far(cls, text: str) -> Any:
        """Return the code so far, without the fence that opens it and what may be the one that ends it."""
        opened = _OPENED.match(text)
        if opened is None:
            return cls(text)
        code = text[opened.end() :]
        last = code.rpartition("\n")[2]
        return cls(code[: -len(last)].removesuffix("\n") if last and opened[1].startswith(last) else code)

    def to_json(self) -> Any:
        """Return the code itself; fenced where reading would otherwise take a fence off."""
        return self.to_text() if _WHOLE.fullmatch(self) else str(self)

    @classmethod
    def from_json(cls, value: Any) -> Self:
        """Take code as it is, without a fence around all of it."""
        if not isinstance(value, str):
            raise ValueError(f"expected source code, got {type(value).__name__}")
        found = _WHOLE.fullmatch(value)
        return cls((found[2] or "") if found is not None else value)

    def __str__(self) -> str:
        return str.__str__(self)

    def __repr__(self) -> str:
        return f"Code({str.__repr__(self)})"


@functools.lru_cache(maxsize=256)
def _in_language(language: str) -> type[Code]:
    namespace = {
        "language": language,
        "in_words": f"{language} code in a fenced block: ```{language}, a new line, the code, a new line, ```",
        "__slots__": (),
        "__module__": Code.__module__,
    }
    return cast("type[Code]", type(f"Code[{language!r}]", (Code,), namespace))
