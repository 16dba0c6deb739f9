"""Datasets: where prompts come from. `load` reads a file or makes prompts; a `Dataset` is a sequence of `Sample`s."""

from loadgen.dataset.load import load
from loadgen.dataset.sample import Dataset, Message, Sample
from loadgen.dataset.session import Sessions
from loadgen.dataset.target import Targets
from loadgen.dataset.tokenizer import open_tokenizer

__all__ = ["Dataset", "Message", "Sample", "Sessions", "Targets", "load", "open_tokenizer"]
