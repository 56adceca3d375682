"""The states of the items and the parts of a batch, as the database stores them."""

from enum import StrEnum

MODELS = "models"
"""The setting of a batch with the models that each of its questions is asked of."""

ROW = "row"
"""The field of a batch item's payload with the cells of its row, which the results repeat."""


class ItemState(StrEnum):
    """The state of an item of a batch."""

    WAITING = "waiting"
    CLAIMED = "claimed"
    ANSWERED = "answered"
    FAILED = "failed"


class PartState(StrEnum):
    """The state of a part of a batch at the provider's Batch API.

    A state is stored before the step that it names begins, and the next one after that step.
    """

    FILLING = "filling"
    READY = "ready"
    UPLOADING = "uploading"
    UPLOADED = "uploaded"
    CREATING = "creating"
    SUBMITTED = "submitted"
    ENDED = "ended"
    TAKEN = "taken"
    DONE = "done"
    FAILED = "failed"
