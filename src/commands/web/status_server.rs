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
use crate::net::{
    self, Accepted, Address, ConnectionTimeouts, Incoming, Listeners, Notice, ServerConfig, Service, Signals, Waker,
};
use crate::time::Moment;

/// How long a client may take; nobody has a reason to be slow here.
pub(super) const DEFAULT_TIMEOUTS: HttpTimeouts =
    HttpTimeouts { head: Duration::from_secs(10), idle: Duration::from_secs(60), stall: Duration::from_secs(10) };

/// How many may look at once. Beside the work there must be descriptors left for the work.
const MAX_CONNECTIONS: usize = 100;

/// How a client names an address.
pub(crate) fn url(scheme: &str, address: &Address) -> String {
    match address {
        Address::Inet(address) => format!("{scheme}://{address}/"),
        Address::Unix(_) => address.to_string(),
    }
}

/// Ends the thread when it goes.
pub(crate) struct StatusServer(Waker);

impl Drop for StatusServer {
    fn drop(&mut self) {
        self.0.wake();
    }
}

impl StatusServer {
    /// Serves `pages` on a thread of their own until the board is dropped.
    pub(crate) fn spawn<'s, H>(scope: &'s Scope<'s, '_>, listeners: Listeners, handler: H) -> Result<Self>
    where
        H: Handler + Clone + Send + Sync + 'static,
    {
        let mut signals = Signals::install()?;
        let board = Self(signals.waker()?);
        let plan = ServerConfig {
            listener_groups: vec![listeners],
            threads: 1,
            pool_threads: 0,
            max_connections: MAX_CONNECTIONS,
            timeouts: ConnectionTimeouts { handshake: DEFAULT_TIMEOUTS.head, stall: DEFAULT_TIMEOUTS.stall },
            drain_timeout: Duration::from_millis(200),
            deadline: None,
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
    type Protocol = HttpSession<H>;

    fn accepted(&mut self, Incoming { peer, .. }: Incoming, now: Moment) -> Accepted<HttpSession<H>> {
        Accepted { protocol: HttpSession::new(Rc::clone(&self.0), peer, now), tls: None, start_tls: None }
    }

    fn on_event(&mut self, _: SessionEvent) {}

    fn on_notice(&mut self, _: Notice) {}
}
