"""`qa export --format html` and `qa show --html`: a file that looks like the page."""

import re
from base64 import b64encode
from datetime import timedelta
from hashlib import sha256
from html.parser import HTMLParser

import pytest
from conftest import Invoke

from qacli.db.records import Store
from qacli.domain import Outcome, Question, Status, now

IMAGE = "data:image/png;base64,iVBORw0KGgo="
HOSTILE = (
    "</style></title><script>alert(1)</script><img src=x onerror=alert(1)> "
    "[a](javascript:alert(1)) ![b](https://example.org/b.png)"
)


class Page(HTMLParser):
    """The elements and the text of a file."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def values(self, name: str) -> list[str]:
        return [value or "" for _, attrs in self.elements if (value := attrs.get(name, "-")) != "-"]


def add(store: Store, question: str, answer: str | None, **fields: object) -> int:
    """Store a record with these fields of its question and of its outcome."""
    asked = Question(question=question, follows_id=fields.pop("follows_id", None))  # type: ignore[arg-type]
    status = Status.ANSWERED if answer else Status.FAILED
    ended = now() + timedelta(seconds=1)
    outcome = Outcome(answer=answer, status=status, answered_at=ended, **fields)  # type: ignore[arg-type]
    return store.upsert(asked, outcome)


@pytest.fixture
def thread(store: Store) -> tuple[int, int, int]:
    """A thread with a branch, beside another record."""
    code = "```python\ndef f(): ...\n```"
    first = add(store, "First?", code, reasoning="I think.")
    call = {"type": "function", "function": {"name": "multiply", "arguments": '{"a": 6}'}}
    details = {"tool_calls": [call], "images": [{"image_url": {"url": IMAGE}}]}
    second = add(store, HOSTILE, HOSTILE, follows_id=first, details=details)
    branch = add(store, "Branch?", None, follows_id=first, error=HOSTILE)
    add(store, "Another thread?", "x")
    return first, second, branch


def test_export_html_of_a_thread_has_all_branches_and_no_other_record(
    invoke: Invoke, thread: tuple[int, int, int]
) -> None:
    for record_id in thread:
        page = Page(invoke("export", "--format", "html", "--thread", str(record_id)).out)
        ids = [attrs["data-id"] for tag, attrs in page.elements if tag == "article"]
        assert ids == [str(item) for item in thread]


@pytest.mark.usefixtures("thread")
def test_export_thread_last_selects_the_newest_thread(invoke: Invoke) -> None:
    assert "Another thread?" in invoke("export", "--format", "md", "--thread", "last").out
    assert len(invoke("list", "--format", "jsonl", "--thread", "-2").out.splitlines()) == 3
    assert invoke("export", "--thread", "99").code == 4
    assert invoke("export", "--thread", "x").code == 2


@pytest.mark.usefixtures("thread")
def test_export_html_with_hostile_texts_keeps_them_as_text(invoke: Invoke) -> None:
    page = Page(invoke("export", "--format", "html").out)
    assert not {"script", "iframe", "object", "link", "base"} & {tag for tag, _ in page.elements}
    assert not any(name.startswith("on") for _, attrs in page.elements for name in attrs)
    assert page.values("src") == [IMAGE]
    assert all(re.match(r"#r\d+$|https://example\.org/", link) for link in page.values("href"))
    assert page.text.count("<script>alert(1)</script>") >= 3


def test_export_html_has_code_highlighted_and_long_parts_folded(
    invoke: Invoke, thread: tuple[int, int, int]
) -> None:
    text = invoke("export", "--format", "html", "--thread", str(thread[0])).out
    assert '<span class="k">def</span>' in text
    assert "<summary>Reasoning" in text
    assert "<summary>multiply(" in text
    assert " open" not in re.sub(r"<style>.*</style>", "", text, flags=re.DOTALL)


@pytest.mark.usefixtures("thread")
def test_export_html_has_one_style_that_its_policy_allows(invoke: Invoke) -> None:
    text = invoke("export", "--format", "html").out
    [style] = re.findall(r"<style>(.*?)</style>", text, flags=re.DOTALL)
    digest = b64encode(sha256(style.encode()).digest()).decode()
    [policy] = [value for value in Page(text).values("content") if "default-src" in value]
    assert policy == f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'"
    assert "prefers-color-scheme: dark" in style
    assert "url(" not in style


def test_export_html_of_nothing_is_a_page_without_records(invoke: Invoke) -> None:
    page = Page(invoke("export", "--format", "html").out)
    assert "No records" in page.text
    assert "article" not in {tag for tag, _ in page.elements}


def test_show_html_has_the_record_or_the_thread_up_to_it(
    invoke: Invoke, thread: tuple[int, int, int]
) -> None:
    alone = Page(invoke("show", str(thread[1]), "--html").out)
    assert alone.values("data-id") == [str(thread[1])]
    whole = Page(invoke("show", str(thread[1]), "--html", "--thread").out)
    assert whole.values("data-id") == [str(item) for item in thread[:2]]
    assert invoke("show", "last", "--html", "--json").code == 2
    assert invoke("show", "last", "--html", "--copy").code == 2


def test_export_md_has_reasoning_and_calls_folded_and_images_as_data_urls(
    invoke: Invoke, thread: tuple[int, int, int]
) -> None:
    text = invoke("export", "--format", "md", "--thread", str(thread[1])).out
    assert "<details><summary>Reasoning</summary>\n\n```\nI think.\n```\n\n</details>" in text
    assert '"name": "multiply"' in text
    assert f"![Image 1](<{IMAGE}>)" in text
