"""What both backends do alike; `stack.servers.triton` lays it beside each of them."""

import os

import triton_python_backend_utils as pb_utils

#: They travel in a gRPC trailer, of which clients take some kilobytes: characters of a reason, and reasons.
REASON, REASONS = 300, 4


#: As the server does with its own threads for models of the lowest priority; a model has a process of its own here.
YIELDS, NICE = "PRIORITY_MIN", 10


def yield_to_others(config):
    """Where a model's configuration wants it to come last."""
    if config.get("optimization", {}).get("priority") == YIELDS:
        os.nice(NICE)


def whole(answers):
    """The answers; where all of them are errors, the call's own failure.

    The server's figures count calls that fail, and know nothing of an error in an answer. One that fails beside
    others that do not is told to its caller alone.
    """
    if answers and all(answer.has_error() for answer in answers):
        said = list(dict.fromkeys(answer.error().message()[:REASON] for answer in answers))
        more = f"; and {len(said) - REASONS} more" if len(said) > REASONS else ""
        raise pb_utils.TritonModelException("; ".join(said[:REASONS]) + more)
    return answers
