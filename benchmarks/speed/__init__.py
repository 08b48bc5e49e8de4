"""How long a hit takes: whole processes, the resident kernel, one process that stays, many goals at once."""
