"""Values that a model writes as nested elements where JSON was asked for."""

from __future__ import annotations

import datetime as dt
import enum
from typing import Any, Literal
from xml.sax.saxutils import escape

import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspex.errors import ResponseUnparsable
from dspex.programs import ChatAdapter, Parsed, Repair, Signature, XMLAdapter


class Kind(enum.Enum):
    GOOD = "good"
    FIRST = 1


class Person(pydantic.BaseModel):
    name: str
    age: int | None = None
    tags: list[str] = []
    born: dt.date | None = None


class Team(pydantic.BaseModel):
    title: str
    people: list[Person]
    boss: Person | None = None
    kind: Kind = Kind.GOOD
    level: Literal["low", 2] = "low"


def read(annotation: Any, text: str) -> tuple[Any, str]:
    """Return what the XML format reads between the tags of its one output, and the repair it took."""
    signature = Signature.from_string("question -> out: Wanted", types={"Wanted": annotation})
    parsed = XMLAdapter().parse(signature, f"<out>\n{text}\n</out>")
    return parsed.outputs["out"], "".join(repair.kind for repair in parsed.repairs)


ADA = Person(name="Ada")


@pytest.mark.parametrize(
    ("annotation", "text", "value"),
    [
        pytest.param(
            Person,
            "<name>Ada</name><age>36</age><tags><item>x</item><item>y &amp; z & w</item></tags><born>1815-12-10</born>",
            Person(name="Ada", age=36, tags=["x", "y & z & w"], born=dt.date(1815, 12, 10)),
            id="the fields of a model",
        ),
        pytest.param(Person, "<Person><name>Ada</name><age/></Person>", ADA, id="in an element of its own"),
        pytest.param(Person, '<Person name="Ada" age="3"/>', Person(name="Ada", age=3), id="as attributes"),
        pytest.param(
            Person, "<name>Ada</name><tags>a</tags><tags>b</tags>", Person(name="Ada", tags=["a", "b"]), id="repeated"
        ),
        pytest.param(Person, '<name>Ada</name><tags>["a"]</tags>', Person(name="Ada", tags=["a"]), id="JSON inside"),
        pytest.param(list[Person], "<item><name>Ada</name></item><item><name>Bo</name></item>",
                     [ADA, Person(name="Bo")], id="a list"),
        pytest.param(list[Person], "<person><name>Ada</name></person>", [ADA], id="a list of one"),
        pytest.param(
            Team,
            "<title>t</title><people><p><name>Ada</name></p></people><boss>null</boss><kind>1</kind><level>2</level>",
            Team(title="t", people=[ADA], kind=Kind.FIRST, level=2),
            id="models in models",
        ),
        pytest.param(Person | Team, "<title>t</title><people/>", Team(title="t", people=[]), id="one of several"),
        pytest.param(Person | None, "<name>Ada</name>", ADA, id="what may be missing"),
        pytest.param(dict[str, int], '<a>1</a><entry key="b c">2</entry>', {"a": 1, "b c": 2}, id="a mapping"),
        pytest.param(dict[str, Any], "<a>1</a><b><c>2</c><c>3</c></b>", {"a": "1", "b": {"c": ["2", "3"]}}, id="open"),
        pytest.param(tuple[int, str], "<i>1</i><i>2</i>", (1, "2"), id="a tuple"),
        pytest.param(int, "<n>1</n>", 1, id="a number"),
    ],
)  # fmt: skip
def test_nested_elements_are_read(annotation: Any, text: str, value: Any) -> None:
    """By the type's schema, and reported as a repair."""
    assert read(annotation, text) == (value, "xml")


@pytest.mark.parametrize(
    ("annotation", "text"),
    [
        pytest.param(list[str], "<p>Hello <b>you</b></p>", id="markup where a text belongs"),
        pytest.param(list[int], "<i>a</i>", id="another type"),
        pytest.param(Person, "<name>Ada", id="not closed"),
        pytest.param(Person, "<a>" * 20_000 + "</a>" * 20_000, id="too deep"),
        pytest.param(Person, '<!DOCTYPE x [<!ENTITY a "Ada">]><name>&a;</name>', id="entities of its own"),
        pytest.param(Person | Team, "<other>1</other>", id="none of several"),
    ],
)
def test_other_elements_are_no_value(annotation: Any, text: str) -> None:
    """An error is told as it is told of any other text."""
    with pytest.raises(ResponseUnparsable) as caught:
        read(annotation, text)

    assert list(caught.value.invalid_fields) == ["out"]


def test_texts_stay_texts() -> None:
    """Markup is a text where a text is wanted, and what reads as JSON is not looked at twice."""
    assert read(str, "<b>Ada</b>") == ("<b>Ada</b>", "")
    assert read(Person, '{"name": "<b>Ada</b>"}') == (Person(name="<b>Ada</b>"), "")


def test_every_format_reads_them_and_streams_tell_them() -> None:
    """A model that goes on with tags in another format is understood there too, however its answer is cut."""
    signature = Signature.from_string("question -> out: list[Person]", types={"Person": Person})
    body = "<person><name>Ada</name></person>"

    for adapter, answer in (
        (ChatAdapter(), f"[[ ## out ## ]]\n{body}\n[[ ## completed ## ]]"),
        (XMLAdapter(), f"<out>{body}</out>"),
    ):
        assert adapter.parse(signature, answer) == Parsed({"out": [ADA]}, (Repair("out", "xml"),))
        parser = adapter.stream_parser(signature)
        pieces = [piece for letter in answer for piece in parser.feed(letter)] + parser.finish()
        assert "".join(piece.text for piece in pieces) == body
        assert pieces[-1].value_so_far == [ADA]


NAMES = (
    st.text("abcdefgh <>&'\"é", min_size=1, max_size=8).map(str.strip).filter(bool).filter(lambda text: text != "null")
)
PEOPLE = st.builds(
    Person, name=NAMES, age=st.none() | st.integers(), tags=st.lists(NAMES, max_size=3), born=st.none() | st.dates()
)
TEAMS = st.builds(
    Team,
    title=NAMES,
    people=st.lists(PEOPLE, max_size=3),
    boss=st.none() | PEOPLE,
    kind=st.sampled_from(Kind),
    level=st.sampled_from(["low", 2]),
)


def as_elements(value: Any, name: str) -> str:
    """Write a JSON value as a model would that was shown nothing but tags."""
    if value is None:
        return f"<{name}/>"
    inner = escape(str(value))
    if isinstance(value, dict):
        inner = "".join(as_elements(each, key) for key, each in value.items())
    elif isinstance(value, list):
        inner = "".join(as_elements(each, "item") for each in value)
    return f"<{name}>{inner}</{name}>"


@given(team=TEAMS)
def test_what_elements_can_say_is_read_back(team: Team) -> None:
    """Any models with named fields, lists, choices, and nothing for what is missing."""
    value, _ = read(Team, as_elements(team.model_dump(mode="json"), "team"))

    assert value == team
