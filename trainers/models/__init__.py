"""The networks, what each learns from, and the teachers of regimes."""

#: Kinds of teachers; `auto` takes the better of the two.
TEACHERS = ("auto", "hmm", "mixture")
