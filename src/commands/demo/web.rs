//! Web pair of the demo: `serve-http` and `get` on the demo site.

use super::runner::DemoRunner;
use crate::error::Result;
use crate::exit::Exit;

/// Files of the demo site in `assets/site`.
const SITE: [(&str, &[u8]); 4] = [
    ("site/HelloWorld.html", include_bytes!("../../../assets/site/HelloWorld.html")),
    ("site/how.html", include_bytes!("../../../assets/site/how.html")),
    ("site/style.css", include_bytes!("../../../assets/site/style.css")),
    ("site/exchange.png", include_bytes!("../../../assets/site/exchange.png")),
];
const PAIR: &str = "serve-http, get";

/// Runs the pair.
pub(super) fn run(runner: &mut DemoRunner) -> Result<()> {
    for (name, content) in SITE {
        runner.write_file(name, content)?;
    }
    let server = runner.start_server(PAIR, &["serve-http", "site", "--threads"])?;
    let url = server.address.clone();
    let page = format!("{url}HelloWorld.html");
    runner.step(
        &server,
        "a page, and the dialogue line by line",
        &["get", "--trace", "-o", "page.html", &page],
        Exit::Success,
        |runner, _| runner.read_file("page.html") == SITE[0].1,
    )?;
    runner.step(
        &server,
        "an image saved to a file, atomically",
        &["get", "-O", &format!("{url}exchange.png")],
        Exit::Success,
        |runner, _| runner.read_file("exchange.png") == SITE[3].1,
    )?;
    runner.step(
        &server,
        "404 Not Found: a complete response, exit code 1",
        &["get", "-I", &format!("{url}no-such-page.html")],
        Exit::Negative,
        |_, ended| ended.stdout.starts_with("HTTP/1.1 404 Not Found"),
    )?;
    let probe = ["get", "--count", "5", "--interval", "20ms", &format!("{url}style.css")];
    runner.step(&server, "five fetches, timed phase by phase", &probe, Exit::Success, |_, ended| {
        ended.stdout.contains("5 requests: 5 successful")
    })?;
    runner.stop_server(server, "SIGTERM: responses finish, then the summary")
}
