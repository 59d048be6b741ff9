//! A non-blocking socket with or without TLS on it: octets in, octets out.
//!
//! Owns the system calls of a stream and the TLS session, and remembers whether the socket is
//! known to be dry or full, so that nobody asks it in vain. It must not know when or why anything
//! is sent; that is the [`link`](super::link)'s business.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt as _;
use std::time::Duration;

use rustix::fs::sendfile;
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{SendFlags, send};
use rustls::Connection;
use socket2::Socket;

use super::tls;
use crate::error::{Error, Result, io_error_text};
use crate::exit::Exit;
use crate::protocol::CloseReason;

/// Octets of a file per call.
const FILE_CHUNK: u64 = 1024 * 1024;
/// Octets of a file that are encrypted at a time: four full TLS records.
const TLS_CHUNK: u64 = 64 * 1024;

/// The connection's transport.
#[derive(Debug)]
pub(super) struct Stream {
    socket: Socket,
    tls: Option<Box<Connection>>,
    can_read: bool,
    can_write: bool,
    /// Whether the peer's end has been announced: its edge has come, and no other will.
    read_closed: bool,
}

/// What a read brought.
pub(super) enum ReadOutcome {
    /// This many octets.
    Bytes(usize),
    /// Nothing at the moment.
    WouldBlock,
    /// The peer's end.
    Closed(CloseReason),
}

/// How far a handshake is.
pub(super) enum HandshakeStatus {
    /// Done, or never needed.
    Complete,
    /// A step further; call again.
    InProgress,
    /// The peer has to say something first.
    Waiting,
}

enum TlsReadOutcome {
    Bytes,
    WouldBlock,
    Eof,
}

impl Stream {
    /// A transport over `socket`, which is non-blocking.
    pub(super) fn new(socket: Socket, tls: Option<Connection>) -> Self {
        Self { socket, tls: tls.map(Box::new), can_read: true, can_write: true, read_closed: false }
    }

    /// Goes on under TLS.
    pub(super) fn start_tls(&mut self, tls: Box<Connection>) {
        self.tls = Some(tls);
        self.can_read = true;
    }

    /// The descriptor to wait for.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// The TLS session, if there is one.
    pub(super) fn tls(&self) -> Option<&Connection> {
        self.tls.as_deref()
    }

    /// The socket has something to read, or its end.
    pub(super) fn set_readable(&mut self) {
        self.can_read = true;
    }

    /// The peer has ended its side, so that a short read does not mean dry.
    pub(super) fn set_read_closed(&mut self) {
        self.read_closed = true;
        self.can_read = true;
    }

    /// The socket takes octets again.
    pub(super) fn set_writable(&mut self) {
        self.can_write = true;
    }

    /// Whether the socket is known to be dry, and known to be full.
    pub(super) fn would_block(&self) -> (bool, bool) {
        (!self.can_read, !self.can_write)
    }

    /// Drives the handshake as far as it goes.
    pub(super) fn handshake(&mut self) -> Result<HandshakeStatus> {
        let handshaking = |tls: &Option<Box<Connection>>| tls.as_ref().is_some_and(|tls| tls.is_handshaking());
        if !handshaking(&self.tls) {
            return Ok(HandshakeStatus::Complete);
        }
        let wrote = self.write_tls()?;
        if !handshaking(&self.tls) {
            return Ok(HandshakeStatus::Complete);
        }
        match self.read_tls()? {
            TlsReadOutcome::Bytes => Ok(HandshakeStatus::InProgress),
            TlsReadOutcome::WouldBlock if wrote => Ok(HandshakeStatus::InProgress),
            TlsReadOutcome::WouldBlock => Ok(HandshakeStatus::Waiting),
            TlsReadOutcome::Eof => {
                Err(Error::new(Exit::TemporaryFailure, "the connection closed within the TLS handshake")
                    .expected("a TLS server on this port"))
            }
        }
    }

    /// Reads into `room`.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> Result<ReadOutcome> {
        if self.tls.is_some() { self.read_decrypted(buffer) } else { self.read_clear(buffer) }
    }

    fn read_clear(&mut self, buffer: &mut [u8]) -> Result<ReadOutcome> {
        if !self.can_read {
            return Ok(ReadOutcome::WouldBlock);
        }
        match retry_on_intr(|| rustix::io::read(&self.socket, &mut *buffer)) {
            Ok(0) => Ok(ReadOutcome::Closed(CloseReason::Finished)),
            Ok(length) => {
                // A short read has emptied the socket; asking again would only say so.
                self.can_read = self.read_closed || length == buffer.len();
                Ok(ReadOutcome::Bytes(length))
            }
            Err(Errno::AGAIN) => {
                self.can_read = false;
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
                // The session knows whether the end was announced; ask it once more.
                TlsReadOutcome::Eof => at_end = true,
            }
        }
    }

    fn read_tls(&mut self) -> Result<TlsReadOutcome> {
        let Some(tls) = self.tls.as_mut().filter(|_| self.can_read) else { return Ok(TlsReadOutcome::WouldBlock) };
        match tls.read_tls(&mut &self.socket) {
            Ok(0) => Ok(TlsReadOutcome::Eof),
            Ok(_) => match tls.process_new_packets() {
                Ok(_) => Ok(TlsReadOutcome::Bytes),
                Err(error) => {
                    // Tell the peer why, if it still listens (RFC 8446 §6.2).
                    let _ = tls.write_tls(&mut &self.socket);
                    Err(tls::into_error(error))
                }
            },
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.can_read = false;
                Ok(TlsReadOutcome::WouldBlock)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(TlsReadOutcome::Bytes),
            Err(error) => Err(connection_error(&error)),
        }
    }

    /// Takes octets, as many as fit at the moment; `more` says that others follow at once, so that
    /// they may share a packet.
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

    /// Takes a slice of a file: by `sendfile` in clear, through `buffer` under TLS. A file that
    /// has become shorter ends the connection: the peer was promised more, and must not take
    /// padding for content.
    pub(super) fn write_file(&mut self, file: &File, offset: u64, remaining: u64, buffer: &mut [u8]) -> Result<u64> {
        let moved = if let Some(tls) = &mut self.tls {
            let room = usize::try_from(remaining.min(TLS_CHUNK)).unwrap_or(0).min(buffer.len());
            let buffer = buffer.get_mut(..room).unwrap_or_default();
            let read = file.read_at(buffer, offset).map_err(|error| file_error(&error))?;
            let written =
                tls.writer().write(buffer.get(..read).unwrap_or_default()).map_err(|error| connection_error(&error))?;
            (read > 0).then_some(written)
        } else {
            let most = usize::try_from(remaining.min(FILE_CHUNK)).unwrap_or(0);
            match retry_on_intr(|| sendfile(&self.socket, file, Some(&mut { offset }), most)) {
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
        moved.map(|moved| moved as u64).ok_or_else(|| Error::new(Exit::Io, "the file became shorter while it was sent"))
    }

    /// Hands on what the TLS session has ready; whether nothing is left and more can be taken.
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

    /// Sends the end: `close_notify` under TLS, then FIN. Whether it could be sent.
    pub(super) fn shutdown_write(&mut self) -> bool {
        if let Some(tls) = &mut self.tls {
            tls.send_close_notify();
            let _ = self.write_tls();
        }
        self.socket.shutdown(Shutdown::Write).is_ok()
    }

    /// Reads and throws away; the end is `None`.
    pub(super) fn discard(&mut self, buffer: &mut [u8]) -> Option<usize> {
        if !self.can_read {
            return Some(0);
        }
        match retry_on_intr(|| rustix::io::read(&self.socket, &mut *buffer)) {
            Err(Errno::AGAIN) => {
                self.can_read = false;
                Some(0)
            }
            Ok(length) if length > 0 => Some(length),
            _ => None,
        }
    }

    /// Makes the coming close an RST, which drops whatever is still queued.
    pub(super) fn reset_on_close(&self) {
        let _ = self.socket.set_linger(Some(Duration::ZERO));
    }
}

fn connection_error(error: &io::Error) -> Error {
    Error::new(Exit::TemporaryFailure, format!("the connection broke: {}", io_error_text(error)))
}

fn file_error(error: &io::Error) -> Error {
    Error::new(Exit::Io, format!("the file cannot be read: {}", io_error_text(error)))
}
