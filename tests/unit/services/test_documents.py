"""Files become passages, or errors that name them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dspex import Passage
from dspex.errors import ConfigError, DocumentError
from dspex.retrieval import Documents, ReadLimits
from tests.support.pdfs import packed_bomb, pdf

MARKDOWN = """---
title: "The handbook"
---
Before all.

# Travel
Book early.

## By train
A ticket is paid back.

```
# not a heading
```

By plane
--------
Ask first.

### Nothing below
"""
HTML = """<!doctype html><html><head><title>Shop</title><style>p {}</style></head><body><script>var x = 1</script>
<h1>Returns</h1><p>Within <b>30</b> days.</p><h2>How</h2><ul><li>Write</li><li>Send</li></ul>
<pre>a
  b</pre><table><tr><td>1</td><td>2</td></tr></table><!-- hidden --></body></html>"""


def read(*paths: Path, **options: object) -> list[Passage]:
    return list(Documents(*paths, **options))  # type: ignore[arg-type]  # handed on


def write(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def problem(path: Path, **options: object) -> str:
    with pytest.raises(DocumentError) as caught:
        read(path, **options)
    assert caught.value.path == str(path)
    return str(caught.value).removeprefix(f"{path}: ")


# --- each kind ------------------------------------------------------------------------------------------------


def test_markdown_has_the_headings_above_each_passage(tmp_path: Path) -> None:
    path = write(tmp_path, "a.md", MARKDOWN)

    assert [(each.title, each.text) for each in read(path)] == [
        ("The handbook", "Before all."),
        ("The handbook > Travel", "Book early."),
        ("The handbook > Travel > By train", "A ticket is paid back.\n\n```\n# not a heading\n```"),
        ("The handbook > Travel > By plane", "Ask first."),
        ("The handbook > Travel > By plane > Nothing below", "Nothing below"),
    ]
    assert {str(each.metadata["source"]) for each in read(path)} == {path.as_posix()}


def test_html_has_headings_and_what_a_reader_sees(tmp_path: Path) -> None:
    found = read(write(tmp_path, "a.html", HTML))

    assert [(each.title, each.text) for each in found] == [
        ("Shop > Returns", "Within 30 days."),
        ("Shop > Returns > How", "Write\n\nSend\n\na\n  b\n\n1\t2"),
    ]


def test_a_pdf_has_pages(tmp_path: Path) -> None:
    path = write(tmp_path, "a.pdf", pdf(["One.", "", "Three."], title="A report"))
    documents = Documents(path)

    found = [(each.title, each.text, each.metadata["page"]) for each in documents]

    assert found == [("A report", "One.", 1), ("A report", "Three.", 3)]
    assert documents.notes == [f"{path}: 1 of 3 pages hold no text"]


def test_long_text_is_split_between_sentences(tmp_path: Path) -> None:
    text = " ".join(f"Sentence number {number} stands here." for number in range(100))

    found = read(write(tmp_path, "long.txt", text), least=100, most=200)

    assert all(each.text.endswith("here.") and 100 <= len(each.text) <= 200 for each in found[:-1])
    assert " ".join(each.text for each in found) == text
    assert {each.title for each in found} == {"long"}


def test_encodings_by_mark_by_name_and_by_the_page_itself(tmp_path: Path) -> None:
    for name, content in (
        ("mark.txt", "grün".encode("utf-16")),
        ("page.html", '<meta charset="iso-8859-1"><p>grün \N{EN DASH} 5 €'.encode("cp1252")),
        ("plain.txt", "grün".encode()),
    ):
        assert read(write(tmp_path, name, content))[0].text.startswith("grün"), name
    latin = write(tmp_path, "latin.txt", "grün".encode("latin-1"))
    assert problem(latin) == "it is not UTF-8 at byte 2: encoding= names another one"
    assert read(latin, encoding="latin-1")[0].text == "grün"


# --- JSON Lines -----------------------------------------------------------------------------------------------


def test_json_lines_are_ready_passages(tmp_path: Path) -> None:
    rows = [
        {"text": "One.", "title": "T", "id": 7, "year": 2020, "tags": ["a", "b"]},
        {"text": "Two.", "metadata": {"year": 2021}},
    ]
    path = write(tmp_path, "a.jsonl", "\ufeff" + "\n\n".join(map(json.dumps, rows)))

    one, two = read(path)

    source = path.as_posix()
    assert one == Passage("One.", "T", id="7", metadata={"source": source, "year": 2020, "tags": ["a", "b"]})
    assert (two.text, two.title, dict(two.metadata)) == ("Two.", "", {"source": source, "year": 2021})


def test_json_lines_need_no_extra(tmp_path: Path) -> None:
    """In a process where the libraries cannot be found; all else says which extra it needs."""
    write(tmp_path, "a.jsonl", '{"text": "One."}')
    write(tmp_path, "b.md", "# Two")
    script = """
import importlib.util
real = importlib.util.find_spec
hidden = ("bs4", "pypdf", "semantic_text_splitter")
importlib.util.find_spec = lambda name, *more: None if name in hidden else real(name, *more)
import dspex
from dspex.retrieval import Documents
print([each.text for each in Documents("a.jsonl")])
try:
    list(Documents("b.md"))
except dspex.errors.MissingExtra as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)

    assert done.stdout.splitlines() == [
        "['One.']",
        "reading b.md needs an optional dependency: pip install 'dspex[documents]'",
    ]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("{", "line 2: "),
        ("[1]", "line 2 is not a JSON object"),
        ('{"title": "no text"}', "line 2 has no text under 'text'"),
        ('{"text": 1}', "line 2: its text is not a text"),
        ('{"text": "x", "nested": {"a": 1}}', "line 2: metadata['nested'] "),
        ('{"text": "' + "x" * 200 + '"}', "line 2 has more than 100 bytes"),
        ("[" * 90 + "]" * 5, "line 2: "),
        ('{"text": "\\ud800", "year": 1e999}', "line 2: "),
    ],
)
def test_a_bad_line_is_named_and_skipped_where_that_is_asked_for(tmp_path: Path, line: str, told: str) -> None:
    path = write(tmp_path, "a.jsonl", f'{{"text": "One."}}\n{line}\n{{"text": "Three."}}\n')
    limits = ReadLimits(line=100)

    assert problem(path, limits=limits).startswith(told)

    documents = Documents(path, limits=limits, skip_bad=True)
    assert [each.text for each in documents] == ["One.", "Three."]
    assert (documents.bad, str(documents.skipped[0]).startswith(f"{path}: {told}")) == (1, True)


# --- files that are bad ---------------------------------------------------------------------------------------


def test_a_bad_file_is_an_error_that_names_it(tmp_path: Path) -> None:
    assert problem(tmp_path / "none.txt") == "it cannot be read: No such file or directory"
    loop = tmp_path / "loop.txt"
    loop.symlink_to(loop)
    assert problem(loop).startswith("it cannot be read: Too many levels of symbolic links")
    pipe = tmp_path / "pipe.txt"
    os.mkfifo(pipe)
    assert problem(pipe) == "it is neither a file nor a folder"
    assert problem(write(tmp_path, "a.exe", b"MZ")).startswith("nobody knows how to read files that end in '.exe'")
    assert problem(write(tmp_path, "zero.txt", b"a\0b")) == "it is not text: there are zero bytes in it"
    assert problem(write(tmp_path, "no.pdf", b"hello")) == "it is not a PDF"
    assert "damaged" in problem(write(tmp_path, "cut.pdf", pdf(["One."])[:300]))
    assert problem(write(tmp_path, "scan.pdf", pdf([""]))).startswith("none of its 1 pages holds text")
    assert problem(write(tmp_path, "big.txt", b"x" * 101), limits=ReadLimits(bytes=100)) == "it has more than 100 bytes"
    odd = write(tmp_path, "odd.html", b'<meta charset="klingon"><p>x')
    assert problem(odd) == "it names an encoding that nobody knows, 'klingon'"


def test_a_folder_is_read_by_name_and_nothing_is_lost_silently(tmp_path: Path) -> None:
    folder, outside = tmp_path / "docs", write(tmp_path, "outside.txt", "Secret.")
    for name in ("b.txt", "a/c.md", "a/d.bin", ".hidden.txt"):
        write(folder, name, name)
    (folder / "a" / "up").symlink_to(folder)
    (folder / "out.txt").symlink_to(outside)
    (folder / "z.txt").symlink_to(folder / "b.txt")
    documents = Documents(folder, skip_bad=True)

    assert [each.text for each in documents] == ["b.txt", "b.txt", "a/c.md"]
    assert [Path(each).name for each in documents.left_out] == ["d.bin"]
    assert sorted(str(each).removeprefix(f"{folder}/") for each in documents.skipped) == [
        "a/up: it is a link to a folder that it is in",
        "out.txt: it is a link that leads out of the folder: name its target itself",
    ]
    assert (documents.files, documents.passages, documents.bad) == (3, 3, 2)


def test_a_deep_page_is_read(tmp_path: Path) -> None:
    page = "<div>" * 3_000 + "deep" + "</div>" * 3_000

    assert [each.text for each in read(write(tmp_path, "deep.html", page))] == ["deep"]


def test_a_small_pdf_that_unpacks_to_a_huge_one_is_an_error(tmp_path: Path) -> None:
    path = write(tmp_path, "bomb.pdf", packed_bomb(300_000_000))
    assert path.stat().st_size < 10_000
    fine = write(tmp_path, "fine.txt", "Fine.")
    documents = Documents(path, fine, skip_bad=True, limits=ReadLimits(seconds=20, memory=1_000_000_000))

    assert [each.text for each in documents] == ["Fine."]
    assert documents.bad == 1


def test_a_file_that_takes_too_long_is_an_error(tmp_path: Path) -> None:
    """The process that reads it ends; the next file gets another one."""
    slow = write(tmp_path, "slow.html", "<p>" * 2_000_000)
    fine = write(tmp_path, "zfine.txt", "Fine.")
    documents = Documents(slow, fine, skip_bad=True, limits=ReadLimits(seconds=0.4))

    assert [each.text for each in documents] == ["Fine."]
    assert [str(each) for each in documents.skipped] == [f"{slow}: reading it takes more than 0.4 s"]


def test_ids_are_the_same_whenever_they_are_read(tmp_path: Path) -> None:
    path = write(tmp_path, "a.md", "# One\nSame.\n# Two\nOther.\n# One\nSame.\n")
    first = [each.id for each in read(path)]
    write(tmp_path, "a.md", "# New\nBefore.\n# One\nSame.\n# Two\nOther.\n# One\nSame.\n")

    assert [each.id for each in read(path)][1:] == first
    assert len(set(first)) == 3


def test_no_process_is_left_when_somebody_stops_reading(tmp_path: Path) -> None:
    for number in range(3):
        write(tmp_path, f"{number}.txt", "x")
    documents = Documents(tmp_path)
    passages = iter(documents)
    next(passages)
    documents.close()

    with pytest.raises(DocumentError, match="reading was stopped"):
        list(passages)


@pytest.mark.parametrize(
    "options",
    [{"least": 0}, {"least": 10, "most": 5}, {"overlap": 400}, {"kind": "novel"}, {"encoding": "klingon"}],
)
def test_arguments_without_sense_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        Documents("a", **options)  # type: ignore[arg-type]  # that is the point
    with pytest.raises(ConfigError):
        Documents()
