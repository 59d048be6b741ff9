//! Flags of the servers: where to listen, the ready file, when to stop, how many threads.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Arg, Args};

use super::args::{positive_duration, threads};
use crate::disk::ReadyFile;
use crate::error::Result;
use crate::net::{self, BindAddress, Listeners, Signals};
use crate::stop::StopConditions;

/// Flags of every server: where to listen, the ready file, when to stop.
#[derive(Debug, Args)]
pub(super) struct ListenArgs {
    /// Listen on ADDR; repeatable
    #[arg(long, value_name = "ADDR")]
    pub bind: Vec<BindAddress>,

    /// Write the addresses to FILE once listening
    ///
    /// One address per line, the main one first, with the real port. FILE appears atomically; a file of an earlier run is
    /// removed first, and FILE at the end of the run.
    #[arg(long, value_name = "FILE")]
    pub ready_file: Option<PathBuf>,

    /// Stop after this time
    #[arg(long = "for", value_name = "DURATION", value_parser = positive_duration)]
    pub lifetime: Option<Duration>,
}

/// Completes the help of `--bind` with the default port; `streams` servers also take Unix sockets.
pub(super) fn bind_help(bind: Arg, default_port: u16, streams: bool) -> Arg {
    let unix = if streams { " unix:PATH listens on a Unix socket." } else { "" };
    bind.help(format!("Listen on ADDR; repeatable [default: {default_port}]")).long_help(format!(
        "Listen on ADDR; repeatable [default: {default_port}]\n\nPORT listens on both loopback addresses, HOST:PORT on \
         one address, *:PORT on all addresses (reachable from other hosts). Port 0 picks a free port.{unix}"
    ))
}

/// Host names among the addresses of a server.
pub(super) fn bound_names(binds: &[BindAddress]) -> impl Iterator<Item = String> {
    binds.iter().filter_map(|bind| if let BindAddress::Host(name, _) = bind { Some(name.clone()) } else { None })
}

/// Ready file, if one was asked for; removed when dropped.
pub(super) struct ReadyFileGuard {
    file: Option<ReadyFile>,
}

impl ReadyFileGuard {
    /// Writes the addresses, and reports to a service manager that the server listens.
    pub(super) fn write(&mut self, addresses: impl Iterator<Item = String>, stop: &StopConditions) -> Result<()> {
        let lines = addresses.fold(String::new(), |lines, address| lines + &address + "\n");
        if let Some(file) = &mut self.file {
            file.write(lines.as_bytes(), stop)?;
        }
        net::notify_ready();
        Ok(())
    }
}

/// Flags of a server with several threads.
#[derive(Debug, Args)]
pub(super) struct ServerArgs {
    #[command(flatten)]
    pub listen: ListenArgs,

    /// Worker threads; --threads alone: one per core
    #[arg(long, value_name = "N", num_args = 0..=1, require_equals = true, default_missing_value = "", default_value = "1", value_parser = threads, hide_default_value = true)]
    pub threads: usize,
}

impl ListenArgs {
    /// Addresses to listen on; by default both loopback addresses on the textbook's port.
    pub(super) fn binds(&self, default_port: u16) -> Vec<BindAddress> {
        if self.bind.is_empty() { vec![BindAddress::Loopback(default_port)] } else { self.bind.clone() }
    }

    /// Binds the listeners of a stream server. Without `--bind`, those that a service manager passed come first.
    pub(super) fn listeners(&self, default_port: u16, threads: usize) -> Result<Listeners> {
        if self.bind.is_empty()
            && let Some(passed) = Listeners::passed(threads)?
        {
            return Ok(passed);
        }
        Ok(Listeners::bind(&self.binds(default_port), threads)?)
    }

    /// Conditions that end the start of a server, before signals are handled.
    pub(super) fn start_conditions(&self) -> StopConditions {
        StopConditions::at_deadline(self.lifetime.map(|lifetime| net::now() + lifetime), net::now)
    }

    /// Conditions that end the run of a server.
    pub(super) fn stop_conditions(&self, signals: &Signals) -> StopConditions {
        signals.stop_conditions(self.lifetime.map(|lifetime| net::now() + lifetime))
    }

    /// Removes the ready file of an earlier run; called before anything that may fail.
    pub(super) fn prepare_ready_file(&self) -> Result<ReadyFileGuard> {
        let file = self.ready_file.as_deref().map(ReadyFile::prepare).transpose()?;
        Ok(ReadyFileGuard { file })
    }
}
