"""The contract of every served model, and what makes an answer usable."""
