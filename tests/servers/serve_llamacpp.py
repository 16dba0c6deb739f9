"""Serves a GGUF model with the real llama.cpp HTTP server, from a prebuilt wheel; prints READY and its address.

usage: serve_llamacpp.py MODEL.gguf [KEY]        needs xllamacpp; listens on a free loopback port until it is terminated
With EMBEDDINGS=1 in the environment it serves vectors instead of answers.
"""

import os
import signal
import sys

import xllamacpp

SLOTS = 4


def parameters(model: str, key: str | None) -> xllamacpp.CommonParams:
    """Set what keeps the server small, quiet and offline: one thread for the model, no warm-up, no page."""
    params = xllamacpp.CommonParams()
    params.model.path = model
    params.port = 0  # the system's choice: one that was free a moment ago may be somebody else's by now
    params.n_parallel = SLOTS
    params.n_ctx = 2048 * SLOTS
    # A text in older releases, a set of names in newer ones.
    params.model_alias = "tiny" if isinstance(params.model_alias, str) else {"tiny"}
    params.n_gpu_layers = 0
    params.warmup = False
    params.endpoint_metrics = True
    params.cpuparams.n_threads = 1
    params.cpuparams_batch.n_threads = 1
    params.n_threads_http = 16
    params.offline = True
    params.ui = False
    params.fit_params = False
    if os.environ.get("EMBEDDINGS"):
        params.embedding = True
        params.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
    if key is not None:
        params.api_keys = [key]
    return params


def main(model: str, key: str | None = None) -> None:
    """Serve until SIGTERM or SIGINT."""
    server = xllamacpp.Server(parameters(model, key))
    # In one write, which a pipe keeps whole: the server's own log goes to the same place from other threads.
    os.write(sys.stdout.fileno(), f"\nREADY {server.listening_address}\n".encode())
    signal.sigwait({signal.SIGTERM, signal.SIGINT})


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    main(*sys.argv[1:])
