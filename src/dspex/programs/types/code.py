"""Source code as fields."""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING, ClassVar, Generic, Literal, Self, cast, get_args, get_origin

from typing_extensions import TypeVar

from dspex.programs.types.field_type import FieldType

__all__ = ["Code"]

L = TypeVar("L", bound=str, default=str)

_WHOLE = re.compile(r"(`{3,}+)[^\n`]*\n(?:(.*)\n)?\1", re.DOTALL)
_OF_LANGUAGE = re.compile(r"Code\['([\w.+#-]+)'\]")
_OPENED = re.compile(r"\s*(`{3,}|~{3,})([^\n`~]*)(?:\n|\Z)")
_OPENING = re.compile(r"^[^\S\n]{0,12}(`{3,}|~{3,})([^\n`~]*)\n", re.MULTILINE)
_ONE_LINE = re.compile(r"(`{3,}+|~{3,}+)([^\n]*?)\1|`([^`\n]+)`")


class Code(FieldType, str, Generic[L]):
    """
    Source code, a ``str`` with a language: ``Code["python"]``, or ``Code[Literal["python"]]`` for type checkers.

    A model is shown and asked for a fenced block; what is read is the code inside it, exactly.
    """

    __slots__ = ()

    language: ClassVar[str] = ""
    in_words: ClassVar[str] = "source code in a fenced block: ```, a new line, the code, a new line, ```"

    if not TYPE_CHECKING:

        def __class_getitem__(cls, language: object) -> type[Code]:
            """Return the type of code in that language, the same class each time."""
            if get_origin(language) is Literal:
                (language,) = get_args(language)
            if isinstance(language, TypeVar) or language is str:
                return cls
            if not isinstance(language, str) or not re.fullmatch(r"[\w.+#-]+", language):
                raise TypeError(f"Code[{language!r}]: expected a language, such as Code['python']")
            return in_language(language)

    def to_text(self) -> str:
        """Return a fenced block; its fence is longer than any in the code."""
        fence = "`" * max(3, 1 + max((len(run) for run in re.findall(r"`{3,}", self)), default=0))
        return f"{fence}{self.language}\n{self!s}\n{fence}"

    @classmethod
    def from_text(cls, text: str) -> Self:
        """
        Read the fenced block of an answer; text without one is code as it is.

        Raises:
            ValueError: There are several blocks, and not one alone of this language.
        """
        found = _WHOLE.fullmatch(text)
        if found is not None and found[1] not in (found[2] or ""):
            return cls(found[2] or "")
        line = _ONE_LINE.fullmatch(text.strip())
        if line is not None:
            return cls(cls._without_language((line[2] if line[3] is None else line[3]).strip()))
        blocks = _blocks(text)
        if len({code for _, code in blocks}) > 1:
            blocks = [each for each in blocks if each[0] == cls.language.lower()]
            if len(blocks) != 1:
                raise ValueError("there are several blocks of code; write one")
        return cls(blocks[0][1] if blocks else text)

    @classmethod
    def _without_language(cls, line: str) -> str:
        first, _, rest = line.partition(" ")
        return rest.lstrip() if rest and cls.language and first.lower() == cls.language.lower() else line

    @classmethod
    def so_far(cls, text: str) -> object:
        """Return the code so far, without the fence that opens it and what may be the one that ends it."""
        opened = _OPENED.match(text)
        if opened is None:
            return cls(text)
        code = text[opened.end() :]
        whole = code.rstrip(opened[1][0])
        if 0 < len(code) - len(whole) <= len(opened[1]):
            code = whole.removesuffix("\n")
        return cls(code)

    def to_json(self) -> object:
        """Return the code itself; fenced where reading would otherwise take a fence off."""
        return self.to_text() if _OPENED.match(self) else str(self)

    @classmethod
    def from_json(cls, value: object) -> Self:
        """Take code as it is, without a fence around all of it."""
        if not isinstance(value, str):
            raise ValueError(f"expected source code, got {type(value).__name__}")
        found = _WHOLE.fullmatch(value)
        if found is not None and found[1] not in (found[2] or ""):
            return cls(found[2] or "")
        opened = _OPENED.match(value)
        return cls.from_text(value) if opened is not None and value.rstrip().endswith(opened[1]) else cls(value)

    def __str__(self) -> str:
        return str.__str__(self)

    def __repr__(self) -> str:
        return f"Code({str.__repr__(self)})"


def _blocks(text: str) -> list[tuple[str, str]]:
    """Return the language and the code of each fenced block; the last may lack the fence that ends it."""
    found: list[tuple[str, str]] = []
    at = 0
    while (opened := _OPENING.search(text, at)) is not None:
        mark = opened[1]
        closed = re.compile(rf"(?<!{mark[0]}){re.escape(mark)}[^\S\n]*$", re.MULTILINE).search(text, opened.end())
        end = closed.start() if closed is not None else len(text)
        code = text[opened.end() : end].removesuffix("\n") if closed is not None else text[opened.end() :]
        at = closed.end() if closed is not None else len(text)
        line = code.rpartition("\n")[2]
        code = code[: -len(line)].removesuffix("\n") if line and line.isspace() and len(line) <= 12 else code
        found.append((opened[2].strip().lower(), code))
    return found


def __getattr__(name: str) -> type[Code]:
    """Find the class of a language by its name, where pickles look for it: it is made when it is asked for."""
    found = _OF_LANGUAGE.fullmatch(name)
    if found is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return in_language(found[1])


@functools.lru_cache(maxsize=256)
def in_language(language: str) -> type[Code]:
    namespace = {
        "language": language,
        "in_words": f"{language} code in a fenced block: ```{language}, a new line, the code, a new line, ```",
        "__slots__": (),
        "__module__": Code.__module__,
    }
    return cast("type[Code]", type(f"Code[{language!r}]", (Code,), namespace))
