"""Datasets: where prompts come from. `load` reads a file or makes prompts; a `Dataset` is a sequence of `Sample`s."""

from __future__ import annotations

from typing import TYPE_CHECKING

from loadgen.dataset.load import load
from loadgen.dataset.sample import Dataset, Message, Sample
from loadgen.first_use import on_first_use

if TYPE_CHECKING:
    from loadgen.dataset.session import Sessions
    from loadgen.dataset.target import Targets
    from loadgen.dataset.tokenizer import open_tokenizer

__all__ = ["Dataset", "Message", "Sample", "Sessions", "Targets", "load", "open_tokenizer"]

_FILES = {"session": ("Sessions",), "target": ("Targets",), "tokenizer": ("open_tokenizer",)}

if not TYPE_CHECKING:  # a checker would take any name for one of ours
    __getattr__, __dir__ = on_first_use(__name__, _FILES)
