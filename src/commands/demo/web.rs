//! The web pair: `serve-http` and `get` on the demo site.

use super::stage::Stage;
use crate::error::Result;
use crate::exit::Exit;

/// The demo site, as it lies in `assets/site`.
const SITE: [(&str, &[u8]); 4] = [
    ("site/HelloWorld.html", include_bytes!("../../../assets/site/HelloWorld.html")),
    ("site/how.html", include_bytes!("../../../assets/site/how.html")),
    ("site/style.css", include_bytes!("../../../assets/site/style.css")),
    ("site/exchange.png", include_bytes!("../../../assets/site/exchange.png")),
];
const PAIR: &str = "serve-http, get";

/// Plays the pair.
pub fn play(stage: &mut Stage) -> Result<()> {
    for (name, content) in SITE {
        stage.file(name, content)?;
    }
    let server = stage.serve(PAIR, &["serve-http", "site", "--threads"])?;
    let url = server.address.clone();
    let page = format!("{url}HelloWorld.html");
    stage.step(
        &server,
        "a page, and every line that was said",
        &["get", "--trace", "-o", "page.html", &page],
        Exit::Done,
        |stage, _| stage.content("page.html") == SITE[0].1,
    )?;
    stage.step(
        &server,
        "an image into a file, whole or not at all",
        &["get", "-O", &format!("{url}exchange.png")],
        Exit::Done,
        |stage, _| stage.content("exchange.png") == SITE[3].1,
    )?;
    stage.step(
        &server,
        "404 Not Found is an answer, and exit code 1",
        &["get", "-I", &format!("{url}no-such-page.html")],
        Exit::No,
        |_, ended| ended.stdout.starts_with("HTTP/1.1 404 Not Found"),
    )?;
    let probe = ["get", "--count", "5", "--interval", "20ms", &format!("{url}style.css")];
    stage.step(&server, "five fetches, timed phase by phase", &probe, Exit::Done, |_, ended| {
        ended.stdout.contains("5 requests: 5 good")
    })?;
    stage.stop(server, "SIGTERM: running answers end, then the summary")
}
