"""Many questions through the OpenAI SDK, dispatched: retries, copies and the pace are the dispatcher's.

Run it: pip install openai; OPENAI_BASE_URL=http://127.0.0.1:8000/v1 OPENAI_API_KEY=… python examples/openai_dispatch.py
"""

from __future__ import annotations

import asyncio
import os
import sys

from openai import AsyncOpenAI

import loadgen
from loadgen.dispatch import attempt


async def main(questions: list[str]) -> None:
    # Retries of its own would hide from the dispatcher that the service pushes back.
    client = AsyncOpenAI(max_retries=0)
    model = os.environ.get("OPENAI_MODEL", "mock")

    async def ask(question: str) -> str:
        stream = await client.chat.completions.create(
            model=model,
            messages=[{"role": "user", "content": question}],
            max_tokens=16,
            stream=True,
            stream_options={"include_usage": True},
        )
        answer = ""
        async with stream:  # a copy that lost is cancelled, and its connection closed
            async for chunk in stream:
                if chunk.choices and chunk.choices[0].delta.content:
                    if not answer:
                        attempt().first_token()
                    answer += chunk.choices[0].delta.content
                if chunk.usage:
                    attempt().used(chunk.usage.prompt_tokens, chunk.usage.completion_tokens)
        return answer

    async with client:
        batch = await loadgen.Dispatcher("hedged", hedge_after="2s", streaming=True).arun(ask, questions)
    for question, result in zip(questions, batch, strict=True):
        print(f"{question}: {result.value}")
    print(f"{batch!r}, {batch.totals['tokens_used']} tokens")
    batch.check()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:] or [f"What is {n} + {n}?" for n in range(20)]))
