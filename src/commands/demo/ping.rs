//! Ping pair of the demo: `ping-serve` and `ping`, with planned loss.

use super::runner::DemoRunner;
use crate::error::Result;
use crate::exit::Exit;

const PAIR: &str = "ping-serve, ping";

/// Runs the pair.
pub(super) fn run(runner: &mut DemoRunner) -> Result<()> {
    let server = runner.start_server(PAIR, &["ping-serve", "--loss", "list:2,5", "--seed", "7"])?;
    let target = server.address.clone();
    let ping = ["ping", &target, "-c", "6", "-i", "20ms", "--timeout", "100ms"];
    runner.step(&server, "six pings; the server drops 2 and 5", &ping, Exit::Success, |_, ended| {
        ended.stdout.contains("timeout 2: no reply") && ended.stdout.contains("6 sent, 4 received, 2 lost, 0 late")
    })?;
    let strict = ["ping", &target, "-c", "6", "-i", "5ms", "--timeout", "50ms", "-q", "--fail-if", "loss>10%"];
    runner.step(&server, "too much loss: exit code 1", &strict, Exit::Negative, |_, ended| {
        ended.stderr.contains("loss is 33.3 %")
    })?;
    let stamp = ["ping", &target, "-c", "20", "-i", "2ms", "--timeout", "50ms", "-q", "--wire", "stamp"];
    runner.step(&server, "STAMP separates upstream from downstream loss", &stamp, Exit::Success, |_, ended| {
        ended.stdout.contains("upstream loss 2 (10.0 %), downstream loss 0")
    })?;
    runner.stop_server(server, "SIGTERM: the summary accounts for each datagram")?;
    Ok(())
}
