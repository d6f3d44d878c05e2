"""The one error tree: what a caller can catch, and what travels over gRPC.

TunevaneError
├── InvalidRequestError          something in the request cannot work; lists every problem
│   └── DataFormatError          a data file cannot be read; names file, line and reason
├── ConfigurationError           a setting is wrong; lists every problem
├── NotFoundError                no such run, data set, blob or component
├── AlreadyExistsError           the name is taken by something else
├── PreconditionError            right request, wrong moment
│   ├── BlobsMissingError        files have to be uploaded first
│   ├── RunClaimedError          another worker holds the run
│   ├── RunPreparingError        the run has not started yet
│   ├── RunInProgressError       the run has not ended yet
│   ├── RunFailedError           the run ended without an artifact
│   └── EvaluationFailedError    the evaluation cannot succeed, however often it is tried
├── StaleWriterError             somebody newer took over; stop writing
├── SequenceGapError             events are missing; tells which number to continue from
├── ResourceExhaustedError       a limit is reached
│   └── StorageFullError         the disk is full; names path and bytes
├── DataLossError                bytes do not match their digest
├── CancelledError               the caller, or a shutdown, ended the call
├── DeadlineExceededError        it took too long
├── UnavailableError             the other side is away for the moment; trying again is right
│   └── StackStartError          the local services did not start
└── InternalError                a bug on the other side; carries the id of its log line

A class knows its gRPC status code and its machine-readable `reason`; `tunevane.rpc` turns it into
`google.rpc.Status` on one side and back into the same class on the other. This module imports nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

DOMAIN = "tunevane"


class TunevaneError(Exception):
    """Root of everything this library raises on purpose.

    The message is one sentence for a person. `details` are short strings by name for programs; both
    travel over gRPC unchanged.
    """

    code: ClassVar[str] = "UNKNOWN"
    """Name of the gRPC status code."""

    reason: ClassVar[str] = "UNKNOWN"
    """Stable machine-readable name, `ErrorInfo.reason` on the wire."""

    def __init__(self, message: str, details: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.details: dict[str, str] = dict(details or {})

    def __str__(self) -> str:
        return self.message


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong, and where."""

    field: str
    """Path of the field, for example `callbacks[1].monitor`."""

    message: str
    """What was wrong, what was seen, and what would work."""

    def __str__(self) -> str:
        return f"{self.field}: {self.message}" if self.field else self.message


class InvalidRequestError(TunevaneError):
    """Something in the request cannot work, whatever the state of the service; lists every problem."""

    code = "INVALID_ARGUMENT"
    reason = "INVALID_REQUEST"

    def __init__(self, problems: str | Iterable[Problem], details: Mapping[str, str] | None = None) -> None:
        self.problems: tuple[Problem, ...] = (Problem("", problems),) if isinstance(problems, str) else tuple(problems)
        super().__init__("; ".join(str(problem) for problem in self.problems), details)


class DataFormatError(InvalidRequestError):
    """A data file cannot be read; the sentence names file, line and reason."""

    reason = "DATA_FORMAT"


class ConfigurationError(TunevaneError):
    """Settings of a service are wrong; lists every problem."""

    code = "INVALID_ARGUMENT"
    reason = "CONFIGURATION"

    def __init__(self, problems: str | Iterable[Problem], details: Mapping[str, str] | None = None) -> None:
        self.problems: tuple[Problem, ...] = (Problem("", problems),) if isinstance(problems, str) else tuple(problems)
        super().__init__("; ".join(str(problem) for problem in self.problems), details)


class NotFoundError(TunevaneError):
    """No such run, data set, blob or component."""

    code = "NOT_FOUND"
    reason = "NOT_FOUND"


class AlreadyExistsError(TunevaneError):
    """The name is taken by something else."""

    code = "ALREADY_EXISTS"
    reason = "ALREADY_EXISTS"


class PreconditionError(TunevaneError):
    """The request is right, the moment is wrong."""

    code = "FAILED_PRECONDITION"
    reason = "PRECONDITION"


class BlobsMissingError(PreconditionError):
    """Files have to be uploaded before the call; `details["count"]` tells how many."""

    reason = "BLOBS_MISSING"


class RunClaimedError(PreconditionError):
    """Another worker holds the run."""

    reason = "RUN_CLAIMED"


class RunPreparingError(PreconditionError):
    """The run has not started yet."""

    reason = "RUN_PREPARING"


class RunInProgressError(PreconditionError):
    """The run has not ended yet."""

    reason = "RUN_IN_PROGRESS"


class RunFailedError(PreconditionError):
    """The run ended without an artifact."""

    reason = "RUN_FAILED"


class EvaluationFailedError(PreconditionError):
    """The evaluation cannot succeed, however often it is tried."""

    reason = "EVALUATION_FAILED"


class StaleWriterError(TunevaneError):
    """Somebody newer took over this run; stop writing."""

    code = "ABORTED"
    reason = "STALE_WRITER"


class SequenceGapError(TunevaneError):
    """Events are missing; `details["expected_sequence"]` is the number to continue from."""

    code = "OUT_OF_RANGE"
    reason = "SEQUENCE_GAP"


class ResourceExhaustedError(TunevaneError):
    """A limit is reached; `details["retry_after_seconds"]`, if there, says when to try again."""

    code = "RESOURCE_EXHAUSTED"
    reason = "RESOURCE_EXHAUSTED"


class StorageFullError(ResourceExhaustedError):
    """The disk is full; the sentence names path and bytes."""

    reason = "STORAGE_FULL"


class DataLossError(TunevaneError):
    """Bytes do not match their digest."""

    code = "DATA_LOSS"
    reason = "DIGEST_MISMATCH"


class CancelledError(TunevaneError):
    """The caller, or a shutdown, ended the call."""

    code = "CANCELLED"
    reason = "CANCELLED"


class DeadlineExceededError(TunevaneError):
    """The call took longer than its deadline."""

    code = "DEADLINE_EXCEEDED"
    reason = "DEADLINE_EXCEEDED"


class UnavailableError(TunevaneError):
    """The other side is away for the moment; trying again is right."""

    code = "UNAVAILABLE"
    reason = "UNAVAILABLE"


class StackStartError(UnavailableError):
    """The local services did not start."""

    reason = "STACK_START"


class InternalError(TunevaneError):
    """A bug on the other side; `details["error_id"]` finds its log line."""

    code = "INTERNAL"
    reason = "INTERNAL"


def walk(root: type[TunevaneError] = TunevaneError) -> Iterator[type[TunevaneError]]:
    """Yields a class of the tree and all below it, each before its children.

    Classes that other modules derive for themselves are left out: on the wire they are their parents.
    """
    yield root
    for child in root.__subclasses__():
        if child.__module__ == __name__:
            yield from walk(child)
