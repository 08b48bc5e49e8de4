"""The statements of `llmos.memory.processes` and `llmos.memory.sessions`."""

from __future__ import annotations

PUT_PROCESS = """
INSERT INTO processes VALUES (?, ?, ?, ?)
ON CONFLICT (run_id) DO UPDATE SET pid = excluded.pid, body = excluded.body, updated_at = excluded.updated_at
"""
DELETE_PROCESS = "DELETE FROM processes WHERE run_id = ?"
LIST_PROCESSES = "SELECT body FROM processes ORDER BY pid, run_id"

INSERT_SESSION_LINES = "INSERT INTO session_lines VALUES (nextval('session_line_no'), ?, ?, ?, ?, ?)"
SESSION_UUIDS = "SELECT uuid FROM session_lines WHERE session_id = ? AND subpath = ? AND uuid <> ''"
SESSION_LINES = "SELECT body FROM session_lines WHERE session_id = ? AND subpath = ? ORDER BY no"
DELETE_SESSION = "DELETE FROM session_lines WHERE session_id = ? AND subpath = ?"
DELETE_SESSION_LINES = "DELETE FROM session_lines WHERE run_id = ?"
