from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from flask import Flask


DASHBOARD = Path(__file__).parents[3] / "deploy" / "grafana.json"


@pytest.mark.usefixtures("store")
@pytest.mark.usefixtures("store")
@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_dashboard_names_the_metrics_that_exist_with_their_labels(
    build: Callable[..., Flask],
) -> None:
    client = build().test_client()
    client.post("/ask", json={"question": "Who?"})
    client.post("/ask", json={"question": "Who? [[status=400]]"})
    exposed = client.get("/metrics").text
    labels: dict[str, set[str]] = {}
    for name, text in re.findall(r"^(qa_\w+)(?:\{(.*)\})? ", exposed, re.MULTILINE):
        labels.setdefault(name, set()).update(re.findall(r'(\w+)="', text))
    expressions = [
        target["expr"]
        for panel in json.loads(DASHBOARD.read_text())["panels"]
        for target in panel["targets"]
    ]
    used = {name for text in expressions for name in re.findall(r"\bqa_\w+", text)}
    assert used <= labels.keys()
    # Each metric is shown: a histogram by its buckets; not the creation time of a counter.
    assert used == {name for name in labels if not re.search(r"_(sum|count|created)$", name)}
    for text in expressions:
        by = set(re.findall(r"\w+", "".join(re.findall(r" by \(([^)]*)\)", text))))
        names = re.findall(r"\bqa_\w+", text)
        assert all(by - {"instance"} <= labels[name] for name in names), text
