"""`make proof`: what is committed is what the page says."""

from __future__ import annotations

import msgspec

from benchmarks import proof
from tests.paths import ROOT


def proven(holds, **verdict):
    counts = {"ticks": 1200, "letters": 3, "missing": 0, "repeated": 0, "disordered": 0, "different": 0, **verdict}
    row = {"fault": "gateway killed (-9)", "times": 7, "verdict": counts, "recovery_s": 1.26}
    report = {"rows": [row], "restart_p50_s": 0.8, "restart_max_s": 1.5}
    machine = {"processor": "some", "cores": "2", "memory": "24 GiB"}
    return proof.Proven(
        "chaos", "ultrathink chaos", "abc1234", "2026-01-02 03:04 UTC", machine, 90.0, holds, report
    )


def test_the_page_says_what_was_lost_and_that_it_does_not_hold():
    text = proof.page([proven(False, missing=2)])
    assert "| gateway killed (-9) | 7 | 1,200 | 3 | 2 | 0 | 0 | 0 | 1.3 |" in text
    assert "## chaos: **does not hold**" in text
    assert "commit abc1234" in text
    assert "## chaos: holds" in proof.page([proven(True)])
    # What nobody has run is not passed over.
    assert "## audit: **not run yet**" in proof.page([proven(True)])


def test_the_drill_is_told_by_alert_and_by_process():
    report = {
        "healthy_s": 600.0, "healthy_per_s": 499.0, "alarmed": [], "left_out": ["a disk: none"], "availability": {"gateway": 0.99},
        "faults": [
            {"fault": "gateway hangs", "problem": "why", "late": ["GatewayLag"], "heard": [
                {"alert": "NoDecisions", "fired_s": 41.0, "told": None, "silenced_by": ["ProcessDown"], "cleared_s": 7.0},
                {"alert": "GatewayLag", "fired_s": None, "told": None, "silenced_by": [], "cleared_s": None},
            ]}
        ],
        "recoveries": [{"process": "gateway", "decided_s": 3.4, "ready_s": None}],
        "counted": {"ticks": 9, "decisions": 8, "letters": 1, "missing": 0, "repeated": 0, "disordered": 0},
        "restored": {"decisions": 8, "undecided": 4, "different": 2, "verified": False, "backup_mb": 3.0, "backup_s": 2.0,
                     "restore_s": 1.0},
    }  # fmt: skip
    text = "\n".join(proof.table(report))
    for line in ("| gateway hangs | NoDecisions | 41.0 | silent: ProcessDown | 7.0 |",
                 "| gateway hangs | GatewayLag | never | never | never |", "| gateway | 3.4 | never | 99.00% |",
                 "2 of 8 decisions differ", "not what was signed", "(10 min, 499 ticks/s decided): nobody was alarmed",
                 "gateway hangs: why.", "gateway hangs: told late: GatewayLag.", "Not made: a disk"):  # fmt: skip
        assert line in text


def test_the_committed_page_is_written_from_the_committed_results():
    proofs = msgspec.json.decode((ROOT / "docs/proof.json").read_bytes(), type=list[proof.Proven])
    assert {p.name for p in proofs} <= proof.PROOFS.keys()
    assert (ROOT / "docs/proof.md").read_text() == proof.page(proofs)


def test_a_proof_that_is_not_known_is_named_with_those_that_are(capsys):
    assert proof.main(["chaoss"]) == 2
    assert capsys.readouterr().err == "error: no proof is called chaoss: chaos, drill, audit, api\n"
