"""The trace language: what a trace is, how goals bind to it, how runs become one. Pure: no I/O, no clock, no model."""
