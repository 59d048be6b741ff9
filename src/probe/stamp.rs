//! STAMP packets: RFC 8762 with the session identifier of RFC 8972 §3.
//!
//! Owns the layouts of both modes and both directions, and the HMAC that protects one of them.
//! It must not know sessions or clocks. All numbers are big-endian; a line is 16 octets.
//!
//! ```text
//!   unauthenticated, 44 octets
//!   sender      seq 4     │ timestamp 8               │ error 2 │ ssid 2
//!               zero 28
//!   reflector   seq 4     │ timestamp 8               │ error 2 │ ssid 2
//!               received 8              │ its seq 4   │ its timestamp 4…
//!               …4 │ its error 2 │ 0 2  │ its ttl 1   │ 0 3
//!
//!   authenticated, 112 octets
//!   sender      seq 4     │ zero 12
//!               timestamp 8             │ error 2     │ ssid 2 │ zero 68 …
//!               HMAC 16
//!   reflector   seq 4     │ zero 12
//!               timestamp 8             │ error 2     │ ssid 2 │ zero 4
//!               received 8              │ zero 8
//!               its seq 4 │ zero 12
//!               its timestamp 8         │ its error 2 │ zero 6
//!               its ttl 1 │ zero 15
//!               HMAC 16
//! ```
//!
//! The HMAC is HMAC-SHA-256 cut to 128 bits over the 96 octets before it (RFC 8762 §4.4). Octets
//! beyond the base packet are padding or TLVs; a reflector sends them back as they came, so that
//! both ways carry equal lengths.

use std::ops::Range;

use super::ntp::ErrorEstimate;
use crate::mac::MacKey;

/// The length of an unauthenticated packet.
pub(super) const UNAUTHENTICATED_SIZE: usize = 44;

/// The length of an authenticated packet.
pub(super) const AUTHENTICATED_SIZE: usize = 112;

/// What the HMAC covers, and where it starts.
const HMAC_OFFSET: usize = 96;

/// What a session's sender says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Probe {
    /// Its sequence number, starting with 0.
    pub seq: u32,
    /// When it sent this, in the format that its error estimate names.
    pub timestamp: u64,
    /// How sure it is of that.
    pub estimate: ErrorEstimate,
    /// Which of its sessions this belongs to.
    pub ssid: u16,
}

/// What a session's reflector answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reflection {
    /// Its own sequence number in this session.
    pub seq: u32,
    /// When it sent this (T3).
    pub timestamp: u64,
    /// How sure it is of its clock.
    pub estimate: ErrorEstimate,
    /// When the probe came (T2).
    pub received: u64,
    /// The TTL the probe came with; 255 if it could not be seen (RFC 8762 §4.3).
    pub ttl: u8,
    /// The probe, as it came.
    pub probe: Probe,
}

/// Why a packet is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StampError {
    /// Shorter than its mode's packet.
    TooShort,
    /// Not protected by our key, or protected although we have none.
    Unauthentic,
}

/// Where the fields of a mode are.
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

impl Probe {
    /// Appends the packet, padded with zeros to `size` octets.
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

    /// Reads a sender's packet.
    pub(crate) fn read(packet: &[u8], key: Option<&MacKey>) -> Result<Self, StampError> {
        let layout = layout(key);
        let probe = Self::fields(packet, layout).ok_or(StampError::TooShort)?;
        verify_hmac(packet, key)?;
        Ok(probe)
    }

    /// Whether a packet may be a reflector's where a sender's belongs. A sender has zeros there
    /// (RFC 8762 §4.2), but a receiver must ignore them; so this is no reason to refuse a packet,
    /// only one to suspect a loop.
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
    /// Writes the answer over its request, which is a packet that [`Probe::read`] took; what lies
    /// beyond the base packet stays.
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

    /// Reads a reflector's packet.
    pub(crate) fn read(packet: &[u8], key: Option<&MacKey>) -> Result<Self, StampError> {
        let reflection = Self::fields(packet, layout(key)).ok_or(StampError::TooShort)?;
        verify_hmac(packet, key)?;
        Ok(reflection)
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

/// An open packet has its error estimate, never zero, where a sealed one has zeros.
fn looks_authenticated(packet: &[u8]) -> bool {
    const ZERO_FIELD: Range<usize> = 4..16;
    packet.len() >= AUTHENTICATED_SIZE && packet.get(ZERO_FIELD).is_some_and(|gap| gap.iter().all(|octet| *octet == 0))
}

fn take<const N: usize>(packet: &[u8], at: usize) -> Option<[u8; N]> {
    packet.get(at..)?.first_chunk().copied()
}

fn put<const N: usize>(packet: &mut [u8], at: usize, field: [u8; N]) {
    if let Some(place) = packet.get_mut(at..).and_then(<[u8]>::first_chunk_mut) {
        *place = field;
    }
}

#[cfg(test)]
mod tests;
