"""`make proof`: what is committed is what the page says."""

from __future__ import annotations

import msgspec
from msgspec.structs import replace

from benchmarks import proof
from benchmarks.drill import FromNothing
from benchmarks.pace import Pace
from stack.drill.alarms import Heard
from stack.drill.table import Counted, DrillReport, FaultTold, Recovery
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


def test_how_quick_the_machine_was_meanwhile_is_told_where_it_was_measured():
    told = "24 GiB; a fixed piece of work took 20.0 ms of a processor at best, 31.5 in the middle, 80.0 at worst (4.0 times the best)."
    assert told in proof.page([replace(proven(True), pace=Pace(20.0, 31.5, 80.0))])
    assert "24 GiB." in proof.page([proven(True)])


def test_the_drill_is_told_by_alert_and_by_process():
    silent = Heard("NoDecisions", 41.0, None, ("ProcessDown",), 7.0)
    faults = [FaultTold("gateway hangs", [silent, Heard("GatewayLag")], ["NoDecisions"], problem="why")]
    report = DrillReport(
        500.0, 600.0, 499.0, [], faults, [Recovery("gateway", 3.4, None)], Counted(9, 8, 1, 0, 0, 0), None,
        {"gateway": 0.99}, ["a disk: none"], ["kills: odd"], 60.0,
    )  # fmt: skip
    text = "\n".join(proof.table(msgspec.to_builtins(FromNothing(450.0, report, ["desk.png"]))))
    for line in ("`make demo`: 7.5 min", "![desk.png](drill/desk.png)", "| gateway hangs | NoDecisions | 41.0 | by ProcessDown | 7.0 | broken |",
                 "| gateway hangs | GatewayLag | never | never | never | broken |",
                 "| gateway | 3.4 | never | 99.00% | broken |", "499 of 500 ticks/s decided): nobody was alarmed: held",
                 "- gateway hangs: why", "told late: NoDecisions", "not made: a disk", "failed: kills: odd"):  # fmt: skip
        assert line in text


def test_the_committed_page_is_written_from_the_committed_results():
    proofs = msgspec.json.decode((ROOT / "docs/proof.json").read_bytes(), type=list[proof.Proven])
    assert {p.name for p in proofs} <= proof.PROOFS.keys()
    assert (ROOT / "docs/proof.md").read_text() == proof.page(proofs)


def test_a_proof_that_is_not_known_is_named_with_those_that_are(capsys):
    assert proof.main(["chaoss"]) == 2
    assert capsys.readouterr().err == "error: no proof is called chaoss: chaos, drill, audit, api, tests\n"


def test_the_drill_is_run_where_it_is_named():
    assert proof.wanted([]) == ["chaos", "audit", "api", "tests"]
    assert proof.wanted(["drill"]) == ["drill"]
    assert proof.wanted(["--render"]) == []
