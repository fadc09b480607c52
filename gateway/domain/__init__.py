"""Pure code: numpy, numba, msgspec and the standard library only."""
