"""Every alert fires on figures that mean it and is silent on a healthy desk's, on Prometheus' own evaluator."""

from __future__ import annotations

import json
import shutil
import subprocess

import pytest

from stack.watching import alerting, alerts, scraping
from tests.paths import ROOT

#: A healthy desk for ten minutes, a sample each five seconds.
HEALTHY = {
    'experiments_watched{experiment="fresh",where="desk"}': "1x200",
    'experiments_stops_total{experiment="fresh", why="harm"}': "0x200",
    'experiments_share{experiment="fresh"}': "0.5x200",
    'experiments_behind_seconds{experiment="fresh",where="desk"}': "0.2x200",
    'gateway_experiment_rows_total{experiment="fresh", arm="champion", fallback=""}': "0+100x200",
    "orchestrator_waiting": "0x200",
    'orchestrator_found{kind="drift"}': "0x200",
    "orchestrator_taken_back_1d": "0x200",
    'orchestrator_runs_ended_1d{verdict="failed"}': "0x200",
    "orchestrator_oldest_ready_seconds": "4x200",
    "orchestrator_steps_out_of_memory_total": "0x200",
    'gateway_tick_seconds_bucket{le="0.02"}': "0+2450x200",
    'gateway_tick_seconds_bucket{le="0.05"}': "0+2500x200",
    'gateway_tick_seconds_bucket{le="0.075"}': "0+2500x200",
    'gateway_tick_seconds_bucket{le="+Inf"}': "0+2500x200",
    "gateway_ticks_total": "0+2500x200",
    'gateway_triton_up{address="a:8001"}': "1x200",
    'kafka_topic_partition_current_offset{topic="market.ticks", partition="0"}': "0+2500x200",
    'kafka_consumergroup_lag{consumergroup="gateway", topic="market.ticks", partition="0"}': "40x200",
    'kafka_consumergroup_records_until_lost{consumergroup="gateway", topic="market.ticks", partition="0"}': "900x200",
    "gateway_dead_letters_total": "3x200",
    "gateway_lost_ticks_total": "0x200",
    'gateway_breaker_state{state="open"}': "0x200",
    'gateway_breaker_state{state="closed"}': "1x200",
    'gateway_trading_state{state="active"}': "1x200",
    'gateway_trading_state{state="halted"}': "0x200",
    'gateway_trading_state{state="reducing"}': "0x200",
    'gateway_trading_state{state="killed"}': "0x200",
    'gateway_rule_headroom_ratio{rule="drawdown"}': "0.8x200",
    'gateway_rule_headroom_ratio{rule="desk_exposure"}': "-0.5x200",
    'gateway_book_latched{partition="0"}': "0x200",
    'gateway_book_drawdown{partition="0"}': "0.02x200",
    "gateway_problems": "0x200",
    'gateway_bad_records_total{topic="fills"}': "0x200",
    'up{job="gateway"}': "1x200",
    'up{job="triton"}': "1x200",
    'ultrathink_process_ready{process="gateway"}': "1x200",
    'ultrathink_process_held{process="gateway"}': "0x200",
    'ultrathink_process_degraded{process="gateway"}': "0x200",
    'ultrathink_process_restarts_total{process="gateway"}': "2x200",
    'ultrathink_process_out_of_memory_total{process="gateway"}': "1x200",
    'ultrathink_process_memory_bytes{process="gateway"}': "300000000x200",
    'ultrathink_process_memory_limit_bytes{process="gateway"}': "1073741824x200",
    "ultrathink_supervisor_up": "1x200",
    'metrics_source_up{source="kafka"}': "1x200",
    "kafka_brokers": "3x200",
    'kafka_topic_partition_under_replicated_partition{topic="market.ticks", partition="0"}': "0x200",
    "redis_memory_used_bytes": "20000000x200",
    "redis_memory_max_bytes": "134217728x200",
    'pg_stat_database_numbackends{datname="ultrathink"}': "6x200",
    "pg_settings_max_connections": "50x200",
    'nv_inference_request_failure{model="trading_decision"}': "0x200",
    'node_filesystem_avail_bytes{mountpoint="/"}': "50000000000x200",
    'node_filesystem_size_bytes{mountpoint="/"}': "100000000000x200",
    'node_filesystem_avail_bytes{mountpoint="/boot/efi", fstype="vfat"}': "5000000x200",
    'node_filesystem_size_bytes{mountpoint="/boot/efi", fstype="vfat"}': "500000000x200",
    'gateway_decisions_total{action="buy"}': "0+10x200",
    "node_memory_MemTotal_bytes": "24000000000x200",
    "node_memory_MemAvailable_bytes": "12000000000x200",
    "node_vmstat_oom_kill": "2x200",
    "node_timex_maxerror_seconds": "0.9x200",
    "node_timex_sync_status": "1x200",
    'DCGM_FI_DEV_FB_USED{gpu="0"}': "6000x200",
    'DCGM_FI_DEV_FB_FREE{gpu="0"}': "6000x200",
    'DCGM_FI_DEV_GPU_TEMP{gpu="0"}': "61x200",
    'ultrathink_secret_age_seconds{secret="redis"}': "86400x200",
    'ultrathink_certificate_expiry_timestamp_seconds{certificate="ca.crt"}': "2500000x200",
    'forensics_lag_seconds{kind="decisions"}': "0.3x200",
    # Told once, late: nothing comes of it any more.
    'forensics_lag_seconds{kind="starts"}': "90x200",
    'forensics_records_total{kind="decisions"}': "0+2500x200",
    'forensics_records_total{kind="starts"}': "1x200",
    "forensics_waiting": "0x200",
    "forensics_checkpoint_timestamp_seconds": "1+5x200",
    'forensics_alarms_total{kind="gap"}': "0x200",
    "forensics_signing_refused": "0x200",
    "forensics_verification_findings": "0x200",
    "forensics_verified_timestamp_seconds": "0x200",
    "process_start_time_seconds": "-7200x200",
    'ultrathink_model_parity_max_abs_difference{model="trading_decision"}': "0.0000001x200",
    'ultrathink_model_lineage_readable{model="trading_decision"}': "1x200",
    'ultrathink_releases_total{action="release", end="done"}': "5x200",
}
PARTITION = '{consumergroup="gateway", topic="market.ticks", partition="0"}'
#: What changes when something is wrong; the rest is as above. `None` takes a series away.
WRONG: dict[str, dict[str, str | None]] = {
    "DecisionLatencyHigh": {'gateway_tick_seconds_bucket{le="0.05"}': "0+2450x200"},
    "NoDecisions": {"gateway_ticks_total": "5000x200"},
    "GatewayLag": {f"kafka_consumergroup_lag{PARTITION}": "9000x200"},
    "DeadLetters": {"gateway_dead_letters_total": "3x60 8x140"},
    "TicksLost": {"gateway_lost_ticks_total": "8x200"},
    "BreakerOpen": {'gateway_breaker_state{state="open"}': "1x200"},
    "DeskHalted": {'gateway_trading_state{state="reducing"}': "1x200"},
    "KillSwitch": {'gateway_trading_state{state="killed"}': "1x200"},
    "LossLimitNear": {'gateway_rule_headroom_ratio{rule="drawdown"}': "0.04x200"},
    "RuleLatched": {'gateway_book_latched{partition="0"}': "1x200"},
    "Drawdown": {'gateway_book_drawdown{partition="0"}': "0.25x200"},
    "GatewayNotReady": {"gateway_problems": "2x200"},
    "TritonAway": {'gateway_triton_up{address="a:8001"}': "0x200"},
    "BadRecords": {'gateway_bad_records_total{topic="fills"}': "0x60 1x140"},
    "ProcessDown": {'ultrathink_process_ready{process="gateway"}': "0x200"},
    "ModelMissing": {
        'ultrathink_process_held{process="gateway"}': "1x200", 'ultrathink_process_ready{process="gateway"}': "0x200",
    },
    "ProcessDegraded": {'ultrathink_process_degraded{process="gateway"}': "1x200"},
    "RestartLoop": {'ultrathink_process_restarts_total{process="gateway"}': "2x60 9x140"},
    "OutOfMemory": {'ultrathink_process_out_of_memory_total{process="gateway"}': "1x60 2x140"},
    "MemoryNearCeiling": {'ultrathink_process_memory_bytes{process="gateway"}': "1000000000x200"},
    "SupervisorDown": {"ultrathink_supervisor_up": "0x200"},
    "TargetDown": {'up{job="triton"}': "0x200"},
    "SourceUnseen": {'metrics_source_up{source="kafka"}': "0x200"},
    "BrokerDown": {"kafka_brokers": "3x60 2x140"},
    "UnderReplicated": {'kafka_topic_partition_under_replicated_partition{topic="market.ticks", partition="0"}': "1x200"},
    "RetentionNear": {f"kafka_consumergroup_records_until_lost{PARTITION}": "-50x200"},
    "RedisMemory": {"redis_memory_used_bytes": "130000000x200"},
    "PostgresConnections": {'pg_stat_database_numbackends{datname="ultrathink"}': "48x200"},
    "TritonFailures": {'nv_inference_request_failure{model="trading_decision"}': "0+4x200"},
    "DiskNearlyFull": {'node_filesystem_avail_bytes{mountpoint="/"}': "1500000000x200"},
    "MachineMemory": {"node_memory_MemAvailable_bytes": "600000000x200"},
    "KernelOutOfMemory": {"node_vmstat_oom_kill": "2x60 3x140"},
    "ClockSkew": {"node_timex_maxerror_seconds": "4x200"},
    "GpuMemory": {'DCGM_FI_DEV_FB_USED{gpu="0"}': "11800x200", 'DCGM_FI_DEV_FB_FREE{gpu="0"}': "200x200"},
    "GpuTemperature": {'DCGM_FI_DEV_GPU_TEMP{gpu="0"}': "91x200"},
    "SecretOld": {'ultrathink_secret_age_seconds{secret="redis"}': "40000000x200"},
    "CertificateExpiring": {'ultrathink_certificate_expiry_timestamp_seconds{certificate="ca.crt"}': "1200000x200"},
    "TrailBehind": {'forensics_lag_seconds{kind="decisions"}': "95x200"},
    "CheckpointMissing": {"forensics_checkpoint_timestamp_seconds": "1x200"},
    "TamperFound": {'forensics_alarms_total{kind="gap"}': "0x60 1x140"},
    "TrailUnverified": {"forensics_verified_timestamp_seconds": "180000x200"},
    "ModelParity": {'ultrathink_model_parity_max_abs_difference{model="trading_decision"}': "0.4x200"},
    "ModelUnknown": {'ultrathink_model_lineage_readable{model="trading_decision"}': "0x200"},
    "ExperimentStopped": {'experiments_stops_total{experiment="fresh", why="harm"}': "0x60 1x140"},
    "ExperimentUnwatched": {'experiments_watched{experiment="fresh",where="desk"}': "0x200"},
    "OrchestratorWaiting": {"orchestrator_waiting": "1x200"},
    "RunFailed": {'orchestrator_runs_ended_1d{verdict="failed"}': "0x60 1x140"},
    "RunStarved": {"orchestrator_oldest_ready_seconds": "4000x200"},
    "TrainingOutOfMemory": {"orchestrator_steps_out_of_memory_total": "0x60 1x140"},
    "DriftFound": {'orchestrator_found{kind="drift"}': "1x200"},
    "ModelTakenBack": {"orchestrator_taken_back_1d": "0x60 1x140"},
    "ReleaseOpen": {'ultrathink_releases_total{action="release", end="open"}': "1x200"},
}  # fmt: skip
needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="no promtool here (Debian: prometheus)"
)


def case(names, changes, fires):
    """One test of promtool's: at 400 s these alerts fire, or are silent."""
    series = {**HEALTHY, **changes}
    return {
        "interval": "5s",
        "name": " ".join(names),
        "input_series": [{"series": s, "values": v} for s, v in series.items() if v is not None],
        "promql_expr_test": [
            {
                "expr": f'count(ALERTS{{alertname="{name}", alertstate="firing"}}) or vector(0)',
                "eval_time": "400s",
                "exp_samples": [{"value": int(fires), "labels": "{}"}],
            }
            for name in names
        ],
    }


def evaluated(tmp_path, cases, only=None):
    """By the rules of these alerts; None for all."""
    written = alerting.rules()
    for group in written["groups"]:
        group["rules"] = [rule for rule in group["rules"] if only is None or rule["alert"] in only]
    rules, tests = tmp_path / "alerts.yml", tmp_path / "tests.yml"
    rules.write_text(json.dumps(written))
    tests.write_text(json.dumps({"rule_files": [str(rules)], "evaluation_interval": "5s", "tests": cases}))
    done = subprocess.run(["promtool", "test", "rules", str(tests)], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


@needs_promtool
def test_every_alert_fires_on_what_it_means_and_is_silent_on_a_healthy_desk(tmp_path):
    names = [one.name for one in alerts.ALERTS]
    assert sorted(WRONG) == sorted(names)
    new = {name for changes in WRONG.values() for name in changes} - set(HEALTHY)
    assert new == {'ultrathink_releases_total{action="release", end="open"}'}
    code, said = evaluated(tmp_path, [case(names, {}, False)])
    assert code == 0, said
    for name in names:
        # Its own rule alone: all of them on each figure would take a minute.
        code, said = evaluated(tmp_path, [case([name], WRONG[name], True)], [name])
        assert code == 0, said


@needs_promtool
def test_what_a_verification_found_fires_until_one_finds_nothing_and_so_does_a_time_to_come(tmp_path):
    found = case(["TamperFound"], {"forensics_verification_findings": "3x200"}, True)
    ahead = case(["TrailUnverified"], {"forensics_verified_timestamp_seconds": "9000000x200"}, True)
    monday = {"forensics_verified_timestamp_seconds": "180000x200", "process_start_time_seconds": "100x200"}
    cases = [found, ahead, case(["TrailUnverified"], monday, False)]
    code, said = evaluated(tmp_path, cases, ["TamperFound", "TrailUnverified"])
    assert code == 0, said


@needs_promtool
def test_a_gateway_that_is_gone_is_noticed_by_what_it_no_longer_says(tmp_path):
    gone = {name: None for name in HEALTHY if name.startswith("gateway_")} | {'up{job="gateway"}': "0x200"}
    code, said = evaluated(tmp_path, [case(["NoDecisions", "GatewayNotReady"], gone, True)])
    assert code == 0, said


@needs_promtool
def test_an_experiment_that_is_stopped_is_not_unwatched_and_one_that_is_far_behind_is(tmp_path):
    stopped = {
        'experiments_watched{experiment="fresh",where="desk"}': "1x72 _x128",
        'experiments_share{experiment="fresh"}': "0.5x72 _x128",
        'gateway_experiment_rows_total{experiment="fresh", arm="champion", fallback=""}': "0+100x72 7200x128",
    }
    late = {'experiments_behind_seconds{experiment="fresh",where="desk"}': "300x200"}
    # The virtual books alone show nothing of what a challenger's own rows do.
    half = {
        'experiments_watched{experiment="fresh",where="desk"}': None,
        'experiments_watched{experiment="fresh",where="shadow"}': "1x200",
        'gateway_experiment_rows_total{experiment="fresh", arm="champion", fallback=""}': "0+100x200",
    }
    cases = [
        case(["ExperimentUnwatched"], stopped, False),
        case(["ExperimentUnwatched"], late, True),
        case(["ExperimentUnwatched"], half, True),
    ]
    code, said = evaluated(tmp_path, cases)
    assert code == 0, said


@needs_promtool
def test_in_containers_a_restart_loop_is_seen_without_a_supervisor(tmp_path):
    bare = {name: None for name in HEALTHY if name.startswith("ultrathink_")}
    started = 'process_start_time_seconds{job="gateway"}'
    cases = [
        case(["RestartLoop"], {**bare, started: "100x60 160x140"}, False),
        case(["RestartLoop"], {**bare, started: "100+60x200"}, True),
        case(["RestartLoop"], {**bare, 'up{job="triton"}': "1x20 0x5 1x200"}, False),
        case(["RestartLoop"], {**bare, 'up{job="triton"}': "1x10 " + "0x5 1x5 " * 5}, True),
        # Where there is one it counts them itself, and knows which were asked for.
        case(["RestartLoop"], {started: "100+60x200"}, False),
    ]
    code, said = evaluated(tmp_path, cases)
    assert code == 0, said


@needs_promtool
def test_a_single_order_near_a_limit_is_told(tmp_path):
    # As long as the gateway tells of it at the least: four samples.
    name = 'gateway_rule_headroom_ratio{rule="drawdown"}'
    code, said = evaluated(tmp_path, [case(["LossLimitNear"], {name: "_x77 0.05x3 _x100"}, True)])
    assert code == 0, said


@needs_promtool
def test_a_check_that_cannot_fail_would_be_seen(tmp_path):
    code, said = evaluated(tmp_path, [case(["KillSwitch"], {}, True)])
    assert code == 1
    assert "KillSwitch" in said


@needs_promtool
def test_the_configuration_is_prometheus_own(tmp_path):
    (tmp_path / "alerts.yml").write_text(json.dumps(alerting.rules()))
    for alertmanager in ("", "127.0.0.1:9095"):
        made = scraping.configuration(scraping.COMPOSE, alertmanager, str(tmp_path / "alerts.yml"))
        (tmp_path / "prometheus.yml").write_text(json.dumps(made))
        command = ["promtool", "check", "config", str(tmp_path / "prometheus.yml")]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


@pytest.mark.skipif(shutil.which("amtool") is None, reason="no amtool here (Debian: prometheus-alertmanager)")
@pytest.mark.parametrize("webhook", ["", "http://127.0.0.1:9999/alerts"])
def test_the_routing_is_alertmanagers_own(tmp_path, webhook):
    (tmp_path / "alertmanager.yml").write_text(json.dumps(alerting.routing(webhook)))
    command = ["amtool", "check-config", str(tmp_path / "alertmanager.yml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_an_alert_is_there_once_and_what_it_silences_is_there():
    names = [one.name for one in alerts.ALERTS]
    assert len(set(names)) == len(names)
    for one in alerts.INHIBITED:
        source = one.source.split('"')[1]
        assert source in names
        assert set(one.silenced.split("|")) <= set(names)
        assert source not in one.silenced.split("|")
        # Of what is told by process, one process never hides another.
        assert one.equal or "process=" in one.source or source in {"GatewayNotReady", "KillSwitch"}


def test_alert_and_page_are_one_to_one_and_each_page_says_what_to_do():
    pages = {path.stem: path.read_text() for path in (ROOT / "docs/runbook").glob("[A-Z]*.md")}
    assert sorted(pages) == sorted(one.name for one in alerts.ALERTS)
    for one in alerts.ALERTS:
        text = pages[one.name]
        assert text.startswith(f"# {one.name}\n")
        for section in ("## What it means", "## What to look at", "## What to do", "## When it is over"):
            assert section in text, (one.name, section)
        assert "`" in text.split("## What to look at")[1], one.name
