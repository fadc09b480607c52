"""Risk rules, one a file; `assess.py` asks all of them, `model.py` says what they see."""
