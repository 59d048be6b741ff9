//! The web pair: the binary against raw sockets, scripted peers and itself.

#[path = "../support/mod.rs"]
mod support;

mod get;
mod hostile;
mod lifecycle;
mod logs;
mod serve;
mod tls;
