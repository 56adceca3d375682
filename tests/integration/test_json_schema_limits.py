"""The validation of an answer takes a limited time for any schema and any answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from qacli.errors import InvalidRequest, UnfitAnswer
from qacli.json_schema import AnswerSchema
from qacli.json_schema_limits import MAX_STEPS, MAX_VISITS, SchemaCost, depth_of
from qacli.web import state
from qacli.web.app import create_app

if TYPE_CHECKING:
    from fake_provider import FakeProvider

    from qacli.config.settings import Settings
    from qacli.db.records import Store

DOUBLED: dict[str, Any] = {
    "$ref": "#/$defs/0",
    "$defs": {
        **{str(n): {"allOf": [{"$ref": f"#/$defs/{n + 1}"}] * 2} for n in range(40)},
        "40": {},
    },
}

CHILD = {"properties": {"a": {"$ref": "#"}}}
DOUBLED_WITH_DEPTH: dict[str, Any] = {"allOf": [CHILD, CHILD]}
"""An answer of 25 levels takes the validator half a minute."""

TREE: dict[str, Any] = {
    "properties": {"left": {"$ref": "#"}, "right": {"$ref": "#"}, "value": {"type": "integer"}}
}


def nested(levels: int, name: str = "a", innermost: str = "1") -> str:
    return f'{{"{name}":' * levels + innermost + "}" * levels


@pytest.mark.parametrize("schema", [{"pattern": "^(a+)+$"}, {"pattern": "(?=a)(a+)+$"}])
def test_check_of_catastrophic_pattern_is_unfit(schema: dict[str, Any]) -> None:
    with pytest.raises(UnfitAnswer, match="does not match"):
        AnswerSchema(schema).check(f'"{"a" * 60}!"')


def test_check_with_lookahead_pattern_fits() -> None:
    AnswerSchema({"pattern": r"^(?=.*[A-Z])(?=.*[0-9]).+$"}).check('"aB3"')


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        (DOUBLED, "takes too long to check"),
        ({"$ref": "#"}, "refers to itself without an end"),
        ({"allOf": [{"$ref": "#"}] * 2}, "refers to itself without an end"),
        ({"allOf": [{"pattern": f"[a-z{n}]" * 50} for n in range(5000)]}, "5000 patterns"),
        ({"items": {"$id": "x"}}, r"\$id inside"),
        ({"items": [{"$anchor": "x"}, {"$anchor": "x"}]}, "anchor x twice"),
        ({"$ref": "#x"}, "refers to #x, which is not in it"),
        ({"$ref": "file:///etc/passwd"}, "refers to file:///etc/passwd, which is not in it"),
        ({"const": float("inf")}, "cannot be used"),
        ({"$schema": "http://127.0.0.1:1/x"}, "Unknown meta-schema"),
        ({"properties": {str(n): {} for n in range(20_000)}}, "20002 objects"),
        ({"$ref": "#/title", "title": "no schema"}, r"at \$\.title"),
    ],
    ids=lambda value: value[:20] if isinstance(value, str) else "",
)
def test_schema_beyond_its_bounds_is_refused(schema: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        AnswerSchema(schema)


def test_schema_of_long_chain_of_references_is_refused() -> None:
    chain = {str(n): {"$ref": f"#/$defs/{n + 1}"} for n in range(5000)}
    with pytest.raises(InvalidRequest, match="nested too deeply"):
        AnswerSchema({"$ref": "#/$defs/0", "$defs": {**chain, "5000": {}}})


def test_check_of_deep_answer_with_doubled_recursion_is_refused() -> None:
    schema = AnswerSchema(DOUBLED_WITH_DEPTH)
    schema.check(nested(9))
    with pytest.raises(UnfitAnswer, match="takes too long") as caught:
        schema.check(nested(25))
    assert caught.value.fatal


def test_check_of_deep_tree_fits() -> None:
    schema = AnswerSchema(TREE)
    schema.check(nested(60, "left", '{"value": 1}'))
    with pytest.raises(UnfitAnswer, match=r"of type \"integer\" at \$\.left\.left\.value"):
        schema.check(nested(2, "left", '{"value": "1"}'))


def test_check_of_many_items_by_many_schemas_is_refused() -> None:
    schema = AnswerSchema({"items": {"allOf": [{"minimum": -n} for n in range(9000)]}})
    schema.check("[1, 2]")
    with pytest.raises(UnfitAnswer, match="takes too long"):
        schema.check(f"[{'1,' * 100_000}1]")


def test_visits_of_recursive_schema_grow_with_the_depth() -> None:
    tree, doubled = SchemaCost(TREE), SchemaCost(DOUBLED_WITH_DEPTH)
    assert tree.visits(20) < 20 * tree.visits(1)
    assert doubled.visits(12) > 2**12
    assert doubled.visits(40) == MAX_VISITS < MAX_STEPS


def test_depth_of_counts_levels_below_the_top() -> None:
    assert [depth_of(value) for value in (1, [], {}, [1], {"a": [{}]}, [[], [[1]]])] == [
        *(0, 0, 0, 1, 2, 3)
    ]


def test_references_by_anchor_pointer_and_id_are_found() -> None:
    schema = AnswerSchema(
        {
            "$id": "https://example.com/x",
            "properties": {
                "a": {"$ref": "#number"},
                "b": {"$ref": "https://example.com/x#/$defs/a~1b%20c"},
                "c": {"$ref": "#/prefixItems/0"},
            },
            "prefixItems": [{"type": "string"}],
            "$defs": {"n": {"$anchor": "number", "type": "number"}, "a/b c": {"type": "null"}},
        }
    )
    schema.check('{"a": 1, "b": null, "c": "x"}')
    for answer in ('{"a": "1"}', '{"b": 1}', '{"c": 1}'):
        with pytest.raises(UnfitAnswer, match="is not of type"):
            schema.check(answer)


def test_error_of_nullable_object_is_that_of_the_object() -> None:
    dog = {"type": "object", "properties": {"age": {"type": "integer"}}}
    schema = AnswerSchema({"items": {"anyOf": [{"type": "null"}, dog]}})
    with pytest.raises(UnfitAnswer, match=r'"3" is not of type "integer" at \$\[1\]\.age'):
        schema.check('[null, {"age": "3"}]')


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_ask_check_beyond_its_bounds_keeps_the_answer_asks_once(
    store: Store, settings: Settings, provider: FakeProvider
) -> None:
    app = create_app(settings)
    answer = nested(25)
    body = {"question": f"Who? [[text='{answer}']]", "schema": DOUBLED_WITH_DEPTH}
    problem = app.test_client().post("/ask", json=body).get_json(force=True)
    assert (problem["kind"], problem["record_id"]) == ("unfit-answer", 1)
    assert "takes too long" in problem["detail"]
    assert store.get(1).answer == answer
    assert len(provider.requests) == 1
    app.extensions[state.EXTENSION_KEY].all_records.close()


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_ask_with_unusable_schema_is_refused_and_not_stored(
    settings: Settings, provider: FakeProvider
) -> None:
    app = create_app(settings)
    for schema in (DOUBLED, {"type": "nothing"}, {"$ref": "http://127.0.0.1:1/x"}):
        response = app.test_client().post("/ask", json={"question": "Who?", "schema": schema})
        assert (response.status_code, response.get_json(force=True)["kind"]) == (
            *(422, "invalid-request"),
        )
    assert provider.requests == []
    assert app.test_client().get("/qas").get_json() == []
    app.extensions[state.EXTENSION_KEY].all_records.close()
