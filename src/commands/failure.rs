//! Exit codes and advice for the failures of the layers below.

use crate::error::Error;
use crate::exit::Exit;
use crate::failure::{Failure, FailureKind};
use crate::net::Signal;

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        let kind = failure.kind();
        Self::from_failure(failure, exit_for(kind), advice_for(kind))
    }
}

impl From<Signal> for Exit {
    /// Exit code of a run that this signal ended before it had a result.
    fn from(signal: Signal) -> Self {
        exit_for(signal.failure().kind())
    }
}

/// Exit code of a run that ended with this failure.
pub(super) fn exit_for(kind: FailureKind) -> Exit {
    use FailureKind as Kind;
    match kind {
        Kind::InvalidValue | Kind::SourceFamily | Kind::TargetFamily | Kind::LoadNotAllowed => Exit::Usage,
        Kind::InvalidMessage | Kind::UnsafeLogin => Exit::InvalidInput,
        Kind::NotFound => Exit::InputMissing,
        Kind::CommandNotFound => Exit::CommandNotFound,
        Kind::CommandNotExecutable => Exit::CommandNotExecutable,
        Kind::InvalidFile | Kind::NoTrustStore => Exit::Config,
        Kind::BinaryOutput | Kind::CannotCreate | Kind::TargetIsDirectory | Kind::TargetExists | Kind::TargetLocked => {
            Exit::CannotCreate
        }
        Kind::ReadWrite => Exit::Io,
        Kind::System | Kind::ResourcesExhausted | Kind::AddressInUse | Kind::AddressNotLocal | Kind::SourceNotLocal => {
            Exit::OsError
        }
        Kind::NoSuchHost | Kind::NoAddressInFamily => Exit::UnknownHost,
        Kind::ConnectionRefused
        | Kind::Unreachable
        | Kind::Rejected
        | Kind::LoginNotOffered
        | Kind::StarttlsNotOffered => Exit::Unavailable,
        Kind::ResolverFailed
        | Kind::ConnectTimedOut
        | Kind::ConnectionReset
        | Kind::ConnectionLost
        | Kind::TimedOut
        | Kind::NoGreeting
        | Kind::DeadlinePassed
        | Kind::RejectedTemporarily => Exit::TemporaryFailure,
        Kind::Protocol | Kind::WrongProtocol | Kind::NotTls => Exit::Protocol,
        Kind::PermissionDenied
        | Kind::PortNotPermitted
        | Kind::BroadcastDenied
        | Kind::CertificateRequired
        | Kind::LoginRequired
        | Kind::EncryptionRequired
        | Kind::LoginRejected => Exit::Permission,
        Kind::Certificate
        | Kind::CertificateExpired
        | Kind::CertificateNotYetValid
        | Kind::CertificateName
        | Kind::CertificateIssuer
        | Kind::CertificatePin => Exit::Certificate,
        Kind::Incomplete => Exit::Incomplete,
        // The run ends silently with the exit code so far.
        Kind::OutputClosed => Exit::Success,
        Kind::OutcomeUnknown => Exit::OutcomeUnknown,
        Kind::Interrupted => Exit::Interrupted,
        Kind::Terminated => Exit::Terminated,
        Kind::Bug => Exit::Bug,
    }
}

/// Advice for a failure, in the words of the command line.
fn advice_for(kind: FailureKind) -> Option<&'static str> {
    use FailureKind as Kind;
    Some(match kind {
        Kind::UnsafeLogin => "leave out --plain and --insecure, or add --insecure-auth",
        Kind::NoTrustStore => "install ca-certificates, or name a CA with --ca FILE",
        Kind::BinaryOutput => "write it to a file with -o FILE, or print it anyway with -o -",
        Kind::TargetIsDirectory => "name a file in it with -o",
        Kind::TargetExists => "choose a name with -o, or overwrite the file with --force",
        Kind::TargetLocked => "wait for it, or choose another name with -o",
        Kind::ResourcesExhausted => "raise the limit of open files with ulimit -n, or use fewer threads or targets",
        Kind::AddressInUse => "stop the other program, or choose another port (0 picks a free one) or path",
        Kind::AddressNotLocal => "use PORT for loopback, or '*:PORT' for all addresses",
        Kind::PortNotPermitted => "use a port from 1024 up, such as 8080",
        Kind::SourceNotLocal => "leave out --source to let the system choose",
        Kind::SourceFamily => "leave out --source, or give one of the other family",
        Kind::TargetFamily | Kind::NoAddressInFamily => "leave out -4 and -6",
        Kind::LoadNotAllowed => "if the target is yours, add --i-own-this-target",
        Kind::BroadcastDenied => "use the address of one host, and check the firewall of this machine",
        Kind::NoSuchHost => "check the spelling and the DNS server",
        Kind::ResolverFailed => "try again later, or use an IP address instead of the name",
        Kind::ConnectionRefused => "check that a server is listening on this address and port",
        Kind::Unreachable => "check the address and the route, or try the other family with -4 or -6",
        Kind::ConnectTimedOut => "check the address and the firewall",
        Kind::ConnectionReset => "try again: a server answers, but resets the connection",
        Kind::TimedOut => "allow more time with --timeout, or try again later",
        Kind::NoGreeting => "many networks block port 25; try 587",
        Kind::WrongProtocol => "SMTP ports are 587 (STARTTLS), 465 (TLS) and 25",
        Kind::DeadlinePassed => "allow more time with --deadline",
        Kind::NotTls => "connect without TLS, or use the port for TLS",
        Kind::CertificateExpired => "renew it on the server, and check this machine's clock",
        Kind::CertificateNotYetValid => "check the clocks of both machines",
        Kind::CertificateName => "connect by a name in the certificate",
        Kind::CertificateIssuer => "if you trust this CA, add --ca FILE with its certificate",
        Kind::CertificatePin => "if the operator of the server confirms the change, pin the new certificate",
        Kind::CertificateRequired => "give one with --cert FILE",
        Kind::RejectedTemporarily => "try again later",
        Kind::LoginRequired => "log in with --user",
        Kind::EncryptionRequired => "leave out --plain, or use --tls with port 465",
        Kind::LoginRejected => "check user and password; many providers require an app password",
        Kind::LoginNotOffered => "leave out --user to send without a login",
        Kind::StarttlsNotOffered => "use --tls with port 465, or --plain to send without encryption",
        Kind::OutcomeUnknown => "look for its Message-ID before sending it again",
        _ => return None,
    })
}
