"""Out of sample, costs counted: figures, significance, pages for people."""
