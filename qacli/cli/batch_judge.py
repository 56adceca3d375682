"""The verdicts of `qa batch compare --judge`: a batch like any other, begun from a comparison."""

import json
import shlex
import sys
from dataclasses import dataclass, replace
from hashlib import sha256
from tempfile import TemporaryFile
from typing import IO, Any

from qacli.batch.claims import reclaim_stale
from qacli.batch.comparison import Comparison
from qacli.batch.options import DEFAULT_JOBS, DEFAULT_RETRIES, BatchOptions
from qacli.batch.run_options import check_budget, run_options_of
from qacli.batch.source_options import BatchInputOptions, batch_settings_of
from qacli.batch.verdicts import ANSWER_NAMES, VERDICT_FORMAT, write_pairs
from qacli.cli.batch_work import work_on
from qacli.cli.console import Console
from qacli.config.settings import Settings
from qacli.cost import Pricing
from qacli.db.batches import Batches
from qacli.domain import create_question
from qacli.errors import InvalidRequest
from qacli.model_options import merge_params
from qacli.prompt_templates import PromptTemplate
from qacli.provider.endpoint import resolve_endpoint
from qacli.recording.outbox import Outbox

JUDGED_VARIANTS = 2

JUDGE = "judge"
"""The tag of the verdicts, and the first part of the name of their batch."""


@dataclass(frozen=True, slots=True)
class Judge:
    """Asks which of two answers is better, for each compared item whose answers differ.

    The verdicts are a batch whose name comes from the compared batches, the template and the
    model, so that the same command, given again, continues that batch.
    """

    batches: Batches
    comparison: Comparison
    settings: Settings
    console: Console

    def ask(self, template: str, *, model: str | None, max_cost: float | None) -> int:
        """Ask for the verdicts that are missing; return the exit code of the batch.

        Args:
            template: The name of a template with the placeholders {question}, {a} and {b}.
            model: The model; None means that of the template or of the settings.
            max_cost: The budget of the verdicts in US dollars.

        Raises:
            InvalidRequest: More than two variants are compared, or the template cannot be used.
        """
        if len(self.comparison.variants) != JUDGED_VARIANTS:
            raise InvalidRequest(
                f"A judge compares two answers, and there are {len(self.comparison.variants)}.",
                "Name two batches of one model each, or one batch of two models.",
            )
        reading = BatchInputOptions(form="jsonl", template=template, id_column="id", tags=(JUDGE,))
        prompt = reading.load_template(self.settings)
        _check_template(prompt)
        with TemporaryFile(prefix="qa-batch-") as spool:
            items = self.comparison.items()
            write_pairs(
                ((item.key, item.records) for item in items if not item.agreement.is_same), spool
            )
            # The items have been read by `write_pairs`, so the totals are complete.
            if not self.comparison.different:
                return 0
            name = self._load(reading, prompt, spool, model, max_cost)
        self.comparison.verdict_batch = self.batches.get(name)
        return work_on(
            self.comparison.verdict_batch,
            self.batches,
            self.settings,
            self.console,
            jobs=None,
            again=shlex.join(["qa", *sys.argv[1:]]),
        )

    def _load(
        self,
        reading: BatchInputOptions,
        prompt: PromptTemplate,
        spool: IO[bytes],
        model: str | None,
        max_cost: float | None,
    ) -> str:
        """Load the pairs of answers into the batch of the verdicts; return its name."""
        settings, batches = self.settings, self.batches
        source = replace(reading.to_source(None, prompt), spool=spool)
        endpoint = resolve_endpoint(settings, model or prompt.model, with_key=False)
        answer_settings: dict[str, Any] = {
            "model": endpoint.model,
            "system": prompt.system if source.system_template is None else None,
            "params": merge_params({"response_format": VERDICT_FORMAT}, prompt.params),
        }
        # Refuses invalid settings before anything is loaded.
        create_question("?", model=endpoint.model, system=None, params=answer_settings["params"])
        batch_settings = {**batch_settings_of(answer_settings, source), "input": source.form}
        compared = [[item.batch.id, item.model] for item in self.comparison.variants]
        digest = sha256(json.dumps([compared, batch_settings], sort_keys=True).encode())
        name = f"{JUDGE}-{digest.hexdigest()[:8]}"
        existing = batches.find(name)
        if existing is not None:
            reclaim_stale(batches, Outbox(settings.outbox_path), existing.id or 0)
        # An answer can have changed since the last run: its verdict is asked for again.
        batch = source.load(batches, name, batch_settings, self.console.info, ask_changed=True)
        batches.resume(batch.id or 0, retry_failed=True)
        options = BatchOptions(
            batch_id=batch.id or 0,
            **answer_settings,
            aliases=settings.aliases,
            default_params=settings.default_params,
            jobs=DEFAULT_JOBS,
            retries=DEFAULT_RETRIES,
            timeout=settings.timeout,
            lease_seconds=settings.lease,
        )
        prices = Pricing.load(settings.prices_path)
        budget = batch.max_cost_usd if max_cost is None else max_cost
        check_budget(budget, [endpoint.model], endpoint, prices, settings)
        run_options = run_options_of(options, endpoint, settings, jobs=DEFAULT_JOBS)
        batches.save_run_options(options.batch_id, run_options, max_cost)
        return name


def _check_template(prompt: PromptTemplate) -> None:
    """Check that a template can ask for verdicts.

    Raises:
        InvalidRequest: A placeholder is missing or unknown, or it has a schema of its own.
    """
    names = set(prompt.placeholders())
    unknown = ", ".join(sorted(names - {"question", *ANSWER_NAMES}))
    if prompt.question is None or not names >= set(ANSWER_NAMES) or unknown:
        raise InvalidRequest(
            f"A judge does not fill in the placeholder {unknown} of the template {prompt.name!r}."
            if unknown
            else f"The template {prompt.name!r} does not have both answers: {{a}} and {{b}}.",
            'Write it like: question = "{question}\\n\\nAnswer a: {a}\\n\\nAnswer b: {b}"',
        )
    if prompt.schema is not None:
        raise InvalidRequest(
            f"The template {prompt.name!r} has a schema, and a verdict has one of its own.",
            "Remove its line with the schema.",
        )
