"""What was lived becomes lessons: labels that are ripe, drift, and small steps from the champion."""
