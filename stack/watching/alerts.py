"""What wakes a person: each alert once, with what it means in plain words; its page is docs/runbook/NAME.md.

Expressions look at metrics by the names of `scraping`'s jobs. "For" is how long something must be so: as short as a
healthy desk allows, since a trading day is short.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

Severity = Literal["critical", "warning"]
#: A decision's budget is 50 ms; its target is this, at the 99th percentile.
TARGET_S = 0.05


class Alert(Struct, frozen=True):
    """One alert.

    Attributes:
        name: of the alert and of its page.
        severity: critical: somebody must act now; warning: today.
        expr: in PromQL; it fires while this has an answer.
        summary: what is wrong, in plain words; may name labels and the value.
        lasting: for how long it must be so.
        tried: how it is made to fire: drill, by a fault on a desk (`ultrathink drill`); figures, by those of a
            small exporter that a real Prometheus reads, since one machine without a GPU cannot cause it.
    """

    name: str
    severity: Severity
    expr: str
    summary: str
    lasting: str = "0s"
    tried: Literal["drill", "figures"] = "drill"


class Inhibition(Struct, frozen=True):
    """What says nothing new while something else fires.

    Attributes:
        source: matchers of what fires.
        silenced: names of what is then silent, with | between them.
        equal: labels that must be the same in both.
    """

    source: str
    silenced: str
    equal: tuple[str, ...] = ()


#: A gateway that waits for a model is no outage.
HELD = 'ultrathink_process_held{process="gateway"} == 1'
#: In containers there is no supervisor of ours: by what starts anew of itself, or comes and goes.
UNSUPERVISED = (
    "label_replace((changes(process_start_time_seconds[10m]) > 3) or (changes(up[10m]) / 2 > 3), "
    '"process", "$1", "job", "(.*)") unless on () ultrathink_supervisor_up'
)
#: Experiments whose units the gateways divide now.
DIVIDED = "sum by (experiment) (rate(gateway_experiment_rows_total[1m])) > 0"
TICKS_COME = 'sum(rate(kafka_topic_partition_current_offset{topic="market.ticks"}[30s])) > 1'
ALERTS: tuple[Alert, ...] = (
    # ---- the desk ----------------------------------------------------------------------------
    Alert(
        "DecisionLatencyHigh", "warning",
        f"histogram_quantile(0.99, sum by (le) (rate(gateway_tick_seconds_bucket[1m]))) > {TARGET_S} "
        "and sum(rate(gateway_ticks_total[1m])) > 10",
        "1 in 100 ticks is decided later than 50 ms after it was sent: {{ $value | humanizeDuration }}", "30s",
    ),
    Alert(
        "NoDecisions", "critical",
        f"({TICKS_COME}) unless (sum(rate(gateway_ticks_total[30s])) > 0) unless on () ({HELD})",
        "ticks come and none is decided", "10s",
    ),
    Alert(
        "GatewayLag", "warning",
        'sum by (partition) (kafka_consumergroup_lag{consumergroup="gateway", topic="market.ticks"}) > 2000',
        "partition {{ $labels.partition }} has {{ $value }} ticks that wait to be decided", "15s",
    ),
    Alert(
        "DeadLetters", "warning", "increase(gateway_dead_letters_total[5m]) > 0",
        "{{ $value | humanize }} messages of the last 5 minutes were no ticks",
    ),
    Alert(
        "TicksLost", "critical",
        # What was lost while it was away is counted before anybody looks: the first figure is no growth.
        "increase(gateway_lost_ticks_total[10m]) > 0 "
        "or (gateway_lost_ticks_total > 0 unless gateway_lost_ticks_total offset 10m)",
        "{{ $value | humanize }} ticks were deleted before they were decided",
    ),
    Alert(
        "BreakerOpen", "critical", 'gateway_breaker_state{state="open"} == 1',
        "the model server failed so often that the gateway asks it no more: every tick is held",
    ),
    Alert(
        "DeskHalted", "warning", 'gateway_trading_state{state=~"halted|reducing"} == 1',
        "the desk is {{ $labels.state }}", "5s",
    ),
    Alert(
        "KillSwitch", "critical", 'gateway_trading_state{state="killed"} == 1',
        "the kill switch is set: nothing is traded until somebody resumes",
    ),
    Alert(
        "LossLimitNear", "warning",
        'gateway_rule_headroom_ratio{rule=~"drawdown|daily_loss|value_at_risk"} < 0.1',
        "{{ $labels.rule }} has {{ $value | humanizePercentage }} of its limit left", "10s",
    ),
    Alert(
        "RuleLatched", "critical", "gateway_book_latched > 0",
        "{{ $value }} rules of partition {{ $labels.partition }} are latched: only a human resets them",
    ),
    Alert(
        "Drawdown", "warning", "max(gateway_book_drawdown) > 0.2",
        "the book has fallen {{ $value | humanizePercentage }} below its best", tried="figures",
    ),
    Alert(
        "TritonAway", "warning", "gateway_triton_up == 0",
        "the gateway does not ask the Triton at {{ $labels.address }}", "30s", tried="figures",
    ),
    Alert(
        "GatewayNotReady", "critical", f'(gateway_problems > 0 or up{{job="gateway"}} == 0) unless on () ({HELD})',
        "the gateway is not ready: {{ $value | humanize }} reasons, or it does not answer", "20s",
    ),
    Alert(
        "BadRecords", "warning", "increase(gateway_bad_records_total[5m]) > 0",
        "{{ $value | humanize }} records of {{ $labels.topic }} were not what they must be",
    ),
    # ---- processes ---------------------------------------------------------------------------
    Alert(
        "ProcessDown", "critical", "ultrathink_process_ready == 0 unless ultrathink_process_held == 1",
        "{{ $labels.process }} does not answer", "20s",
    ),
    Alert(
        "ModelMissing", "warning", 'ultrathink_process_held{process="gateway"} == 1',
        "no model is released: the gateway waits", "30s",
    ),
    Alert(
        "ProcessDegraded", "warning", "ultrathink_process_degraded == 1",
        "{{ $labels.process }} works without something that it needs: `ultrathink stack status`", "30s",
    ),
    Alert(
        "RestartLoop", "critical", f"increase(ultrathink_process_restarts_total[10m]) > 3 or ({UNSUPERVISED})",
        "{{ $labels.process }} was started again {{ $value | humanize }} times in 10 minutes",
    ),
    Alert(
        "OutOfMemory", "critical", "increase(ultrathink_process_out_of_memory_total[10m]) > 0",
        "{{ $labels.process }} was ended for want of memory (exit 137)",
    ),
    Alert(
        "MemoryNearCeiling", "warning",
        "ultrathink_process_memory_bytes / (ultrathink_process_memory_limit_bytes > 0) > 0.9",
        "{{ $labels.process }} uses {{ $value | humanizePercentage }} of its memory", "20s",
    ),
    Alert(
        "SupervisorDown", "critical", "ultrathink_supervisor_up == 0",
        "nobody supervises the desk: what ends is not started again", "15s",
    ),
    Alert(
        "TargetDown", "warning", 'up{job!~"gateway|orchestrator"} == 0',
        "{{ $labels.job }} tells Prometheus nothing", "30s",
    ),
    # ---- servers -----------------------------------------------------------------------------
    Alert(
        "SourceUnseen", "warning", "metrics_source_up == 0", "{{ $labels.source }} cannot be seen", "20s",
    ),
    Alert(
        "BrokerDown", "critical", "kafka_brokers < max_over_time(kafka_brokers[1h])",
        "only {{ $value }} brokers answer", "15s", tried="figures",
    ),
    Alert(
        "UnderReplicated", "warning", "kafka_topic_partition_under_replicated_partition == 1",
        "a replica of {{ $labels.topic }}/{{ $labels.partition }} does not follow", "60s", tried="figures",
    ),
    Alert(
        "RetentionNear", "critical",
        'kafka_consumergroup_records_until_lost{consumergroup="gateway"} < 0',
        "{{ $labels.topic }}/{{ $labels.partition }} has deleted what {{ $labels.consumergroup }} had not read",
    ),
    Alert(
        "RedisMemory", "warning", "redis_memory_used_bytes / (redis_memory_max_bytes > 0) > 0.9",
        "Redis has {{ $value | humanizePercentage }} of its memory in use, and refuses writes at 100 %",
    ),
    Alert(
        "PostgresConnections", "warning",
        "sum(pg_stat_database_numbackends) / on () group_left () max(pg_settings_max_connections) > 0.9",
        "PostgreSQL has {{ $value | humanizePercentage }} of its connections in use", "30s",
    ),
    Alert(
        "TritonFailures", "warning", "sum by (model) (rate(nv_inference_request_failure[1m])) > 0",
        "Triton refuses requests to {{ $labels.model }}", "10s",
    ),
    # ---- the machine -------------------------------------------------------------------------
    Alert(
        "DiskNearlyFull", "critical",
        # Twice what reduces the desk.
        'node_filesystem_avail_bytes{fstype!~"tmpfs|ramfs|vfat|squashfs|overlay"} < 2147483648 '
        "and node_filesystem_size_bytes > 4294967296",
        "{{ $value | humanize1024 }}B left on the disk of {{ $labels.mountpoint }}: below 1 GB the desk is reduced",
        "10s",
    ),
    Alert(
        "MachineMemory", "warning", "node_memory_MemAvailable_bytes / node_memory_MemTotal_bytes < 0.05",
        "the machine has {{ $value | humanizePercentage }} of its memory left", "30s", tried="figures",
    ),
    Alert(
        # In containers nobody else tells of it: who it was, Docker and Kubernetes know.
        "KernelOutOfMemory", "critical", "increase(node_vmstat_oom_kill[10m]) > 0",
        "the kernel ended {{ $value | humanize }} processes of this machine for want of memory (exit 137)",
        tried="figures",
    ),
    Alert(
        "ClockSkew", "warning", # It grows by half a millisecond a second between two questions to a time server.
        "node_timex_maxerror_seconds > 1.5 and node_timex_sync_status == 1",
        "the clock may be wrong by {{ $value | humanizeDuration }}: deadlines and ages are", "60s",
        tried="figures",
    ),
    Alert(
        "GpuMemory", "warning", "DCGM_FI_DEV_FB_USED / (DCGM_FI_DEV_FB_USED + DCGM_FI_DEV_FB_FREE) > 0.95",
        "GPU {{ $labels.gpu }} has {{ $value | humanizePercentage }} of its memory in use", "30s", tried="figures",
    ),
    Alert(
        "GpuTemperature", "critical", "DCGM_FI_DEV_GPU_TEMP > 85",
        "GPU {{ $labels.gpu }} is at {{ $value }} degrees, and slows down", "30s", tried="figures",
    ),
    Alert(
        "SecretOld", "warning", "ultrathink_secret_age_seconds > 31536000",
        "{{ $labels.secret }} is {{ $value | humanizeDuration }} old",
    ),
    Alert(
        # Whoever renews them by himself does so a month before.
        "CertificateExpiring", "warning",
        "ultrathink_certificate_expiry_timestamp_seconds - time() < 1209600",
        "the certificate {{ $labels.certificate }} holds for {{ $value | humanizeDuration }} yet", tried="figures",
    ),
    # ---- the trail ---------------------------------------------------------------------------
    Alert(
        "TrailBehind", "critical",
        # Of a kind that nothing comes of any more, the age of the last says nothing.
        "(max by (kind) (forensics_lag_seconds) > 30 and sum by (kind) (rate(forensics_records_total[1m])) > 0) "
        "or forensics_waiting == 1",
        "the trail is behind by {{ $value | humanizeDuration }}, or waits for a server", "30s",
    ),
    Alert(
        "CheckpointMissing", "critical",
        # It signs each minute, whether anything came or not.
        "time() - forensics_checkpoint_timestamp_seconds > 180 and forensics_checkpoint_timestamp_seconds > 0",
        "nothing of the trail was signed for {{ $value | humanizeDuration }}",
    ),
    Alert(
        "TamperFound", "critical",
        "sum(increase(forensics_alarms_total[1h])) > 0 or forensics_signing_refused == 1 "
        "or forensics_verification_findings > 0",
        "the trail is not what was signed: `ultrathink forensics alarms`",
    ),
    Alert(
        "TrailUnverified", "warning",
        # By a clock that was wrong it may lie in the time to come; 0 where nobody wants it. A desk that stood still
        # over a weekend has an hour to make up for it.
        "abs(time() - (forensics_verified_timestamp_seconds > 0)) > 2 * 86400 "
        "and on (job, instance) time() - process_start_time_seconds > 3600",
        "nobody has verified all of the trail for {{ $value | humanizeDuration }}", tried="figures",
    ),
    # ---- models ------------------------------------------------------------------------------
    Alert(
        "ModelParity", "warning", "ultrathink_model_parity_max_abs_difference > 0.001",
        "{{ $labels.model }} answers otherwise than its source, by {{ $value }}", tried="figures",
    ),
    Alert(
        "ModelUnknown", "critical", "ultrathink_model_lineage_readable == 0",
        "the released version of {{ $labels.model }} does not say where it comes from",
    ),
    Alert(
        "ExperimentStopped", "warning", "increase(experiments_stops_total[10m]) > 0",
        "{{ $labels.experiment }} was stopped ({{ $labels.why }}): the champion decides everything",
        tried="figures",
    ),
    Alert(
        "ExperimentUnwatched", "critical",
        "experiments_watched == 0 or (experiments_behind_seconds > 60 and on (experiment) experiments_share > 0) "
        f'or ({DIVIDED} unless on (experiment) experiments_watched{{where="desk"}})',
        # Longer than the rate looks back: after a stop its rows are seen for a while.
        "{{ $labels.experiment }} runs, and nobody watches its guardrails, or too late", "90s", tried="figures",
    ),
    # ---- training ----------------------------------------------------------------------------
    Alert(
        "OrchestratorWaiting", "warning", "orchestrator_waiting == 1",
        "the orchestrator cannot look at its runs: no training begins, and none is watched", "60s", tried="figures",
    ),
    Alert(
        "RunFailed", "warning",
        'delta(orchestrator_runs_ended_1d{verdict="failed"}[10m]) > 0',
        "a run has failed within ten minutes: `ultrathink orchestrator status`",
        tried="figures",
    ),
    Alert(
        "RunStarved", "warning", "orchestrator_oldest_ready_seconds > 3600",
        "a run has waited for {{ $value | humanizeDuration }} for memory, or for its turn", "60s", tried="figures",
    ),
    Alert(
        "TrainingOutOfMemory", "warning", "increase(orchestrator_steps_out_of_memory_total[10m]) > 0",
        "a step of a run ran out of memory (exit 137); its batches are halved once", tried="figures",
    ),
    Alert(
        "DriftFound", "warning", "orchestrator_found == 1",
        "the newest check has found {{ $labels.kind }}: `ultrathink orchestrator status`", tried="figures",
    ),
    Alert(
        "ModelTakenBack", "critical", "delta(orchestrator_taken_back_1d[10m]) > 0",
        "what a run had promoted was known to be worse: the last good version serves again", tried="figures",
    ),
    Alert(
        "ReleaseOpen", "warning", 'ultrathink_releases_total{end="open"} > 0',
        "a release was begun and neither finished nor undone: `ultrathink export recover`", "120s",
        tried="figures",
    ),
)  # fmt: skip
#: Where the first fires, the second of each is its consequence, and says nothing new.
#: Only what is of the same process, or of the gateway alone: nobody's end hides another's.
INHIBITED: tuple[Inhibition, ...] = (
    Inhibition('alertname="ProcessDown", process="gateway"', "GatewayNotReady|NoDecisions|GatewayLag"),
    Inhibition('alertname="GatewayNotReady"', "NoDecisions|GatewayLag"),
    Inhibition('alertname="KillSwitch"', "DeskHalted"),
    Inhibition('alertname="OutOfMemory"', "ProcessDown|RestartLoop", ("process",)),
)
