"""What people look at: boards, panels and their queries, as data. `grafana` makes Grafana's files of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from msgspec import Struct

from stack.watching.alerts import TARGET_S

Kind = Literal["line", "number", "table"]
RATE = "$__rate_interval"
#: The histogram whose values name their traces, where the gateway records them.
TRACED = "gateway_tick_seconds"


class Query(Struct, frozen=True):
    """PromQL, and what a line is called; `{{name}}` is a label's value.

    With `exemplars` single values are shown too, each with the way to its trace.
    """

    expr: str
    legend: str = ""
    exemplars: bool = False


def over(query: Query, window: str) -> str:
    """A query's PromQL for who asks without Grafana: rates over a window, as "30s"."""
    return query.expr.replace(RATE, window)


class Panel(Struct, frozen=True):
    """One picture.

    Attributes:
        title: a question that it answers, or what it shows.
        queries: whose answers it shows.
        unit: Grafana's name of the unit.
        kind: how.
        target: drawn as a line, and beyond it red; None for none.
        needs: what must be there for an answer: nothing, a GPU, several brokers, an experiment, or the
            orchestrator of the profile full.
    """

    title: str
    queries: tuple[Query, ...]
    unit: str = "short"
    kind: Kind = "line"
    target: float | None = None
    needs: Literal["", "gpu", "brokers", "experiment", "orchestrator"] = ""


class Board(Struct, frozen=True):
    """A page of panels."""

    uid: str
    title: str
    panels: tuple[Panel, ...]


def quantile(q: float, histogram: str, by: str = "") -> str:
    """PromQL of a quantile of a histogram."""
    labels = f"le, {by}" if by else "le"
    return f"histogram_quantile({q}, sum by ({labels}) (rate({histogram}_bucket[{RATE}])))"


def rate(counter: str, by: str = "") -> str:
    """PromQL of how fast a counter grows."""
    grouped = f"sum by ({by}) " if by else "sum"
    return f"{grouped}(rate({counter}[{RATE}]))"


def one(title: str, expr: str, legend: str = "", unit: str = "short", kind: Kind = "line", **more: Any) -> Panel:
    """A panel of one query."""
    return Panel(title, (Query(expr, legend),), unit, kind, **more)


def quantiles(title: str, histogram: str, shares: Mapping[str, float], **more: Any) -> Panel:
    """A panel of some quantiles of a histogram, by what each is called; beside the first its exemplars."""
    queries = [
        Query(quantile(q, histogram), name, exemplars=histogram == TRACED and k == 0)
        for k, (name, q) in enumerate(shares.items())
    ]
    return Panel(title, tuple(queries), **more)


def mean(total: str, count: str, scale: float = 1.0) -> str:
    """PromQL of what each of those that were counted had of a total, by model."""
    per_s = [f"sum by (model) (rate({name}[{RATE}]))" for name in (total, count)]
    return f"{per_s[0]} / {per_s[1]}" + (f" / {scale:g}" if scale != 1.0 else "")


WITHIN = (
    f'sum(rate(gateway_tick_seconds_bucket{{le="0.05"}}[{RATE}])) / sum(rate(gateway_tick_seconds_count[{RATE}]))'
)
FALLEN = f'sum by (arm, fallback) (rate(gateway_experiment_rows_total{{fallback!=""}}[{RATE}]))'
HOLDS = f'sum by (reason) (rate(gateway_decisions_total{{action="hold"}}[{RATE}]))'
#: A rule that was never broken has no figure yet.
BROKEN = f"{rate('gateway_denials_total', 'rule')} or vector(0)"
LOST = "min by (consumergroup, topic) (kafka_consumergroup_records_until_lost)"
KEPT = "sum by (topic) (kafka_topic_partition_current_offset - kafka_topic_partition_oldest_offset)"
OF_GROUP = "{{consumergroup}} {{topic}}"
DRAWDOWN = one("Drawdown", "gateway_book_drawdown", "partition {{partition}}", "percentunit")

DESK = Board(
    "desk",
    "Desk at a glance",
    (
        one("Trading state", "gateway_trading_state == 1", "{{state}}", kind="table"),
        one("Decisions a second", rate("gateway_ticks_total"), "decisions", "ops"),
        quantiles(
            "From sending to deciding", "gateway_tick_seconds", {"p50": 0.5, "p99": 0.99}, unit="s", target=TARGET_S
        ),
        one("Equity", "gateway_book_equity", "partition {{partition}}", "currencyUSD"),
        one("Gross exposure", "gateway_book_gross", "partition {{partition}}", "currencyUSD"),
        DRAWDOWN,
        one("Why it is not ready", "gateway_problems", "{{instance}}", kind="number", target=1),
        one("Alerts that fire", 'sum(ALERTS{alertstate="firing"}) or vector(0)', kind="number", target=1),
    ),
)
LATENCY = Board(
    "latency",
    "Latency by stage",
    (
        one("p99 by stage", quantile(0.99, "gateway_stage_seconds", "stage"), "{{stage}}", "s", target=TARGET_S),
        one("p50 by stage", quantile(0.5, "gateway_stage_seconds", "stage"), "{{stage}}", "s"),
        quantiles(
            "From sending to deciding",
            "gateway_tick_seconds",
            {"p50": 0.5, "p95": 0.95, "p99": 0.99, "p99.9": 0.999},
            unit="s",
            target=TARGET_S,
        ),
        one("From receiving to published", quantile(0.99, "gateway_handled_seconds"), "p99", "s", target=TARGET_S),
        quantiles("Ticks a batch", "gateway_batch_rows", {"p50": 0.5, "p99": 0.99}),
        one("Share within the budget", WITHIN, "within 50 ms", "percentunit"),
        one("Broker's reports", quantile(0.99, "paper_broker_report_seconds"), "p99", "s"),
    ),
)
DECISIONS = Board(
    "decisions",
    "Decisions, holds and denials",
    (
        one("Decisions by action", rate("gateway_decisions_total", "action"), "{{action}}", "ops"),
        one("Holds by reason", HOLDS, "{{reason}}", "ops"),
        one("Broken rules", BROKEN, "{{rule}}", "ops"),
        one("Dead letters", rate("gateway_dead_letters_total"), "dead letters", "ops"),
        one("By arm", rate("gateway_decisions_total", "variant"), "{{variant}}", "ops"),
        one(
            "Challengers' rows that the champion decided",
            FALLEN,
            "{{arm}}: {{fallback}}",
            "ops",
            needs="experiment",
        ),
        one("Share of the units", "experiments_share", "{{experiment}}", "percentunit", needs="experiment"),
        one(
            "Challenger less champion, basis points a block",
            "experiments_difference_bps",
            "{{arm}} {{bound}}",
            needs="experiment",
        ),
        one("Reports of the broker", rate("paper_broker_reports_total", "kind"), "{{kind}}", "ops"),
        Panel(
            "Orders that work",
            (
                Query("sum(gateway_book_working_orders)", "gateway"),
                Query("paper_broker_working_orders", "broker"),
            ),
        ),
    ),
)
RISK = Board(
    "risk",
    "Risk headroom",
    (
        one("Headroom by rule", "gateway_rule_headroom_ratio", "{{rule}}", "percentunit"),
        one(
            "Least headroom now", "min by (rule) (gateway_rule_headroom_ratio)", "{{rule}}", "percentunit", "table"
        ),
        one("Latched rules", "sum(gateway_book_latched)", "latched", kind="number", target=1),
        DRAWDOWN,
        one("Broken rules", BROKEN, "{{rule}}", "ops"),
    ),
)
MODEL_SERVER = Board(
    "triton",
    "Triton and GPU",
    (
        one("Requests", rate("nv_inference_request_success", "model"), "{{model}}", "ops"),
        one("Failures", rate("nv_inference_request_failure", "model"), "{{model}}", "ops", target=0.001),
        one(
            "Time of a request",
            mean("nv_inference_request_duration_us", "nv_inference_request_success", 1e6),
            "{{model}}",
            "s",
            target=0.02,
        ),
        one(
            "Time in the queue",
            mean("nv_inference_queue_duration_us", "nv_inference_request_success", 1e6),
            "{{model}}",
            "s",
        ),
        one("Rows a call", mean("nv_inference_count", "nv_inference_exec_count"), "{{model}}"),
        one("Breaker", "gateway_breaker_state == 1", "{{state}}", kind="table"),
        one("May be asked", "gateway_triton_up", "{{address}}", kind="table"),
        one("GPU memory", "DCGM_FI_DEV_FB_USED", "GPU {{gpu}}", "decmbytes", needs="gpu"),
        one("GPU use", "DCGM_FI_DEV_GPU_UTIL", "GPU {{gpu}}", "percent", needs="gpu"),
        one("GPU temperature", "DCGM_FI_DEV_GPU_TEMP", "GPU {{gpu}}", "celsius", target=85, needs="gpu"),
    ),
)
KAFKA = Board(
    "kafka",
    "Kafka",
    (
        one("Brokers", "kafka_brokers", "brokers", kind="number"),
        one("Records a second", rate("kafka_topic_partition_current_offset", "topic"), "{{topic}}", "ops"),
        one("Lag", "sum by (consumergroup, topic) (kafka_consumergroup_lag)", OF_GROUP),
        one("Records until some are lost", LOST, OF_GROUP),
        one(
            "Under-replicated partitions",
            "sum(kafka_topic_partition_under_replicated_partition)",
            kind="number",
            target=1,
        ),
        one("Records that are kept", KEPT, "{{topic}}"),
    ),
)
TRAIL = Board(
    "trail",
    "Trail and its proof",
    (
        one("Records a second", rate("forensics_records_total", "kind"), "{{kind}}", "ops"),
        one("Age of the newest record", "forensics_lag_seconds", "{{kind}}", "s", target=30),
        one("Since the last checkpoint", "time() - forensics_checkpoint_timestamp_seconds", "age", "s", target=180),
        one("Alarms", "sum by (kind) (forensics_alarms_total)", "{{kind}}", kind="table"),
        one("Signing refused", "forensics_signing_refused", "refused", kind="number", target=1),
        Panel(
            "Waiting",
            (Query("forensics_waiting", "trail"), Query("data_waiting", "data service")),
            kind="number",
            target=1,
        ),
        one("Answers of the data service", rate("data_requests_total", "route"), "{{route}}", "ops"),
        one("Time of an answer", quantile(0.99, "data_request_seconds"), "p99", "s"),
    ),
)
MODELS = Board(
    "models",
    "Models",
    (
        one("Released version", "ultrathink_model_version", "{{model}}", kind="table"),
        one(
            "Difference from the source",
            "ultrathink_model_parity_max_abs_difference",
            "{{model}}",
            "sci",
            target=0.001,
        ),
        one("Where it comes from is known", "ultrathink_model_lineage_readable", "{{model}}", kind="table"),
        one("Releases", "sum by (action, end) (ultrathink_releases_total)", "{{action}} {{end}}", kind="table"),
        one("Rows asked for", rate("gateway_inference_rows_total"), "rows", "ops"),
    ),
)
TRAINING = Board(
    "training",
    "Training",
    (
        one("Runs by step", "orchestrator_runs", "{{step}} {{state}}", needs="orchestrator"),
        one("Ended within a day", "orchestrator_runs_ended_1d", "{{verdict}}", kind="table", needs="orchestrator"),
        one(
            "Longest wait of a run that may begin",
            "orchestrator_oldest_ready_seconds",
            "wait",
            "s",
            target=3600,
            needs="orchestrator",
        ),
        one("Found by the newest check", "orchestrator_found", "{{kind}}", kind="table", needs="orchestrator"),
        one("Taken back in a day", "orchestrator_taken_back_1d", "versions", kind="table", needs="orchestrator"),
        one("Memory", "orchestrator_memory_bytes", "{{what}}", "bytes", needs="orchestrator"),
        one("GPU memory", "orchestrator_gpu_memory_bytes", "{{what}}", "bytes", needs="orchestrator"),
        one(
            "Training stands still, for the desk",
            "orchestrator_paused",
            "stands still",
            kind="number",
            target=1,
            needs="orchestrator",
        ),
        one("Attempts that were lost", rate("orchestrator_steps_lost_total"), "lost", "ops", needs="orchestrator"),
        one(
            "Attempts out of memory",
            rate("orchestrator_steps_out_of_memory_total"),
            "ended",
            "ops",
            needs="orchestrator",
        ),
        one("Trainings in MLflow", "ultrathink_trainings", "{{status}}", kind="table"),
    ),
)
SERVERS = Board(
    "servers",
    "Servers and machine",
    (
        one("Ready", "ultrathink_process_ready", "{{process}}", kind="table"),
        one(
            "Availability of the last hour",
            'ultrathink_process_availability_ratio{window="1h"}',
            "{{process}}",
            "percentunit",
            "table",
        ),
        one(
            "Memory beside the ceiling",
            "ultrathink_process_memory_bytes / ultrathink_process_memory_limit_bytes",
            "{{process}}",
            "percentunit",
            target=0.9,
        ),
        one("Processors", "ultrathink_process_cpu_ratio", "{{process}}"),
        one("Restarts", "ultrathink_process_restarts_total", "{{process}}", kind="table"),
        one(
            "Ended for want of memory",
            "sum(ultrathink_process_out_of_memory_total)",
            "ends",
            kind="number",
            target=1,
        ),
        one("Scraped", "up", "{{job}}", kind="table"),
        one("Disk left", "node_filesystem_avail_bytes", "{{mountpoint}}", "bytes"),
        one("Memory left", "node_memory_MemAvailable_bytes", "available", "bytes"),
        one("Processors by mode", rate("node_cpu_seconds_total", "mode"), "{{mode}}"),
        one("PostgreSQL's connections", "pg_stat_database_numbackends", "{{datname}}"),
        one(
            "PostgreSQL's transactions", rate("pg_stat_database_xact_commit_total", "datname"), "{{datname}}", "ops"
        ),
        one("Redis' memory", "redis_memory_used_bytes", "used", "bytes"),
        one("Redis' commands", rate("redis_commands_processed_total"), "commands", "ops"),
    ),
)
BOARDS = (DESK, LATENCY, DECISIONS, RISK, MODEL_SERVER, KAFKA, TRAIL, MODELS, TRAINING, SERVERS)
