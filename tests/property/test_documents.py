"""No word of a document is lost on its way to passages, whatever its form."""

from __future__ import annotations

import html
import re

from hypothesis import given
from hypothesis import strategies as st

from dspex.services.documents.sections import DocumentSection, html_sections, markdown_sections

WORDS = st.text(st.sampled_from("abcdefgh"), min_size=1, max_size=6)
LINES = st.one_of(
    WORDS,
    st.just(""),
    st.builds(lambda level, word: f"{'#' * level} {word}", st.integers(1, 6), WORDS),
    st.builds(lambda word, mark: f"{word}\n{mark * 3}", WORDS, st.sampled_from("=-")),
    st.builds(lambda word: f"- {word}", WORDS),
    st.sampled_from(["```", "~~~", "    ", "> ", "---", "#", "####### no"]),
)
TAGS = st.sampled_from(
    ["p", "div", "h1", "h2", "h3", "ul", "li", "b", "i", "table", "tr", "td", "pre", "section", "br"]
)


@st.composite
def pages(draw: st.DrawFn) -> str:
    pieces = []
    for _ in range(draw(st.integers(0, 25))):
        tag, what = draw(TAGS), draw(st.sampled_from(["open", "close", "text"]))
        pieces.append({"open": f"<{tag}>", "close": f"</{tag}>", "text": html.escape(draw(WORDS)) + " "}[what])
    return "".join(pieces)


def words_of(sections: list[DocumentSection]) -> set[str]:
    return {word for each in sections for text in (*each.path, each.text) for word in re.findall(r"\w+", text)}


@given(st.lists(LINES, max_size=30).map("\n".join).filter(lambda text: not text.startswith("---")))
def test_no_word_of_markdown_is_lost(text: str) -> None:
    assert words_of(markdown_sections(text)) == set(re.findall(r"\w+", text))


@given(st.text(max_size=200))
def test_any_text_is_markdown(text: str) -> None:
    for each in markdown_sections(text):
        assert each.text.strip()


@given(pages())
def test_no_word_of_a_page_is_lost(page: str) -> None:
    shown = re.sub(r"</?\w+>", "\0", page)  # elements may stand in the middle of a word
    wanted = "".join(re.findall(r"\w", shown))
    found = html_sections(page)

    assert set(wanted) <= set("".join(words_of(found)))
    for word in re.findall(r"\w+", shown):
        assert any(word in text for each in found for text in (*each.path, each.text)), word


@given(st.text(max_size=200))
def test_any_text_is_a_page(text: str) -> None:
    for each in html_sections(text):
        assert each.text.strip()
