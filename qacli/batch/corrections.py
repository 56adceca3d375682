"""Correct answers of the Batch API that do not fit their schemas, by asking directly."""

from dataclasses import replace

from qacli.batch.progress import ActiveItem
from qacli.cost import Usage
from qacli.db.batches import Batches
from qacli.domain import Question, Turn
from qacli.json_schema import validation_error
from qacli.provider.batch_lines import BATCH_TIER
from qacli.provider.response import Attempt, ChatResponse
from qacli.schema_repair import repair_prompt


def continue_unfit(
    batches: Batches, question: Question, active: ActiveItem, response: ChatResponse
) -> Question:
    """Prepare the correction of an earlier answer, if the item has one that does not fit.

    The record stays the same one, with the tokens and the cost of both answers.

    Args:
        batches: The database.
        question: The question of the item.
        active: Gets the request for a correction, and the question and the answer before it.
        response: Gets the earlier answer as an attempt.
    """
    record = batches.unfit_answer(question.batch_id or 0, question.item_key or "")
    if record is None:
        return question
    error = validation_error(question.params, record.answer or "")
    if error is None or not record.answer:
        return question
    usage = Usage(
        record.prompt_tokens,
        record.completion_tokens,
        record.cached_tokens,
        record.reasoning_tokens,
        record.cost_usd,
    )
    response.earlier_attempts = [Attempt(usage, record.model, BATCH_TIER, record.endpoint)]
    active.turns.append(Turn(question.question, record.answer))
    active.correction = repair_prompt(error, question.params)
    active.paid = record.cost_usd or 0.0
    return replace(question, uid=record.uid, created_at=record.created_at)
