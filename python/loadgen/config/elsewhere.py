"""What other load generators call our options and figures: an error that meets such a word names ours."""

from __future__ import annotations

from collections.abc import Callable, Collection

TARGET = "url"
"""Stands for the target, which is no option."""
_EXAMPLE = "http://127.0.0.1:8000"

_CALLED: dict[str, tuple[str, ...]] = {
    TARGET: ("base_url", "endpoint", "host", "server", "target", "targets", "urls"),
    "api": ("api_type", "backend", "backend_type", "endpoint_type", "request_format"),
    "stream": ("streaming",),
    "timeout": ("request_timeout", "request_timeout_seconds"),
    "insecure": ("insecure_skip_tls_verify",),
    "concurrency": ("c", "concurrent", "connections", "num_users", "users", "vus"),
    "rate": ("qps", "request_rate", "requests_per_second", "rps"),
    "arrival": ("arrival_pattern", "profile", "rate_type", "request_rate_mode"),
    "burstiness": ("arrival_smoothness",),
    "stages": ("ramp_up_end_rps", "ramp_up_start_rps", "ramp_up_strategy", "rampup", "stage"),
    "requests": ("iterations", "max_requests", "n", "num_prompts", "num_requests", "request_count"),
    "duration": ("benchmark_duration", "max_seconds", "run_time", "time_limit", "z"),
    "warmup": ("num_warmups", "num_warmup_requests", "warmup_percent", "warmup_request_count", "warmup_requests"),
    "seed": ("random_seed",),
    "dataset": ("data", "dataset_name", "dataset_path", "input_file", "prompt_file", "public_dataset"),
    "input_tokens": ("input_len", "isl", "prompt_tokens", "random_input_len", "synthetic_input_tokens_mean"),
    "output_tokens": ("max_tokens", "osl", "output_len", "output_tokens_mean", "random_output_len"),
    "extra_body": ("extra_inputs", "ignore_eos", "temperature", "top_k", "top_p"),
    "slo": ("goodput",),
    "percentiles": ("metric_percentiles", "percentile_metrics"),
    "out": (
        "artifact_dir",
        "output",
        "output_dir",
        "output_path",
        "result_dir",
        "result_filename",
        "save_detailed",
        "save_result",
    ),
}
"""Ours, and theirs: those of vLLM's `bench serve`, AIPerf, GuideLLM, k6, locust and wrk that are not ours as well."""

_METRICS: dict[str, tuple[str, ...]] = {
    "ttft": ("time_to_first_token",),
    "ttfo": ("time_to_first_output_token", "ttfot"),
    "tpot": ("inter_token_latency",),
    "latency": ("e2e", "e2el", "e2e_latency", "request_latency"),
}
"""Ours, and what vLLM's `bench serve`, AIPerf and GuideLLM call the same figure in an objective."""

_JUDGED = ("abort_on_fail", "fail_on", "threshold", "thresholds")
"""What others fail a build by, and a configuration here doesn't hold."""

_OURS = {theirs: ours for ours, words in _CALLED.items() for theirs in words}
_OUR_METRICS = {theirs: ours for ours, words in _METRICS.items() for theirs in words}


def ours(word: str, known: Collection[str]) -> str:
    """Return what an option of another load generator is called here; empty if it isn't known, or has no counterpart.

    Args:
        word: Its name, with ``_`` or ``-``, without those in front.
        known: The options that there are where it was given; the target counts as one.
    """
    found = _OURS.get(word.lower().replace("-", "_"), "")
    return found if found in known or found == TARGET else ""


def metric(word: str) -> str:
    """Return what a figure of another load generator is called in an objective here; empty if it isn't known.

    Args:
        word: Its name, with ``_`` or ``-``.
    """
    return _OUR_METRICS.get(word.lower().replace("-", "_"), "")


def hint(word: str, known: Collection[str], called: Callable[[str], str]) -> str:
    """Return the way out where an option of another load generator was given; empty likewise.

    Args:
        word: As for :func:`ours`.
        known: Likewise.
        called: How the user calls an option.
    """
    if word.lower().replace("-", "_") in _JUDGED:
        return "what a release must keep is judged by what --json prints: docs/how-to/gate.md has the lines for it"
    name = ours(word, known)
    if not name:
        return ""
    if name == TARGET:
        is_flag = called(TARGET) != TARGET
        return f"the server is named without an option: loadgen run {_EXAMPLE}" if is_flag else f"here it is {TARGET}"
    return f"here it is {called(name)}"
