"""Dispatch of many calls at once."""
