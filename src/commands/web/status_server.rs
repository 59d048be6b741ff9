//! Small HTTP server on its own thread, for status pages and captured mail.
//!
//! Owns that thread. It is separate from the command's main work, so that page requests cannot delay it.

use std::rc::Rc;
use std::thread::Scope;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::http::{Handler, HttpTimeouts, ServerSession, SessionEvent};
use crate::net::{
    self, Accepted, Address, ConnectionTimeouts, Incoming, Listeners, Notice, ServerConfig, Service, Signals, Waker,
};
use crate::time::Moment;

/// Timeouts of the pages; they are small, so a shorter stall timeout than for files is enough.
pub(crate) const DEFAULT_TIMEOUTS: HttpTimeouts =
    HttpTimeouts { head: Duration::from_secs(10), idle: Duration::from_secs(60), stall: Duration::from_secs(10) };

/// Maximum number of connections, so that page requests leave descriptors for the main work.
const MAX_CONNECTIONS: usize = 100;

/// Formats an address as a URL.
pub(crate) fn url(scheme: &str, address: &Address) -> String {
    match address {
        Address::Inet(address) => format!("{scheme}://{address}/"),
        Address::Unix(_) => address.to_string(),
    }
}

/// Handle of the thread, which ends when the handle is dropped.
pub(crate) struct StatusServer(Waker);

impl Drop for StatusServer {
    fn drop(&mut self) {
        self.0.wake();
    }
}

impl StatusServer {
    /// Serves the pages of `handler` on a new thread until the returned handle is dropped.
    pub(crate) fn spawn<'s, H>(scope: &'s Scope<'s, '_>, listeners: Listeners, handler: H) -> Result<Self>
    where
        H: Handler + Clone + Send + Sync + 'static,
    {
        let mut signals = Signals::install()?;
        let server = Self(signals.waker()?);
        let config = ServerConfig {
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
            // An error can only occur before the first connection, and the main work goes on without the pages.
            let _ = net::serve(config, &mut signals, make, |_| ());
        };
        std::thread::Builder::new()
            .name("pages".into())
            .spawn_scoped(scope, work)
            .map_err(|error| Error::new(Exit::OsError, "cannot start the thread of the web page").with_source(error))?;
        Ok(server)
    }
}

/// Service of the thread.
struct StatusService<H>(Rc<H>);

impl<H: Handler> Service for StatusService<H> {
    type Protocol = ServerSession<H>;

    fn accepted(&mut self, Incoming { peer, .. }: Incoming, now: Moment) -> Accepted<ServerSession<H>> {
        Accepted { protocol: ServerSession::new(Rc::clone(&self.0), peer, now), tls: None, start_tls: None }
    }

    fn on_event(&mut self, _: SessionEvent) {}

    fn on_notice(&mut self, _: Notice) {}
}
