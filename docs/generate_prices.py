"""Write qacli/data/prices.json, the table of prices, from the package `genai-prices`.

`uv run --group dev python docs/generate_prices.py` writes the prices of today; with `--date
YYYY-MM-DD`, those of another day. The same package and date give the same bytes. A name that the
table would price in another way than the package does is an error.
"""

import argparse
import json
import re
import sys
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from importlib.metadata import version
from pathlib import Path
from typing import Any

from genai_prices import data, types

from qacli.price_table import PriceTable, plain_names

TARGET = Path(__file__).parents[1] / "qacli" / "data" / "prices.json"
AHEAD = timedelta(days=120)
"""A change of price within this time is in the table too."""

SKIPPED = frozenset(
    {
        *("cursor", "elevenlabs", "github-copilot", "openai-decisions", "voyageai"),
        *("arcee", "avian", "doubleword", "quicksilverpro", "typesafe"),
    }
)
"""Providers that have no chat charged by tokens, or few users: the table is to stay small."""

ROUTED = re.compile(
    r"(openai|anthropic|google|mistralai|deepseek|meta-llama|qwen|x-ai|z-ai|moonshotai|minimax"
    r"|nvidia|microsoft|perplexity|cohere|amazon)/[^:]+$"
)
"""The names of OpenRouter to keep; it sends the cost of each answer itself."""

HOSTS_OF_PATTERNS = {
    "aws": "bedrock-runtime.eu-west-1.amazonaws.com",
    "azure": "x.openai.azure.com",
    "cohere": "api.cohere.ai",
    "google": "generativelanguage.googleapis.com",
    "minimax": "api.minimax.io",
    "moonshotai": "api.moonshot.ai",
    "openrouter": "openrouter.ai",
}
"""A host for each provider whose hosts are a pattern, to check its prices."""

KEYS = ("input_mtok", "output_mtok", "cache_read_mtok")
FLEX_AT_FULL_PRICE = frozenset({"groq"})
"""https://console.groq.com/docs/flex-processing: the price is the same as on demand."""


def host_of(api_pattern: str) -> str | None:
    """Return the part of a pattern of URLs that is about the host; None if a path decides."""
    pattern = api_pattern.replace("(https?://)?", "").removeprefix("https://")
    host, slash, path = pattern.replace("(?:/|$)", "").replace("(/|$)", "").partition("/")
    if host.endswith("\\."):
        host += ".*"  # a pattern is the start of a URL
    # A path is of use only where the host is of one provider.
    return None if slash and "[" not in path and path != "client/v4/accounts/[^/]+/ai" else host


def plain_price(price: types.ModelPrice) -> dict[str, Any] | list[float | None] | None:
    """Return a price as the table has it; None if it is not by tokens."""
    values = [getattr(price, key) for key in KEYS]
    if values[0] is None or values[1] is None:
        return None
    base = _trimmed([_base(value) for value in values])
    starts = sorted(
        {
            tier.start
            for value in values
            if isinstance(value, types.TieredPrices)
            for tier in value.tiers
        }
    )
    if not starts:
        return base
    return {
        "price": base,
        "over": [[start, *_trimmed([_over(v, start) for v in values])] for start in starts],
    }


def _base(value: Decimal | types.TieredPrices | None) -> float | None:
    if isinstance(value, types.TieredPrices):
        value = value.base
    return None if value is None else _number(value)


def _over(value: Decimal | types.TieredPrices | None, start: int) -> float | None:
    if not isinstance(value, types.TieredPrices):
        return _base(value)
    reached = [tier.price for tier in value.tiers if tier.start <= start]
    return _number(reached[-1] if reached else value.base)


def _number(value: Decimal) -> float:
    return int(value) if value == int(value) else float(value)


def _trimmed(values: list[float | None]) -> list[float | None]:
    return values if values[-1] is not None else values[:-1]


def model_entry(model: types.ModelInfo, day: date) -> Any:  # noqa: ANN401 - as `plain_price`
    """Return the prices of a model: now, at other hours, from later dates, and at other tiers."""
    noon = datetime.combine(day, time(12), UTC)
    rules = model.prices if isinstance(model.prices, list) else []
    dated = [rule for rule in rules if not isinstance(rule.constraint, types.TimeOfDateConstraint)]
    hourly = [rule for rule in rules if isinstance(rule.constraint, types.TimeOfDateConstraint)]
    now = next(
        (
            rule.prices
            for rule in reversed(dated)
            if rule.constraint is None or rule.constraint.active(noon)
        ),
        model.get_prices(noon),
    )
    price = plain_price(now)
    if price is None:
        return None
    entry: dict[str, Any] = dict(price) if isinstance(price, dict) else {"price": price}
    hours = {
        f"{rule.constraint.start_time:%H:%M}-{rule.constraint.end_time:%H:%M}": plain_price(
            rule.prices
        )
        for rule in hourly
        if isinstance(rule.constraint, types.TimeOfDateConstraint)
    }
    later = {
        rule.constraint.start_date.isoformat(): plain_price(rule.prices)
        for rule in dated
        if isinstance(rule.constraint, types.StartDateConstraint)
        and day < rule.constraint.start_date <= day + AHEAD
    }
    priority = plain_price(model.get_prices(noon, {"service_tier": "priority"}))
    tiers = {} if priority == price else {"priority": priority}
    parts = {"hours": hours, "from": later, "tiers": tiers}
    entry |= {
        name: values
        for name, part in parts.items()
        if (values := {key: value for key, value in part.items() if value is not None})
    }
    return price if len(entry) == 1 else entry


def names(match: types.MatchLogic) -> Iterator[str]:
    """Yield the names of a model; one that ends in `*` is a prefix."""
    match match:
        case types.ClauseOr():
            for clause in match.or_:
                yield from names(clause)
        case types.ClauseAnd():
            yield from names(match.and_[0])
        case types.ClauseEquals():
            yield match.equals.lower()
        case types.ClauseEndsWith():
            yield match.ends_with.lower()
        case types.ClauseStartsWith():
            yield match.starts_with.lower() + "*"
        case types.ClauseContains():
            yield match.contains.lower() + "*"


def is_kept(provider: types.Provider, name: str) -> bool:
    """Return whether a name goes into the table."""
    if provider.id == "openrouter":
        return ROUTED.match(name) is not None
    return not name.startswith("/")


def build(day: date) -> dict[str, Any]:
    """Return the table of a day."""
    hosts: dict[str, str] = {}
    patterns: dict[str, str] = {}
    providers: dict[str, dict[str, Any]] = {}
    sources = {provider.id: provider for provider in data.providers}
    # OpenRouter is last: what its names cost at their vendors is left out.
    for provider in sorted(sources.values(), key=lambda each: (each.id == "openrouter", each.id)):
        host = None if provider.id in SKIPPED else host_of(provider.api_pattern)
        if host is None:
            continue
        literal = host.replace("\\.", ".")
        if re.fullmatch(r"[a-z0-9.-]+", literal):
            hosts[literal] = provider.id
        else:
            patterns[host] = provider.id
        providers[provider.id] = provider_table(provider, day)
    document = {
        "generated": day.isoformat(),
        "source": f"genai-prices {version('genai-prices')}",
        "hosts": hosts,
        "patterns": patterns,
        "providers": providers,
    }
    for table in providers.values():
        drop_redundant(table)
    drop_vendor_prices(document)
    check(document, day)
    return document


def provider_table(provider: types.Provider, day: date) -> dict[str, Any]:
    """Return the part of the table for a provider."""
    table: dict[str, Any] = {"models": {}, "prefixes": {}}
    for model in provider.models:
        entry = model_entry(model, day)
        for name in names(model.match):
            if entry is not None and is_kept(provider, name):
                part = table["prefixes" if name.endswith("*") else "models"]
                part.setdefault(name.removesuffix("*"), entry)
    if provider.fallback_model_providers:
        table["also"] = provider.fallback_model_providers
    if provider.id in FLEX_AT_FULL_PRICE:
        table["discounts"] = {"flex": 1}
    return table


def drop_redundant(table: dict[str, Any]) -> None:
    """Remove names that cost the same as their prefix, or as their name without a date."""
    models, prefixes = table["models"], table["prefixes"]
    for name, entry in list(models.items()):
        *_, undated = plain_names(name)
        matches = [prefix for prefix in prefixes if name.startswith(prefix)]
        same = models.get(undated) if undated != name else None
        if same is None and matches:
            same = prefixes[max(matches, key=len)]
        if same == entry:
            del models[name]


def drop_vendor_prices(document: dict[str, Any]) -> None:
    """Remove the names of OpenRouter that cost the same as at the model's vendor."""
    models = document["providers"]["openrouter"]["models"]
    rest = {**models}
    for name, entry in models.items():
        del rest[name]
        document["providers"]["openrouter"]["models"] = rest
        if PriceTable(document).entry(name, "openrouter.ai")[0] != entry:
            rest[name] = entry


def check(document: dict[str, Any], day: date) -> None:
    """Compare the table with the package, for each name that the package has.

    Raises:
        SystemExit: It has another price for one of them.
    """
    table = PriceTable(document)
    noon = datetime.combine(day, time(12), UTC)
    hosts = {provider: host for host, provider in document["hosts"].items()} | HOSTS_OF_PATTERNS
    for provider in data.providers:
        references = [
            name.removesuffix("*")
            for model in provider.models
            for name in names(model.match)
            if provider.id in document["providers"] and is_kept(provider, name)
        ]
        for name in references:
            model = provider.find_model(name)
            if model is None or model_entry(model, day) is None:
                continue
            price = table.price(name, hosts[provider.id], prompt_tokens=1000, tier=None, at=noon)
            values = [_base(getattr(model.get_prices(noon), key)) for key in KEYS]
            if price is None or [price.input, price.output, price.cached] != values:
                sys.exit(f"{provider.id} {name}: {price} in the table, {values} in genai-prices")


def main(arguments: list[str] | None = None) -> None:
    """Write the table."""
    parser = argparse.ArgumentParser(description="Write the table of prices.")
    parser.add_argument("--date", type=date.fromisoformat, default=datetime.now(UTC).date())
    document = build(parser.parse_args(arguments).date)
    TARGET.write_text(to_text(document), encoding="utf-8")


def to_text(document: dict[str, Any]) -> str:
    """Return the table as JSON with a line for each name, so that changes can be read."""
    text = json.dumps(document, indent=1, ensure_ascii=False)
    # Join the lines of each entry: they are the ones that are indented by more than 4.
    return re.sub(r"\n {5,}|(?<=[\]}\d])\n {4}(?=[\]}])", "", text).replace('": ', '":') + "\n"


if __name__ == "__main__":
    main()
