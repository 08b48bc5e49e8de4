"""The statements about interrupts and standing orders, named. Times are UTC without a zone; JSON is text."""

from __future__ import annotations

_COLUMNS = "no, kind, run_id, pid, order_name, body, dedupe_key, created_at, delivered_at"

INTERRUPT_OF_KEY = "SELECT 1 FROM interrupts WHERE dedupe_key = ?"

INSERT_INTERRUPT = f"""
INSERT INTO interrupts ({_COLUMNS}) VALUES (nextval('interrupt_no'), ?, ?, ?, ?, ?, ?, ?, NULL) RETURNING {_COLUMNS}
"""

# What was delivered goes once it is neither young nor among the newest; what waits, once nobody can want it any more.
TRIM_INTERRUPTS = """
DELETE FROM interrupts WHERE no <= (SELECT coalesce(max(no), 0) - ? FROM interrupts)
AND ((delivered_at IS NOT NULL AND created_at < ?) OR created_at < ?)
"""

TAKE_INTERRUPTS = f"""
UPDATE interrupts SET delivered_at = ? WHERE run_id = ? AND delivered_at IS NULL RETURNING {_COLUMNS}
"""

WAITING_INTERRUPTS = f"SELECT {_COLUMNS} FROM interrupts WHERE delivered_at IS NULL"
INTERRUPTS_OF_RUN = f"SELECT {_COLUMNS} FROM interrupts WHERE run_id = ? AND delivered_at IS NOT NULL"
NEWEST_INTERRUPTS = f"SELECT {_COLUMNS} FROM interrupts ORDER BY no DESC LIMIT ?"
WAITING_OF_ORDER = f"SELECT {_COLUMNS} FROM interrupts WHERE order_name = ? AND delivered_at IS NULL"

DELIVER = "UPDATE interrupts SET delivered_at = ?, run_id = ? WHERE no = ? AND delivered_at IS NULL RETURNING no"
DROP_WAITING = "DELETE FROM interrupts WHERE order_name = ? AND delivered_at IS NULL"

# --- standing orders -------------------------------------------------------------------------------

ADD_ORDER = "INSERT INTO {table} (no, body, updated_at) VALUES (nextval('{sequence}'), ?, ?) RETURNING no"
CHANGE_ORDER = "UPDATE {table} SET body = ?, updated_at = ? WHERE no = ?"
GET_ORDER = "SELECT no, body FROM {table} WHERE no = ?"
LIST_ORDERS = "SELECT no, body FROM {table} ORDER BY no"
REMOVE_ORDER = "DELETE FROM {table} WHERE no = ? RETURNING no"
