"""Many questions through LiteLLM, dispatched: its 429s and their Retry-After set the pace.

Run it: pip install litellm; OPENAI_API_BASE=http://127.0.0.1:8000/v1 python examples/litellm_dispatch.py
"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any

import litellm

import loadgen

litellm.suppress_debug_info = True  # else it prints where to get help, once a 429


async def ask(question: str) -> Any:
    """Ask one model; a model of any provider is named the same way."""
    return await litellm.acompletion(
        model=os.environ.get("LITELLM_MODEL", "openai/mock"),
        messages=[{"role": "user", "content": question}],
        max_tokens=16,
        num_retries=0,  # the dispatcher retries, and has to see each attempt
        max_retries=0,
    )


async def main(questions: list[str]) -> None:
    batch = await loadgen.Dispatcher("auto", max_concurrency=64).arun(ask, questions)
    for question, result in zip(questions, batch, strict=True):
        print(f"{question}: {result.value.choices[0].message.content if result.ok else result.error}")
    totals = batch.totals
    print(f"{batch!r}, {totals['attempts']} attempts, {totals['push_backs']} × 429, {totals['tokens_used']} tokens")
    batch.check()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:] or [f"What is {n} + {n}?" for n in range(20)]))
