"""Drives B1's load as a session, with or without a full stream of its events: `event_load.py`'s process.

usage: event_session.py URL REQUESTS OUT [DIRECTORY GREETING]

With DIRECTORY (of the publisher's socket) and GREETING (the subscriber's) every chunk is an event, kept in the log and
published. Prints one JSON object: the chunks of the report, and what the publisher sent.
"""

from __future__ import annotations

import json
import sys

import loadgen

_CONNECTIONS = 64


def main(url: str, requests: str, out: str, directory: str = "", greeting: str = "") -> None:
    phase = loadgen.PhaseConfig(
        name="B1",
        strategy=loadgen.ConcurrencyStrategy(_CONNECTIONS),
        limits=loadgen.Limits(samples=int(requests)),
        settings=loadgen.PhaseSettings(output_tokens=128),
    )
    if not directory:
        result = loadgen.BenchmarkSession(loadgen.HttpIssuer(url, workers=1, out=out)).run([phase])
        print(json.dumps({"chunks": result.performance.tokens["chunks"]}))
        return
    issuer = loadgen.HttpIssuer(url, workers=1, out=out, events="chunks")
    with loadgen.ManagedZMQContext(directory) as context:
        # Only what is batched by the engine passes here, so the loop has a frame a thousand events to send.
        publisher = loadgen.EventPublisherService(context, isolated_event_loop=True, sndhwm=0)
        if not publisher.wait_for(bytes.fromhex(greeting), 30.0):
            sys.exit("the subscriber did not come")
        result = loadgen.BenchmarkSession(issuer, publisher).run([phase])
        publisher.close()
    events = result.report["run"]["events"]
    print(
        json.dumps(
            {
                "chunks": result.performance.tokens["chunks"],
                "logged": events["logged"],
                "missing": events["missing"],
                "dropped": events["dropped"],
            }
        )
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
