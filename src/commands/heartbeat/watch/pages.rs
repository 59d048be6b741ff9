//! `--http`: a status page, its data, metrics and health.
//!
//! Owns what is at which path. The page is one file without anything
//! from elsewhere; it asks for `/status.json` every two seconds.

use serde::Serialize;

use super::metrics;
use super::shared::Shared;
use crate::commands::web::{Handler, Response, ResponseBody};
use crate::heartbeat::{Heads, SenderReport, State};
use crate::http::{Request, Status};
use crate::time::Moment;

/// The status page.
const PAGE: &str = include_str!("../../../../assets/pages/heartbeat.html");
/// How many senders the page's data name, the worst first; all of them with `?all`.
const SHOWN: usize = 1_000;
/// The page may run its own script and style and ask this server, nothing else.
const POLICY: &str =
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; img-src data:";
/// What is at which path.
#[derive(Clone)]
pub struct Table(pub Shared);

impl Handler for Table {
    fn respond(&self, request: &Request<'_>, now: Moment) -> Response {
        if let Some(decision) = Response::for_other_method(request, "who is alive") {
            return decision;
        }
        let (path, query) = request.target.split_once('?').unwrap_or((request.target, ""));
        let decision = match path {
            "/" | "/index.html" => {
                Response::html(Status::OK, PAGE.to_owned()).with_field("Content-Security-Policy", POLICY)
            }
            "/status.json" => self.status(query == "all", now),
            "/metrics" => {
                let text = metrics::write(&self.0, now);
                Response::new(Status::OK, ResponseBody::Page(text)).with_field("Content-Type", metrics::MEDIA_TYPE)
            }
            "/healthz" => self.health(),
            _ => Response::error(Status::NOT_FOUND, "There is /, /status.json, /metrics and /healthz."),
        };
        decision.with_field("Cache-Control", "no-store")
    }
}

/// The data of the page.
#[derive(Serialize)]
struct Data {
    now_ms: u64,
    #[serde(flatten)]
    heads: Heads,
    local_drops: u64,
    stalls: u64,
    senders: Vec<SenderReport>,
}

impl Table {
    fn status(&self, all: bool, now: Moment) -> Response {
        let mut senders = Vec::new();
        self.0.portions(|watcher, places| {
            senders.extend(places.filter_map(|place| Some(watcher.crowd().get(place)?.report(now))));
        });
        senders.sort_by(|one, other| rank(one).cmp(&rank(other)).then_with(|| one.name.cmp(&other.name)));
        if !all {
            senders.truncate(SHOWN);
        }
        let watcher = self.0.lock();
        let data = Data {
            now_ms: u64::try_from(now.wall().as_millis()).unwrap_or(u64::MAX),
            heads: watcher.heads(),
            local_drops: watcher.tally().local_drops,
            stalls: watcher.tally().stalls,
            senders,
        };
        drop(watcher);
        match serde_json::to_string(&data) {
            Ok(text) => Response::new(Status::OK, ResponseBody::Page(text))
                .with_field("Content-Type", "application/json; charset=utf-8"),
            Err(_) => Response::error(Status::INTERNAL_SERVER_ERROR, "The figures cannot be written down."),
        }
    }

    /// 503 while anybody is down, with the names of some of them.
    fn health(&self) -> Response {
        const NAMED: usize = 20;
        let watcher = self.0.lock();
        let down = watcher.in_state(State::Down);
        let (status, text) = if down == 0 {
            (Status::OK, "ok\n".to_owned())
        } else {
            let is_down = |place: &usize| watcher.crowd().get(*place).is_some_and(|record| record.state == State::Down);
            let names = (0..watcher.crowd().places()).filter(is_down).take(NAMED);
            let names: Vec<&str> =
                names.filter_map(|place| watcher.crowd().get(place)).map(|record| &*record.name).collect();
            (Status::SERVICE_UNAVAILABLE, format!("{down} down: {}\n", names.join(" ")))
        };
        Response::new(status, ResponseBody::Page(text)).with_field("Content-Type", "text/plain; charset=utf-8")
    }
}

/// The worst first.
fn rank(sender: &SenderReport) -> u8 {
    match sender.state {
        State::Down => 0,
        State::Late => 1,
        State::New => 2,
        State::Up => 3,
        State::Stopped => 4,
    }
}
