//! One room per subcommand: its flags, the story of a run, the wording of its events.
//!
//! Owns the glue that joins the rooms below: `serve_http` hands octets to `http`, paths to `site`,
//! facts to `output`. Commands do not know one another; what they share stands in
//! [`values`], [`fail_if`], [`told`] and [`web`].

mod args;
pub(crate) mod completions;
pub(crate) mod demo;
mod fail_if;
pub(crate) mod get;
pub(crate) mod heartbeat;
pub(crate) mod mail;
pub(crate) mod mail_serve;
pub(crate) mod ping;
pub(crate) mod ping_serve;
mod report;
pub(crate) mod serve_http;
mod web;
