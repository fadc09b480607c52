"""Merkle trees of RFC 6962 (section 2.1; RFC 9162 has the same trees): roots, inclusion and consistency proofs."""
