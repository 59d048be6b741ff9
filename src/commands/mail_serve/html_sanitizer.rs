//! Sanitizer for HTML of mails.
//!
//! Owns the allowed elements and attributes: only those that affect the appearance. Everything that runs, sends or
//! fetches is removed, since a Content-Security-Policy does not stop DNS prefetch and preconnect to hosts named in a
//! page. `lol_html` tokenizes as a browser does, tag by tag, in linear time: a tag with 100,000 attributes takes it 12 ms,
//! and a sanitizer that builds a tree (ammonia) 5.3 s. Images of the mail itself are inlined where `cid:` (RFC 2392)
//! refers to them, within limits.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use lol_html::html_content::Element;
use lol_html::{RewriteStrSettings, doc_comments, element, rewrite_str};
use mail_parser::{Message, MessagePart, MimeHeaders as _};
use percent_encoding::percent_decode_str;

use super::mime::content_type;

/// Size limit of an image to be inlined.
const MAX_IMAGE_SIZE: usize = 4 << 20;
/// Size limit of the HTML with its inlined images.
const MAX_OUTPUT_SIZE: usize = 16 << 20;
const MAX_CID_REFERENCES: usize = 200;
/// Size limit of HTML to be shown.
const MAX_INPUT_SIZE: usize = 2 << 20;
const MAX_TAGS: usize = 20_000;
/// A tag with more attributes is removed as a whole: removing them one by one is quadratic.
const MAX_ATTRIBUTES: usize = 100;
const ALLOWED_ELEMENTS: &str = "\
    html head body style a abbr acronym address article aside b big blockquote br caption center cite code \
    col colgroup dd del dfn div dl dt em figcaption figure font footer h1 h2 h3 h4 h5 h6 header hr i img ins \
    kbd li main mark ol p pre q s samp section small span strike strong sub sup table tbody td tfoot th \
    thead tr tt u ul var wbr";
/// Elements removed together with their content: the content is not text, or browsers parse it differently.
const REMOVED_WITH_CONTENT: &str = "\
    script title svg math object embed applet iframe frame frameset noframes noembed noscript template \
    textarea select audio video canvas xmp plaintext";
/// Attributes allowed on every element; `src`, `background` and `href` have rules of their own.
const ALLOWED_ATTRIBUTES: &str = "\
    style class id align valign bgcolor color width height border cellpadding cellspacing colspan rowspan \
    nowrap face size dir lang alt title start type text link vlink";

/// Returns the HTML as it can be shown, or `None` if it is too long or cannot be parsed.
pub(super) fn sanitize(message: &Message<'_>, html: &str) -> Option<String> {
    let sanitized = if is_within_limits(html) { sanitize_html(html) } else { None };
    sanitized.map(|html| inline_images(message, &html))
}

fn is_within_limits(html: &str) -> bool {
    html.len() <= MAX_INPUT_SIZE && memchr::memchr_iter(b'<', html.as_bytes()).nth(MAX_TAGS).is_none()
}

fn sanitize_html(html: &str) -> Option<String> {
    let sanitizer = element!("*", |element| {
        sanitize_element(element);
        Ok(())
    });
    let comment_remover = doc_comments!(|comment| {
        comment.remove();
        Ok(())
    });
    // Strict: HTML that a browser might parse differently is not shown at all.
    let settings = RewriteStrSettings::new()
        .with_strict(true)
        .append_element_content_handler(sanitizer)
        .append_document_content_handler(comment_remover);
    let mut html = rewrite_str(html, settings).ok()?;
    // An unclosed tag at the end must not be closed by text appended later.
    let open = html.rfind('<').filter(|open| html.rfind('>').is_none_or(|close| close < *open));
    html.truncate(open.unwrap_or(html.len()));
    Some(html)
}

fn contains_word(words: &str, name: &str) -> bool {
    words.split(' ').any(|word| word == name)
}

fn sanitize_element(element: &mut Element<'_, '_>) {
    let name = element.tag_name();
    if contains_word(REMOVED_WITH_CONTENT, &name) {
        return element.remove();
    }
    if !contains_word(ALLOWED_ELEMENTS, &name) || element.attributes().len() > MAX_ATTRIBUTES {
        return element.remove_and_keep_content();
    }
    let is_allowed = |name: &str, value: &str| {
        let has_scheme = |schemes: &[&str]| schemes.iter().any(|scheme| value.trim_start().starts_with(scheme));
        match name {
            // Only content of the mail itself is loaded.
            "src" | "background" => has_scheme(&["cid:", "data:image/"]),
            "href" => has_scheme(&["http://", "https://", "mailto:", "tel:", "#"]),
            name => contains_word(ALLOWED_ATTRIBUTES, name),
        }
    };
    let attributes = element.attributes().iter().map(|attribute| (attribute.name(), attribute.value()));
    let removed: Vec<String> =
        attributes.filter(|(name, value)| !is_allowed(name, value)).map(|(name, _)| name).collect();
    for name in removed {
        element.remove_attribute(&name);
    }
}

/// Replaces `cid:` references by the images of the mail.
fn inline_images(message: &Message<'_>, html: &str) -> String {
    const CID_SCHEME: &str = "cid:";
    let image = |name: &str| {
        let is_referenced =
            |part: &&MessagePart<'_>| part.content_id().is_some_and(|id| id.trim_matches(['<', '>']) == name);
        let part = message.parts.iter().find(is_referenced)?;
        let media_type = content_type(part);
        let is_image = media_type.starts_with("image/")
            && media_type.bytes().all(|c| c.is_ascii_alphanumeric() || b"/.+-".contains(&c));
        (is_image && part.contents().len() <= MAX_IMAGE_SIZE)
            .then(|| format!("data:{media_type};base64,{}", STANDARD.encode(part.contents())))
    };
    let mut output = String::new();
    let mut rest = html;
    for _ in 0..MAX_CID_REFERENCES {
        let Some((front, back)) = rest.split_once(CID_SCHEME) else { break };
        output.push_str(front);
        let end = back.find(|c: char| c.is_whitespace() || "\"'<>()&,;".contains(c)).unwrap_or(back.len());
        let (name, after) = back.split_at(end);
        let name = percent_decode_str(name).decode_utf8_lossy();
        if let Some(data) = image(&name).filter(|data| output.len() + data.len() <= MAX_OUTPUT_SIZE) {
            output.push_str(&data);
            rest = after;
        } else {
            output.push_str(CID_SCHEME);
            rest = back;
        }
    }
    output + rest
}

#[cfg(test)]
mod tests {
    use super::super::mime::inspect;
    use super::{
        MAX_IMAGE_SIZE, MAX_INPUT_SIZE, MAX_OUTPUT_SIZE, MAX_TAGS, STANDARD, inline_images, is_within_limits,
        sanitize_html,
    };
    use base64::Engine as _;

    #[test]
    fn images_are_inlined_within_limits() {
        let mail = |html: &str, image: usize| {
            let image = STANDARD.encode(vec![7; image]);
            let head = "Content-Type: multipart/related; boundary=b\r\n\r\n--b\r\nContent-Type: text/html\r\n\r\n";
            let part =
                "\r\n--b\r\nContent-Type: image/png\r\nContent-ID: <a>\r\nContent-Transfer-Encoding: base64\r\n\r\n";
            format!("{head}{html}{part}{image}\r\n--b--\r\n")
        };
        let inlined = |html: &str, image: usize| {
            let message = mail(html, image);
            inspect(message.as_bytes(), |parsed, _| inline_images(parsed, &parsed.body_html(0).expect("HTML")))
                .expect("a message")
        };
        let html = inlined("<img src='cid:a'><img src=\"cid:ab\"><img src=cid:%61>", 3);
        assert_eq!(html.matches("data:image/png;base64,BwcH").count(), 2, "{html}");
        assert!(html.contains("\"cid:ab\""), "{html}");
        assert!(inlined(&"<img src='cid:a'>".repeat(20_000), 1 << 20).len() < MAX_OUTPUT_SIZE + (1 << 20));
        assert!(inlined("<img src='cid:a'>", MAX_IMAGE_SIZE + 1).contains("cid:a"));
    }

    #[test]
    fn everything_that_runs_sends_or_fetches_is_removed() {
        for html in [
            "<script>x</script>",
            "<link rel=preconnect href=http://evil.test>",
            "<iframe src=http://evil.test></iframe>",
            "<img src=http://evil.test/1.png>",
            "<img srcset='http://evil.test/1.png 2x'>",
            "<p onclick=x>",
            "<form action=http://evil.test><input name=x></form>",
            "<meta http-equiv=refresh content='0;http://evil.test'>",
            "<base href=http://evil.test>",
            "<object data=http://evil.test></object><embed src=http://evil.test>",
            "<video src=http://evil.test poster=http://evil.test></video>",
            "<td background=http://evil.test>",
            "<svg><image href=http://evil.test /></svg>",
            "<a href='javascript:x'>y</a><a href='data:text/html,x'>y</a><a ping=http://evil.test>z</a>",
            "<img src='cid:a' src=http://evil.test><IMG SRC=http://evil.test><img/src=http://evil.test>",
            "<img src='&#104;ttp://evil.test'><image src=http://evil.test>",
            "<noscript><img src=http://evil.test></noscript><template><link href=http://evil.test></template>",
            "<textarea></textarea><script>evil</script><title><link href=http://evil.test></title>",
            "<svg><style><img src=http://evil.test></style></svg><math><mtext><link href=http://evil.test></mtext></math>",
            "<!--><link href=http://evil.test>--><!-- evil --><![CDATA[<link href=http://evil.test>]]>",
            "<table><link href=http://evil.test><tr><td><iframe src=http://evil.test>",
            "<img srcset=http://evil.test",
        ] {
            let output = sanitize_html(html).expect("valid HTML").to_lowercase();
            for word in ["evil", "script", "onclick", "text/html", "<form", "<input", "<meta", "<iframe", "<link"] {
                assert!(!output.contains(word), "{html}: {output}");
            }
        }
        let styled = "<style>p { color: red }</style><p style=\"color:red\"><img src=\"cid:a\"> \
                     <a href=\"https://x.test/\">x</a></p>";
        for word in ["p { color: red }", "color:red", "cid:a", "https://x.test/"] {
            assert!(sanitize_html(styled).is_some_and(|output| output.contains(word)), "{word}");
        }
    }

    #[test]
    fn deep_nesting_and_many_tags_are_limited() {
        let attributes = (0..50_000).fold(String::new(), |attributes, number| attributes + &format!(" x{number}=1"));
        assert_eq!(sanitize_html(&format!("<p{attributes}>hi</p>")).as_deref(), Some("hi"));
        for piece in ["<div>", "<table><tr><td>", "<a><b>", "<font color=red><p>"] {
            sanitize_html(&piece.repeat(1_000));
        }
        assert!(is_within_limits(&"<br>".repeat(MAX_TAGS)) && !is_within_limits(&"<br>".repeat(MAX_TAGS + 1)));
        assert!(is_within_limits(&"x".repeat(MAX_INPUT_SIZE)) && !is_within_limits(&"x".repeat(MAX_INPUT_SIZE + 1)));
    }
}
