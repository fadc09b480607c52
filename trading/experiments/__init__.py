"""Arms: which model decides which row, and under what name it is counted."""
