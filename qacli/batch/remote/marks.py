"""The marks by which the file and the batch of a part are found again at the provider."""

from qacli.db.extra_models import BatchPart
from qacli.provider.batch_api import RemoteBatch

METADATA_PART = "qa_part"


def file_name(part: BatchPart) -> str:
    """Return the name of the file of a part."""
    return f"qa-{part.uid}.jsonl"


def is_of(batch: RemoteBatch, part: BatchPart) -> bool:
    """Return whether a batch of the provider is that of a part; some gateways drop the metadata.

    A batch that was refused because the queue was full is not: it is submitted again.
    """
    if batch.is_refused_as_full:
        return False
    if batch.metadata.get(METADATA_PART) == part.uid:
        return True
    return part.file_id is not None and batch.input_file_id == part.file_id


def reason(batch: RemoteBatch) -> str:
    """Return the messages of a batch that has failed as a whole."""
    return "; ".join(filter(None, (error.message or error.code for error in batch.errors[:3])))
