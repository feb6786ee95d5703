"""Modules: frozen values made of predictors, with paths, changed copies and inputs."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from dspex.errors import MissingInput, NotInRequest, ProgramFrozen
from dspex.programs import (
    ChainOfThought,
    Example,
    InputField,
    Module,
    OutputField,
    Predict,
    Retrieve,
    Signature,
    bind_inputs,
    inputs_of,
    pick_inputs,
)
from dspex.testing.scripted import ScriptedScope


class QA(Signature):
    """Answer."""

    question: str = InputField()
    answer: str = OutputField()


class RAG(Module):
    def __init__(self, k: int = 3) -> None:
        self.retrieve = Retrieve(k=k)
        self.answer = ChainOfThought(QA)

    async def forward(self, question: str, *, style: str = "short") -> QA:
        return await self.answer(question=question)


class Many(Module):
    def __init__(self) -> None:
        self.listed = [Predict(QA), RAG()]
        self.keyed = {"a": Predict(QA), "b": (Predict(QA),)}
        self.shared = self.listed[0]

    async def forward(self) -> None: ...


class TestFreezing:
    def test_assignment_after_init_is_refused_and_names_the_way_out(self) -> None:
        with pytest.raises(ProgramFrozen, match=r"RAG\.answer cannot be assigned.*with_lm"):
            RAG().answer = ChainOfThought(QA)
        with pytest.raises(ProgramFrozen):
            del RAG().answer
        with pytest.raises(ProgramFrozen):
            Predict(QA).lm = "x"

    def test_a_chain_of_classes_freezes_when_the_last_init_returns(self) -> None:
        class Better(RAG):
            def __init__(self) -> None:
                super().__init__(k=5)
                self.check = Predict(QA)

        class Same(Better): ...

        for program in (Better(), Same()):
            assert list(program.predictors()) == ["answer.predict", "check"]
            with pytest.raises(ProgramFrozen):
                program.check = Predict(QA)

    def test_a_module_without_init_is_frozen_too(self) -> None:
        class Plain(Module):
            async def forward(self) -> None: ...

        with pytest.raises(ProgramFrozen):
            Plain().x = 1

    def test_an_init_from_a_mixin_freezes(self) -> None:
        class Mixin:
            def __init__(self) -> None:
                self.x = 1

        class Mixed(Mixin, Module):
            async def forward(self) -> None: ...

        with pytest.raises(ProgramFrozen):
            Mixed().x = 2

    def test_changed_copies_are_frozen(self) -> None:
        with pytest.raises(ProgramFrozen):
            RAG().with_lm("x").answer = ChainOfThought(QA)

    def test_init_keeps_its_signature(self) -> None:
        assert RAG.__init__.__name__ == "__init__"
        with pytest.raises(TypeError, match="unexpected keyword argument 'q'"):
            RAG(q=1)  # type: ignore[call-arg]  # that is the point


class TestForward:
    def test_it_must_be_async(self) -> None:
        with pytest.raises(TypeError, match=r"Sync\.forward must be `async def`"):

            class Sync(Module):
                def forward(self, question: str) -> str:
                    return question

    def test_an_async_generator_is_refused(self) -> None:
        with pytest.raises(TypeError, match="async def"):

            class Gen(Module):
                async def forward(self) -> Any:
                    yield 1

    async def test_a_decorated_one_is_accepted(self) -> None:
        def logged(function: Callable[..., Any]) -> Callable[..., Any]:
            @functools.wraps(function)
            def wrapper(*args: Any, **kwargs: Any) -> Any:
                return function(*args, **kwargs)

            return wrapper

        class Logged(Module):
            @logged
            async def forward(self, x: int) -> int:
                return x + 1

        assert await ScriptedScope().run(Logged(), x=1) == 2

    async def test_it_may_be_called_only_in_a_request(self) -> None:
        with pytest.raises(NotInRequest, match="RAG was awaited outside"):
            await RAG()("q")


class TestPaths:
    def test_paths_follow_the_attributes(self) -> None:
        assert list(Many().predictors()) == ["listed[0]", "listed[1].answer.predict", "keyed['a']", "keyed['b'][0]"]

    def test_a_bare_predictor_is_self(self) -> None:
        predict = Predict(QA)
        assert predict.predictors() == {"self": predict}

    def test_repr_names_the_predictors(self) -> None:
        assert repr(RAG()) == "RAG(answer.predict)"

    def test_a_cycle_ends(self) -> None:
        class Loop(Module):
            def __init__(self) -> None:
                self.me = self
                self.ask = Predict(QA)

            async def forward(self) -> None: ...

        program = Loop()
        assert list(program.predictors()) == ["ask"]
        assert program.with_lm("x").predictors()["ask"].lm == "x"


class TestChangedCopies:
    def test_every_predictor_changes_and_the_original_does_not(self) -> None:
        program = Many()

        changed = program.with_lm("judge").with_config(temperature=1).with_demos([{"question": "q", "answer": "a"}])

        assert {each.lm for each in changed.predictors().values()} == {"judge"}
        assert {each.params.temperature for each in changed.predictors().values()} == {1}
        assert {len(each.demos) for each in changed.predictors().values()} == {1}
        assert {each.lm for each in program.predictors().values()} == {None}
        assert type(changed) is Many

    def test_a_shared_predictor_stays_shared(self) -> None:
        changed = Many().with_lm("judge")

        assert changed.shared is changed.listed[0]

    def test_demonstrations_by_path(self) -> None:
        program = Many().with_demos({"keyed['a']": [{"question": "q", "answer": "a"}]})

        assert [len(each.demos) for each in program.predictors().values()] == [0, 0, 1, 0]
        with pytest.raises(LookupError, match="no predictor at nope"):
            program.with_demos({"nope": []})
        assert len(Predict(QA).with_demos({"self": [{"question": "q"}]}).demos) == 1
        with pytest.raises(LookupError):
            Predict(QA).with_demos({"other": []})

    def test_replace_shares_the_rest(self) -> None:
        program = RAG()
        part = ChainOfThought(QA, lm="x")

        changed = program.replace({"answer": part})

        assert changed.answer is part
        assert changed.retrieve is program.retrieve
        assert program.answer is not part

    def test_replace_reaches_into_containers(self) -> None:
        part = Predict(QA, lm="x")

        changed = Many().replace({"keyed['b'][0]": part, "listed[1].answer": ChainOfThought(QA, lm="y")})

        assert [each.lm for each in changed.predictors().values()] == [None, "y", None, "x"]

    def test_replace_without_changes_is_the_program(self) -> None:
        program = RAG()
        assert program.replace({}) is program

    def test_an_unknown_path_is_named(self) -> None:
        with pytest.raises(LookupError, match=r"RAG has nothing at nope; it has retrieve, answer, answer\.predict"):
            RAG().replace({"nope": Predict(QA)})

    def test_a_part_is_a_module(self) -> None:
        with pytest.raises(TypeError, match="answer can be another Module, not 'gpt'"):
            RAG().replace({"answer": "gpt"})  # type: ignore[dict-item]  # on purpose


class TestInputs:
    def test_inputs_are_the_parameters_of_forward(self) -> None:
        spec = inputs_of(RAG())

        assert spec.names == ("question", "style")
        assert spec.required == {"question"}

    def test_inputs_of_predictors_are_those_of_the_signature(self) -> None:
        signature = QA.append("k", InputField(default=1), int)

        for program in (Predict(signature), ChainOfThought(signature)):
            assert inputs_of(program).names == ("question", "k")
            assert inputs_of(program).required == {"question"}

    @pytest.mark.parametrize(
        ("args", "kwargs", "bound"),
        [
            ((), {"question": "q"}, {"question": "q"}),
            (("q",), {}, {"question": "q"}),
            (("q",), {"style": "long"}, {"question": "q", "style": "long"}),
        ],
    )
    def test_fitting_inputs_are_bound_by_name(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], bound: Mapping[str, Any]
    ) -> None:
        assert bind_inputs(RAG(), args, kwargs) == bound

    @pytest.mark.parametrize(
        ("args", "kwargs", "message"),
        [
            ((), {}, "RAG: missing question"),
            ((), {"qestion": "q"}, "RAG: missing question; unexpected qestion; it takes question, style"),
            (("q", "long"), {}, "1 more by position"),
            (("q",), {"question": "q"}, "unexpected question twice"),
        ],
    )
    def test_others_are_named(self, args: tuple[Any, ...], kwargs: dict[str, Any], message: str) -> None:
        with pytest.raises(MissingInput, match=message):
            bind_inputs(RAG(), args, kwargs)

    def test_open_parameters_take_anything(self) -> None:
        class Open(Module):
            async def forward(self, a: int, **more: int) -> None: ...

        assert bind_inputs(Open(), (), {"a": 1, "b": 2}) == {"a": 1, "b": 2}
        with pytest.raises(MissingInput, match="missing a"):
            bind_inputs(Open(), (), {"b": 2})

    def test_rows_give_inputs_and_keep_labels(self) -> None:
        row = Example(question="q", answer="a")

        assert pick_inputs(RAG(), row) == {"question": "q"}
        with pytest.raises(MissingInput, match="row 7: RAG: missing question"):
            pick_inputs(RAG(), row.without("question"), where="row 7: ")

    def test_any_object_with_forward_is_a_program(self) -> None:
        class Other:
            async def forward(self, x: int) -> int:
                return x

        assert bind_inputs(Other(), (1,), {}) == {"x": 1}
        with pytest.raises(TypeError, match="int is not a program"):
            inputs_of(3)

    def test_a_module_without_forward_is_named(self) -> None:
        class Empty(Module): ...

        with pytest.raises(TypeError, match="Empty has no `async def forward`"):
            inputs_of(Empty())


class Passing(Module):
    """Passes on whatever the inner program takes."""

    def __init__(self, program: Any, spec: Any = None) -> None:
        self.program = program
        self.spec = spec

    def input_spec(self) -> Any:
        return self.spec if self.spec is not None else inputs_of(self.program)

    async def forward(self, *args: Any, **kwargs: Any) -> Any:
        return await self.program(*args, **kwargs)


def test_a_wrapper_says_whose_inputs_it_takes() -> None:
    """Inputs that do not fit are refused, and rows are picked, as for the inner program."""
    wrapper = Passing(Passing(Predict("question -> answer")))

    assert inputs_of(wrapper) == inputs_of(Predict("question -> answer"))
    assert pick_inputs(wrapper, {"question": "q", "label": 1}) == {"question": "q"}
    with pytest.raises(MissingInput) as caught:
        bind_inputs(wrapper, (), {"qestion": "q"})
    assert (caught.value.missing, caught.value.unexpected) == (("question",), ("qestion",))


def test_what_is_no_input_spec_is_said_early() -> None:
    """And an attribute of that name on somebody's own object is none of ours."""

    class Own:
        input_spec = "mine"

        async def forward(self, question: str) -> str:
            return question

    with pytest.raises(TypeError, match=r"Passing\.input_spec\(\) returned 'question', not an InputSpec"):
        inputs_of(Passing(Predict("q -> a"), spec="question"))
    assert inputs_of(Own()).names == ("question",)
