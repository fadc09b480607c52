"""Numbers as JSON, written into a buffer by compiled code.

Floats of the model's width are written with nine significant digits: as many as tell every float32 from
its neighbours (Goldberg, 1991, theorem 15), and half of what their doubles would take.
"""

from __future__ import annotations

import math

import numpy as np

from trading.arrays import ByteArray, Float32Array
from trading.compiled import inline

DIGITS = 9
#: Enough for the smallest float32; an error in their last place is far below the ninth digit.
POWERS = 10.0 ** np.arange(54)
#: Beyond these a number is written with an exponent.
SMALLEST_FIXED, LARGEST_FIXED = -5, 11
SMALLEST_FLOAT, LARGEST_FLOAT = 1e-37, 1e38
#: ByteArray of the longest float32, -1.23456789e-45.
FLOAT_BYTES = 16
OPEN, CLOSE, COMMA, DOT, MINUS, ZERO, EXPONENT, CLOSE_OBJECT = 91, 93, 44, 46, 45, 48, 101, 125


def literal(text: bytes) -> ByteArray:
    """ByteArray as the compiled code takes them."""
    return np.frombuffer(text, np.uint8)


HEX = literal(b"0123456789abcdef")
NULL = literal(b"null")


@inline
def copy_text(out: ByteArray, at: int, text: ByteArray, begin: int, end: int) -> int:
    """A part of a text; returns the place after it, as all of these do."""
    for k in range(begin, end):
        out[at] = text[k]
        at += 1
    return at


@inline
def write_integer(out: ByteArray, at: int, value: int) -> int:
    """Write an int64 in decimal; return the place after it."""
    if value < 0:
        out[at] = MINUS
        at += 1
        value = -value
    size, rest = 1, value
    while rest >= 10:
        rest //= 10
        size += 1
    for k in range(at + size - 1, at - 1, -1):
        out[k] = ZERO + value % 10
        value //= 10
    return at + size


@inline
def _scaled(value: float, power: int) -> int:
    """The integer nearest to value x 10^power."""
    found = value / POWERS[-power] if power < 0 else value * POWERS[power]
    return math.floor(found + 0.5)


@inline
def write_float32(out: ByteArray, at: int, value: float) -> int:
    """Write a float32 (as a double) so that it reads back as the same one; return the place after it."""
    if not math.isfinite(value):
        return copy_text(out, at, NULL, 0, 4)
    if math.copysign(1.0, value) < 0.0:
        out[at] = MINUS
        at += 1
        value = -value
    exponent, mantissa, digits = 0, 0, 1
    if value != 0.0:
        exponent = math.floor(math.log10(value))
        mantissa, digits = _scaled(value, DIGITS - 1 - exponent), DIGITS
        if mantissa >= 10**DIGITS:
            exponent += 1
            mantissa = _scaled(value, DIGITS - 1 - exponent)
        while mantissa % 10 == 0:
            mantissa //= 10
            digits -= 1
    fixed = SMALLEST_FIXED <= exponent <= LARGEST_FIXED
    # Digits before the point; where there are none, a zero and those that follow the point at once.
    whole = exponent + 1 if fixed else 1
    if whole <= 0:
        out[at], out[at + 1] = ZERO, DOT
        at += 2
        for _ in range(-whole):
            out[at] = ZERO
            at += 1
        return write_integer(out, at, mantissa)
    if digits <= whole:
        at = write_integer(out, at, mantissa)
        for _ in range(whole - digits):
            out[at] = ZERO
            at += 1
        out[at], out[at + 1] = DOT, ZERO
        at += 2
    else:
        end = at + digits
        for k in range(end, at - 1, -1):
            if k == at + whole:
                out[k] = DOT
            else:
                out[k] = ZERO + mantissa % 10
                mantissa //= 10
        at = end + 1
    if not fixed:
        out[at] = EXPONENT
        at = write_integer(out, at + 1, exponent)
    return at


@inline
def write_row(out: ByteArray, at: int, values: Float32Array) -> int:
    """An array of float32."""
    out[at] = OPEN
    at += 1
    for k in range(len(values)):
        if k:
            out[at] = COMMA
            at += 1
        at = write_float32(out, at, values[k])
    out[at] = CLOSE
    return at + 1


@inline
def write_hex(out: ByteArray, at: int, value: int, digits: int) -> int:
    """The lowest hexadecimal digits of a number."""
    for k in range(at + digits - 1, at - 1, -1):
        out[k] = HEX[value & 15]
        value >>= 4
    return at + digits


@inline
def write_double(out: ByteArray, at: int, value: float) -> int:
    """Nine significant digits of a double; what no float32 can hold is written as none, or as zero."""
    size = abs(value)
    if size > LARGEST_FLOAT:
        value = math.nan
    elif size < SMALLEST_FLOAT:
        value = 0.0
    return write_float32(out, at, value)
