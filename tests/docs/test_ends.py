"""The page on providers shows users the table of ends as the code has it."""

from __future__ import annotations

import re
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from dspex.protocols.ends import ENDS, MISSING, end_of, finish_word

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "providers.md"
TITLES = {
    "chat": "chat completions",
    "responses": "Responses",
    "anthropic": "Anthropic",
    "gemini": "Gemini",
    "bedrock": "Bedrock",
}


def test_the_page_has_every_word_of_the_table() -> None:
    rows = re.findall(
        r"^\| (.+?) \(.*?\) \| (whole|cut|paused|refused|broken) \| (.+) \|$", PAGE.read_text("utf-8"), re.MULTILINE
    )
    shown = {(title, word): end for title, end, words in rows for word in re.findall(r"`([^`]+)`", words)}

    assert shown == {(TITLES[name], word): end for name, words in ENDS.items() for word, end in words.items()}


def test_the_page_tells_what_no_reason_means() -> None:
    table = PAGE.read_text("utf-8").partition("| protocol, no reason |")[2].partition("\n\n")[0]
    rows = re.findall(r"^\| (.+?) \| (\w+) \| (\w+) \|$", table, re.MULTILINE)
    shown = {title: (some, none) for title, some, none in rows}

    assert shown == {TITLES[name]: ends for name, ends in MISSING.items()}


def test_a_word_means_the_same_in_every_protocol() -> None:
    """Gateways pass on the words of others."""
    meanings: dict[str, set[str]] = {}
    for words in ENDS.values():
        for word, end in words.items():
            meanings.setdefault(word, set()).add(end)

    assert {word: ends for word, ends in meanings.items() if len(ends) > 1} == {}


@given(word=st.text(max_size=40))
def test_our_word_has_the_same_end(word: str) -> None:
    """Ours are what programs see; translating changes no meaning, and happens once."""
    ours = finish_word(word)

    assert end_of(ours) == (end_of(word) if word else "whole")
    assert finish_word(ours) == ours or ours == "unknown"


def test_new_words_are_whole_only_where_they_say_so() -> None:
    words = {"eos_reached": "whole", "stopped": "whole", "output_limit": "cut", "safety_block": "refused"}
    words |= {"upstream_error": "broken", "something_new": "broken", "pause_for_tool": "paused"}

    assert {word: end_of(word) for word in words} == words
