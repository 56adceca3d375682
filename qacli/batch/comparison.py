"""Compare the answers of batches, or of the models of one batch, item by item."""

from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from statistics import median
from typing import TYPE_CHECKING, Any

from qacli.batch.agreement import Agreement
from qacli.batch.item_reader import key_of_model
from qacli.batch.verdicts import Verdict, read_verdicts
from qacli.db.batches import Batches
from qacli.domain import Status
from qacli.errors import InvalidRequest

if TYPE_CHECKING:
    from qacli.db.batches import FinishedItem
    from qacli.db.models import Batch

MIN_VARIANTS = 2
"""A comparison needs two variants; a judge takes exactly two."""


@dataclass(frozen=True, slots=True)
class Variant:
    """The answers of a batch, or of one of its models.

    Attributes:
        label: The name of the batch, of the model, or both.
        batch: The batch.
        model: The model, if the batch has several.
    """

    label: str
    batch: "Batch"
    model: str | None = None

    def item_key(self, row_key: str) -> str:
        """Return the key of the item of a row."""
        return row_key if self.model is None else key_of_model(row_key, self.model)

    def row_key(self, item: "FinishedItem") -> str | None:
        """Return the key of an item's row; None if the item is that of another model."""
        models = self.batch.models
        if self.model is None:
            return item.key
        is_own = models[item.position % len(models)] == self.model
        return item.key.removesuffix(key_of_model("", self.model)) if is_own else None

    def states(self, batches: Batches) -> dict[str, int]:
        """Return the number of items by state."""
        batch_id = self.batch.id or 0
        if self.model is None:
            return batches.counts(batch_id)
        return batches.counts_by_model(batch_id, self.batch.models)[self.model]


def variants_of(batches: Batches, names: Sequence[str]) -> list[Variant]:
    """Return a variant for each batch, or for each model of a batch with several models.

    Raises:
        InvalidRequest: There is only one variant.
        NotFound: There is no batch of such a name.
    """
    all_batches = [batches.get(name) for name in dict.fromkeys(names)]
    variants: list[Variant] = []
    for batch in all_batches:
        prefix = f"{batch.name}:" if len(all_batches) > 1 else ""
        variants += [Variant(prefix + model, batch, model) for model in batch.models]
        if not batch.models:
            variants.append(Variant(batch.name, batch))
    if len(variants) < MIN_VARIANTS:
        raise InvalidRequest(
            f"The batch {names[0]} has the answers of one model.",
            "Name two batches, or one that asks several models: qa batch FILE -m A -m B",
        )
    return variants


@dataclass(frozen=True, slots=True)
class ComparedItem:
    """An item that all variants have answered.

    Attributes:
        key: The key of its row.
        records: The records as JSON has them, in the order of the variants.
        agreement: The agreement of the answers.
        verdict: The judge's verdict; None without one.
    """

    key: str
    records: list[dict[str, Any]]
    agreement: Agreement
    verdict: Verdict | None = None


@dataclass(slots=True)
class VariantTotals:
    """The totals of a variant over the compared items.

    Attributes:
        states: The number of the variant's items in each state, compared or not.
        tokens: The sum of all tokens that the provider reported.
        cost: US dollars; None if no cost is known.
        latencies: The milliseconds of each answer.
        wins: The items for which the judge found its answer the best.
    """

    states: dict[str, int]
    tokens: int = 0
    cost: float | None = None
    latencies: "array[int]" = field(default_factory=lambda: array("q"))
    wins: int = 0

    def add(self, record: dict[str, Any]) -> None:
        """Add the record of a compared item."""
        self.tokens += (record["prompt_tokens"] or 0) + (record["completion_tokens"] or 0)
        if record["cost_usd"] is not None:
            self.cost = (self.cost or 0.0) + record["cost_usd"]
        if record["latency_ms"] is not None:
            self.latencies.append(record["latency_ms"])

    @property
    def median_ms(self) -> float | None:
        """The median of the latencies; None without any."""
        return median(self.latencies) if self.latencies else None


class Comparison:
    """The items that all variants have answered, and their totals.

    Args:
        batches: The database.
        variants: The batches, or the models, whose answers are compared.

    Attributes:
        verdict_batch: The batch of the verdicts, set by `Judge.ask`; None without a judge.
        totals: The totals of the variants so far, in their order; complete after `items`.
        count: The number of compared items so far. The numbers below also count only the items so
            far.
        same: The items whose answers are all equal.
        fields: For each field of JSON answers, the items that have it.
        same_fields: For each field, the items that have the same value in all answers.
        same_pairs: For each pair of variants, the items whose two answers are equal.
        ties: The items for which the judge found no answer better.
    """

    def __init__(self, batches: Batches, variants: Sequence[Variant]) -> None:
        self.variants = variants
        self.verdict_batch: Batch | None = None
        self._batches = batches
        self._begin()

    def _begin(self) -> None:
        self.totals = [VariantTotals(variant.states(self._batches)) for variant in self.variants]
        self.count = self.same = self.ties = 0
        self.fields: Counter[str] = Counter()
        self.same_fields: Counter[str] = Counter()
        self.same_pairs: Counter[tuple[int, int]] = Counter()

    @property
    def labels(self) -> list[str]:
        """The names of the variants."""
        return [variant.label for variant in self.variants]

    @property
    def different(self) -> int:
        """The number of items whose answers differ, for which there can be a verdict."""
        return self.count - self.same

    @property
    def judged(self) -> int:
        """The number of verdicts."""
        return self.ties + sum(totals.wins for totals in self.totals)

    def left_out(self, index: int) -> int:
        """Return the number of a variant's items that not all variants have answered."""
        return sum(self.totals[index].states.values()) - self.count

    def items(self) -> Iterator[ComparedItem]:
        """Yield the compared items in the order of the first variant, reading one page at a time.

        The totals start at 0.
        """
        self._begin()
        first, *others = self.variants
        for page in self._batches.all_finished(first.batch.id or 0):
            rows = {row_key: item for item in page if (row_key := first.row_key(item)) is not None}
            own_records = {
                key: item.record for key, item in rows.items() if item.record is not None
            }
            records = [own_records]
            records += [self._records(variant, list(rows)) for variant in others]
            verdicts = (
                {}
                if self.verdict_batch is None
                else read_verdicts(self._batches, self.verdict_batch, rows)
            )
            for key in rows:
                answers = [by_key.get(key) for by_key in records]
                answered = [
                    record
                    for record in answers
                    if record is not None and record["status"] == Status.ANSWERED
                ]
                if len(answered) == len(answers):
                    texts = [record["answer"] or "" for record in answered]
                    agreement = Agreement.of(texts)
                    verdict = None if agreement.is_same else verdicts.get(key)
                    item = ComparedItem(key, answered, agreement, verdict)
                    self._add(item)
                    yield item

    def _records(self, variant: Variant, row_keys: list[str]) -> dict[str, dict[str, Any]]:
        """Return the records of a variant by the keys of these rows."""
        by_key = {variant.item_key(key): key for key in row_keys}
        items = self._batches.finished_by_key(variant.batch.id or 0, list(by_key))
        return {by_key[item.key]: item.record for item in items if item.record is not None}

    def _add(self, item: ComparedItem) -> None:
        """Add an item to the totals."""
        self.count += 1
        self.same += item.agreement.is_same
        for name, is_same in item.agreement.fields.items():
            self.fields[name] += 1
            self.same_fields[name] += is_same
        for totals, record in zip(self.totals, item.records, strict=True):
            totals.add(record)
        texts = [record["answer"] or "" for record in item.records]
        # With two variants this number is `same` already.
        for pair in combinations(range(len(texts)), 2) if len(texts) > MIN_VARIANTS else ():
            self.same_pairs[pair] += Agreement.of([texts[index] for index in pair]).is_same
        if item.verdict is not None:
            if item.verdict.winner is None:
                self.ties += 1
            else:
                self.totals[item.verdict.winner].wins += 1

    def to_dict(self) -> dict[str, Any]:
        """Return the totals for JSON."""
        values: dict[str, Any] = {
            "compared": self.count,
            "same": self.same,
            "same_share": self.same / self.count if self.count else None,
            "fields": {
                name: {"items": count, "same": self.same_fields[name]}
                for name, count in self.fields.items()
            },
            "variants": [
                {
                    "label": variant.label,
                    "batch": variant.batch.name,
                    "model": variant.model or variant.batch.settings.get("model"),
                    "states": totals.states,
                    "left_out": self.left_out(index),
                    "tokens": totals.tokens,
                    "cost_usd": totals.cost,
                    "median_latency_ms": totals.median_ms,
                    **({} if self.verdict_batch is None else {"wins": totals.wins}),
                }
                for index, (variant, totals) in enumerate(
                    zip(self.variants, self.totals, strict=True)
                )
            ],
        }
        if self.same_pairs:
            values["pairs"] = [
                {"variants": [self.labels[index] for index in pair], "same": count}
                for pair, count in sorted(self.same_pairs.items())
            ]
        if self.verdict_batch is not None:
            values["judge"] = {
                "batch": self.verdict_batch.name,
                "model": self.verdict_batch.settings.get("model"),
                "verdicts": self.judged,
                "ties": self.ties,
                "missing": self.different - self.judged,
                "cost_usd": self._batches.summary(self.verdict_batch.id or 0).cost_usd,
            }
        return values
