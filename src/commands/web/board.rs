//! Pages beside something else: a status page, what was captured.
//!
//! Owns the thread that serves them. It has one small server of its own, so that whoever looks never
//! stops whoever works.

use std::rc::Rc;
use std::thread::Scope;
use std::time::Duration;

use super::{Fact, Limits, Pages, Session};
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::net::{self, Address, Arrival, Listeners, Notice, Nudge, Patience, Plan, Service, Signals, Welcome};
use crate::time::Moment;

/// How long a client may take; nobody has a reason to be slow here.
pub const LIMITS: Limits =
    Limits { head: Duration::from_secs(10), idle: Duration::from_secs(60), stall: Duration::from_secs(10) };

/// How many may look at once. Beside the work there must be descriptors left for the work.
const MOST: usize = 100;

/// How a client names an address.
pub fn url(scheme: &str, address: &Address) -> String {
    match address {
        Address::Inet(address) => format!("{scheme}://{address}/"),
        Address::Unix(_) => address.to_string(),
    }
}

/// Ends the thread when it goes.
pub struct Board(Nudge);

impl Drop for Board {
    fn drop(&mut self) {
        self.0.nudge();
    }
}

impl Board {
    /// Serves `pages` on a thread of their own until the board is dropped.
    pub fn serve<'s, P>(scope: &'s Scope<'s, '_>, listeners: Listeners, pages: P) -> Result<Self>
    where
        P: Pages + Clone + Send + Sync + 'static,
    {
        let mut signals = Signals::listen()?;
        let board = Self(signals.nudger()?);
        let plan = Plan {
            doors: vec![listeners],
            threads: 1,
            helpers: 0,
            most: MOST,
            patience: Patience { handshake: LIMITS.head, stall: LIMITS.stall },
            grace: Duration::from_millis(200),
            until: None,
        };
        let work = move || {
            let make = || Desk(Rc::new(pages.clone()));
            // What fails here has failed before anybody was served; the work beside it goes on.
            let _ = net::serve(plan, &mut signals, make, |_| ());
        };
        std::thread::Builder::new().name("pages".into()).spawn_scoped(scope, work).map_err(|error| {
            Error::new(Exit::System, "cannot start the thread that serves the pages").because(error)
        })?;
        Ok(board)
    }
}

/// The service of the thread.
struct Desk<P>(Rc<P>);

impl<P: Pages> Service for Desk<P> {
    type Talk = Session<P>;

    fn accepted(&mut self, Arrival { peer, .. }: Arrival, now: Moment) -> Welcome<Session<P>> {
        Welcome { talk: Session::new(Rc::clone(&self.0), peer, now), tls: None, upgrade: None }
    }

    fn fact(&mut self, _: Fact) {}

    fn notice(&mut self, _: Notice) {}
}
