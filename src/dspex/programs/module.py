"""Modules: programs as values, made of predictors and other modules."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Protocol, Self, TypeVar, Unpack, cast

from typing_extensions import ParamSpec

from dspex.errors import NotInRequest, ProgramFrozen, StateError
from dspex.programs import _paths, _state
from dspex.programs.inputs import InputSpec, inputs_of, spec_of_function
from dspex.protocols.json_values import JsonDict
from dspex.protocols.model import LMChoice
from dspex.protocols.params import PredictorConfig
from dspex.protocols.scope import FieldValues, current_scope
from dspex.telemetry import Telemetry

if TYPE_CHECKING:
    from dspex.programs.adapters._choose import AdapterChoice
    from dspex.programs.predict import Predict

__all__ = ["Module", "Program"]

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)

Demo = FieldValues
"""A demonstration: field values by name, each of its field's type."""


class Program(Protocol[P, R_co]):
    """Anything with an async ``forward``: what an App runs, with its parameters and its result typed."""

    async def forward(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Run the program."""
        ...


class Module:
    """
    Base of programs: assign predictors and modules in ``__init__``, use them in ``async def forward``.

    A module freezes when its ``__init__`` returns. Changed copies come from ``with_lm``, ``with_demos``,
    ``with_config``, ``replace`` and ``load``; the original, which other requests may be running, never changes.

    Raises:
        TypeError: At class creation, when ``forward`` is not ``async def``.
        ProgramFrozen: On assignment after ``__init__``.
    """

    is_predictor: ClassVar[bool] = False
    """True for a leaf with a signature and state, as ``predictors`` lists them."""

    is_agent: ClassVar[bool] = False
    """True where a model decides what is done next: traces call its runs ``invoke_agent``."""

    def __init_subclass__(cls, **keywords: object) -> None:  # keywords are for other bases
        """Check ``forward``, and make ``__init__`` freeze what it has built."""
        super().__init_subclass__(**keywords)
        forward = cls.__dict__.get("forward")
        if forward is not None and not inspect.iscoroutinefunction(inspect.unwrap(forward)):
            raise TypeError(f"{cls.__name__}.forward must be `async def`: programs await their predictors")
        if not getattr(cls.__init__, "_freezes_", False):
            cls.__init__ = _freezing(cls.__init__)  # type: ignore[method-assign]  # the wrapper has its signature

    def __setattr__(self, name: str, value: object) -> None:
        if "_frozen" in self.__dict__:
            raise ProgramFrozen(type(self).__name__, name)
        object.__setattr__(self, name, value)

    def __delattr__(self, name: str) -> None:
        if "_frozen" in self.__dict__:
            raise ProgramFrozen(type(self).__name__, name)
        object.__delattr__(self, name)

    def __call__(self: Program[P, R], *args: P.args, **kwargs: P.kwargs) -> Coroutine[object, None, R]:
        """
        Run the program as a part of the running request: ``await self.answer(question=question)``.

        Raises:
            NotInRequest: There is no running request; use ``app.run(program, ...)``.
        Cancellation: what ``forward`` awaits is cancelled.
        """
        scope = current_scope.get(None)
        if scope is None:
            raise NotInRequest(type(self).__name__)
        telemetry = scope.telemetry
        if telemetry is None or not telemetry.active or getattr(self, "is_predictor", False):
            return self.forward(*args, **kwargs)
        return _observed(self, telemetry, args, kwargs)

    # --- looking inside ---------------------------------------------------------------------------------------

    def predictors(self) -> dict[str, Predict]:
        """
        Return the predictors by path, in the order of the attributes.

        Paths are dotted (``answer.predict``), with ``[0]`` and ``['key']`` for elements of lists and dicts. A
        predictor used in several places is listed once. For a bare predictor the path is ``self``.
        """
        if self.is_predictor:
            return {"self": cast("Predict", self)}
        found = {path: module for path, module in _paths.walk(self, Module) if module.is_predictor}
        return cast("dict[str, Predict]", found)

    def input_spec(self) -> InputSpec:
        """
        Return the inputs of the program: the parameters of ``forward``, worked out once per class.

        A module whose ``forward`` has ``*args, **kwargs`` overrides this and says whose inputs they are, for example
        with ``return inputs_of(self.program)``; then inputs that do not fit are refused before anything is paid.
        """
        cls = type(self)
        spec: InputSpec | None = cls.__dict__.get("_input_spec_")
        if spec is None:
            forward = getattr(cls, "forward", None)
            if forward is None:
                raise TypeError(f"{cls.__name__} has no `async def forward`")
            spec = spec_of_function(forward)
            cls._input_spec_ = spec  # type: ignore[attr-defined]  # a memo of this very class
        return spec

    # --- changed copies ---------------------------------------------------------------------------------------

    def replace(self, parts: Mapping[str, Module]) -> Self:
        """
        Return a program with other parts at these paths, sharing the rest.

        Args:
            parts: Modules or predictors by path: ``{"answer": ChainOfThought(Other)}``.

        Raises:
            LookupError: The program has no module at a path.
            TypeError: A part is not a Module.
        """
        modules = dict(_paths.walk(self, Module))
        unknown = [path for path in parts if path not in modules]
        if unknown:
            known = ", ".join(modules) or "no modules inside"
            raise LookupError(f"{type(self).__name__} has nothing at {', '.join(unknown)}; it has {known}")
        for path, part in parts.items():
            if not isinstance(part, Module):
                raise TypeError(f"{path} can be another Module, not {part!r:.60}")
        return _paths.substitute(self, {id(modules[path]): part for path, part in parts.items()}, Module)

    def with_lm(self, lm: LMChoice) -> Self:
        """Return a program whose predictors all ask ``lm``: a record, a name of the App's, or None for its default."""
        return self._with_predictors(lambda _, predictor: predictor.with_lm(lm))

    def with_demos(self, demos: Sequence[Demo] | Mapping[str, Sequence[Demo]]) -> Self:
        """
        Return a program whose predictors show these demonstrations.

        Args:
            demos: One sequence for every predictor, or sequences by path; predictors not named keep theirs.

        Raises:
            LookupError: The program has no predictor at a path.
        """
        if not isinstance(demos, Mapping):
            same: Sequence[Demo] = demos
            return self._with_predictors(lambda _, predictor: predictor.with_demos(same))
        predictors = self.predictors()
        unknown = [path for path in demos if path not in predictors]
        if unknown:
            raise LookupError(f"no predictor at {', '.join(unknown)}; there are {', '.join(predictors)}")
        return self.replace({path: predictors[path].with_demos(each) for path, each in demos.items()})

    def with_config(self, **config: Unpack[PredictorConfig]) -> Self:
        """Return a program whose predictors sample with these parameters (``temperature=0.7``, ``repair_turns=0``)."""
        return self._with_predictors(lambda _, predictor: predictor.with_config(**config))

    def with_adapter(self, adapter: AdapterChoice) -> Self:
        """
        Return a program whose predictors all put their signatures to the model in this format.

        Args:
            adapter: ``auto``, ``chat``, ``json``, ``xml``, ``tool``, an Adapter, or None for the App's.

        Raises:
            ValueError: There is no such adapter.
        """
        return self._with_predictors(lambda _, predictor: predictor.with_adapter(adapter))

    def _with_predictors(self, change: Callable[[str, Predict], Predict]) -> Self:
        changes = {id(predictor): change(path, predictor) for path, predictor in self.predictors().items()}
        return _paths.substitute(self, cast("dict[int, Module]", changes), Module)

    # --- state ------------------------------------------------------------------------------------------------

    def dump_state(self) -> JsonDict:
        """Return instructions, demonstrations, models and parameters as JSON values; keys are left out."""
        return _state.dump(self.predictors())

    def load_state(self, state: Mapping[str, object], *, allow_api_base: bool = False) -> Self:
        """
        Return a program with a dumped state; this one is untouched.

        Args:
            state: The return value of ``dump_state``, or the content of a file saved by DSPy 3.
            allow_api_base: Take server addresses from the state too; they decide who is sent your key.

        Raises:
            StateError: The state is damaged or belongs to another program.
        """
        predictors = self.predictors()
        loaded = _state.load(predictors, state, allow_api_base=allow_api_base)
        return _paths.substitute(
            self, {id(predictors[path]): cast("Module", predictor) for path, predictor in loaded.items()}, Module
        )

    def save(self, path: str | Path, *, overwrite: bool = False) -> None:
        """
        Write ``dump_state`` to a JSON file; the file is either the old one or the whole new one.

        Args:
            path: The file; a missing folder is made. An older state of the same program is replaced.
            overwrite: True replaces any other file too.

        Raises:
            TargetExists: Something else stands there; it is untouched.
            FileError: It cannot be written.
            StateError: A demonstration has no JSON form.
        """
        _state.write(Path(path), self.dump_state(), overwrite=overwrite)

    def load(self, path: str | Path, *, allow_api_base: bool = False) -> Self:
        """
        Return a program with the state of a JSON file: ``RAG().load("rag.json")``; this one is untouched.

        Args:
            path: A file written by ``save``, or by DSPy 3.
            allow_api_base: Take server addresses from the file too; they decide who is sent your key.

        Raises:
            StateError: The file is damaged, or belongs to another program; the message names it.
            FileMissing, FileError: It is not there, or cannot be read.
        """
        state = _state.read(Path(path))
        try:
            return self.load_state(state, allow_api_base=allow_api_base)
        except StateError as error:
            raise StateError(f"{path}: {error}") from error

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(self.predictors())})"


def _freezing(init: Callable[..., None]) -> Callable[..., None]:
    """Wrap ``__init__``: the one that the object's own class resolves to freezes, those it calls do not."""

    @functools.wraps(init)
    def freezing_init(self: Module, *args: object, **kwargs: object) -> None:
        init(self, *args, **kwargs)
        if type(self).__init__ is freezing_init:
            object.__setattr__(self, "_frozen", True)

    freezing_init._freezes_ = True  # type: ignore[attr-defined]  # how a subclass knows that it need not wrap again
    return freezing_init


async def _observed(
    module: Program[..., R], telemetry: Telemetry, args: tuple[object, ...], kwargs: Mapping[str, object]
) -> R:
    """Run a module's ``forward`` as a span; what is given by position is told by its parameters' names."""
    names = inputs_of(module).names if telemetry.captures else ()
    inputs = {**dict(zip(names, args, strict=False)), **kwargs}
    about = {"module": type(module).__name__, "agent": getattr(module, "is_agent", False)}
    with telemetry.within("dspex.module", about, inputs) as span:
        span.outputs = found = await module.forward(*args, **kwargs)
        return found
