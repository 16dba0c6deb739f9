"""What an answer's headers say of when to come again: one reader for the engine and for Python callables."""

import pytest

from loadgen import _core

NOW = 784_111_777 * 1_000_000_000  # Sun, 06 Nov 1994 08:49:37 GMT


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("2", 2_000_000_000),
        ("0.5", 500_000_000),
        ("Sun, 06 Nov 1994 08:49:40 GMT", 3_000_000_000),
        ("Sun, 06 Nov 1994 08:49:30 GMT", 0),
        ("99999999999999999999", 2**64 - 1),
        ("-5", None),
        ("soon, maybe", None),
    ],
)
def test_every_form_of_retry_after_is_read_or_ignored(value: str, expected: int | None) -> None:
    assert _core.retry_after({"Retry-After": value}, NOW) == expected
    assert _core.retry_after([(b"llm_provider-retry-after", value.encode())], NOW) == expected


def test_headers_that_say_nothing_of_it_give_none() -> None:
    assert _core.retry_after({}, NOW) is None
    assert _core.rate_hints({"content-type": "text/plain"}, NOW) is None


def test_rate_limits_are_told_of_requests_and_tokens() -> None:
    headers = {
        "x-ratelimit-limit-requests": "60",
        "x-ratelimit-reset-tokens": "6m0s",
        "x-ratelimit-remaining-tokens": "0",
    }
    assert _core.rate_hints(headers, NOW) == ((60, None, None), (None, 0, 360_000_000_000))


class LooseHeaders:
    """Has items, and is no registered mapping: as the header types of some clients."""

    def items(self) -> list[tuple[str, str]]:
        return [("retry-after-ms", "1500"), ("retry-after", "9")]


def test_header_types_of_clients_are_read_as_they_are() -> None:
    assert _core.retry_after(LooseHeaders(), NOW) == 1_500_000_000  # type: ignore[arg-type]


def test_a_header_that_is_no_text_is_refused_by_its_type() -> None:
    with pytest.raises(TypeError, match="int"):
        _core.retry_after({"retry-after": 5}, NOW)  # type: ignore[arg-type]
