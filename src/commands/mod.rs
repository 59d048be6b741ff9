//! One room per subcommand: its flags, the story of a run, the wording of its events.
//!
//! Owns the glue that joins the rooms below: `serve_http` hands octets to `http`, paths to `site`,
//! facts to `output`. Commands do not know one another; what they share stands in
//! [`values`], [`fail_if`], [`told`] and [`web`].

mod args;
pub mod completions;
pub mod demo;
mod fail_if;
pub mod get;
pub mod heartbeat;
pub mod mail;
pub mod mail_serve;
pub mod ping;
pub mod ping_serve;
mod report;
pub mod serve_http;
mod web;
