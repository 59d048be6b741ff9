//! Non-blocking stream socket with optional TLS.
//!
//! Owns the system calls of a stream, the TLS session and the readiness flags of the socket; the flags avoid system
//! calls that would return EAGAIN. Does not decide when to send; [`connection`](super::connection) does.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt as _;
use std::time::Duration;

use rustix::fs::sendfile;
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{RecvFlags, SendFlags, recv, send};
use rustls::Connection;
use socket2::Socket;

use super::tls;
use crate::failure::{Failure, FailureKind, Result, io_error_text};
use crate::protocol::CloseReason;

/// Bytes of a file per `sendfile` call.
const FILE_CHUNK: u64 = 1024 * 1024;
/// Bytes of a file encrypted at a time: four full TLS records.
const TLS_CHUNK: u64 = 64 * 1024;

/// Transport of one connection.
#[derive(Debug)]
pub(super) struct Stream {
    socket: Socket,
    tls: Option<Box<Connection>>,
    readability: Readability,
    can_write: bool,
    /// The first byte of a TLS client was inspected.
    is_begun: bool,
}

/// Expected result of the next read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Readability {
    WouldBlock,
    Ready,
    /// Poll has reported the peer's shutdown; edge-triggered, so it is reported only once.
    PeerClosed,
}

/// Result of a read.
pub(super) enum ReadOutcome {
    Bytes(usize),
    WouldBlock,
    Closed(CloseReason),
}

/// State of the TLS handshake.
pub(super) enum HandshakeStatus {
    /// The handshake is done, or TLS is not used.
    Complete,
    /// The handshake made progress; call again.
    InProgress,
    /// The handshake needs data from the peer, or space in the send buffer.
    Waiting,
    /// A client has sent plain text instead of a handshake; reported once.
    PlainText,
}

/// First byte that a TLS server has received.
enum FirstByte {
    Missing,
    /// A letter, as in an HTTP method.
    Text,
    /// Any other byte, the end of the stream, or nothing to inspect.
    Other,
}

enum TlsReadOutcome {
    Bytes,
    WouldBlock,
    Eof,
}

impl Stream {
    /// Creates a transport over a non-blocking socket.
    pub(super) fn new(socket: Socket, tls: Option<Connection>) -> Self {
        Self { socket, tls: tls.map(Box::new), readability: Readability::Ready, can_write: true, is_begun: false }
    }

    pub(super) fn start_tls(&mut self, tls: Box<Connection>) {
        self.tls = Some(tls);
        self.set_readable();
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    pub(super) fn tls(&self) -> Option<&Connection> {
        self.tls.as_deref()
    }

    pub(super) fn set_readable(&mut self) {
        if self.readability == Readability::WouldBlock {
            self.readability = Readability::Ready;
        }
    }

    /// Marks the peer's side as shut down: a short read no longer means that the socket is empty.
    pub(super) fn set_read_closed(&mut self) {
        self.readability = Readability::PeerClosed;
    }

    pub(super) fn set_writable(&mut self) {
        self.can_write = true;
    }

    /// Returns whether reading and whether writing would block, as far as known.
    pub(super) fn would_block(&self) -> (bool, bool) {
        (!self.can_read(), !self.can_write)
    }

    fn can_read(&self) -> bool {
        self.readability != Readability::WouldBlock
    }

    /// Continues the handshake as far as possible without blocking.
    pub(super) fn handshake(&mut self) -> Result<HandshakeStatus> {
        let handshaking = |tls: &Option<Box<Connection>>| tls.as_ref().is_some_and(|tls| tls.is_handshaking());
        if !handshaking(&self.tls) {
            return Ok(HandshakeStatus::Complete);
        }
        let wrote = self.write_tls()?;
        if !handshaking(&self.tls) {
            return Ok(HandshakeStatus::Complete);
        }
        match self.inspect_first_byte() {
            FirstByte::Text => return Ok(HandshakeStatus::PlainText),
            // Reading now could take a byte that has arrived since.
            FirstByte::Missing if wrote => return Ok(HandshakeStatus::InProgress),
            FirstByte::Missing => return Ok(HandshakeStatus::Waiting),
            FirstByte::Other => {}
        }
        match self.read_tls()? {
            TlsReadOutcome::Bytes => Ok(HandshakeStatus::InProgress),
            TlsReadOutcome::WouldBlock if wrote => Ok(HandshakeStatus::InProgress),
            TlsReadOutcome::WouldBlock => Ok(HandshakeStatus::Waiting),
            TlsReadOutcome::Eof => {
                Err(Failure::new(FailureKind::ConnectionLost, "the connection was closed during the TLS handshake")
                    .expected("a TLS server on this port"))
            }
        }
    }

    /// Inspects the first byte of a client, once. A handshake begins with 0x16 (RFC 8446 §5.1).
    fn inspect_first_byte(&mut self) -> FirstByte {
        if self.is_begun || !matches!(self.tls.as_deref(), Some(Connection::Server(_))) {
            return FirstByte::Other;
        }
        let mut first = [0];
        match retry_on_intr(|| recv(&self.socket, &mut first, RecvFlags::PEEK)) {
            Err(Errno::AGAIN) => {
                self.readability = Readability::WouldBlock;
                return FirstByte::Missing;
            }
            peeked => self.is_begun = matches!(peeked, Ok((1.., _))),
        }
        if self.is_begun && first[0].is_ascii_alphabetic() { FirstByte::Text } else { FirstByte::Other }
    }

    /// Continues without TLS.
    pub(super) fn leave_tls(&mut self) {
        self.tls = None;
    }

    pub(super) fn read(&mut self, buffer: &mut [u8]) -> Result<ReadOutcome> {
        if self.tls.is_some() { self.read_decrypted(buffer) } else { self.read_clear(buffer) }
    }

    fn read_clear(&mut self, buffer: &mut [u8]) -> Result<ReadOutcome> {
        if !self.can_read() {
            return Ok(ReadOutcome::WouldBlock);
        }
        match retry_on_intr(|| rustix::io::read(&self.socket, &mut *buffer)) {
            Ok(0) => Ok(ReadOutcome::Closed(CloseReason::Finished)),
            Ok(length) => {
                // A short read has emptied the socket; another read would only return EAGAIN.
                if length < buffer.len() && self.readability == Readability::Ready {
                    self.readability = Readability::WouldBlock;
                }
                Ok(ReadOutcome::Bytes(length))
            }
            Err(Errno::AGAIN) => {
                self.readability = Readability::WouldBlock;
                Ok(ReadOutcome::WouldBlock)
            }
            Err(errno) => Err(connection_error(&errno.into())),
        }
    }

    fn read_decrypted(&mut self, buffer: &mut [u8]) -> Result<ReadOutcome> {
        let mut at_end = false;
        loop {
            let Some(tls) = &mut self.tls else { return Ok(ReadOutcome::WouldBlock) };
            match tls.reader().read(buffer) {
                Ok(0) => return Ok(ReadOutcome::Closed(CloseReason::Finished)),
                Ok(length) => return Ok(ReadOutcome::Bytes(length)),
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    return Ok(ReadOutcome::Closed(CloseReason::Truncated));
                }
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(connection_error(&error)),
                Err(_) if at_end => return Ok(ReadOutcome::Closed(CloseReason::Truncated)),
                Err(_) => {}
            }
            match self.read_tls()? {
                TlsReadOutcome::Bytes => {}
                TlsReadOutcome::WouldBlock => return Ok(ReadOutcome::WouldBlock),
                // The session knows whether `close_notify` preceded the FIN: read from it once more.
                TlsReadOutcome::Eof => at_end = true,
            }
        }
    }

    fn read_tls(&mut self) -> Result<TlsReadOutcome> {
        let can_read = self.can_read();
        let Some(tls) = self.tls.as_mut().filter(|_| can_read) else { return Ok(TlsReadOutcome::WouldBlock) };
        match tls.read_tls(&mut &self.socket) {
            Ok(0) => Ok(TlsReadOutcome::Eof),
            Ok(_) => match tls.process_new_packets() {
                Ok(_) => Ok(TlsReadOutcome::Bytes),
                Err(error) => {
                    // Send the alert, if the peer still reads (RFC 8446 §6.2).
                    let _ = tls.write_tls(&mut &self.socket);
                    Err(tls::into_error(error, matches!(**tls, Connection::Server(_))))
                }
            },
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.readability = Readability::WouldBlock;
                Ok(TlsReadOutcome::WouldBlock)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(TlsReadOutcome::Bytes),
            Err(error) => Err(connection_error(&error)),
        }
    }

    /// Writes as many bytes as are accepted now. With `has_more`, the kernel may wait for the next write to
    /// fill a packet (`MSG_MORE`).
    pub(super) fn write(&mut self, bytes: &[u8], has_more: bool) -> Result<usize> {
        if let Some(tls) = &mut self.tls {
            return tls.writer().write(bytes).map_err(|error| connection_error(&error));
        }
        if !self.can_write {
            return Ok(0);
        }
        let flags = if has_more { SendFlags::NOSIGNAL | SendFlags::MORE } else { SendFlags::NOSIGNAL };
        match retry_on_intr(|| send(&self.socket, bytes, flags)) {
            Ok(sent) => Ok(sent),
            Err(Errno::AGAIN) => {
                self.can_write = false;
                Ok(0)
            }
            Err(errno) => Err(connection_error(&errno.into())),
        }
    }

    /// Writes a range of a file: with `sendfile`, or through `buffer` under TLS. A truncated file ends the
    /// connection: the announced length cannot be kept, and padding would pass for content.
    pub(super) fn write_file(&mut self, file: &File, offset: u64, remaining: u64, buffer: &mut [u8]) -> Result<u64> {
        let sent = if let Some(tls) = &mut self.tls {
            let length = usize::try_from(remaining.min(TLS_CHUNK)).unwrap_or(0).min(buffer.len());
            let buffer = buffer.get_mut(..length).unwrap_or_default();
            let read = file.read_at(buffer, offset).map_err(|error| file_error(&error))?;
            let written =
                tls.writer().write(buffer.get(..read).unwrap_or_default()).map_err(|error| connection_error(&error))?;
            (read > 0).then_some(written)
        } else {
            let length = usize::try_from(remaining.min(FILE_CHUNK)).unwrap_or(0);
            match retry_on_intr(|| sendfile(&self.socket, file, Some(&mut { offset }), length)) {
                Ok(0) => None,
                Ok(sent) => Some(sent),
                Err(Errno::AGAIN) => {
                    self.can_write = false;
                    Some(0)
                }
                Err(Errno::IO) => return Err(file_error(&Errno::IO.into())),
                Err(errno) => return Err(connection_error(&errno.into())),
            }
        };
        sent.map(|sent| sent as u64)
            .ok_or_else(|| Failure::new(FailureKind::ReadWrite, "the file was truncated while it was sent"))
    }

    /// Writes pending TLS records; returns whether all were written.
    pub(super) fn flush(&mut self) -> Result<bool> {
        self.write_tls()?;
        Ok(!self.tls.as_ref().is_some_and(|tls| tls.wants_write()))
    }

    fn write_tls(&mut self) -> Result<bool> {
        let mut wrote = false;
        while let Some(tls) = self.tls.as_mut().filter(|tls| self.can_write && tls.wants_write()) {
            match tls.write_tls(&mut &self.socket) {
                Ok(_) => wrote = true,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.can_write = false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(connection_error(&error)),
            }
        }
        Ok(wrote)
    }

    /// Shuts down the sending side: `close_notify` under TLS, then FIN. Returns whether it succeeded.
    pub(super) fn shutdown_write(&mut self) -> bool {
        if let Some(tls) = &mut self.tls {
            tls.send_close_notify();
            let _ = self.write_tls();
        }
        self.socket.shutdown(Shutdown::Write).is_ok()
    }

    /// Reads and discards bytes; returns their number, or `None` at the end or on an error.
    pub(super) fn discard(&mut self, buffer: &mut [u8]) -> Option<usize> {
        if !self.can_read() {
            return Some(0);
        }
        match retry_on_intr(|| rustix::io::read(&self.socket, &mut *buffer)) {
            Err(Errno::AGAIN) => {
                self.readability = Readability::WouldBlock;
                Some(0)
            }
            Ok(length) if length > 0 => Some(length),
            _ => None,
        }
    }

    /// Turns the following close into an RST, which discards unsent data (`SO_LINGER` 0).
    pub(super) fn reset_on_close(&self) {
        let _ = self.socket.set_linger(Some(Duration::ZERO));
    }
}

fn connection_error(error: &io::Error) -> Failure {
    Failure::new(FailureKind::ConnectionLost, format!("connection lost: {}", io_error_text(error)))
}

fn file_error(error: &io::Error) -> Failure {
    Failure::new(FailureKind::ReadWrite, format!("cannot read the file: {}", io_error_text(error)))
}
