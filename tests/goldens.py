"""Golden files: what a person sees, kept as it was agreed."""

import os
from pathlib import Path

GOLDEN = Path(__file__).parent / "screens"


def golden(name: str, text: str) -> None:
    """Fail where a screen isn't what its file says; with ``UPDATE_SCREENS=1`` the file is written anew."""
    path = GOLDEN / f"{name}.txt"
    if os.environ.get("UPDATE_SCREENS"):
        GOLDEN.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8"), f"{path} differs; UPDATE_SCREENS=1 writes it anew"
