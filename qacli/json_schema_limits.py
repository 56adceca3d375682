"""Limit the steps that a JSON schema needs to check an answer.

The validator follows references without a limit: two `$ref`s to a schema with two `$ref`s, and so
on, double the work with each level. So the steps are counted before an answer is checked.
"""

from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

from qacli.errors import InvalidRequest

MAX_PATTERNS = 200
"""Patterns in one schema; compiling one takes up to 2 ms."""

MAX_PARTS = 20_000
"""JSON objects in one schema; OpenAI takes 5,000 properties."""

MAX_VISITS = 1_000_000
"""Steps for one value of an answer."""

MAX_STEPS = 100_000_000
"""Steps for a whole answer: at most about a second."""

REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef")
SUBSCHEMA_LIST_KEYWORDS = ("allOf", "anyOf", "oneOf")
SUBSCHEMA_KEYWORDS = ("not", "if", "then", "else")
SUBSCHEMA_MAP_KEYWORDS = ("dependentSchemas", "dependencies")
CHILD_SCHEMA_KEYWORDS = (
    *("additionalProperties", "unevaluatedProperties", "propertyNames"),
    *("additionalItems", "unevaluatedItems", "contains", "items"),
)
"""Keywords with one schema that applies to each child of a value."""


class SchemaCost:
    """The number of steps that a schema takes for an answer, as an upper bound.

    Args:
        schema: A JSON schema; it may break the rules of its meta-schema.

    Raises:
        InvalidRequest: The schema refers to a schema outside of itself, or takes too many steps.
    """

    def __init__(self, schema: dict[str, Any]) -> None:
        self._root = schema
        self._id = str(schema.get("$id", schema.get("id", ""))).removesuffix("#")
        self._anchors: dict[str, dict[str, Any]] = {}
        self._visits: dict[tuple[int, int], int | None] = {}
        parts = patterns = 0
        for node in _objects(schema):
            parts += 1
            self._add_anchors(node)
            patterns += "pattern" in node
            if isinstance(named := node.get("patternProperties"), dict):
                patterns += len(named)
            for keyword in REFERENCES:
                if isinstance(reference := node.get(keyword), str):
                    self._target(reference)
        if patterns > MAX_PATTERNS:
            raise InvalidRequest(
                f"The schema has {patterns} patterns.", f"Use at most {MAX_PATTERNS}."
            )
        if parts > MAX_PARTS:
            raise InvalidRequest(f"The schema has {parts} objects.", f"Use at most {MAX_PARTS}.")
        if self.visits(0) >= MAX_VISITS:
            raise InvalidRequest("The schema takes too long to check.", "Make it simpler.")

    def visits(self, depth: int) -> int:
        """Return the steps for one path of nested values: a value, one of its children, and so on.

        Args:
            depth: The number of levels below the top of the answer; see `depth_of`.
        """
        return self._count(self._root, depth)

    def _add_anchors(self, node: dict[str, Any]) -> None:
        if node is not self._root and isinstance(node.get("$id"), str):
            raise InvalidRequest("The schema has a $id inside.", "Give $id only at its top.")
        for keyword in ("$anchor", "$dynamicAnchor"):
            name = node.get(keyword)
            if isinstance(name, str) and self._anchors.setdefault(name, node) is not node:
                raise InvalidRequest(f"The schema has the anchor {name} twice.", "Rename one.")

    def _target(self, reference: str) -> object:
        """Return the schema that a reference points to (RFC 6901 for pointers)."""
        base, _, fragment = reference.partition("#")
        if base not in {"", self._id}:
            raise _not_in_schema(reference)
        if not fragment.startswith("/"):
            if fragment and fragment not in self._anchors:
                raise _not_in_schema(reference)
            return self._anchors[fragment] if fragment else self._root
        target: Any = self._root
        for part in unquote(fragment).split("/")[1:]:
            name = part.replace("~1", "/").replace("~0", "~")
            try:
                target = target[int(name) if isinstance(target, list) else name]
            except (LookupError, TypeError, ValueError):
                raise _not_in_schema(reference) from None
        return target

    def _count(self, node: object, depth: int) -> int:
        if not isinstance(node, dict) or depth < 0:
            return 1
        key = (id(node), depth)
        if key not in self._visits:
            self._visits[key] = None
            self._visits[key] = min(self._sum(node, depth), MAX_VISITS)
        if (visits := self._visits[key]) is None:
            raise InvalidRequest(
                "The schema refers to itself without an end.",
                "Put a reference to an enclosing schema into properties or items.",
            )
        return visits

    def _sum(self, node: dict[str, Any], depth: int) -> int:
        """Return the steps of a schema: its own keywords, and those of the schemas in it."""
        own = 1 + sum(len(v) if isinstance(v, dict | list | str) else 1 for v in node.values())
        same = sum(self._count(part, depth) for part in self._same_value(node))
        if "unevaluatedProperties" in node or "unevaluatedItems" in node:
            same *= 2  # these keywords evaluate the other schemas of the object again
        # A child has one name or one position, so that only one of these schemas applies to it.
        alternatives = [*_values(node.get("properties")), *_values(node.get("prefixItems"))]
        if isinstance(node.get("items"), list):
            alternatives += node["items"]
        child = max((self._count(part, depth - 1) for part in alternatives), default=0)
        child += sum(self._count(p, depth - 1) for p in _values(node.get("patternProperties")))
        child += sum(self._count(node.get(name), depth - 1) for name in CHILD_SCHEMA_KEYWORDS)
        return own + same + child

    def _same_value(self, node: dict[str, Any]) -> Iterator[object]:
        for keyword in REFERENCES:
            if isinstance(reference := node.get(keyword), str):
                yield self._target(reference)
        for keyword in (*SUBSCHEMA_LIST_KEYWORDS, *SUBSCHEMA_MAP_KEYWORDS):
            yield from _values(node.get(keyword))
        for keyword in SUBSCHEMA_KEYWORDS:
            if keyword in node:
                yield node[keyword]


def depth_of(value: object) -> int:
    """Return the levels of lists and objects below the top of a JSON value."""
    parts = value.values() if isinstance(value, dict) else value
    if not isinstance(value, dict | list) or not value:
        return 0
    return 1 + max(depth_of(part) for part in parts)  # type: ignore[attr-defined]


def _values(part: object) -> list[Any]:
    if isinstance(part, dict):
        return list(part.values())
    return part if isinstance(part, list) else []


def _objects(part: object) -> Iterator[dict[str, Any]]:
    """Yield every object in a JSON value."""
    stack = [part]
    while stack:
        value = stack.pop()
        if isinstance(value, dict):
            yield value
        stack += _values(value)


def _not_in_schema(reference: str) -> InvalidRequest:
    return InvalidRequest(
        f"The schema refers to {reference}, which is not in it.",
        "Put it into the schema's $defs.",
    )
