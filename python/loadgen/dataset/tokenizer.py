"""The user's tokenizer: a ``tokenizer.json``, read with the package tokenizers, which is asked for only then."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from loadgen.errors import DatasetError
from loadgen.speech import option

if TYPE_CHECKING:
    from tokenizers import Tokenizer


def open_tokenizer(path: str | Path) -> Tokenizer:
    """Open a tokenizer that counts: it neither cuts long texts nor fills up short ones, whatever its file says.

    Args:
        path: A ``tokenizer.json``, or its directory.

    Returns:
        The tokenizer.

    Raises:
        DatasetError: If the file can't be read or is none, or the package is missing.
    """
    path = Path(path)
    if path.is_dir():
        path = path / "tokenizer.json"
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise DatasetError(f"the tokenizer {path} does not exist") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"the tokenizer {path} can't be read: {error}") from error
    try:
        from tokenizers import Tokenizer
    except ImportError:
        raise DatasetError(
            "counting tokens needs the package tokenizers",
            f"pip install 'loadgen[tokenizers]', or leave {option('tokenizer')} out",
        ) from None
    try:
        tokenizer = Tokenizer.from_str(text)
    except Exception as error:  # the library raises nothing narrower
        raise DatasetError(f"the tokenizer {path} is not a tokenizer.json: {error}") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer
