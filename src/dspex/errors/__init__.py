"""
Every exception dspex raises at its users, in one tree.

A class exists where a caller would do something different on seeing it; what they need to decide is a typed
attribute, and the message says what to do next::

    DspexError
    ├── ActorError                  a process of the runtime did not do what was asked
    │   ├── ActorExited             it died; ``reason`` says why
    │   ├── AlreadyRegistered       the name or key is taken by ``owner``
    │   ├── CallCycle               answering would need the caller's own answer
    │   ├── CallTimeout             no answer in time (also a TimeoutError)
    │   ├── ChildError              a supervisor refused a management call; ``why`` says which rule
    │   ├── MailboxFull             a bounded mailbox has no room
    │   ├── NoSuchActor             nobody lives under this ref, name or key; ``nearest`` (also a LookupError)
    │   ├── NotRegistered           the process holds no such key and is in no such group (also a LookupError)
    │   ├── OsProcessFailed         a program could not be started, or ended as it should not
    │   ├── RuntimeClosed           the runtime is not open (any more)
    │   ├── SpecError               a child spec or supervisor flag is not valid (also a ValueError)
    │   ├── StartFailed             ``init`` failed; the reason is the cause
    │   └── UnknownMessage          an actor of the library does not understand a message (also a TypeError)
    ├── ServiceError
    │   ├── CacheError              the cache cannot be opened or read
    │   ├── LMError                 one provider call failed for good; ``attempts`` lists the tries
    │   │   ├── AuthFailed          the key is missing or wrong
    │   │   │   └── PermissionDenied a model, a region or an operation is closed to the key
    │   │   ├── BudgetExceeded      the budget of the App, the job or the request is spent; not sent
    │   │   ├── CircuitOpen         the provider has failed too often lately; not sent
    │   │   ├── ContentRefused      the provider's policy refused the prompt or the answer
    │   │   ├── QuotaExhausted      no money or no daily quota left; retrying cannot help
    │   │   ├── RateLimited         too many requests or tokens a minute
    │   │   ├── RequestRejected     the provider says the request itself is wrong
    │   │   │   └── ContextTooLong  the prompt does not fit the model's window
    │   │   ├── ResponseIncomplete  the answer was cut off at a limit of tokens; ``partial`` is what came
    │   │   ├── ResponseInvalid     an answer came that is not one
    │   │   ├── ServerFailed        the provider failed (5xx, overloaded)
    │   │   └── TransportFailed     no complete answer came over the network
    │   │       └── StreamTruncated a stream ended without its end marker
    │   ├── RetrievalError          the index cannot be opened, searched or changed
    │   │   ├── FilterInvalid       a filter cannot be asked (also a ValueError)
    │   │   ├── IndexDamaged        an index file is damaged, or of another format
    │   │   ├── PassageInvalid      a passage cannot be kept (also a ValueError)
    │   │   ├── RetrieverLacks      the retriever does not have the operation
    │   │   └── VectorInvalid       a vector has no direction, or is none (also a ValueError)
    │   │       └── DimensionMismatch it has another length than those of the index
    │   ├── ServiceUnavailable      a service cannot start; it keeps trying
    │   ├── SharedError             the store that processes share cannot be reached, or refuses
    │   └── ToolServerFailed        a server of tools cannot be started, reached or understood
    ├── RequestError
    │   ├── AppClosed               the App is closing or closed
    │   ├── DeadlineExceeded        the request ran out of time (also a TimeoutError)
    │   ├── NotInRequest            a program was awaited outside ``app.run``
    │   ├── Overloaded              too many requests are waiting; come back after ``retry_after``
    │   ├── RecordedFailure         a row failed in an earlier run of the same map
    │   ├── RequestKilled           the request's process was killed; never run twice
    │   ├── ScopeClosed             a step was started after its request had ended
    │   ├── StepCrashed             a step died and may not or could not be restarted
    │   └── StreamInterrupted       an answer broke off after its first piece; ``partial`` is what came
    ├── ProgramError
    │   ├── AgentBudgetSpent        an agent took all its steps without finishing
    │   ├── AnswerRejected          a check refused every answer; ``complaints`` says why
    │   ├── CodeFailed              the code that a model wrote failed in every round
    │   ├── DepsError               ``options(deps=…)`` is not what a tool declared (also a TypeError)
    │   ├── MissingInput            a program's input is missing, or one was given that it lacks
    │   ├── OutputNotSet            an output was read that was never set (also an AttributeError)
    │   ├── ProgramFrozen           a module was assigned to after ``__init__`` (also an AttributeError)
    │   ├── ResponseUnparsable      the completion lacks fields or has values of the wrong type
    │   ├── SignatureError          a signature cannot be compiled (also a ValueError)
    │   ├── StateError              a saved program cannot be loaded into this one (also a ValueError)
    │   └── ToolError               a call of a tool gave no result; an agent goes on
    │       ├── ToolArgumentsInvalid the model's arguments do not fit (also a ValueError)
    │       ├── ToolInvalid         a function cannot be a tool (also a TypeError)
    │       └── ToolTimeout         it did not end in its time (also a TimeoutError)
    ├── AppError
    │   ├── AppAlreadyRunning       the App was entered twice
    │   ├── AppNotRunning           the App was used before start or after close
    │   ├── ConfigError             an argument of the App or a setting is wrong (also a ValueError)
    │   ├── LeakedTasks             code swallowed its cancellation and still runs
    │   ├── MissingExtra            an optional dependency is not installed (also an ImportError)
    │   ├── WrongLoop               the App was used from another loop or thread
    │   └── WrongProcess            the App was started before this process was forked
    ├── FileError                   a file cannot be written or read (also an OSError)
    │   ├── DocumentError           a file, or a line of it, cannot be made into passages
    │   ├── FileBusy                another process is writing it; ``pid`` says which
    │   ├── FileMissing             there is no such file (also a FileNotFoundError)
    │   └── TargetExists            something else stands where a file is to be written
    ├── EvaluationError             too many rows failed for a score to mean anything
    │   └── MetricFailed            the metric raised or returned no number
    ├── StandInError                a stand-in of a test has no answer (also a LookupError)
    │   ├── CassetteMiss            a cassette has no answer for a request
    │   ├── ScriptExhausted         a ScriptedLM has no answer left for a predictor
    │   └── ScriptMisspelt          a ScriptedLM's answer misspells a field
    ├── OptimizationError
    │   ├── JobBusy                 another process is running this job
    │   ├── JobCancelled            the job was cancelled before it had a result
    │   ├── JobMismatch             a job of this name exists for other inputs
    │   └── NoCandidate             no candidate could be built or scored
    │       └── TrainingFailed      a provider could not finish a training; ``problem`` has its words
    └── InternalError               a bug in dspex; please report it
"""

from __future__ import annotations

from dspex.errors._actors import (
    ActorError,
    ActorExited,
    AlreadyRegistered,
    CallCycle,
    CallTimeout,
    ChildError,
    MailboxFull,
    NoSuchActor,
    NotRegistered,
    OsProcessFailed,
    RuntimeClosed,
    SpecError,
    StartFailed,
    UnknownMessage,
)
from dspex.errors._agents import (
    AgentBudgetSpent,
    CodeFailed,
    ToolArgumentsInvalid,
    ToolError,
    ToolInvalid,
    ToolServerFailed,
    ToolTimeout,
)
from dspex.errors._apps import (
    AppAlreadyRunning,
    AppError,
    AppNotRunning,
    ConfigError,
    LeakedTasks,
    MissingExtra,
    WrongLoop,
    WrongProcess,
)
from dspex.errors._base import (
    DspexError,
    InternalError,
)
from dspex.errors._files import DocumentError, FileBusy, FileError, FileMissing, TargetExists
from dspex.errors._jobs import (
    EvaluationError,
    JobBusy,
    JobCancelled,
    JobMismatch,
    MetricFailed,
    NoCandidate,
    OptimizationError,
    TrainingFailed,
)
from dspex.errors._programs import (
    AnswerRejected,
    DepsError,
    MissingInput,
    OutputNotSet,
    ProgramError,
    ProgramFrozen,
    ResponseUnparsable,
    SignatureError,
    StateError,
)
from dspex.errors._requests import (
    AppClosed,
    DeadlineExceeded,
    NotInRequest,
    Overloaded,
    RecordedFailure,
    RequestError,
    RequestKilled,
    ScopeClosed,
    StepCrashed,
    StreamInterrupted,
)
from dspex.errors._retrieval import (
    DimensionMismatch,
    FilterInvalid,
    IndexDamaged,
    PassageInvalid,
    RetrieverLacks,
    VectorInvalid,
)
from dspex.errors._services import (
    AuthFailed,
    BudgetExceeded,
    CacheError,
    CircuitOpen,
    ContentRefused,
    ContextTooLong,
    LMError,
    PermissionDenied,
    QuotaExhausted,
    RateLimited,
    RequestRejected,
    ResponseIncomplete,
    ResponseInvalid,
    RetrievalError,
    ServerFailed,
    ServiceError,
    ServiceUnavailable,
    SharedError,
    StreamTruncated,
    TransportFailed,
)
from dspex.errors._testing import CassetteMiss, ScriptExhausted, ScriptMisspelt, StandInError

__all__ = [
    "ActorError",
    "ActorExited",
    "AgentBudgetSpent",
    "AlreadyRegistered",
    "AnswerRejected",
    "AppAlreadyRunning",
    "AppClosed",
    "AppError",
    "AppNotRunning",
    "AuthFailed",
    "BudgetExceeded",
    "CacheError",
    "CallCycle",
    "CallTimeout",
    "CassetteMiss",
    "ChildError",
    "CircuitOpen",
    "CodeFailed",
    "ConfigError",
    "ContentRefused",
    "ContextTooLong",
    "DeadlineExceeded",
    "DepsError",
    "DimensionMismatch",
    "DocumentError",
    "DspexError",
    "EvaluationError",
    "FileBusy",
    "FileError",
    "FileMissing",
    "FilterInvalid",
    "IndexDamaged",
    "InternalError",
    "JobBusy",
    "JobCancelled",
    "JobMismatch",
    "LMError",
    "LeakedTasks",
    "MailboxFull",
    "MetricFailed",
    "MissingExtra",
    "MissingInput",
    "NoCandidate",
    "NoSuchActor",
    "NotInRequest",
    "NotRegistered",
    "OptimizationError",
    "OsProcessFailed",
    "OutputNotSet",
    "Overloaded",
    "PassageInvalid",
    "PermissionDenied",
    "ProgramError",
    "ProgramFrozen",
    "QuotaExhausted",
    "RateLimited",
    "RecordedFailure",
    "RequestError",
    "RequestKilled",
    "RequestRejected",
    "ResponseIncomplete",
    "ResponseInvalid",
    "ResponseUnparsable",
    "RetrievalError",
    "RetrieverLacks",
    "RuntimeClosed",
    "ScopeClosed",
    "ScriptExhausted",
    "ScriptMisspelt",
    "ServerFailed",
    "ServiceError",
    "ServiceUnavailable",
    "SharedError",
    "SignatureError",
    "SpecError",
    "StandInError",
    "StartFailed",
    "StateError",
    "StepCrashed",
    "StreamInterrupted",
    "StreamTruncated",
    "TargetExists",
    "ToolArgumentsInvalid",
    "ToolError",
    "ToolInvalid",
    "ToolServerFailed",
    "ToolTimeout",
    "TrainingFailed",
    "TransportFailed",
    "UnknownMessage",
    "VectorInvalid",
    "WrongLoop",
    "WrongProcess",
]

for _name in __all__:
    globals()[_name].__module__ = __name__  # tracebacks and reports show the public place
del _name
