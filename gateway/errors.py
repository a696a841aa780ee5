"""Every exception that Audition raises on purpose.

    AuditionError
    ├── InvalidInput        a client sent something that cannot be used; `field` says where
    │   ├── BodyTooLarge    more bytes than the limit
    │   └── UnsupportedEncoding   a content type or encoding that is not spoken here
    ├── InvalidName         an endpoint or version name outside the allowed alphabet
    ├── InvalidSetting      a configuration or endpoint file says something impossible
    ├── InvalidModel        a model file that cannot be served
    ├── UnknownEndpoint, UnknownVersion
    ├── Unauthenticated, Forbidden
    ├── Conflict            the state moved on since it was read
    ├── Refused             a command that the state machine does not allow now
    ├── ModelFailed         the model raised, or gave something that is no prediction
    │   ├── ModelTimedOut
    │   └── NonFiniteOutput
    ├── Overloaded          try again later; `retry_after_s` says when
    │   └── TooManyAttempts   one client asks for too much of one thing
    ├── JournalUnavailable  the record could not be written, so no answer may be given
    ├── StoreUnavailable    the control store cannot be reached
    ├── CorruptStore        a row of the control store that cannot be read
    ├── Unreachable         no gateway answers where the command line looked for one
    ├── CorruptJournal      bytes that are no frame where a frame must be
    └── CorruptArchive      a manifest that cannot be read

Rules: no HTTP or gRPC codes here (each protocol maps these itself); a message names the
field and what to do about it.
"""

from __future__ import annotations


class AuditionError(Exception):
    """The root: anything below it is expected, and its message may be shown to a user."""


class InvalidInput(AuditionError):
    """A client sent something that cannot be used.

    `field` is the path of the offending part, such as `inputs[0].data`.
    """

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}" if field else message)
        self.field = field


class BodyTooLarge(InvalidInput):
    """More bytes than the limit allows."""


class UnsupportedEncoding(InvalidInput):
    """A content type or content encoding that is not spoken here."""


class InvalidName(AuditionError):
    """An endpoint or version name outside `^[a-z0-9][a-z0-9._-]{0,62}$`."""


class InvalidSetting(AuditionError):
    """A configuration or endpoint file says something impossible; names the key."""


class InvalidModel(AuditionError):
    """A model file that cannot be served; says why."""


class UnknownEndpoint(AuditionError):
    """No such endpoint."""


class UnknownVersion(AuditionError):
    """No such version of the endpoint."""


class Unauthenticated(AuditionError):
    """No key, or one that is not known."""


class Forbidden(AuditionError):
    """The key's role does not allow this."""


class Conflict(AuditionError):
    """The state moved on since it was read; `epoch` is the current one where there is one."""

    def __init__(self, message: str, *, epoch: int | None = None) -> None:
        super().__init__(message)
        self.epoch = epoch


class Refused(AuditionError):
    """A command that the rollout does not allow now; says why and what to do."""


class ModelFailed(AuditionError):
    """The model raised, or gave something that is no prediction."""


class ModelTimedOut(ModelFailed):
    """The model did not answer within its time limit."""


class NonFiniteOutput(ModelFailed):
    """The model answered NaN or an infinity."""


class Overloaded(AuditionError):
    """No capacity now; try again after `retry_after_s` seconds."""

    def __init__(self, message: str, *, retry_after_s: int = 1) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class TooManyAttempts(Overloaded):
    """Too much of one thing is asked for, such as guesses at a key, while all else is served."""


class JournalUnavailable(AuditionError):
    """The record could not be written, so no answer may be given."""


class StoreUnavailable(AuditionError):
    """The control store cannot be reached."""


class CorruptStore(AuditionError):
    """A row of the control store that cannot be read; names it."""


class Unreachable(AuditionError):
    """No gateway answers where the command line looked for one."""


class CorruptJournal(AuditionError):
    """Bytes that are no frame where a frame must be."""


class CorruptArchive(AuditionError):
    """A manifest of the archive that cannot be read; names the file."""
