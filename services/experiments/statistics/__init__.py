"""What blocks' outcomes say at every moment that somebody looks: intervals, verdicts, shares, guardrails."""
