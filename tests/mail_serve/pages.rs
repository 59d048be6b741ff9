//! Web pages with captured mail.

use crate::Mailbox;
use std::io::Write as _;

use crate::support::{connect, read_one_response, run, send_and_read};

fn get(url: &str, flags: &[&str]) -> (i32, String) {
    let ran = run(&[&["get", url], flags].concat());
    (ran.code, ran.stdout)
}

#[test]
fn a_mail_is_shown_and_its_parts_are_downloads() {
    let mailbox = Mailbox::start(&["--http", "127.0.0.1:0"]);
    let url = mailbox.server.addresses.last().expect("the pages").clone();
    assert!(get(&url, &[]).1.contains("No messages yet"));
    let html = "<p onclick=x>hi</p>";
    let flags = ["--text", "<b>bold</b>", "--html", html, "--attach", "Cargo.toml", "--subject", "<i>{{rows}}</i>"];
    assert_eq!(mailbox.mail(&flags).code, 0);
    let (code, list) = get(&url, &[]);
    assert!(code == 0 && list.contains("<a href=\"/mail/1\">&lt;i&gt;{{rows}}&lt;/i&gt;</a>"), "{list}");
    let (_, page) = get(&format!("{url}mail/1"), &[]);
    for word in ["&lt;b&gt;bold&lt;/b&gt;", "<iframe sandbox ", "me@x.test", "Cargo.toml</a>"] {
        assert!(page.contains(word), "{word}: {page}");
    }
    assert!(!page.contains("onclick") && !page.contains("<script"), "{page}");
    let (_, frame) = get(&format!("{url}mail/1/html"), &["-i"]);
    assert!(
        frame.contains("<p>hi</p>")
            && !frame.contains("onclick")
            && frame.contains("Content-Security-Policy: sandbox; default-src 'none'"),
        "{frame}"
    );
    let (_, part) = get(&format!("{url}mail/1/part/0"), &["-i"]);
    assert!(part.contains("Content-Disposition: attachment; filename=\"Cargo.toml\""), "{part}");
    assert!(part.ends_with(&std::fs::read_to_string("Cargo.toml").expect("there")));
    let (_, raw) = get(&format!("{url}mail/1.eml"), &[]);
    assert!(raw.starts_with("From: <me@x.test>\r\n"), "{raw}");
    for (path, flags) in [
        ("mail/2", &[][..]),
        ("mail/1/part/9", &[]),
        ("", &["-H", "Host: evil.test"]),
        ("mail/1.eml", &["-H", "Host: evil.test"]),
        ("mail/1", &["-X", "POST"]),
    ] {
        assert_eq!(get(&format!("{url}{path}"), flags).0, 1, "{path} {flags:?}");
    }
    // The authority of the target counts, whatever Host says (RFC 9112 §3.2.2).
    let pages: std::net::SocketAddr = url["http://".len()..].trim_end_matches('/').parse().expect("an address");
    for (target, status) in [("http://evil.test/", "421"), ("http://localhost/", "200")] {
        let request = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        let response = String::from_utf8(send_and_read(pages, request.as_bytes())).expect("text");
        assert!(response.starts_with(&format!("HTTP/1.1 {status} ")), "{response}");
    }
    let ran = mailbox.server.stop();
    assert_eq!(ran.events()[0]["pages"][0].as_str(), Some(url.as_str()));
}

#[test]
fn browsers_take_no_file_descriptors_from_mail_clients() {
    let mailbox = Mailbox::start(&["--http", "127.0.0.1:0"]);
    let url = mailbox.server.addresses.last().expect("the pages");
    let pages: std::net::SocketAddr = url["http://".len()..].trim_end_matches('/').parse().expect("an address");
    // Only sockets: threads that have just started still open their epoll instances.
    let sockets = || {
        let path = format!("/proc/{}/fd", mailbox.server.pid().as_raw_nonzero());
        let links = std::fs::read_dir(path).expect("running").flatten().filter_map(|fd| fd.path().read_link().ok());
        links.filter(|link| link.to_string_lossy().starts_with("socket:")).count()
    };
    let request = |_| {
        let mut viewer = connect(pages);
        viewer.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("sent");
        viewer
    };
    // From the first mail on, all threads have their sockets.
    assert_eq!(mailbox.mail(&[]).code, 0);
    let mut first = request(0);
    read_one_response(&mut first);
    let before = sockets();
    let mut viewers: Vec<_> = (1..120).map(request).collect();
    let mut late = viewers.split_off(99);
    for viewer in &mut viewers {
        assert!(read_one_response(viewer).0.starts_with("HTTP/1.1 200 "));
    }
    assert!(sockets() <= before + 99, "{before} {}", sockets());
    assert_eq!(mailbox.mail(&[]).code, 0);
    drop(viewers);
    for viewer in &mut late {
        assert!(read_one_response(viewer).0.starts_with("HTTP/1.1 200 "), "a waiting connection gets its turn");
    }
}

#[test]
fn a_text_without_closing_boundary_is_shown() {
    let mailbox = Mailbox::start(&["--http", "127.0.0.1:0"]);
    let url = mailbox.server.addresses.last().expect("the pages").clone();
    let mut client = crate::Client::open(&mailbox.address());
    client.up_to_data();
    client
        .send("Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/plain\r\n\r\nhello\r\n.\r\n");
    assert_eq!(client.code(), "250");
    let (_, page) = get(&format!("{url}mail/1"), &[]);
    assert!(page.contains("<h2>Text</h2><pre>hello</pre>"), "{page}");
}

#[test]
fn html_that_cannot_be_sanitized_is_not_shown() {
    let mailbox = Mailbox::start(&["--http", "127.0.0.1:0"]);
    let url = mailbox.server.addresses.last().expect("the pages").clone();
    // A tokenizer cannot know how a browser parses this.
    for html in ["<select><style></select><p>hi</p></style></select>", &"<br>".repeat(20_001)] {
        assert_eq!(mailbox.mail(&["--html", html]).code, 0);
    }
    for number in [1, 2] {
        let (code, page) = get(&format!("{url}mail/{number}/html"), &[]);
        assert!(code == 0 && page.contains("too long or malformed") && !page.contains("<br>"), "{page}");
    }
}
