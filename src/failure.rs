//! Failures in the terms of the network, the protocols and the operating system.
//!
//! The layers below `commands` return them. They know neither exit codes nor flags: `commands` chooses the exit code
//! and the advice by the [`FailureKind`].

use std::error::Error as StdError;
use std::fmt;

/// Cause of a failure.
pub(crate) type Source = Box<dyn StdError + Send + Sync>;

/// Result of every fallible function below `commands`.
pub(crate) type Result<T, E = Failure> = std::result::Result<T, E>;

/// Kind of a failure. Decides the exit code and the advice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FailureKind {
    /// A value given by the user is invalid.
    InvalidValue,
    /// The message or an address cannot be sent as it is.
    InvalidMessage,
    /// The password would be exposed to others.
    UnsafeLogin,
    /// A file or program does not exist.
    NotFound,
    /// A command given as a value does not exist.
    CommandNotFound,
    CommandNotExecutable,
    PermissionDenied,
    /// A file with settings, keys or certificates is unusable.
    InvalidFile,
    NoTrustStore,
    CannotCreate,
    TargetIsDirectory,
    TargetExists,
    /// Another run is writing the same file.
    TargetLocked,
    ReadWrite,
    /// A system call failed.
    System,
    /// Descriptors or memory ran out.
    ResourcesExhausted,
    /// The port or the path of a listening socket is taken.
    AddressInUse,
    /// A listening address is not one of this machine.
    AddressNotLocal,
    PortNotPermitted,
    /// The source address is not one of this machine.
    SourceNotLocal,
    /// The target has no address of the requested family.
    NoAddressInFamily,
    /// The target is an address of another family than the requested one.
    TargetFamily,
    /// The load on this target is not allowed.
    LoadNotAllowed,
    /// Source and target have different address families.
    SourceFamily,
    BroadcastDenied,
    NoSuchHost,
    /// The name server did not answer.
    ResolverFailed,
    ConnectionRefused,
    Unreachable,
    /// No answer to an attempt to connect.
    ConnectTimedOut,
    ConnectionReset,
    ConnectionLost,
    TimedOut,
    /// The server accepted the connection and sent no greeting.
    NoGreeting,
    DeadlinePassed,
    /// The peer violated the protocol.
    Protocol,
    /// The peer speaks another protocol than the expected one.
    WrongProtocol,
    /// The server does not use TLS on this port.
    NotTls,
    /// The server's certificate was not accepted.
    Certificate,
    CertificateExpired,
    CertificateNotYetValid,
    CertificateName,
    CertificateIssuer,
    CertificatePin,
    /// The server requires a client certificate.
    CertificateRequired,
    /// The peer rejected the request for good.
    Rejected,
    RejectedTemporarily,
    LoginRequired,
    /// The server accepts the command only with encryption.
    EncryptionRequired,
    LoginRejected,
    LoginNotOffered,
    StarttlsNotOffered,
    /// The connection ended within a body.
    Incomplete,
    /// Binary data is not written to a terminal.
    BinaryOutput,
    /// The reader of standard output is gone.
    OutputClosed,
    /// The connection was lost after the message was sent and before its reply.
    OutcomeUnknown,
    /// Ended by SIGINT or SIGQUIT.
    Interrupted,
    /// Ended by SIGTERM.
    Terminated,
    /// Bug in this program.
    Bug,
}

impl FailureKind {
    /// Returns true if a later attempt may succeed.
    pub(crate) fn is_temporary(self) -> bool {
        matches!(
            self,
            Self::ResolverFailed
                | Self::ConnectTimedOut
                | Self::ConnectionReset
                | Self::ConnectionLost
                | Self::TimedOut
                | Self::NoGreeting
                | Self::DeadlinePassed
                | Self::RejectedTemporarily
        )
    }

    /// Returns true if the peer rejected the request for good.
    pub(crate) fn is_rejection(self) -> bool {
        matches!(self, Self::Rejected | Self::LoginRequired | Self::EncryptionRequired | Self::LoginRejected)
    }
}

/// Input of a peer that caused a failure.
#[derive(Clone, Debug, Default)]
pub(crate) struct Origin {
    /// Excerpt of what was received, in one line.
    pub got: Option<String>,
    /// Clause of the violated rule, such as `RFC 9112 §4`.
    pub clause: Option<&'static str>,
    /// Stage of the protocol.
    pub stage: Option<&'static str>,
}

/// Failure of a module below `commands`: lower case, no full stop, no secrets.
#[derive(Debug)]
pub(crate) struct Failure {
    kind: FailureKind,
    message: String,
    expected: Option<String>,
    origin: Option<Box<Origin>>,
    source: Option<Source>,
}

impl Failure {
    /// Creates a failure; `message` says what happened.
    pub(crate) fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), expected: None, origin: None, source: None }
    }

    /// Adds what was expected instead.
    #[must_use]
    pub(crate) fn expected(mut self, expected: impl Into<String>) -> Self {
        self.expected = Some(expected.into());
        self
    }

    /// Adds an excerpt of what a peer sent, and the clause that it violates.
    #[must_use]
    pub(crate) fn violates(mut self, clause: &'static str, got: impl Into<String>) -> Self {
        let origin = self.origin.get_or_insert_default();
        (origin.clause, origin.got) = (Some(clause), Some(got.into()));
        self
    }

    /// Adds the stage of the protocol in which the failure occurred.
    #[must_use]
    pub(crate) fn in_stage(mut self, stage: &'static str) -> Self {
        self.origin.get_or_insert_default().stage = Some(stage);
        self
    }

    /// Attaches the cause, for the chain of causes that `-v` prints.
    #[must_use]
    pub(crate) fn with_source(mut self, source: impl StdError + Send + Sync + 'static) -> Self {
        self.source = Some(Box::new(source));
        self
    }

    /// Prefixes the message with its subject.
    #[must_use]
    pub(crate) fn with_context(mut self, subject: &str) -> Self {
        self.message = format!("{subject}: {}", self.message);
        self
    }

    /// Changes the kind of the failure.
    #[must_use]
    pub(crate) fn with_kind(mut self, kind: FailureKind) -> Self {
        self.kind = kind;
        self
    }

    /// Copies the failure without its cause.
    #[must_use]
    pub(crate) fn without_source(&self) -> Self {
        Self {
            kind: self.kind,
            message: self.message.clone(),
            expected: self.expected.clone(),
            origin: self.origin.clone(),
            source: None,
        }
    }

    /// Kind of the failure.
    pub(crate) fn kind(&self) -> FailureKind {
        self.kind
    }

    /// Splits the failure into message, expectation, input of the peer and cause.
    pub(crate) fn into_parts(self) -> (String, Option<String>, Option<Box<Origin>>, Option<Source>) {
        (self.message, self.expected, self.origin, self.source)
    }

    pub(crate) fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for Failure {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

/// Text of an operating system error in lower case, without the "(os error N)" that Rust appends.
pub(crate) fn io_error_text(error: &impl ToString) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_lowercase()
}
