//! STAMP packets: RFC 8762 with the session identifier of RFC 8972 §3.
//!
//! Owns the packet layouts of both modes and both directions, and the HMAC of the authenticated mode.
//! Does not know sessions or clocks. All numbers are big-endian; a row is 16 octets.
//!
//! ```text
//!   unauthenticated, 44 octets
//!   sender      seq 4     │ timestamp 8               │ error 2 │ ssid 2
//!               zero 28
//!   reflector   seq 4     │ timestamp 8               │ error 2 │ ssid 2
//!               received 8              │ sender seq 4 │ sender timestamp 4…
//!               …4 │ sender error 2 │ 0 2 │ sender ttl 1 │ 0 3
//!
//!   authenticated, 112 octets
//!   sender      seq 4     │ zero 12
//!               timestamp 8             │ error 2     │ ssid 2 │ zero 68 …
//!               HMAC 16
//!   reflector   seq 4     │ zero 12
//!               timestamp 8             │ error 2     │ ssid 2 │ zero 4
//!               received 8              │ zero 8
//!               sender seq 4 │ zero 12
//!               sender timestamp 8      │ sender error 2 │ zero 6
//!               sender ttl 1 │ zero 15
//!               HMAC 16
//! ```
//!
//! The HMAC is HMAC-SHA-256 truncated to 128 bits over the 96 octets before it (RFC 8762 §4.4). Octets
//! beyond the base packet are padding or TLVs; a reflector returns them unchanged, so that packets have the
//! same length in both directions.

use std::ops::Range;

use super::ntp::ErrorEstimate;
use crate::mac::MacKey;

pub(super) const UNAUTHENTICATED_SIZE: usize = 44;

pub(super) const AUTHENTICATED_SIZE: usize = 112;

/// Offset of the HMAC, which covers all bytes before it.
const HMAC_OFFSET: usize = 96;

/// Session-Sender packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Probe {
    /// Sequence number, from 0.
    pub seq: u32,
    /// Time of transmission (T1), in the format given by the error estimate.
    pub timestamp: u64,
    pub estimate: ErrorEstimate,
    /// Session identifier.
    pub ssid: u16,
}

/// Session-Reflector packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reflection {
    /// Reflector's own sequence number in this session.
    pub seq: u32,
    /// Time of transmission (T3).
    pub timestamp: u64,
    pub estimate: ErrorEstimate,
    /// Time of arrival of the probe (T2).
    pub received: u64,
    /// TTL of the probe on arrival; 255 if unknown (RFC 8762 §4.3).
    pub ttl: u8,
    pub probe: Probe,
}

/// Reason for rejecting a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StampError {
    /// Shorter than the base packet of the mode.
    TooShort,
    /// Wrong or missing HMAC, or an authenticated packet although no key is configured.
    Unauthentic,
}

/// Offsets of the fields in one mode.
struct Layout {
    size: usize,
    timestamp: usize,
    estimate: usize,
    ssid: usize,
    received: usize,
    sender_seq: usize,
    sender_timestamp: usize,
    sender_estimate: usize,
    ttl: usize,
}

const UNAUTHENTICATED: Layout = Layout {
    size: UNAUTHENTICATED_SIZE,
    timestamp: 4,
    estimate: 12,
    ssid: 14,
    received: 16,
    sender_seq: 24,
    sender_timestamp: 28,
    sender_estimate: 36,
    ttl: 40,
};

const AUTHENTICATED: Layout = Layout {
    size: AUTHENTICATED_SIZE,
    timestamp: 16,
    estimate: 24,
    ssid: 26,
    received: 32,
    sender_seq: 48,
    sender_timestamp: 64,
    sender_estimate: 72,
    ttl: 80,
};

fn layout(key: Option<&MacKey>) -> &'static Layout {
    if key.is_some() { &AUTHENTICATED } else { &UNAUTHENTICATED }
}

fn layout_of(packet: &[u8]) -> &'static Layout {
    if looks_authenticated(packet) { &AUTHENTICATED } else { &UNAUTHENTICATED }
}

impl Probe {
    /// Appends the packet, padded with zeros to at least `size` bytes (a smaller `size` has no effect).
    pub(crate) fn write(&self, key: Option<&MacKey>, size: usize, out: &mut Vec<u8>) {
        let layout = layout(key);
        let start = out.len();
        out.resize(start + size.max(layout.size), 0);
        let Some(packet) = out.get_mut(start..) else {
            return;
        };
        put(packet, 0, self.seq.to_be_bytes());
        put(packet, layout.timestamp, self.timestamp.to_be_bytes());
        put(packet, layout.estimate, self.estimate.bits().to_be_bytes());
        put(packet, layout.ssid, self.ssid.to_be_bytes());
        write_hmac(packet, key);
    }

    /// Parses and verifies a sender's packet.
    pub(crate) fn read(packet: &[u8], key: Option<&MacKey>) -> Result<Self, StampError> {
        let layout = layout(key);
        let probe = Self::fields(packet, layout).ok_or(StampError::TooShort)?;
        verify_hmac(packet, key)?;
        Ok(probe)
    }

    /// Parses a packet of either mode without verifying its HMAC, for the trace.
    pub(super) fn read_unverified(packet: &[u8]) -> Option<Self> {
        Self::fields(packet, layout_of(packet))
    }

    /// Returns whether a packet received by the server may be a reflector's: its receive-timestamp field is not zero.
    /// A sender writes zeros in that field (RFC 8762 §4.2), but a receiver must ignore it; so this is not a reason to
    /// reject a packet, only to suspect a loop.
    pub(crate) fn may_be_reflected(packet: &[u8], key: Option<&MacKey>) -> bool {
        take::<8>(packet, layout(key).received).is_some_and(|received| received != [0; 8])
    }

    fn fields(packet: &[u8], layout: &Layout) -> Option<Self> {
        let packet = packet.get(..layout.size)?;
        Some(Self {
            seq: u32::from_be_bytes(take(packet, 0)?),
            timestamp: u64::from_be_bytes(take(packet, layout.timestamp)?),
            estimate: ErrorEstimate::from_bits(u16::from_be_bytes(take(packet, layout.estimate)?)),
            ssid: u16::from_be_bytes(take(packet, layout.ssid)?),
        })
    }
}

impl Reflection {
    /// Overwrites the request, a packet accepted by [`Probe::read`], with the reply. Bytes beyond the base
    /// packet stay unchanged.
    pub(crate) fn write_over(&self, packet: &mut [u8], key: Option<&MacKey>) {
        let layout = layout(key);
        if let Some(base) = packet.get_mut(..layout.size) {
            base.fill(0);
        }
        put(packet, 0, self.seq.to_be_bytes());
        put(packet, layout.timestamp, self.timestamp.to_be_bytes());
        put(packet, layout.estimate, self.estimate.bits().to_be_bytes());
        put(packet, layout.ssid, self.probe.ssid.to_be_bytes());
        put(packet, layout.received, self.received.to_be_bytes());
        put(packet, layout.sender_seq, self.probe.seq.to_be_bytes());
        put(packet, layout.sender_timestamp, self.probe.timestamp.to_be_bytes());
        put(packet, layout.sender_estimate, self.probe.estimate.bits().to_be_bytes());
        put(packet, layout.ttl, [self.ttl]);
        write_hmac(packet, key);
    }

    /// Parses and verifies a reflector's packet.
    pub(crate) fn read(packet: &[u8], key: Option<&MacKey>) -> Result<Self, StampError> {
        let reflection = Self::fields(packet, layout(key)).ok_or(StampError::TooShort)?;
        verify_hmac(packet, key)?;
        Ok(reflection)
    }

    /// Parses a packet of either mode without verifying its HMAC, for the trace.
    pub(super) fn read_unverified(packet: &[u8]) -> Option<Self> {
        Self::fields(packet, layout_of(packet))
    }

    fn fields(packet: &[u8], layout: &Layout) -> Option<Self> {
        let own = Probe::fields(packet, layout)?;
        let [ttl] = take(packet, layout.ttl)?;
        let estimate = u16::from_be_bytes(take(packet, layout.sender_estimate)?);
        Some(Self {
            seq: own.seq,
            timestamp: own.timestamp,
            estimate: own.estimate,
            received: u64::from_be_bytes(take(packet, layout.received)?),
            ttl,
            probe: Probe {
                seq: u32::from_be_bytes(take(packet, layout.sender_seq)?),
                timestamp: u64::from_be_bytes(take(packet, layout.sender_timestamp)?),
                estimate: ErrorEstimate::from_bits(estimate),
                ssid: own.ssid,
            },
        })
    }
}

fn write_hmac(packet: &mut [u8], key: Option<&MacKey>) {
    let Some((key, (covered, rest))) = key.zip(packet.split_at_mut_checked(HMAC_OFFSET)) else {
        return;
    };
    put(rest, 0, key.sign(covered));
}

fn verify_hmac(packet: &[u8], key: Option<&MacKey>) -> Result<(), StampError> {
    let authentic = match (key, packet.split_at_checked(HMAC_OFFSET)) {
        (None, _) => !looks_authenticated(packet),
        (Some(key), Some((covered, rest))) => take(rest, 0).is_some_and(|tag| key.verify(covered, &tag)),
        (Some(_), None) => false,
    };
    authentic.then_some(()).ok_or(StampError::Unauthentic)
}

/// Returns whether a packet has zeros where an unauthenticated one has its timestamp, error estimate (never 0) and
/// SSID.
fn looks_authenticated(packet: &[u8]) -> bool {
    const ZERO_FIELD: Range<usize> = 4..16;
    packet.len() >= AUTHENTICATED_SIZE && packet.get(ZERO_FIELD).is_some_and(|part| part.iter().all(|byte| *byte == 0))
}

fn take<const N: usize>(packet: &[u8], at: usize) -> Option<[u8; N]> {
    packet.get(at..)?.first_chunk().copied()
}

fn put<const N: usize>(packet: &mut [u8], at: usize, field: [u8; N]) {
    if let Some(target) = packet.get_mut(at..).and_then(<[u8]>::first_chunk_mut) {
        *target = field;
    }
}

#[cfg(test)]
mod tests;
