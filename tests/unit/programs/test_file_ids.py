"""A file that the provider has already is named by its id, in each protocol's own words."""

from __future__ import annotations

import pytest

from dspex.errors import RequestRejected
from dspex.programs import File
from dspex.protocols.lm import LMRequest, Message
from dspex.services.lm.wires.anthropic.request import message_fields
from dspex.services.lm.wires.chat.request import chat_messages
from dspex.services.lm.wires.gemini.request import content_fields
from dspex.services.lm.wires.responses.request import response_fields

FILE = File.from_id("file-abc")
TURN = Message("user", (FILE,))


def test_the_id_is_sent_as_each_protocol_has_it() -> None:
    assert chat_messages([TURN])[0]["content"] == [{"type": "file", "file": {"file_id": "file-abc"}}]
    item = response_fields("m", LMRequest((TURN,)))["input"][0]
    assert item["content"] == [{"type": "input_file", "file_id": "file-abc"}]
    turn = message_fields("m", LMRequest((TURN,)), stream=False)["messages"][0]
    assert turn["content"][0]["source"] == {"type": "file", "file_id": "file-abc"}
    with pytest.raises(RequestRejected, match="from_url"):
        content_fields("m", LMRequest((TURN,)))


def test_an_id_survives_json() -> None:
    assert File.from_json(FILE.to_json()) == FILE
    assert FILE.provider_id == "file-abc"
    assert File.from_url("https://x.org/a.pdf").provider_id == ""
    for wrong in ("", "a b"):
        with pytest.raises(ValueError, match="not the id of a file"):
            File.from_id(wrong)
