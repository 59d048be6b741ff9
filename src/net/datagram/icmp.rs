//! Errors of undelivered datagrams.
//!
//! Owns the translation of an errno or an ICMP message into an error with a text for users. It must not
//! decide what follows from the error.

use std::io;

use nix::errno::Errno;
use nix::libc::{SO_EE_ORIGIN_ICMP, SO_EE_ORIGIN_ICMP6, SO_EE_ORIGIN_TIMESTAMPING, sock_extended_err};

use crate::failure::io_error_text;

/// Entry of a socket's error queue.
pub(super) enum ErrorQueueEntry {
    Transmitted(u32),
    /// A datagram could not be delivered.
    Undeliverable(io::Error),
    /// Local error that `send` has returned already.
    AlreadyReported,
}

impl ErrorQueueEntry {
    pub(super) fn from_kernel(error: sock_extended_err) -> Self {
        match error.ee_origin {
            SO_EE_ORIGIN_TIMESTAMPING => Self::Transmitted(error.ee_data),
            SO_EE_ORIGIN_ICMP | SO_EE_ORIGIN_ICMP6 => Self::Undeliverable(icmp_error(error)),
            _ => Self::AlreadyReported,
        }
    }
}

/// Returns the system's error text, in lower case and without the errno.
pub(super) fn describe_errno(errno: Errno) -> io::Error {
    let error = io::Error::from(errno);
    io::Error::new(error.kind(), io_error_text(&error))
}

/// Returns the ICMP error, which is more specific than the errno that the kernel derives from it (RFC 792, RFC 4443
/// §3).
fn icmp_error(error: sock_extended_err) -> io::Error {
    let errno = Errno::from_raw(i32::try_from(error.ee_errno).unwrap_or_default());
    let v6 = error.ee_origin == SO_EE_ORIGIN_ICMP6;
    let text = match (v6, error.ee_type, error.ee_code) {
        (false, 3, 0) | (true, 1, 0) => "network unreachable",
        (false, 3, 1) | (true, 1, 3) => "host unreachable",
        (false, 3, 2) => "protocol unreachable",
        (false, 3, 3) | (true, 1, 4) => "port unreachable",
        (false, 3, 4) | (true, 2, _) => "datagram exceeds the path MTU",
        (false, 3, 9 | 10 | 13) | (true, 1, 1) => "administratively prohibited",
        (false, 11, _) | (true, 3, _) => "time to live exceeded",
        _ => return describe_errno(errno),
    };
    io::Error::new(io::Error::from(errno).kind(), text)
}

#[cfg(test)]
mod tests {
    use super::{ErrorQueueEntry, describe_errno};
    use nix::errno::Errno;
    use nix::libc::{SO_EE_ORIGIN_ICMP, SO_EE_ORIGIN_ICMP6, SO_EE_ORIGIN_LOCAL, sock_extended_err};
    use std::io::ErrorKind;

    fn entry(ee_origin: u8, ee_type: u8, ee_code: u8, errno: Errno) -> ErrorQueueEntry {
        let ee_errno = u32::try_from(errno as i32).expect("positive");
        ErrorQueueEntry::from_kernel(sock_extended_err {
            ee_errno,
            ee_origin,
            ee_type,
            ee_code,
            ee_pad: 0,
            ee_info: 0,
            ee_data: 0,
        })
    }

    #[test]
    fn a_closed_port_is_port_unreachable_in_both_families() {
        for (origin, kind, code) in [(SO_EE_ORIGIN_ICMP, 3, 3), (SO_EE_ORIGIN_ICMP6, 1, 4)] {
            let ErrorQueueEntry::Undeliverable(error) = entry(origin, kind, code, Errno::ECONNREFUSED) else {
                panic!("ICMP")
            };
            assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::ConnectionRefused, "port unreachable"));
        }
    }

    #[test]
    fn other_errors_keep_the_text_of_the_system() {
        let ErrorQueueEntry::Undeliverable(error) = entry(SO_EE_ORIGIN_ICMP, 12, 0, Errno::EPROTO) else {
            panic!("ICMP")
        };
        assert_eq!(error.to_string(), "protocol error");
        assert_eq!(describe_errno(Errno::EMSGSIZE).to_string(), "message too long");
    }

    #[test]
    fn a_local_error_was_reported_by_the_send_itself() {
        assert!(matches!(entry(SO_EE_ORIGIN_LOCAL, 0, 0, Errno::EMSGSIZE), ErrorQueueEntry::AlreadyReported));
    }
}
