"""The cortex and the doors: deciding, learning, and the ways in."""
