//! HTTP/1.1 sessions of client and server, without sockets.
//!
//! Owns the rules of RFC 9110 and RFC 9112 for the bytes of a message and the order of a session: syntax of a head,
//! end of a body, connection persistence, dates. Must not know files (`site`), sockets (`net`) or wording
//! (`commands`). httparse splits field lines; every rule on which it is lenient is checked here first.
//!
//! ```text
//!   ServerSession:   bytes ──▶ ServerCodec::receive ──▶ Request ──▶ Handler ──▶ ServerCodec::respond ──▶ bytes
//!   ClientExchange:  RequestHead::write ──▶ bytes         bytes ──▶ ResponseDecoder ──▶ ResponseSink
//! ```

mod authority;
mod basic_auth;
mod body;
mod client;
mod client_session;
mod conditions;
mod date;
mod exchange;
pub(crate) mod explain;
mod field_lines;
mod fields;
mod forwarded;
mod handler;
mod head;
mod local_hosts;
mod negotiation;
#[cfg(test)]
mod properties;
mod range;
pub(crate) mod redact;
mod request;
mod request_error;
mod response;
mod server;
mod server_session;
mod status;

pub(crate) use basic_auth::{BASIC_CHALLENGE, BasicUsers};
pub(crate) use client::RequestHead;
pub(crate) use client_session::{ClientExchange, ExchangeTimes, ResponseSink};
pub(crate) use conditions::{Conditions, Precondition, Validators};
pub(crate) use date::HttpDate;
pub(crate) use exchange::{Exchange, LogFields, SessionEvent};
pub(crate) use field_lines::FieldLines;
pub(crate) use fields::{is_field_value, is_token};
pub(crate) use forwarded::forwarded_client;
pub(crate) use handler::{Admission, BodyJob, FilePart, Handler, HttpTimeouts, PreparedBody, Response, ResponseBody};
pub(crate) use local_hosts::LocalHosts;
pub(crate) use negotiation::{AcceptedCodings, ContentCoding, accepted_by_name};
pub(crate) use range::{RangeSelection, content_range, select_ranges, unsatisfied_range};
pub(crate) use request::Request;
pub(crate) use response::ResponseHead;
pub(crate) use server_session::{NEXT_REQUEST, ServerSession};
pub(crate) use status::Status;

/// Name of HTTP/1.1 in ALPN (RFC 7301 §6).
pub(crate) const ALPN_PROTOCOL: &str = "http/1.1";
