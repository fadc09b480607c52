"""The names that logs had before their topics were made anew, as far as somebody whom a gateway trusts says so."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import structlog

from trading.errors import BadRecord

log = structlog.get_logger()


def earlier_names(name: str, texts: Sequence[str], keys: Sequence[Path]) -> dict[str, tuple[int, ...]]:
    """What a log was called before, with the ends of its partitions then.

    Args:
        name: of the log as it lies there now.
        texts: of the commands that say so.
        keys: public keys in PEM; who signs with another is not believed.

    Raises:
        ConfigurationError: a key cannot be read.
    """
    if not texts and not keys:
        return {}
    # Who names none needs no cryptography. Named ones are read though nobody has signed anything yet: not in the
    # hour in which one is needed it is found that they cannot be.
    from trading.keys import public_keys
    from trading.state.rebinding import names_before, read_rebinding

    trusted, believed = public_keys(keys), []
    for text in texts:
        try:
            believed.append(read_rebinding(text, trusted))
        except BadRecord as error:
            log.warning("not believed", what="a rebinding", reason=str(error))
    found = names_before(name, believed)
    for one in believed:
        if one.was in found:
            log.warning("the log continues another", now=one.now, was=one.was, reason=one.reason, by=one.by)
    return found
