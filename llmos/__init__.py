"""LLM OS: a goal is solved by Claude once and replayed by plain Python from then on."""

__version__ = "0.1.0"
