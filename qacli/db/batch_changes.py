"""The differences between the stored items of a batch and those of its file."""

from array import array
from dataclasses import dataclass, field
from typing import Any

from qacli.batch_states import ROW
from qacli.errors import InvalidRequest

Item = dict[str, Any]
"""An item with `position`, `key` and `payload`, and if they are known, `place` and `has_id`."""


@dataclass(slots=True)
class Changes:
    """The differences between the items of a batch and those of its file.

    Attributes:
        count: The number of items in the file.
        outdated_pages: The numbers of the pages with items to add or to change.
        moved_from: The old positions of items that move.
        moved_to: Their new positions, in the same order.
        removed: The positions of items that are not in the file.
        gone: The number of removed items whose position has no new row without an id.
        has_ids: Rows of the file have ids.
        changed: The names of the rows that have changed, for a message.
        changed_keys: The keys of the changed rows that have an id.
        is_seen: For each stored position, whether the file has its item.
        new: The names of new rows without an id, by positions at which another item is stored.
    """

    count: int = 0
    outdated_pages: set[int] = field(default_factory=set)
    moved_from: "array[int]" = field(default_factory=lambda: array("q"))
    moved_to: "array[int]" = field(default_factory=lambda: array("q"))
    removed: list[int] = field(default_factory=list)
    gone: int = 0
    has_ids: bool = False
    changed: list[str] = field(default_factory=list)
    changed_keys: set[str] = field(default_factory=set)
    is_seen: bytearray = field(default_factory=bytearray)
    new: dict[int, str] = field(default_factory=dict)

    def compare(self, item: Item, stored: Any) -> None:  # noqa: ANN401 - a row, or None
        """Add the difference between an item of the file and the stored one with its key.

        Raises:
            InvalidRequest: The key has occurred before.
        """
        self.count += 1
        has_id = item.get("has_id", False)
        self.has_ids = self.has_ids or has_id
        if stored is None:
            if not has_id and item["position"] < len(self.is_seen):
                self.new[item["position"]] = _place(item)
            return
        if stored.position >= len(self.is_seen) or self.is_seen[stored.position]:
            raise second_key(item)
        self.is_seen[stored.position] = 1
        if _content(stored.payload) != _content(item["payload"]):
            self.changed.append(f"{_place(item)} (id {item['key']!r})")
            self.changed_keys.add(item["key"])
        if stored.position != item["position"]:
            self.moved_from.append(stored.position)
            self.moved_to.append(item["position"])

    def find_missing(self) -> None:
        """Add the stored items that the file does not have."""
        is_shorter = self.count < len(self.is_seen)
        for position, is_seen in enumerate(self.is_seen):
            if is_seen:
                continue
            if position in self.new:
                self.changed.append(self.new[position])
                self.removed.append(position)
            elif self.has_ids or is_shorter:
                self.gone += 1
                self.removed.append(position)


def _content(payload: dict[str, Any]) -> dict[str, Any]:
    """Return the part of a payload that shapes the answer, without the cells for the results."""
    return {name: value for name, value in payload.items() if name != ROW}


def _place(item: Item) -> str:
    place: str = item.get("place") or f"Item {item['position'] + 1}"
    return place


def second_key(item: Item) -> InvalidRequest:
    """Return the error for an item whose key another one has."""
    return InvalidRequest(
        f"The key {item['key']!r} occurs twice (item {item['position'] + 1}).",
        "Give each item an id of its own.",
    )
