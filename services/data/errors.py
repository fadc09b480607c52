"""What an answer may be instead of what was asked for, each with its HTTP status."""

from __future__ import annotations

from trading.errors import UltraThinkError


class Refused(UltraThinkError):
    """A request that is not answered as asked; the message says why, and what to do instead.

    Attributes:
        status: of HTTP.
        code: a word for programs.
        retry_after_s: when to ask again; 0 where that would not help.
    """

    status, code = 400, "bad_request"

    def __init__(self, message: str, retry_after_s: int = 0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Unauthorized(Refused):
    """No token, or one that nobody gave out."""

    status, code = 401, "unauthorized"


class Forbidden(Refused):
    """A token that may ask other things."""

    status, code = 403, "forbidden"


class NotFound(Refused):
    """There is no such thing."""

    status, code = 404, "not_found"


class NotAcceptable(Refused):
    """No format that is accepted is given."""

    status, code = 406, "not_acceptable"


class TooSlow(Refused):
    """A request that was not sent in time."""

    status, code = 408, "too_slow"


class Conflict(Refused):
    """The question has several answers, or none yet."""

    status, code = 409, "conflict"


class TooLarge(Refused):
    """A body of more bytes than are read."""

    status, code = 413, "too_large"


class Unprocessable(Refused):
    """A value that is none, or a span that is too long."""

    status, code = 422, "unprocessable"


class TooMany(Refused):
    """More than is allowed, or than can be done."""

    status, code = 429, "too_many_requests"


class Unavailable(Refused):
    """A server that is needed does not answer; the message names it."""

    status, code = 503, "unavailable"
