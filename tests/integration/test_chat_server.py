"""The chat server of the page on plain asyncio, over real sockets, with rooms that are killed."""

from __future__ import annotations

import asyncio
import importlib.util
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from dspex.runtime import KILLED, Application, DynamicSupervisorRef, ProcessRef, Runtime, tree
from dspex.testing import assert_no_leaks
from tests.docs._pages import read_page

PAGE = Path(__file__).parents[2] / "docs" / "runtime" / "plain-asyncio.md"
ROUNDS = 20


@pytest.fixture
def chat(tmp_path: Path) -> Any:
    """The module that a reader of the page would write."""
    (code,) = [block.code for block in read_page(PAGE).blocks if "class Door" in block.code]
    path = tmp_path / "chat.py"
    path.write_text(code, encoding="utf-8")
    spec = importlib.util.spec_from_file_location("chat", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Client:
    """Somebody at the other end of a socket."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def say(self, line: str) -> None:
        self.writer.write(f"{line}\n".encode())

    async def hear(self) -> str:
        return (await self.reader.readline()).decode().strip()

    async def join(self, room: str) -> None:
        self.say(f"/join {room}")
        assert await self.hear() == f"you are in {room}"

    async def leave(self) -> None:
        self.writer.close()
        await self.writer.wait_closed()


class Server:
    """A running chat server."""

    def __init__(self, chat: Any, application: Application) -> None:
        self.chat = chat
        self.runtime: Runtime = application.runtime
        self.port = 0
        self.clients: list[Client] = []

    async def client(self, room: str | None = None) -> Client:
        client = Client(*await asyncio.open_connection("127.0.0.1", self.port))
        self.clients.append(client)
        if room is not None:
            await client.join(room)
        return client

    def room(self, name: str) -> ProcessRef:
        """Return the room's actor, this incarnation of it."""
        (entry,) = self.chat.rooms.lookup(name)
        ref: ProcessRef = entry.ref
        return ref


@asynccontextmanager
async def serving(chat: Any) -> AsyncIterator[Server]:
    async with assert_no_leaks(), chat.chat() as application:
        server = Server(chat, application)
        server.port = await application.runtime.named("door").call("port")
        try:
            yield server
        finally:
            for client in server.clients:
                await client.leave()


async def test_clients_talk(chat: Any) -> None:
    """Everybody in a room hears everything that is said there, in one order; nobody else does."""
    async with serving(chat) as server:
        birds = [await server.client("birds") for _ in range(5)]
        fish = await server.client("fish")
        for number, client in enumerate(birds):
            client.say(f"line {number}")
        heard = [[await client.hear() for _ in birds] for client in birds]
        assert all(each == heard[0] for each in heard)
        assert sorted(heard[0]) == [f"guest {number + 1}: line {number}" for number in range(5)]
        fish.say("blub")
        assert await fish.hear() == "guest 6: blub"
        stranger = await server.client()
        stranger.say("hello?")
        assert await stranger.hear() == "first /join a room"
        await birds[0].join("fish")
        fish.say("another one")
        assert await birds[0].hear() == "guest 6: another one"
    assert (len(chat.rooms), len(chat.members)) == (0, 0)


async def test_a_room_is_killed_and_everybody_goes_on(chat: Any) -> None:
    """Again and again: each time it comes back under its key, its guests still in it, and no line is lost."""
    async with serving(chat) as server:
        rooms = server.runtime.whereis("rooms")
        assert rooms is not None
        rooms._process.actor._window.intensity = ROUNDS  # type: ignore[attr-defined]  # it is a supervisor's: many kills in a few seconds
        clients = [await server.client("birds") for _ in range(3)]
        for number in range(ROUNDS):
            before = server.room("birds")
            before.kill()
            clients[number % 3].say(f"line {number}")
            for client in clients:
                assert await client.hear() == f"guest {number % 3 + 1}: line {number}"
            assert before.exit_reason == KILLED
            assert server.room("birds") != before
        assert await chat.rooms.via("birds").call("last lines") == [f"guest {(ROUNDS - 1) % 3 + 1}: line {ROUNDS - 1}"]


async def test_a_hundred_enter_a_room_at_once(chat: Any) -> None:
    """One of them starts it."""
    async with serving(chat) as server:
        clients = [await server.client() for _ in range(100)]
        for client in clients:
            client.say("/join birds")
        for client in clients:
            assert await client.hear() == "you are in birds"
        assert chat.rooms.keys() == ("birds",)
        assert chat.members.count() == 100
        counts = await server.runtime.named_supervisor("rooms").count_children()
        assert (counts.specs, counts.active) == (1, 1)


async def test_the_rooms_supervisor_is_killed(chat: Any) -> None:
    """It comes back without its rooms; whoever speaks next opens them again."""
    async with serving(chat) as server:
        ann, bob = await server.client("birds"), await server.client("fish")
        supervisor = server.runtime.whereis("rooms")
        assert supervisor is not None
        supervisor.kill()
        ann.say("still here")
        assert await ann.hear() == "guest 1: still here"
        bob.say("so am I")
        assert await bob.hear() == "guest 2: so am I"
        assert set(chat.rooms.keys()) == {"birds", "fish"}


async def test_a_guest_that_is_killed_loses_its_connection_and_nothing_else(chat: Any) -> None:
    """And one who hangs up leaves the room."""
    async with serving(chat) as server:
        ann, bob, eve = [await server.client("birds") for _ in range(3)]
        (first,) = chat.members.select(lambda key, ref, value: ref._process.actor.name == "guest 1")
        first.ref.kill()
        assert await ann.reader.read() == b""
        guests = [entry.ref for entry in chat.members.lookup("birds")]
        await eve.leave()
        for ref in guests:
            if ref._process.actor.name == "guest 3":
                await ref.wait_exit()
        bob.say("anybody?")
        assert await bob.hear() == "guest 2: anybody?"
        assert chat.members.count() == 1
        supervisor = server.runtime.whereis("guests")
        assert isinstance(supervisor, DynamicSupervisorRef)
        assert len(await supervisor.which_children()) == 1
        assert [node.label for node in tree(supervisor._process).walk()][1:] == ["guest#2"]


async def test_the_door_is_killed_and_the_guests_stay(chat: Any) -> None:
    """A new one opens, at another port if it was given none; who is inside does not notice."""
    async with serving(chat) as server:
        ann = await server.client("birds")
        door = server.runtime.whereis("door")
        assert door is not None
        door.kill()
        await door.wait_exit()
        server.port = await server.runtime.named("door").call("port")
        bob = await server.client("birds")
        bob.say("hello")
        assert await ann.hear() == await bob.hear() == "guest 1: hello"
