"""`qa batch compare`: the answers of batches, or of the models of one, side by side."""

from __future__ import annotations

import csv
import json
from functools import partial
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import pytest
from fake_provider import Reply

from qacli.batch.verdicts import are_answers_swapped

if TYPE_CHECKING:
    from pathlib import Path

    from commands import Finished
    from conftest import Invoke
    from fake_provider import FakeProvider
    from fake_provider.behaviour import Request

JUDGE = 'question = "{question}\\nFirst: {a}\\nSecond: {b}"\nmodel = "gpt-4o"\n'


def label(request: Request) -> str:
    """Answer for two models: the same label for odd words, and different scores for all."""
    number = int(request.question.split()[-1])
    is_small = request.body["model"] == "gpt-4o-mini"
    return json.dumps(
        {"label": "odd" if number % 2 else f"even {is_small}", "score": number + is_small}
    )


@pytest.fixture
def both(invoke: Invoke, home: Path, provider: FakeProvider) -> Any:
    """Return a function that asks two models, in the batch `n` or in the batches `x` and `y`."""

    def both(count: int = 4, *, apart: bool = False, answer: Any = label) -> None:
        provider.default = lambda request: Reply(text=answer(request))
        rows = "".join(f"w{number},word {number}\n" for number in range(count))
        (home / "w.csv").write_text("id,word\n" + rows)
        models = ("gpt-4o", "gpt-4o-mini")
        command = ("batch", "w.csv", "--column", "word", "--name")
        runs = (
            [[*command, name, "-m", model] for name, model in zip("xy", models, strict=True)]
            if apart
            else [[*command, "n", "-m", models[0], "-m", models[1]]]
        )
        for run in runs:
            done = invoke(*run)
            assert done.code == 0, done.err

    return both


def compared(invoke: Invoke, *arguments: str) -> dict[str, Any]:
    done = invoke("batch", "compare", *arguments, "--json")
    assert done.code == 0, done.err
    value: dict[str, Any] = json.loads(done.out)
    return value


@pytest.mark.parametrize("apart", [True, False])
def test_compare_answers_of_json_agree_field_by_field(
    both: Any, invoke: Invoke, *, apart: bool
) -> None:
    both(apart=apart)
    result = compared(invoke, *("xy" if apart else "n"))
    assert (result["compared"], result["same"]) == (4, 0)
    assert result["fields"] == {
        "label": {"items": 4, "same": 2},
        "score": {"items": 4, "same": 0},
    }
    labels = ["x", "y"] if apart else ["gpt-4o", "gpt-4o-mini"]
    assert [variant["label"] for variant in result["variants"]] == labels
    assert [variant["model"] for variant in result["variants"]] == ["gpt-4o", "gpt-4o-mini"]
    assert [item["id"] for item in result["items"]] == ["w0", "w1", "w2", "w3"]
    item = result["items"][1]
    assert (item["agreement"], item["different"]) == (0.5, ["score"])
    answers = {name: json.loads(answer["answer"]) for name, answer in item["answers"].items()}
    assert answers == {
        labels[0]: {"label": "odd", "score": 1},
        labels[1]: {"label": "odd", "score": 2},
    }
    costs = [item["answers"][labels[0]]["cost_usd"] for item in result["items"]]
    assert result["variants"][0]["cost_usd"] == pytest.approx(sum(costs))
    assert result["variants"][0]["median_latency_ms"] >= 0


def test_compare_counts_items_without_all_answers(
    both: Any, invoke: Invoke, home: Path, provider: FakeProvider
) -> None:
    both(apart=True, answer=lambda request: request.body["model"][:6])
    (home / "w.csv").write_text("id,word\nw3,word 3\nw9,word 9 [[status=400 message=No.]]\n")
    provider.default = Reply(text=" gpt-4o\n")
    assert invoke("batch", "w.csv", "--column", "word", "--name", "z", "-m", "z").code == 8
    result = compared(invoke, "x", "z", "y")
    assert (result["compared"], result["same"]) == (1, 1)
    assert [variant["left_out"] for variant in result["variants"]] == [3, 1, 3]
    assert {tuple(pair["variants"]): pair["same"] for pair in result["pairs"]} == {
        ("x", "z"): 1,
        ("x", "y"): 1,
        ("z", "y"): 1,
    }
    done = invoke("batch", "compare", "x", "y", "--answers", "different")
    assert "w0" not in done.out
    assert "4 compared, 4 (100.0%) with the same answer." in done.out


def test_compare_without_a_common_item_or_second_batch_gives_advice(
    both: Any, invoke: Invoke, home: Path
) -> None:
    both(apart=True)
    (home / "v.csv").write_text("id,word\nv1,word 1\n")
    assert invoke("batch", "v.csv", "--column", "word", "--name", "v").code == 0
    done = invoke("batch", "compare", "x", "v")
    assert (done.code, "--id COLUMN" in done.err) == (4, True)
    done = invoke("batch", "compare", "x")
    assert (done.code, "-m A -m B" in done.err) == (2, True)
    assert invoke("batch", "compare", "x", "nothing").code == 4


@pytest.mark.parametrize("width", [80, 40])
def test_compare_table_fits_the_terminal(
    both: Any, invoke: Invoke, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    both(answer=lambda request: f"語 {request.body['model']}\n" * 20)
    monkeypatch.setenv("COLUMNS", f"{width}")
    done = invoke("batch", "compare", "n")
    lines = done.out.splitlines()
    # Each of these characters takes two cells.
    assert max(len(line) + line.count("語") for line in lines) <= width
    assert sum(line.startswith("w") for line in lines) == 4
    assert any(line.startswith("cost") and line.count("USD") == 2 for line in lines)
    assert "4 compared, 0 (0.0%) with the same" in done.out


def test_compare_csv_and_jsonl_have_a_row_an_item(both: Any, invoke: Invoke, home: Path) -> None:
    both()
    done = invoke("batch", "compare", "n", "-o", "c.csv")
    assert (done.code, done.out, "4 compared" in done.err) == (0, "", True)
    rows = list(csv.DictReader((home / "c.csv").read_text().splitlines()))
    assert [row["different"] for row in rows] == ["label score", "score", "label score", "score"]
    assert json.loads(rows[1]["gpt-4o-mini answer"]) == {"label": "odd", "score": 2}
    assert invoke("batch", "compare", "n", "-o", "c.csv").code == 2
    assert invoke("batch", "compare", "n", "-o", "c.csv", "--force").code == 0
    assert invoke("batch", "compare", "n", "-o", "c.xyz").code == 2
    full = invoke("batch", "compare", "n", "-o", "/dev/full", "--format", "csv")
    assert (full.code, "Make room on the disk" in full.err) == (7, True)
    lines = invoke("batch", "compare", "n", "--format", "jsonl", "--answers", "different").out
    assert [json.loads(line)["id"] for line in lines.splitlines()] == ["w0", "w1", "w2", "w3"]
    assert compared(invoke, "n", "--answers", "same")["items"] == []


def test_compare_csv_keeps_a_line_end_of_old_systems(both: Any, invoke: Invoke, home: Path) -> None:
    both(answer=lambda _request: "one\rtwo")
    assert invoke("batch", "compare", "n", "-o", "c.csv").code == 0
    with (home / "c.csv").open(newline="") as file:
        answers = [row["gpt-4o-mini answer"] for row in csv.DictReader(file)]
    assert answers == ["one\rtwo"] * 4


def test_compare_html_is_one_file_with_all_texts_escaped(
    both: Any, invoke: Invoke, home: Path
) -> None:
    evil = "<script>alert(1)</script><img src=//x.example onerror=f()>&\"'"
    both(answer=lambda _request: evil)
    assert invoke("batch", "compare", "n", "-o", "c.html").code == 0
    tags: set[str] = set()
    texts: list[str] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            tags.add(tag)
            assert not {"src", "href"} & {name for name, _ in attrs}

        def handle_data(self, data: str) -> None:
            texts.append(data)

    Reader().feed((home / "c.html").read_text())
    assert not tags & {"script", "img", "link"}
    assert texts.count(evil) == 8


def judge(both: Any, invoke: Invoke, home: Path) -> Finished:
    """Compare with a judge that finds the answer of the larger model better, or the first one."""
    both(10, apart=True)
    template = home / invoke("template", "path", "better").out.strip()
    template.parent.mkdir(parents=True, exist_ok=True)
    template.write_text(JUDGE)
    return invoke("batch", "compare", "x", "y", "--judge", "better", "--json")


def test_compare_judge_sees_the_answers_swapped_and_its_verdicts_are_not(
    both: Any, invoke: Invoke, home: Path
) -> None:
    asked: list[str] = []

    def answer(request: Request) -> str:
        if "First:" not in request.question:
            return "good" if request.body["model"] == "gpt-4o" else "bad"
        asked.append(request.question)
        number = int(request.question.split("\n")[0].split()[-1])
        first = request.question.split("First: ")[1].startswith("good")
        winner = "tie" if number == 9 else "a" if first else "b"
        return json.dumps({"reason": "R", "winner": winner})

    done = judge(partial(both, answer=answer), invoke, home)
    assert done.code == 0, done.err
    result = json.loads(done.out)
    assert [variant["wins"] for variant in result["variants"]] == [9, 0]
    verdicts = result["judge"]
    assert (verdicts["verdicts"], verdicts["ties"], verdicts["missing"]) == (10, 1, 0)
    assert verdicts["cost_usd"] > 0
    swapped = {f"w{number}" for number in range(10) if are_answers_swapped(f"w{number}")}
    assert {item["id"] for item in result["items"] if item["verdict"]["swapped"]} == swapped
    assert 0 < len(swapped) < 10
    first_bad = {text.split("\n")[0] for text in asked if "First: bad" in text}
    assert first_bad == {f"word {key[1:]}" for key in swapped}
    # The verdicts are records of a batch, with a tag; the same command asks none again.
    tagged = json.loads(invoke("list", "--tag", "judge", "--json").out)
    assert len(tagged) == 10
    again = invoke("batch", "compare", "x", "y", "--judge", "better", "--json")
    assert (json.loads(again.out), len(asked)) == (result, 10)
    assert "best" in invoke("batch", "compare", "x", "y", "--judge", "better").out
    page = invoke("batch", "compare", "x", "y", "--judge", "better", "--format", "html").out
    assert page.count("<td>x<br><small>R</small></td>") == 9
    # Only the answer that has changed is judged again.
    changed = (home / "w.csv").read_text().replace("word 3", "word 33")
    (home / "w.csv").write_text(changed)
    for name, model in (("x", "gpt-4o"), ("y", "gpt-4o-mini")):
        options = ("--column", "word", "--name", name, "-m", model, "--changed")
        assert invoke("batch", "w.csv", *options).code == 0
    assert invoke("batch", "compare", "x", "y", "--judge", "better").code == 0
    assert len(asked) == 11


def test_compare_judge_that_fails_leaves_verdicts_out(
    both: Any, invoke: Invoke, provider: FakeProvider, home: Path
) -> None:
    def answer(request: Request) -> str:
        return "good" if request.question == "word 2" else str(request.body["model"])

    def reply(request: Request) -> Reply | str:
        return "status=400" if "word 1\n" in request.question else Reply(text=VERDICT)

    def prepare(count: int, *, apart: bool) -> None:
        both(count, apart=apart, answer=answer)
        provider.default = reply

    done = judge(prepare, invoke, home)
    assert done.code == 8
    assert "qa batch FILE" not in done.err
    result = json.loads(done.out)
    assert (result["judge"]["verdicts"], result["judge"]["missing"]) == (8, 1)
    # Equal answers are not judged.
    assert [item["id"] for item in result["items"] if item["verdict"] is None] == ["w1", "w2"]
    # Failed verdicts are asked again.
    provider.default = Reply(text=VERDICT)
    done = invoke("batch", "compare", "x", "y", "--judge", "better", "--json")
    assert (done.code, json.loads(done.out)["judge"]["missing"]) == (0, 0)


VERDICT = json.dumps({"reason": "R", "winner": "a"})


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ('question = "{a} {b} {c}"', "placeholder c"),
        ('question = "{a}"', "{a} and {b}"),
        ('question = "{a} {b}"\nschema = "x"', "has a schema"),
    ],
)
def test_compare_judge_with_a_wrong_template_is_refused(
    both: Any, invoke: Invoke, home: Path, provider: FakeProvider, template: str, message: str
) -> None:
    both(1)
    path = home / invoke("template", "path", "t").out.strip()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(template)
    count = len(provider.requests)
    done = invoke("batch", "compare", "n", "--judge", "t")
    assert (done.code, message in done.err) == (2, True), done.err
    assert len(provider.requests) == count
    assert invoke("batch", "compare", "n", "--model", "m").code == 2
