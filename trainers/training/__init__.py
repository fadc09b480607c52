"""Learning: the loop, one fold, all folds; kept so that a kill costs seconds."""
