//! Pages beside something else: a status page, what was captured.
//!
//! Owns the thread that serves them. It has one small server of its own, so that whoever looks never
//! stops whoever works.

use std::rc::Rc;
use std::thread::Scope;
use std::time::Duration;

use super::{Handler, HttpSession, HttpTimeouts, SessionEvent};
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::net::{self, Address, Arrival, Listeners, Notice, Nudge, Patience, Plan, Service, Signals, Welcome};
use crate::time::Moment;

/// How long a client may take; nobody has a reason to be slow here.
pub const DEFAULT_TIMEOUTS: HttpTimeouts =
    HttpTimeouts { head: Duration::from_secs(10), idle: Duration::from_secs(60), stall: Duration::from_secs(10) };

/// How many may look at once. Beside the work there must be descriptors left for the work.
const MAX_CONNECTIONS: usize = 100;

/// How a client names an address.
pub fn url(scheme: &str, address: &Address) -> String {
    match address {
        Address::Inet(address) => format!("{scheme}://{address}/"),
        Address::Unix(_) => address.to_string(),
    }
}

/// Ends the thread when it goes.
pub struct StatusServer(Nudge);

impl Drop for StatusServer {
    fn drop(&mut self) {
        self.0.nudge();
    }
}

impl StatusServer {
    /// Serves `pages` on a thread of their own until the board is dropped.
    pub fn spawn<'s, H>(scope: &'s Scope<'s, '_>, listeners: Listeners, handler: H) -> Result<Self>
    where
        H: Handler + Clone + Send + Sync + 'static,
    {
        let mut signals = Signals::listen()?;
        let board = Self(signals.nudger()?);
        let plan = Plan {
            doors: vec![listeners],
            threads: 1,
            helpers: 0,
            most: MAX_CONNECTIONS,
            patience: Patience { handshake: DEFAULT_TIMEOUTS.head, stall: DEFAULT_TIMEOUTS.stall },
            grace: Duration::from_millis(200),
            until: None,
        };
        let work = move || {
            let make = || StatusService(Rc::new(handler.clone()));
            // What fails here has failed before anybody was served; the work beside it goes on.
            let _ = net::serve(plan, &mut signals, make, |_| ());
        };
        std::thread::Builder::new().name("pages".into()).spawn_scoped(scope, work).map_err(|error| {
            Error::new(Exit::OsError, "cannot start the thread that serves the pages").with_source(error)
        })?;
        Ok(board)
    }
}

/// The service of the thread.
struct StatusService<H>(Rc<H>);

impl<H: Handler> Service for StatusService<H> {
    type Talk = HttpSession<H>;

    fn accepted(&mut self, Arrival { peer, .. }: Arrival, now: Moment) -> Welcome<HttpSession<H>> {
        Welcome { talk: HttpSession::new(Rc::clone(&self.0), peer, now), tls: None, upgrade: None }
    }

    fn fact(&mut self, _: SessionEvent) {}

    fn notice(&mut self, _: Notice) {}
}
