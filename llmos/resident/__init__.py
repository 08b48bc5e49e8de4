"""The resident kernel: one process holds a home's memory and its warm encoder, and does what thin clients ask for."""
