"""Lines that type checkers must accept, and the types they must see; checked by test_typing.py, never run."""

from collections.abc import Hashable, Mapping
from typing import Any, Literal, assert_type

import dspex
from dspex.programs import (
    ChainOfThought,
    ChatAdapter,
    Code,
    FieldType,
    File,
    History,
    Image,
    InputField,
    Module,
    OutputField,
    Predict,
    Prediction,
    Reasoning,
    Retrieve,
    Signature,
    ToolCalls,
    XMLAdapter,
)
from dspex.programs import details as details_of
from dspex.programs.fields import Field
from dspex.protocols.retrieval import Passage
from dspex.runtime import (
    Actor,
    ActorRef,
    ChildSpec,
    NamedSupervisorRef,
    NoSuchActor,
    Registration,
    Registry,
    Runtime,
)


class QA(Signature):
    """Answer the question from the passages."""

    passages: list[Passage] = InputField()
    question: str = InputField(desc="as the user typed it")
    style: Literal["short", "long"] = InputField(default="short")
    answer: str = OutputField(desc="a short phrase")
    confidence: float | None = OutputField(ge=0, le=1)


class RAG(Module):
    answer: Predict[QA]

    def __init__(self) -> None:
        self.retrieve = Retrieve("tickets", k=3)
        self.answer = Predict(QA)
        self.reason = ChainOfThought(QA)
        self.rate = Predict("answer -> score: int")

    async def forward(self, question: str) -> QA:
        passages = assert_type(await self.retrieve(question), list[Passage])
        first = assert_type(await self.answer(passages=passages, question=question), QA)
        await self.rate.with_lm("judge")(answer=first.answer)
        return await self.reason(passages=passages, question=question, style="long")


async def use(program: RAG) -> None:
    prediction = assert_type(await program("Who wrote it?"), QA)
    assert_type(await program(question="Who wrote it?"), QA)
    assert_type(prediction.answer, str)
    assert_type(prediction.confidence, float | None)
    assert_type(details_of(prediction).reasoning, str)
    assert_type(program.with_config(temperature=0.7), RAG)
    assert_type(program.load("rag.json"), RAG)

    rated: Prediction = await program.rate(answer="Ada")
    number: int = rated.score
    assert_type(number, int)

    asked = Predict(QA).with_demos([{"question": "q", "answer": "a"}]).with_config(temperature=1.0)
    assert_type((await asked(passages=[], question="q")).answer, str)
    reworded = Predict(QA.with_instructions("Be brief."))
    assert_type((await reworded(passages=[], question="q")).answer, str)

    record = QA(passages=[Passage("text")], question="q")
    record.answer = "Ada"
    assert_type(QA.instructions, str)
    assert_type(record.to_dict(), dict[str, Any])
    assert_type(QA.input_fields, Mapping[str, Field])
    extended = Predict(QA.append("hint", InputField()))
    assert_type(await extended(anything="goes"), Any)
    built = Predict(Signature.from_string("question -> answer"))
    assert_type(await built(question="q"), Prediction)


class Look(Signature):
    """Look at the picture."""

    picture: Image = InputField()
    pages: list[File] = InputField(default_factory=list)
    history: History = InputField(default_factory=History)
    code: Code[Literal["python"]] = OutputField()
    thoughts: Reasoning = OutputField()
    calls: ToolCalls = OutputField()


class Price(FieldType):
    def to_text(self) -> str:
        return "3.50 EUR"


async def look(picture: Image) -> None:
    ask = Predict(Look, adapter="json")
    await ask.with_adapter(XMLAdapter())(picture=picture, pages=[])
    seen = await ask(picture=picture)
    assert_type(seen.calls[0].name, str)
    text: str = seen.code
    assert_type(seen.history.with_turn(seen), History)
    assert_type(Image.from_file("cat.png", detail="low"), Image)
    reason = ChainOfThought(QA, adapter=ChatAdapter(json_fallback=False)).with_adapter(None)
    assert_type((await reason(passages=[], question="q")).answer, str)
    assert_type(text.upper() + Price().to_text(), str)


# --- the App and programs made of programs ------------------------------------------------------------------


class Ask(Signature):
    """Answer."""

    question: str = InputField()
    answer: str = OutputField()


class Bank:
    currency = "EUR"


def search(query: str, k: int = 3) -> list[str]:
    return [query] * k


async def balance(run: dspex.Run[Bank], name: str) -> str:
    return f"{name} {run.deps.currency} {run.deadline:g} {run.id}"


@dspex.tool(timeout=3, name="twice")
def double(number: int) -> int:
    return 2 * number


def reward(inputs: Mapping[str, Any], answer: Ask) -> float:
    return float(len(answer.answer) + len(inputs))


def check(inputs: Mapping[str, Any], answer: Ask) -> str | None:
    return None if answer.answer else f"no answer to {inputs}"


async def apps(app: dspex.App) -> None:
    ask = Predict(Ask)
    assert_type(dspex.App("openai/gpt-5-mini", adapter="json"), dspex.App)
    assert_type(await app.run(ask, question="q"), Ask)
    assert_type(await app.options(deadline=3).start(ask, question="q"), Ask)
    assert_type(await app.start(ask, question="q"), Ask)
    assert_type(await app.bind(ask)(question="q"), Ask)
    assert_type(await app.run(dspex.BestOfN(ask, 3, reward), question="q"), Ask)
    assert_type(await app.run(dspex.Refine(ChainOfThought(Ask), 3, reward, 0.5), question="q"), Ask)
    assert_type(await app.run(dspex.Retry(ask, check), question="q"), Ask)
    assert_type(await app.run(dspex.MultiChainComparison(Ask), question="q"), Ask)
    assert_type(await app.run(dspex.Ensemble([ask, ask]), question="q"), Ask)
    assert_type(dspex.majority(["a", "b"]), str)
    agent = dspex.ReAct(Ask, [search, dspex.tool(balance, idempotent=True)], max_steps=3, answer_in_finish=True)
    assert_type(await app.options(deps=Bank()).run(agent, question="q"), Ask)
    assert_type(dspex.ReAct("q -> a", tools=[search]), dspex.ReAct[dspex.Prediction, ...])
    assert_type(await app.run(dspex.ProgramOfThought(Ask), question="q"), Ask)
    assert_type(dspex.tool(search)("q", k=2), list[str])
    assert_type(double(3), int)
    async with dspex.mcp_tools(app, ["server"]) as tools:
        assert_type(tools[0], dspex.Tool[..., Any])
    async with app.stream(ask, question="q") as stream:
        async for piece in stream:
            assert_type(piece, dspex.Delta | dspex.Reset)
        assert_type(await stream.result(), Ask)
    async with app.map(ask, [{"question": "q"}]) as results:
        async for result in results:
            match result:
                case dspex.Ok(value=value):
                    assert_type(value, Ask)
                case dspex.Failed(reason=reason):
                    assert_type(reason, Exception)
    with app.sync() as sync:
        assert_type(sync.run(ask, question="q"), Ask)
        assert_type(sync.start(ask, question="q").result(), Ask)
        assert_type(sync.bind(ask)(question="q"), Ask)


class Room(Actor):
    """An actor of somebody's own."""


async def address(runtime: Runtime) -> None:
    registry = Registry()
    rooms = assert_type(runtime.named_supervisor("rooms"), NamedSupervisorRef)
    spec = ChildSpec("room", Room, name="room", via=registry.via("room"))
    assert_type(await rooms.start_child(spec), ActorRef)
    assert_type(await rooms.start_or_get(spec), ActorRef)
    assert_type((await rooms.which_children())[0].ref, ActorRef | None)
    await rooms.terminate(await runtime.start_or_get(Room(), via=registry.via(7), timeout=1.0))
    assert_type(registry.keys(), tuple[Hashable, ...])
    for entry in registry.select(lambda key, ref, value: value > 1 and ref.alive):
        assert_type(entry, Registration)
    assert_type(registry.count(), int)
    try:
        await runtime.named("room", patient=True).call("x")
    except NoSuchActor as error:
        assert_type(error.nearest, tuple[str, ...])


async def settings(program: RAG) -> None:
    lm = dspex.LM("openai/m", headers={"x-tenant": "t"}, temperature=0.5, stop=["x"], extra_body={"top_k": 3})
    assert_type(lm.params.max_tokens, int | None)
    assert_type(await Predict(QA, temperature=0.7, repair_turns=0)(passages=[], question="q"), QA)
    assert_type(program.with_config(n=3, extra_body={"top_k": 3}), RAG)


async def reports(app: dspex.App) -> None:
    view = app.options(deadline=3, lm="judge", adapter="json", cache="refresh", deps=Bank(), on_interrupt="reset")
    report = assert_type(await view.evaluate(Predict(Ask), [], dspex.exact_match()), dspex.Report[Ask])
    assert_type(report.scored[0].value.answer, str)
    untyped: dspex.Report = report
    assert_type(untyped.score, float)
