"""The prices of models by host and name, from `qacli/data/prices.json`.

`docs/generate_prices.py` writes that file; it is read when a price is needed. Its form:

- `generated`: the date of the prices.
- `hosts`: the provider of each host; `patterns`: regular expressions for other hosts.
- `providers`: for each provider `models` (exact names), `prefixes`, `also` (providers whose models
  it sells too), and `discounts` if they differ from `DISCOUNTS`.

The entry of a model is a price, `[input, output]` or `[input, output, cached input]` in US dollars
for a million tokens; or an object with such a `price` and, if they exist: `over`, the prices of
requests with more prompt tokens; `tiers`, the prices of service tiers; `hours`, the prices at other
times of the day (UTC); and `from`, the prices from a later date.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

PATH = Path(__file__).parent / "data" / "prices.json"

PER_MILLION = 1_000_000

DISCOUNTS: Mapping[str, float] = {"flex": 0.5, "batch": 0.5}
"""Factors of service tiers: https://developers.openai.com/api/docs/guides/flex-processing."""

PREMIUM_TIERS = frozenset({"fast", "priority"})
"""Service tiers that cost more than the standard one; unknown where the table has no price."""

PROPRIETARY = ("openai", "anthropic", "google", "x-ai")
"""Providers whose models are not served by others, except behind gateways."""

FIRST_PARTY = (*PROPRIETARY, "deepseek", "mistral", "moonshotai", "zai", "cohere", "minimax")
"""Providers whose models are priced by their name alone on a host that the table does not have."""

VENDORS: Mapping[str, str] = {
    **{name: name for name in FIRST_PARTY},
    "mistralai": "mistral",
    "z-ai": "zai",
}
"""Providers by the first part of a name like `openai/gpt-6-luna`, as gateways have them."""

OPEN_WEIGHTS = r"gemma|gpt-oss"
DATE = r"[-@]20\d\d-?\d\d-?\d\d$"


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars for a million tokens; `cached` is for cached input, None for no discount."""

    input: float
    output: float
    cached: float | None = None

    def cost(self, prompt: int, completion: int, cached: int) -> float:
        """Return US dollars for tokens; `cached` of the prompt tokens come from the cache."""
        cached = min(cached, prompt)
        rate = self.input if self.cached is None else self.cached
        return (
            (prompt - cached) * self.input + cached * rate + completion * self.output
        ) / PER_MILLION

    def times(self, factor: float) -> "Price":
        """Return the price with a discount."""
        cached = None if self.cached is None else self.cached * factor
        return Price(self.input * factor, self.output * factor, cached)


def plain_names(model: str) -> Iterator[str]:
    """Yield the names of a model that a table may have: its own name, then its name without a date.

    `models/gemini-3.5-flash` is Gemini's name for a model, `gpt-6-luna-2026-09-22` a dated one.
    """
    name = model.lower().removeprefix("models/")
    yield name
    if (undated := re.sub(DATE, "", name)) != name:
        yield undated


class PriceTable:
    """The prices in the document of the file `PATH`."""

    def __init__(self, document: dict[str, Any]) -> None:
        self._hosts: dict[str, str] = document["hosts"]
        self._patterns: dict[str, str] = document["patterns"]
        self._providers: dict[str, dict[str, Any]] = document["providers"]
        self.generated = date.fromisoformat(document["generated"])
        # The answers of a batch are of one model.
        self._entry = lru_cache(maxsize=256)(self._find_entry)

    @classmethod
    @cache
    def load(cls) -> "PriceTable":
        """Return the table of this version of qa."""
        return cls(json.loads(PATH.read_bytes()))

    def price(
        self,
        model: str,
        endpoint: str | None,
        *,
        prompt_tokens: int,
        tier: str | None,
        at: datetime,
    ) -> Price | None:
        """Return the price of a request; None if it is unknown.

        Args:
            model: The model, as the provider or the user names it.
            endpoint: The host, with or without a port; None for any.
            prompt_tokens: The size of the prompt.
            tier: The service tier; None for the standard one.
            at: The time of the request, with its time zone.
        """
        entry, discounts = self.entry(model, endpoint)
        if tier == "fast":  # OpenAI's other name for it
            tier = "priority"
        return None if entry is None else _resolve(entry, discounts, prompt_tokens, tier, at)

    def entry(self, model: str, endpoint: str | None) -> tuple[Any, Mapping[str, float]]:
        """Return the entry of a model, or None, and the factors of service tiers."""
        return self._entry(model, endpoint)

    def _find_entry(self, model: str, endpoint: str | None) -> tuple[Any, Mapping[str, float]]:
        for provider, is_exact in self._sellers(model, endpoint):
            # `openai/gpt-6-luna` of a gateway is `gpt-6-luna` of OpenAI.
            for name in (model, model.partition("/")[2]) if provider in FIRST_PARTY else (model,):
                entry = _find(self._providers[provider], name, is_exact=is_exact)
                if entry is not None:
                    return entry, {**DISCOUNTS, **self._providers[provider].get("discounts", {})}
        return None, {}

    def _sellers(self, model: str, endpoint: str | None) -> Iterator[tuple[str, bool]]:
        """Yield the providers whose prices may apply, and whether only exact names count."""
        host = re.sub(r":\d+$", "", endpoint or "")
        own = self._hosts.get(host) or next(
            (name for pattern, name in self._patterns.items() if re.fullmatch(pattern, host)), None
        )
        if own is not None:
            yield own, False
            for other in self._providers[own].get("also", ()):
                yield other, False
        if own in {None, "openrouter"}:
            vendor = VENDORS.get(model.partition("/")[0])
            local = own is None and endpoint is not None and is_private_host(host)
            for provider in PROPRIETARY if local else FIRST_PARTY:
                if vendor in {None, provider} and not re.search(OPEN_WEIGHTS, model):
                    yield provider, provider not in PROPRIETARY


def _find(provider: dict[str, Any], model: str, *, is_exact: bool) -> Any:  # noqa: ANN401 - an entry
    names = list(plain_names(model))
    for name in names:
        if (entry := provider["models"].get(name)) is not None:
            return entry
    if is_exact or not names[0]:
        return None
    prefixes = provider.get("prefixes", {})
    matches = [prefix for prefix in prefixes if names[0].startswith(prefix)]
    return prefixes[max(matches, key=len)] if matches else None


def _resolve(
    entry: Any,  # noqa: ANN401 - an entry
    discounts: Mapping[str, float],
    prompt_tokens: int,
    tier: str | None,
    at: datetime,
) -> Price | None:
    """Return the price of an entry for one request."""
    factor = discounts.get(tier or "", 1.0)
    while isinstance(entry, dict):
        later = [day for day in entry.get("from", ()) if day <= f"{at:%Y-%m-%d}"]
        clock = f"{at:%H:%M}"
        hours = [span for span in entry.get("hours", ()) if _is_within(clock, span)]
        if tier in entry.get("tiers", ()):
            entry, tier = entry["tiers"][tier], None
        elif later:
            entry = {"tiers": entry.get("tiers", {}), **_as_entry(entry["from"][max(later)])}
        elif hours:
            entry = {"tiers": entry.get("tiers", {}), **_as_entry(entry["hours"][hours[-1]])}
        else:
            over = [row[1:] for row in entry.get("over", ()) if prompt_tokens > row[0]]
            entry = over[-1] if over else entry["price"]
    return None if tier in PREMIUM_TIERS else Price(*entry).times(factor)


def _as_entry(entry: Any) -> dict[str, Any]:  # noqa: ANN401 - an entry
    return entry if isinstance(entry, dict) else {"price": entry}


def _is_within(clock: str, span: str) -> bool:
    start, end = span.split("-")
    return start <= clock < end if start < end else clock >= start or clock < end


def is_private_host(host: str) -> bool:
    """Return whether a host is this machine or one of its own network.

    Models with open weights run there under their vendor's names, and cost nothing that is known.
    """
    from ipaddress import ip_address

    try:
        return ip_address(host.strip("[]")).is_private
    except ValueError:
        return "." not in host or host.endswith((".local", ".internal", ".localhost", ".lan"))
