"""What supervisors ask of a trail, and the column that holds it: a table of three columns."""

from __future__ import annotations

RTS, SEC = "RTS 6 (EU 2017/589) art. 28, annex II", "SEC rule 17a-4(f)"
#: What is asked for, and the column that holds it.
REGULATION = (
    (RTS, "date and time of the decision, to the microsecond", "decisions.decided_at; nanoseconds in decisions.value"),
    (RTS, "instrument, buy or sell, quantity, price, currency", "decisions.symbol, action, quantity, reference_price; orders.symbol, quantity, price; the currency stands in the limits (commands.value)"),
    (RTS, "identification of the order", "decisions.decision_id, which is orders.order_id and fills.order_id"),
    (RTS, "who is responsible for the decision (here: the algorithm)", "decisions.model_name, model_version, variant, experiment, assigned; releases says who released that version and why"),
    (RTS, "who is responsible for the execution, account, strategy", "orders.account, orders.strategy"),
    (RTS, "outgoing order: date and time, quantity, price, validity", "orders.sent_at, quantity, price; expires_ns in orders.value"),
    (RTS, "state of the order: sent, filled, cancelled, rejected", "fills.kind, left_quantity, reason; orders.kind for cancels that were asked for"),
    (RTS, "sequence of events", "record_offset within a log, leaf_index within its tree; fills.sequence"),
    (RTS, "client, waiver, venue's own order id, trading capacity", "not kept: the desk trades for itself, and what a venue says is its broker's to keep"),
    (RTS, "pre-trade controls and why an order was stopped (art. 15)", "decisions.outcome, broken_rules; each rule's value, limit and headroom in decisions.value"),
    (RTS, "kill functionality: when, by whom, why (art. 12)", "commands.kind, setting, set_by, reason, event_time"),
    (RTS, "kept five years", "seven years at the least; of what is retired then the signed leaves stay"),
    (SEC, "audit trail of every change, time-stamped, with who made it", "no row is ever changed: who writes may insert only; a change by somebody else is found by `ultrathink forensics verify`"),
    (SEC, "an original can be recreated when it was altered or deleted", "value, key and headers byte for byte; the topics in Kafka, which keep them for good, rebuild a lost table"),
    (SEC, "quality and accuracy of recording verified automatically", "tiles, batches.root, checkpoints (Ed25519), and alarms"),
    (SEC, "serialized originals", "log, record_offset and leaf_index; roots signed once a second"),
    (SEC, "download in a readable and usable form", "these CSV files; `ultrathink forensics show`; GET /v1/decisions"),
    (SEC, "access for examiners without the desk's help", "role reader; `ultrathink forensics check-proof` needs a public key and no server"),
)  # fmt: skip
