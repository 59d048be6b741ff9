//! Subcommands, one module each: its flags, its run, the wording of its events.
//!
//! Owns the code that joins the layers below: `serve_http` passes bytes to `http`, paths to `site` and events to
//! `output`. Subcommands do not import one another; what they share is in the private modules here, such as [`args`]
//! and [`report`].

mod args;
mod auth_file;
pub(crate) mod completions;
pub(crate) mod demo;
mod dialogue_trace;
mod fail_if;
mod failure;
pub(crate) mod get;
mod header_field;
pub(crate) mod heartbeat;
mod listen_args;
pub(crate) mod mail;
pub(crate) mod mail_serve;
mod peer;
pub(crate) mod ping;
pub(crate) mod ping_serve;
mod plot_data;
mod report;
mod schema;
pub(crate) mod serve_http;
mod server_tls;
mod web;

/// JSON schema of the events of all subcommands.
pub(crate) fn event_schema() -> serde_json::Value {
    schema::EventSchemas::collect(&[
        serve_http::list_events,
        get::list_events,
        ping_serve::list_events,
        ping::list_events,
        heartbeat::list_events,
        mail::list_events,
        mail_serve::list_events,
        demo::list_events,
    ])
}
