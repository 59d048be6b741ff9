//! HTTP/1.1: heads, framing, dates; the server's and the client's side. No socket.
//!
//! Owns what RFC 9110 and RFC 9112 say about octets: what a head may look like, where a body ends,
//! when a connection can be used again. It must not know files (that is `site`), sockets (`net`)
//! or wording (`commands`). httparse splits field lines; every rule it is lenient about is checked
//! here first.
//!
//! ```text
//!   octets ──▶ Server::receive ──▶ Request ──▶ (somebody decides) ──▶ Server::answer ──▶ octets
//!   octets ◀── RequestHead::write   Client::receive ◀── octets ──▶ head · data · end
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

pub(crate) use client::{RequestHead, ResponseDecoder, ResponseError, ResponsePart};
pub(crate) use date::HttpDate;
pub(crate) use fields::{is_field_value, is_token};
pub(crate) use request::{Request, RequestError};
pub(crate) use response::ResponseHead;
pub(crate) use server::{OutgoingHead, ServerCodec, ServerInput};
pub(crate) use status::Status;
