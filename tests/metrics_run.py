"""A run of the engine with its event log, for tests that hold metrics against it."""

import json
from pathlib import Path

import msgspec

from loadgen import _core
from loadgen.event import EventCodec, EventRecord
from loadgen.event.frame import unpack
from loadgen.session import SessionResult, summary

PATIENCE_S = 60.0
BODIES = [b'{"model":"mock","prompt":"p","messages":[{"role":"user","content":"hi"}]}']


def of_run(directory: Path, requests: int = 60) -> tuple[Path, list[EventRecord], SessionResult]:
    """Run against the mock server; return the run's directory, all of its events, and its result."""
    events = {
        "log": True,
        "publish": False,
        "chunks": True,
        "send_threshold": 100,
        "max_age_s": 0.01,
        "max_bytes": 65536,
    }
    about = {"id": "ab12", "version": "0", "started_at": "2026-01-01T00:00:00Z", "model": "mock", "environment": {}}
    with _core.MockServer(json.dumps({"output_tokens": 4, "gap": 1.0, "error_rate": 0.2})) as server:
        told = {
            "url": server.url,
            "timeout_s": 30.0,
            "connect_timeout_s": 5.0,
            "stall_timeout_s": 20.0,
            "workers": 2,
            "dir": str(directory),
            "events": events,
            "meta": {**about, "config": {"url": server.url}},
        }
        engine = _core.Engine(json.dumps(told))
        phase = {"name": "main", "type": "performance", "load": {"kind": "manual"}, "drain_timeout_s": 30.0}
        engine.begin(json.dumps(phase), _core.Bodies(BODIES))
        for _ in range(requests):
            engine.issue()
        engine.end_issue()
        assert engine.wait(PATIENCE_S) is not None
        engine.finish()
    codec, records = EventCodec(), list[EventRecord]()
    for frame in _core.read_events(directory):
        found = unpack(frame)
        records += codec.decode_batch(found.payload, found.records)
    report = summary.report_of(directory)
    return directory, records, SessionResult.of(directory, msgspec.json.decode(msgspec.json.encode(report)))
