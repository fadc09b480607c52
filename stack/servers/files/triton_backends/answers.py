"""What both backends do with their answers; `stack.servers.triton` lays it beside each of them."""

import triton_python_backend_utils as pb_utils


def whole(answers):
    """The answers; where all of them are errors, the call's own failure.

    The server's figures count calls that fail, and know nothing of an error in an answer. One that fails beside
    others that do not is told to its caller alone.
    """
    if answers and all(answer.has_error() for answer in answers):
        said = dict.fromkeys(answer.error().message() for answer in answers)
        raise pb_utils.TritonModelException("; ".join(said))
    return answers
