//! `netlab heartbeat`: the subcommands `send` and `watch`. The protocol is in `crate::heartbeat`.

mod send;
mod watch;

use clap::{Args, Subcommand};

use super::schema::EventSchemas;
use crate::error::Result;
use crate::exit::Exit;
use crate::output::Output;

/// Lists the events for the JSON schema.
pub(super) fn list_events(schemas: &mut EventSchemas) {
    send::list_events(schemas);
    watch::list_events(schemas);
}

const DEFAULT_PORT: u16 = 12_001;

/// Send heartbeats or monitor senders.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  netlab heartbeat watch --expect web-1 --http 8080
  netlab heartbeat send 127.0.0.1 --name web-1")]
pub(crate) struct Heartbeat {
    #[command(subcommand)]
    command: HeartbeatCommand,
}

#[derive(Debug, Subcommand)]
enum HeartbeatCommand {
    Send(Box<send::HeartbeatSend>),
    Watch(Box<watch::HeartbeatWatch>),
}

impl Heartbeat {
    pub(crate) fn run(&self, output: Output) -> Result<Exit> {
        match &self.command {
            HeartbeatCommand::Send(send) => send.run(output),
            HeartbeatCommand::Watch(watch) => watch.run(output),
        }
    }
}
