"""Do the source, the exported file and the served model give the same answers?"""
