"""How long a hit takes, by its parts: whole processes, the resident kernel, one process that stays, many goals at once."""
