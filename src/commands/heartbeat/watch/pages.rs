//! `--http`: status page, its data, metrics and health.
//!
//! Owns the paths. The page is one file without external resources; it fetches `/status.json` every two seconds.

use std::net::SocketAddr;

use schemars::JsonSchema;
use serde::Serialize;

use super::metrics;
use super::shared_watcher::SharedWatcher;
use crate::commands::web::{DEFAULT_TIMEOUTS, error_page, other_method_response};
use crate::heartbeat::{SenderReport, SenderStatus, StateCounts};
use crate::http::{Handler, HttpTimeouts, Request, Response, ResponseBody, Status};
use crate::time::Moment;

const STATUS_PAGE: &str = include_str!("../../../../assets/pages/heartbeat.html");
/// Maximum number of senders in `/status.json`, worst state first; `?all` lists all.
const MAX_LISTED_SENDERS: usize = 1_000;
/// Allows the page its own script and style and requests to this server, nothing else.
const CONTENT_SECURITY_POLICY: &str =
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; img-src data:";

/// Handler of all paths.
#[derive(Clone)]
pub(super) struct StatusHandler(pub SharedWatcher);

impl Handler for StatusHandler {
    fn timeouts(&self) -> HttpTimeouts {
        DEFAULT_TIMEOUTS
    }

    fn error_response(&self, status: Status, reason: &str) -> Response {
        error_page(status, reason)
    }

    fn respond(&self, request: &Request<'_>, _: Option<SocketAddr>, now: Moment) -> Response {
        if let Some(decision) = other_method_response(request) {
            return decision;
        }
        let (path, query) = request.target.split_once('?').unwrap_or((request.target, ""));
        let decision = match path {
            "/" | "/index.html" => Response::html(Status::OK, STATUS_PAGE.to_owned())
                .with_field("Content-Security-Policy", CONTENT_SECURITY_POLICY),
            "/status.json" => self.status(query == "all", now),
            "/metrics" => {
                let text = metrics::render(&self.0, now);
                Response::new(Status::OK, ResponseBody::Page(text)).with_field("Content-Type", metrics::MEDIA_TYPE)
            }
            "/healthz" => self.health(),
            _ => error_page(Status::NOT_FOUND, "Available paths: /, /status.json, /metrics and /healthz."),
        };
        decision.with_field("Cache-Control", "no-store")
    }
}

/// Content of `/status.json`.
#[derive(JsonSchema, Serialize)]
struct StatusData {
    now_ms: u64,
    #[serde(flatten)]
    state_counts: StateCounts,
    local_drops: u64,
    stalls: u64,
    senders: Vec<SenderReport>,
}

impl StatusHandler {
    fn status(&self, all: bool, now: Moment) -> Response {
        let mut senders = Vec::new();
        self.0.for_each_slot_range(|watcher, slots| {
            senders.extend(slots.filter_map(|slot| Some(watcher.sender_table().get(slot)?.report(now))));
        });
        senders.sort_by(|one, other| {
            severity_rank(one).cmp(&severity_rank(other)).then_with(|| one.name.cmp(&other.name))
        });
        if !all {
            senders.truncate(MAX_LISTED_SENDERS);
        }
        let watcher = self.0.lock();
        let data = StatusData {
            now_ms: u64::try_from(now.wall().as_millis()).unwrap_or(u64::MAX),
            state_counts: watcher.state_counts(),
            local_drops: watcher.counters().local_drops,
            stalls: watcher.counters().stalls,
            senders,
        };
        drop(watcher);
        match serde_json::to_string(&data) {
            Ok(text) => Response::new(Status::OK, ResponseBody::Page(text))
                .with_field("Content-Type", "application/json; charset=utf-8"),
            Err(_) => error_page(Status::INTERNAL_SERVER_ERROR, "Cannot serialise the status."),
        }
    }

    /// Responds with 503 while a sender is down, and lists some of the names.
    fn health(&self) -> Response {
        const MAX_LISTED_NAMES: usize = 20;
        let watcher = self.0.lock();
        let down = watcher.count_in_state(SenderStatus::Down);
        let (status, text) = if down == 0 {
            (Status::OK, "ok\n".to_owned())
        } else {
            let is_down = |slot: &usize| {
                watcher.sender_table().get(*slot).is_some_and(|record| record.liveness == SenderStatus::Down)
            };
            let names = (0..watcher.sender_table().slot_bound()).filter(is_down).take(MAX_LISTED_NAMES);
            let names: Vec<&str> =
                names.filter_map(|slot| watcher.sender_table().get(slot)).map(|record| &*record.name).collect();
            (Status::SERVICE_UNAVAILABLE, format!("{down} down: {}\n", names.join(" ")))
        };
        Response::new(status, ResponseBody::Page(text)).with_field("Content-Type", "text/plain; charset=utf-8")
    }
}

/// Returns the sort key of a sender: worst state first.
fn severity_rank(sender: &SenderReport) -> u8 {
    match sender.state {
        SenderStatus::Down => 0,
        SenderStatus::Late => 1,
        SenderStatus::New => 2,
        SenderStatus::Up => 3,
        SenderStatus::Stopped => 4,
    }
}
