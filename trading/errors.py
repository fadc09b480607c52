"""Every error of the gateway, as one tree.

UltraThinkError
+-- ConfigurationError      a setting, file or argument is wrong: fix it and start again
|   +-- SourceError         a SOURCE cannot be read
|   +-- ContractMismatch    what the server offers is not what signature.py says
+-- ServiceUnavailable      a service does not answer
+-- BadRecord               a record of a topic or store is not what its place must hold
+-- PredictionError         one inference failed; its ticks become HOLDs
    +-- PredictorTimeout
    +-- PredictorUnavailable
    |   +-- PredictorDown
    +-- InvalidPrediction
"""

from __future__ import annotations


class UltraThinkError(Exception):
    """Base of all errors that are told to a user as one sentence, without a traceback."""


class ConfigurationError(UltraThinkError):
    """A setting, file or argument is wrong; starting again unchanged cannot help."""


class SourceError(ConfigurationError):
    """A SOURCE names nothing readable, or holds something other than its format."""


class ContractMismatch(ConfigurationError):
    """A served model differs from the signature that this code was built for."""


class ServiceUnavailable(UltraThinkError):
    """A service did not answer; it may later."""


class BadRecord(UltraThinkError):
    """A record that somebody wrote is not what its place must hold: it is counted, left aside, and never obeyed."""


class PredictionError(UltraThinkError):
    """An inference failed. Its ticks are held, never traded."""


class PredictorTimeout(PredictionError):
    """The model server did not answer within the batch's budget."""


class PredictorUnavailable(PredictionError):
    """The model server refused the call or could not be reached."""


class PredictorDown(PredictorUnavailable):
    """The model server could not be reached."""


class InvalidPrediction(PredictionError):
    """The model server answered, but with something that its signature does not allow."""
