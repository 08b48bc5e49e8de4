"""`python -m benchmarks.scale`: what a memory of a thousand to a million traces costs, and what it still finds."""
