"""Request bodies for each API that an endpoint speaks."""

from loadgen.config.options import Api
from loadgen.endpoint.body import render

__all__ = ["Api", "render"]
