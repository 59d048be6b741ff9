//! Tests of `serve-http` and `get` against raw sockets, scripted peers and each other.

#[path = "../support/mod.rs"]
mod support;

mod get;
mod hostile;
mod lifecycle;
mod logs;
mod negotiation;
mod serve;
mod tls;
