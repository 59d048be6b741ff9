//! HTTP/1.1 message syntax, framing and dates, for client and server, without sockets.
//!
//! Owns the rules of RFC 9110 and RFC 9112 for the bytes of a message: syntax of a head, end of a body,
//! connection persistence. Must not know files (`site`), sockets (`net`) or wording (`commands`). httparse splits
//! field lines; every rule on which it is lenient is checked here first.
//!
//! ```text
//!   server:  bytes ──▶ ServerCodec::receive ──▶ Request ──▶ (command) ──▶ ServerCodec::respond ──▶ bytes
//!   client:  RequestHead::write ──▶ bytes         bytes ──▶ ResponseDecoder::receive ──▶ head · data · end
//! ```

mod authority;
mod body;
mod client;
mod date;
mod fields;
mod head;
mod request;
mod response;
mod server;
mod status;
mod violation;

pub(crate) use client::{RequestHead, ResponseDecoder, ResponseError, ResponsePart};
pub(crate) use date::HttpDate;
pub(crate) use fields::{is_field_value, is_token};
pub(crate) use request::{Request, RequestError};
pub(crate) use response::ResponseHead;
pub(crate) use server::{OutgoingHead, ServerCodec, ServerInput};
pub(crate) use status::Status;
