//! Interoperation of `serve-http` and `get` with curl, a browser, nginx and Python's server.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};

use libtest_mimic::Trial;

use crate::support::{KillOnDrop, Server, demo_site, netlab, path_str, run, site};
use crate::with;

/// Trials of `serve-http` and `get`.
pub(crate) fn trials() -> Vec<Trial> {
    vec![
        with("curl_fetches_the_demo_site", &["curl"], curl_fetches_the_demo_site),
        with(
            "curl_reuses_a_connection_and_sends_a_conditional_request",
            &["curl"],
            curl_reuses_a_connection_and_sends_a_conditional_request,
        ),
        with("curl_posts_and_gets_the_allowed_methods", &["curl"], curl_posts_and_gets_the_allowed_methods),
        with("curl_and_get_receive_the_same_response", &["curl"], curl_and_get_receive_the_same_response),
        with("a_browser_loads_the_page_with_its_stylesheet_and_image", &["chromium"], a_browser_loads_the_page),
        with("a_browser_shows_a_hostile_listing_as_text", &["chromium"], a_browser_shows_a_hostile_listing_as_text),
        with("get_fetches_from_nginx", &["nginx"], get_fetches_from_nginx),
        with("get_fetches_from_pythons_server", &["python3"], get_fetches_from_pythons_server),
        with("get_trusts_a_certificate_of_openssl_with_ca", &["openssl", "curl"], openssl_certificate),
    ]
}

fn curl(arguments: &[&str]) -> String {
    let output = Command::new("curl")
        .args(["-sS", "--noproxy", "*", "--max-time", "30"])
        .args(arguments)
        .output()
        .expect("curl runs");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn curl_fetches_the_demo_site() {
    let server = Server::start(&["serve-http", path_str(&demo_site()), "--threads=2"]);
    for name in ["HelloWorld.html", "how.html", "style.css", "exchange.png"] {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let target = directory.path().join(name);
        curl(&["-o", path_str(&target), &server.url(&format!("/{name}"))]);
        assert_eq!(fs::read(target).expect("fetched"), fs::read(demo_site().join(name)).expect("ours"), "{name}");
    }
    assert_eq!(curl(&["-o", "/dev/null", "-w", "%{http_code}", &server.url("/none")]), "404");
}

fn curl_reuses_a_connection_and_sends_a_conditional_request() {
    let server = Server::start(&["serve-http", path_str(&demo_site())]);
    let url = server.url("/style.css");
    assert_eq!(curl(&["-o", "/dev/null", "-o", "/dev/null", "-w", "%{num_connects} ", &url, &url]), "1 0 ");
    let page = demo_site().join("style.css");
    assert_eq!(curl(&["-o", "/dev/null", "-z", path_str(&page), "-w", "%{http_code}", &url]), "304");
}

fn curl_posts_and_gets_the_allowed_methods() {
    let server = Server::start(&["serve-http", path_str(&demo_site())]);
    let large = "x".repeat(100_000);
    let directory = site(&[("body", large.as_bytes())]);
    let body = format!("@{}", directory.path().join("body").display());
    let head = curl(&["-D-", "-o", "/dev/null", "--data-binary", &body, &server.url("/style.css")]);
    assert!(head.starts_with("HTTP/1.1 405 ") && head.contains("Allow: GET, HEAD, OPTIONS"), "{head}");
    assert_eq!(curl(&["-X", "OPTIONS", "-o", "/dev/null", "-w", "%{http_code}", &server.url("/")]), "204");
}

fn curl_and_get_receive_the_same_response() {
    let server = Server::start(&["serve-http", path_str(&demo_site())]);
    let without_date = |head: String| {
        head.lines()
            .filter(|line| !line.starts_with("Date") && !line.starts_with("Connection"))
            .collect::<Vec<_>>()
            .join("\n")
    };
    for path in ["/HelloWorld.html", "/none", "/"] {
        let ours = run(&["get", "-i", &server.url(path)]);
        assert_eq!(without_date(ours.stdout), without_date(curl(&["-i", &server.url(path)])), "{path}");
    }
}

/// Runs chromium on `url` and returns its stdout.
pub(crate) fn chromium(url: &str, more: &[&str]) -> String {
    let profile = tempfile::tempdir().expect("a temporary directory");
    let output = Command::new("chromium")
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
        ])
        .args(["--disable-component-update", "--disable-sync", "--no-proxy-server", "--virtual-time-budget=5000"])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .args(more)
        .arg(url)
        .output()
        .expect("chromium runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn a_browser_loads_the_page() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let picture = directory.path().join("page.png");
    let server = Server::start(&["serve-http", path_str(&demo_site()), "--json"]);
    chromium(
        &server.url("/HelloWorld.html"),
        &["--window-size=800,700", &format!("--screenshot={}", picture.display())],
    );
    assert!(fs::metadata(&picture).is_ok_and(|found| found.len() > 10_000), "the page was rendered");
    let ran = server.stop();
    let complete: Vec<String> = ran
        .events()
        .iter()
        .filter(|event| event["status"] == 200 && event["complete"] == true)
        .map(|event| event["target"].as_str().expect("a target").to_owned())
        .collect();
    for target in ["/HelloWorld.html", "/style.css", "/exchange.png"] {
        assert!(complete.iter().any(|known| known == target), "{target} is not in {complete:?}");
    }
}

fn a_browser_shows_a_hostile_listing_as_text() {
    let directory =
        site(&[("<img src=x onerror=document.title='owned'>", b"x"), ("javascript:alert(1)", b"x"), ("a\nb", b"x")]);
    let server = Server::start(&["serve-http", path_str(directory.path())]);
    let page = chromium(&server.url("/"), &["--dump-dom"]);
    assert!(page.contains("&lt;img src=x onerror") && !page.contains("<img"), "{page}");
    assert!(page.contains("<title>/</title>") && page.contains("href=\"./javascript:alert(1)\""), "{page}");
}

fn get_fetches_from_nginx() {
    let large: Vec<u8> = (0..1_000_000_u32).flat_map(u32::to_le_bytes).collect();
    let directory = site(&[("site/page.html", b"hello"), ("site/large", &large), ("site/sub/x", b"x")]);
    let root = directory.path();
    let socket = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = socket.local_addr().expect("bound").port();
    let config = format!(
        "daemon off; master_process off; pid {0}/pid; error_log {0}/error.log; events {{}}\n\
         http {{ access_log off; client_body_temp_path {0}/b; proxy_temp_path {0}/p; fastcgi_temp_path {0}/f; uwsgi_temp_path {0}/u; scgi_temp_path {0}/s;\n\
         types {{ text/html html; }} gzip on; gzip_min_length 1; gzip_types *;\n\
         server {{ listen 127.0.0.1:{port}; root {0}/site; location /old {{ return 302 /page.html; }} location /chunked {{ ssi on; ssi_types *; alias {0}/site/page.html; }} }} }}\n",
        root.display()
    );
    fs::write(root.join("nginx.conf"), config).expect("written");
    // nginx cannot listen on port 0 and report the port, so a free port is released just before.
    drop(socket);
    let nginx = if Path::new("/usr/sbin/nginx").exists() { "/usr/sbin/nginx" } else { "nginx" };
    let child = Command::new(nginx)
        .args(["-p", path_str(root), "-c", path_str(&root.join("nginx.conf"))])
        .stderr(Stdio::null())
        .spawn()
        .expect("nginx runs");
    let mut nginx = KillOnDrop(child);
    let url = |path: &str| format!("http://127.0.0.1:{port}{path}");
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(
            nginx.0.try_wait().expect("a status").is_none(),
            "{}",
            fs::read_to_string(root.join("error.log")).unwrap_or_default()
        );
        std::thread::yield_now();
    }
    assert_eq!(run(&["get", &url("/page.html")]).stdout, "hello");
    assert_eq!(run(&["get", &url("/chunked")]).stdout, "hello");
    assert_eq!(run(&["get", &url("/old")]).stdout, "hello");
    assert_eq!(run(&["get", &url("/sub")]).code, 1, "the redirect to /sub/ is followed, and /sub/ is forbidden");
    assert_eq!(run(&["get", &url("/none")]).code, 1);
    assert!(netlab(&["get", &url("/large")]).output().expect("it runs").stdout == large);
    let ran = run(&["get", "--count", "20", "--interval", "0s", "--json", &url("/page.html")]);
    assert_eq!(ran.summary()["responses"], 20);
}

fn get_fetches_from_pythons_server() {
    let directory = site(&[("page.html", b"hello"), ("sub/index.html", b"index")]);
    let mut command = Command::new("python3");
    command.args(["-u", "-m", "http.server", "0", "--bind", "127.0.0.1"]).current_dir(directory.path());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("python runs");
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("a line");
    let _python = KillOnDrop(child);
    let port = line.split("port ").nth(1).and_then(|rest| rest.split(' ').next()).expect("its port").to_owned();
    let url = |path: &str| format!("http://127.0.0.1:{port}{path}");
    assert_eq!(run(&["get", &url("/page.html")]).stdout, "hello");
    assert_eq!(run(&["get", &url("/sub")]).stdout, "index", "its redirect is followed");
    assert_eq!(run(&["get", &url("/none")]).code, 1);
    assert_eq!(run(&["get", "-d", "x", &url("/page.html")]).code, 1, "it does not support POST");
}

fn openssl_certificate() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (chain, key) = (directory.path().join("chain.pem"), directory.path().join("key.pem"));
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=localhost",
            "-addext",
            "subjectAltName=IP:127.0.0.1",
        ])
        .args(["-keyout", path_str(&key), "-out", path_str(&chain)])
        .stderr(Stdio::null())
        .status()
        .expect("openssl runs");
    assert!(made.success());
    let server = Server::start(&[
        "serve-http",
        path_str(&demo_site()),
        "--tls-cert",
        path_str(&chain),
        "--tls-key",
        path_str(&key),
    ]);
    let page = fs::read_to_string(demo_site().join("HelloWorld.html")).expect("ours");
    let url = server.url("/HelloWorld.html");
    let ran = run(&["get", "--ca", path_str(&chain), &url]);
    assert_eq!((ran.code, ran.stdout), (0, page.clone()), "{}", ran.stderr);
    assert_eq!(run(&["get", &url]).code, 80);
    assert_eq!(curl(&["--cacert", path_str(&chain), &url]), page);
}
