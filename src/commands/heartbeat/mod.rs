//! `netlab heartbeat`: a sender of signs of life, and the watcher who notices when they stop.
//!
//! Owns the choice between the two. The rules are in `heartbeat`.

mod send;
mod watch;

use clap::{Args, Subcommand};

use crate::error::Result;
use crate::exit::Exit;
use crate::output::Style;

/// The default port.
const DEFAULT_PORT: u16 = 12_001;

/// Say that you live, or watch who does.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  netlab heartbeat watch --expect web-1 --http 8080
  netlab heartbeat send 127.0.0.1 --name web-1")]
pub(crate) struct Heartbeat {
    #[command(subcommand)]
    end: HeartbeatCommand,
}

#[derive(Debug, Subcommand)]
enum HeartbeatCommand {
    Send(Box<send::HeartbeatSend>),
    Watch(Box<watch::HeartbeatWatch>),
}

impl Heartbeat {
    /// Sends or watches.
    pub(crate) fn run(&self, style: Style) -> Result<Exit> {
        match &self.end {
            HeartbeatCommand::Send(send) => send.run(style),
            HeartbeatCommand::Watch(watch) => watch.run(style),
        }
    }
}
