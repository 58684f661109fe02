"""The error tree. Every message says what was given, what was wanted, and what to do.

TouchstoneError
├── InputError                what the caller gave cannot be scanned; nothing heavy has run (exit code 2)
│   ├── ModelReferenceError   no such directory, not a directory, empty
│   ├── UnsafeFileError       pickle, lying header, truncated file, path or link that leaves the directory
│   ├── IncompleteModelError  a tensor, shard, tokenizer or configuration is missing
│   ├── BrokenWeightsError    NaN or infinite weights
│   ├── UnsupportedModelError quantised, or no causal language model
│   ├── LineageError          the subject does not descend from the base
│   │   ├── ArchitectureMismatch
│   │   ├── VocabularyMismatch
│   │   ├── AdapterBaseMismatch
│   │   └── UnrelatedWeights
│   ├── TemplateError         the chat template raises or cannot be parsed
│   ├── ContextTooLong        a request is longer than the model's window
│   ├── PolicyError           a policy that does not exist, cannot be read, or has a rule or value that is unknown
│   ├── ReferenceNotSupported a registry that is not read yet, or not switched on
│   ├── ReferenceOutsideRoots a local directory that is not below a configured root
│   ├── ReferenceMoved        the directory changed between acceptance and scan
│   ├── AccessDenied          the hub does not give the model to the token of this service
│   ├── ModelTooLarge         more bytes to fetch than the service allows
│   ├── BaseNotInferred       the subject does not say which base it came from
│   ├── CannotServe           the address or the data directory of a service is taken
│   ├── StatementError        a report or a digest that cannot be attested
│   ├── EnvelopeError         no signed statement about a scan
│   └── SigningKeyError       a key file that cannot be read or written, or holds another kind of key
├── VerificationError         a signed statement does not prove what was asked (exit code 3)
│   ├── SignatureError        none of its signatures is by a given key
│   └── SubjectMismatch       it is about another model
├── MachineError              something broke that a retry may mend (exit code 3)
│   ├── HostError             a model host crashed, hung or answered nonsense
│   ├── StoreError            the observation store cannot be written or read
│   ├── ServiceUnreachable    a Touchstone service does not answer, or says what its client does not understand
│   ├── ServiceNotStarted     a part of the service does not come up
│   ├── HubUnavailable        a model hub cannot be reached, hangs, or sends damaged files
│   ├── DatabaseUnavailable   the database cannot be reached, or stays locked
│   └── BrokerUnavailable     the broker of messages cannot be reached
├── RequestError              what was asked of the service cannot be done (exit code 2)
│   ├── InvalidRequest        a field is missing, unknown, or has another form
│   ├── Unauthenticated       no key, or one that is unknown, expired or revoked
│   ├── Forbidden             the key has not the scope
│   ├── NotFound              there is nothing of that name
│   ├── Conflict              it contradicts what is there
│   ├── NotReady              it will be there later
│   ├── NotAcceptable         there is no such form of it
│   └── TooManyRequests       a limit of the key or of the address is used up
└── Interruption              not a fault: the scan was told to stop
    ├── ScanCancelled
    ├── BudgetExceeded        a detector returns `inconclusive` with what it has
    ├── LeaseLost             another worker took over, because this one was silent for too long
    └── WorkerStopping        this worker is being stopped, and another takes over
"""

from __future__ import annotations


class TouchstoneError(Exception):
    """Root of every error that Touchstone raises on purpose.

    Attributes:
        code: stable identifier for machines; `docs/reference/errors.md` lists them all.
    """

    code = "TS-ERR-000"


class InputError(TouchstoneError):
    """What the caller gave cannot be scanned."""

    code = "TS-ERR-100"


class ModelReferenceError(InputError):
    """The reference names no usable model directory."""

    code = "TS-ERR-101"


class UnsafeFileError(InputError):
    """A file is of a kind or shape that is never opened."""

    code = "TS-ERR-102"


class IncompleteModelError(InputError):
    """A file or tensor that the model needs is missing."""

    code = "TS-ERR-103"


class BrokenWeightsError(InputError):
    """Weights that are not finite numbers."""

    code = "TS-ERR-104"


class UnsupportedModelError(InputError):
    """A sound model of a kind that is not read yet."""

    code = "TS-ERR-105"


class LineageError(InputError):
    """The subject does not descend from the base."""

    code = "TS-ERR-110"


class ArchitectureMismatch(LineageError):
    """Subject and base are of different architectures or sizes."""

    code = "TS-ERR-111"


class VocabularyMismatch(LineageError):
    """Token ids that both models share stand for different tokens."""

    code = "TS-ERR-112"


class AdapterBaseMismatch(LineageError):
    """The adapter was made for another base."""

    code = "TS-ERR-113"


class UnrelatedWeights(LineageError):
    """Same shapes, other weights: the subject was not trained from the base."""

    code = "TS-ERR-114"


class TemplateError(InputError):
    """The chat template raises or cannot be parsed."""

    code = "TS-ERR-120"


class ContextTooLong(InputError):
    """A request is longer than the model's window."""

    code = "TS-ERR-121"


class PolicyError(InputError):
    """A policy that does not exist, cannot be read, or has a rule or value that is unknown."""

    code = "TS-ERR-130"


class ReferenceNotSupported(InputError):
    """The reference is of a kind that is not read here."""

    code = "TS-ERR-140"


class ReferenceOutsideRoots(InputError):
    """A local directory that is not below a configured root."""

    code = "TS-ERR-141"


class ReferenceMoved(InputError):
    """The directory is no longer what the scan was accepted for."""

    code = "TS-ERR-142"


class AccessDenied(InputError):
    """The hub does not give the model to the token of this service."""

    code = "TS-ERR-143"


class ModelTooLarge(InputError):
    """There is more to fetch than the service allows."""

    code = "TS-ERR-144"


class BaseNotInferred(InputError):
    """The subject does not say which base it was tuned from, or says it in a way that names none here."""

    code = "TS-ERR-145"


class CannotServe(InputError):
    """The address or the data directory that a service should have cannot be had."""

    code = "TS-ERR-160"


class StatementError(InputError):
    """A report or a digest that cannot be attested."""

    code = "TS-ERR-150"


class EnvelopeError(InputError):
    """No signed statement about a scan."""

    code = "TS-ERR-151"


class SigningKeyError(InputError):
    """A key file that cannot be read or written, or holds another kind of key."""

    code = "TS-ERR-152"


class VerificationError(TouchstoneError):
    """A signed statement does not prove what was asked."""

    code = "TS-ERR-400"


class SignatureError(VerificationError):
    """None of its signatures is by a given key."""

    code = "TS-ERR-401"


class SubjectMismatch(VerificationError):
    """It is about another model."""

    code = "TS-ERR-402"


class MachineError(TouchstoneError):
    """Something broke that a retry may mend."""

    code = "TS-ERR-200"


class HostError(MachineError):
    """A model host crashed, hung or answered nonsense."""

    code = "TS-ERR-201"


class StoreError(MachineError):
    """The observation store cannot be written or read."""

    code = "TS-ERR-202"


class ServiceUnreachable(MachineError):
    """A Touchstone service does not answer, is busy, or says what its client does not understand."""

    code = "TS-ERR-205"


class ServiceNotStarted(MachineError):
    """A part of the service does not come up."""

    code = "TS-ERR-206"


class HubUnavailable(MachineError):
    """A model hub cannot be reached, hangs, answers nonsense or sends damaged files."""

    code = "TS-ERR-203"


class DatabaseUnavailable(MachineError):
    """The database cannot be reached, or stayed locked; a later try may succeed."""

    code = "TS-ERR-204"


class BrokerUnavailable(MachineError):
    """The broker cannot be reached; what was accepted waits in the database until it can."""

    code = "TS-ERR-207"


class RequestError(TouchstoneError):
    """What was asked of the service cannot be done.

    Attributes:
        retry_after_s: seconds after which the same request may succeed; None where it will not.
    """

    code = "TS-ERR-600"

    def __init__(self, message: str, retry_after_s: int | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class InvalidRequest(RequestError):
    """A field is missing, unknown, or has another form."""

    code = "TS-ERR-601"


class Unauthenticated(RequestError):
    """No key, or one that is unknown, expired or revoked."""

    code = "TS-ERR-602"


class Forbidden(RequestError):
    """The key has not the scope."""

    code = "TS-ERR-603"


class NotFound(RequestError):
    """There is nothing of that name."""

    code = "TS-ERR-604"


class Conflict(RequestError):
    """The request contradicts what is there."""

    code = "TS-ERR-605"


class NotReady(RequestError):
    """What was asked for will be there later."""

    code = "TS-ERR-606"


class NotAcceptable(RequestError):
    """There is no such form of it."""

    code = "TS-ERR-607"


class TooManyRequests(RequestError):
    """A limit of the key or of the address is used up."""

    code = "TS-ERR-608"


class Interruption(TouchstoneError):
    """Not a fault: the scan was told to stop."""

    code = "TS-ERR-300"


class ScanCancelled(Interruption):
    """The caller cancelled the scan."""

    code = "TS-ERR-301"


class BudgetExceeded(Interruption):
    """The scan's budget is used up."""

    code = "TS-ERR-302"


class LeaseLost(Interruption):
    """The piece of work belongs to another worker by now; what this one still does of it counts for nothing."""

    code = "TS-ERR-303"


class WorkerStopping(Interruption):
    """The worker was told to stop; its work goes back into the queue."""

    code = "TS-ERR-304"
