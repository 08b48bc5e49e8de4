"""The statements of `llmos.memory.mail`."""

from __future__ import annotations

PUT_MAIL = """
INSERT INTO mail VALUES (?, nextval('mail_no'), ?, ?, 'waiting', '', ?, ?, ?, NULL)
ON CONFLICT (id) DO NOTHING
"""
HAS_MAIL = "SELECT count(*) FROM mail WHERE id = ?"
COUNT_WAITING = "SELECT count(*) FROM mail WHERE receiver = ? AND state = 'waiting'"
WAITING = "SELECT id, body FROM mail WHERE receiver = ? AND state = 'waiting' ORDER BY priority, no LIMIT ?"
TAKEN = "SELECT id, body FROM mail WHERE receiver = ? AND state = 'received' AND note = ? ORDER BY priority, no"
SETTLE_MAIL = "UPDATE mail SET state = ?, note = ?, settled_at = ? WHERE id IN (SELECT unnest(?::VARCHAR[]))"
OVER = "SELECT id, body FROM mail WHERE state = 'waiting' AND expires_at <= ?"
RECEIVERS_WAITING = "SELECT DISTINCT receiver FROM mail WHERE state = 'waiting'"
ALL_WAITING = "SELECT id, body FROM mail WHERE receiver = ? AND state = 'waiting'"
LIST_MAIL = """
SELECT state, note, body FROM mail WHERE ? IS NULL OR receiver = ? ORDER BY no DESC LIMIT ?
"""
PRUNE_MAIL = """
DELETE FROM mail WHERE state <> 'waiting' AND (settled_at < ? OR no <= (SELECT max(no) FROM mail) - ?)
"""

GET_BLOCK = "SELECT version, value FROM shared_blocks WHERE key = ?"
COUNT_BLOCKS = "SELECT count(*) FROM shared_blocks WHERE family = ?"
PUT_BLOCK = """
INSERT INTO shared_blocks VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (key) DO UPDATE SET version = excluded.version, value = excluded.value,
    written_by = excluded.written_by, updated_at = excluded.updated_at
"""
LIST_BLOCKS = "SELECT name, version, value FROM shared_blocks WHERE family = ? ORDER BY name"
PRUNE_BLOCKS = "DELETE FROM shared_blocks WHERE updated_at < ?"
