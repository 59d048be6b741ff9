//! Interoperation tests: the binary against foreign programs.
//!
//! A test whose peer is not installed is skipped, shown as ignored and counted; with `NETLAB_REQUIRE_PEERS=1` a
//! missing peer is a failure.

#[path = "../support/mod.rs"]
mod support;

mod completions;
mod confined;
mod heartbeat;
mod mail;
mod ping;
mod scripts;
mod submission;
mod web;

use libtest_mimic::{Arguments, Failed, Trial};

/// Creates a test that needs these programs.
pub(crate) fn with(name: &str, programs: &[&'static str], test: fn()) -> Trial {
    let missing: Vec<&str> = programs.iter().copied().filter(|program| !is_there(program)).collect();
    let kind = programs.join("+");
    if missing.is_empty() {
        let run = move || {
            test();
            Ok(())
        };
        return Trial::test(name, run).with_kind(kind);
    }
    let missing = missing.join(", ");
    if std::env::var_os("NETLAB_REQUIRE_PEERS").is_some_and(|value| value == "1") {
        return Trial::test(name, move || Err(Failed::from(format!("{missing} is not installed")))).with_kind(kind);
    }
    Trial::test(name, || Ok(())).with_kind(format!("{missing} is not installed")).with_ignored_flag(true)
}

fn is_there(program: &str) -> bool {
    if program == "netlab-scapy-python" {
        // Scapy is in a virtual environment; NETLAB_SCAPY_PYTHON is the path of its Python.
        return std::env::var_os("NETLAB_SCAPY_PYTHON").is_some();
    }
    if program == "root" {
        // Some servers must be started as root before they drop privileges.
        return rustix::process::geteuid().is_root();
    }
    std::env::var_os("PATH").is_some_and(|path| {
        std::env::split_paths(&path).chain(["/usr/sbin".into()]).any(|directory| directory.join(program).exists())
    })
}

fn main() {
    let arguments = Arguments::from_args();
    let pairs = [
        completions::trials(),
        confined::trials(),
        web::trials(),
        ping::trials(),
        heartbeat::trials(),
        mail::trials(),
        submission::trials(),
        scripts::trials(),
    ];
    let trials = pairs.into_iter().flatten().collect();
    libtest_mimic::run(&arguments, trials).exit();
}
