//! Architecture and language as tests: imports go down only, as drawn in `src/lib.rs`; only `output` prints; only
//! `net` touches sockets and clocks; texts use the words of the glossary.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Modules and their layers, read from the diagram in `src/lib.rs`: lines of a number and module names.
fn layers() -> BTreeMap<String, u8> {
    let text = fs::read_to_string(root().join("src/lib.rs")).expect("readable");
    let diagram = text.split("//! ```text\n").nth(1).and_then(|rest| rest.split("//! ```").next()).expect("a diagram");
    let mut layers = BTreeMap::from([("lib".to_owned(), 5)]);
    for line in diagram.lines() {
        let line = line.trim_start_matches("//!").trim();
        let (number, names) = line.split_once("  ").expect("a layer number and its modules");
        let number = number.parse().expect("a layer number");
        // Two spaces separate names; three or more separate the names from the explanation.
        let names = names.trim_start().split("   ").next().unwrap_or_default();
        for name in names.split_whitespace() {
            assert!(layers.insert(name.to_owned(), number).is_none(), "{name} is in the diagram twice");
        }
    }
    layers
}

fn files_below(directory: &Path, extensions: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).expect("readable") {
        let path = entry.expect("readable").path();
        if path.is_dir() {
            found.extend(files_below(&path, extensions));
        } else if path.extension().is_some_and(|extension| extensions.iter().any(|known| extension == *known)) {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Every source file with its top-level module and its text.
fn sources() -> Vec<(PathBuf, String, String)> {
    let root = root().join("src");
    let files = files_below(&root, &["rs"]);
    assert!(files.len() > 20, "the sources were found");
    files
        .into_iter()
        .map(|file| {
            let relative = file.strip_prefix(&root).expect("below src");
            let module = relative.iter().next().expect("a name").to_string_lossy().trim_end_matches(".rs").to_owned();
            let text = fs::read_to_string(&file).expect("UTF-8");
            (relative.to_owned(), module, text)
        })
        .collect()
}

/// Lines of code with their numbers: no comments, and no tests at the end of the file.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let end = text.find("#[cfg(test)]\nmod tests").unwrap_or(text.len());
    text[..end]
        .lines()
        .enumerate()
        .map(|(number, line)| (number + 1, line))
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
}

/// The modules that a line names with `crate::`.
fn imports(line: &str) -> Vec<String> {
    line.split("crate::")
        .skip(1)
        .flat_map(|rest| {
            let list = rest.strip_prefix('{').map(|list| list.split('}').next().unwrap_or_default());
            let names: Vec<&str> = list.map_or_else(|| vec![rest], |list| list.split(',').collect());
            names
                .into_iter()
                .map(|name| name.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>())
                .collect::<Vec<_>>()
        })
        .filter(|name| !name.is_empty())
        .collect()
}

#[test]
fn the_diagram_has_every_module_and_no_other() {
    let layers = layers();
    let mut found: Vec<String> = sources().into_iter().map(|(_, module, _)| module).collect();
    found.sort();
    found.dedup();
    let drawn: Vec<String> = layers.into_keys().collect();
    assert_eq!(found, drawn, "left: modules in src, right: modules in the diagram of src/lib.rs");
}

#[test]
fn imports_go_down_only() {
    let layers = layers();
    let mut wrong = Vec::new();
    for (file, module, text) in sources() {
        let from = layers[&module];
        if module == "lib" || module == "main" {
            continue;
        }
        for (number, line) in code(&text) {
            for name in imports(line) {
                let Some(&to) = layers.get(&name) else {
                    wrong.push(format!("{}:{number}: {name} is not a module of the diagram", file.display()));
                    continue;
                };
                let sideways = to == from && name != module && from != 0;
                if to > from || sideways {
                    wrong.push(format!(
                        "{}:{number}: {module} (layer {from}) imports {name} (layer {to})",
                        file.display()
                    ));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn subcommands_do_not_import_one_another() {
    const SHARED: [&str; 13] = [
        "args",
        "auth_file",
        "dialogue_trace",
        "fail_if",
        "failure",
        "header_field",
        "listen_args",
        "peer",
        "plot_data",
        "report",
        "schema",
        "server_tls",
        "web",
    ];
    for (file, module, text) in sources().into_iter().filter(|(_, module, _)| module == "commands") {
        let command = file.iter().nth(1).expect("a command").to_string_lossy().trim_end_matches(".rs").to_owned();
        for (number, line) in code(&text).filter(|_| command != "mod") {
            // A file directly below `commands` (or a folder's `mod.rs`) reaches its siblings by one `super::`,
            // each folder further down by one more.
            let depth = file.iter().count() - 1 - usize::from(file.ends_with("mod.rs"));
            let sideways = &"super::".repeat(depth);
            for part in line.split("commands::").skip(1).chain(line.split(sideways.as_str()).skip(1)) {
                let name: String = part.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                assert!(
                    name == command || SHARED.contains(&name.as_str()),
                    "{}:{number}: {command} in {module} imports {name}",
                    file.display()
                );
            }
        }
    }
}

/// Words in code, and the only modules that may contain them.
#[test]
fn printing_sockets_and_clocks_stay_in_their_modules() {
    let rules: BTreeMap<&str, &[&str]> = BTreeMap::from([
        ("println!", &["output"][..]),
        ("print!(", &["output"]),
        ("eprintln!", &["output"]),
        ("eprint!", &["output"]),
        ("io::stderr", &["output"]),
        ("io::stdout()", &["output", "commands"]),
        ("Instant::now", &["net"]),
        ("SystemTime::now", &["net"]),
        ("Timestamp::now", &["net"]),
        ("ZonedDateTime::now", &["net"]),
        ("clock_gettime", &["net"]),
        ("TcpStream", &["net"]),
        ("TcpListener", &["net"]),
        ("UdpSocket", &["net"]),
        ("socket2::", &["net"]),
        ("rustls::", &["net"]),
        ("signal_hook::", &["net"]),
        ("thread::sleep", &[]),
        ("std::env::var", &["output", "net"]),
        ("todo!", &[]),
        ("unimplemented!", &[]),
    ]);
    let mut wrong = Vec::new();
    for (file, module, text) in sources() {
        for (number, line) in code(&text) {
            for (word, modules) in &rules {
                if line.contains(word) && !modules.contains(&module.as_str()) {
                    wrong.push(format!("{}:{number}: {word} in {module}", file.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Modules that choose exit codes and name flags, and those that define an exit code and its report.
#[test]
fn exit_codes_and_flags_are_chosen_by_the_commands() {
    const ABOVE: [&str; 6] = ["main", "lib", "cli", "commands", "exit", "error"];
    let is_flag = |text: &str| text.starts_with(|first: char| first.is_ascii_lowercase());
    let mut wrong = Vec::new();
    for (file, _, text) in sources().into_iter().filter(|(_, module, _)| !ABOVE.contains(&module.as_str())) {
        for (number, line) in code(&text) {
            let names_exit = ["exit::", " Exit::", "(Exit::"].iter().any(|path| line.contains(path));
            let names_flag = line.contains('"')
                && ["\"--", " --", "'--"].iter().any(|dashes| line.split(dashes).skip(1).any(is_flag));
            if names_exit || names_flag {
                wrong.push(format!("{}:{number}: {}", file.display(), line.trim()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Commands may ask whether stdout is a terminal; only `output` writes to it.
#[test]
fn commands_only_ask_about_stdout() {
    for (file, _, text) in sources().into_iter().filter(|(_, module, _)| module == "commands") {
        for (number, line) in code(&text).filter(|(_, line)| line.contains("io::stdout()")) {
            assert!(line.contains("io::stdout().is_terminal()"), "{}:{number}: {line}", file.display());
        }
    }
}

#[test]
fn every_file_has_a_header_and_at_most_400_lines() {
    for (file, _, text) in sources() {
        assert!(text.starts_with("//!"), "{} has no header", file.display());
        let lines = text.lines().count();
        assert!(lines <= 400, "{} has {lines} lines", file.display());
    }
}

/// Structs with more than 12 fields or more than two bools; not those whose fields are flags or JSON keys.
fn crowded_structs(text: &str) -> Vec<(usize, usize, usize)> {
    let lines: Vec<(usize, &str)> = code(text).collect();
    let mut crowded = Vec::new();
    for (index, (number, line)) in lines.iter().enumerate() {
        let declares = line.trim_start().trim_start_matches("pub").contains("struct ") && line.ends_with('{');
        let attributes = lines[..index].iter().rev().take_while(|(_, line)| !line.is_empty() && *line != "}");
        let is_interface = ["Args", "Parser", "Serialize"];
        if !declares || attributes.into_iter().any(|(_, line)| is_interface.iter().any(|name| line.contains(name))) {
            continue;
        }
        let body = lines[index + 1..].iter().map(|(_, line)| line.trim()).take_while(|line| *line != "}");
        let types: Vec<&str> = body.filter_map(|line| Some(line.strip_suffix(',')?.split_once(": ")?.1)).collect();
        let bools = types.iter().filter(|kind| **kind == "bool").count();
        if types.len() > 12 || bools > 2 {
            crowded.push((*number, types.len(), bools));
        }
    }
    crowded
}

#[test]
fn structs_have_at_most_12_fields_and_two_bools() {
    for (file, _, text) in sources() {
        if let Some((number, fields, bools)) = crowded_structs(&text).first() {
            panic!("{}:{number}: a struct of {fields} fields, {bools} of them bools", file.display());
        }
    }
    let flags = "struct Flags {\n    a: bool,\n    b: bool,\n    c: bool,\n}\n";
    assert_eq!(crowded_structs(flags), [(1, 3, 3)]);
    assert_eq!(crowded_structs(&format!("#[derive(Args)]\n{flags}")), []);
}

#[test]
fn the_top_level_has_only_the_planned_entries() {
    let plan = ["Cargo.lock", "Cargo.toml", "LICENSE", "README.md", "assets", "man", "src", "target", "tests"];
    for entry in fs::read_dir(root()).expect("readable") {
        let name = entry.expect("readable").file_name().to_string_lossy().into_owned();
        assert!(name.starts_with('.') || plan.contains(&name.as_str()), "{name} is not in the plan");
    }
}

/// Words and phrases that no text uses, in lower case. A space at either end stands for a word boundary.
const BANNED: [&str; 46] = [
    " whoever ",
    " whomever ",
    " whosoever ",
    " somebody ",
    " nobody ",
    " everybody ",
    " anybody ",
    " whom ",
    " vouch",
    " bear ",
    " bears ",
    " borne ",
    " how-manieth ",
    " so many ",
    " is told ",
    " are told ",
    " was told ",
    " were told ",
    " be told ",
    " what became ",
    " what becomes ",
    " became of ",
    " on order ",
    " unless given ",
    " a yes ",
    " a no ",
    " is none ",
    " are none ",
    " is no ",
    " are no ",
    " believe",
    " forgive",
    " forgiven ",
    " goodbye ",
    " dice ",
    " strangers ",
    " room ",
    " rooms ",
    " floor ",
    " floors ",
    " house ",
    " as it were ",
    " time-out ",
    " time-outs ",
    " manieth ",
    " so much ",
];

/// Beginnings that make a riddle of a doc comment.
const BANNED_BEGINNINGS: [&str; 11] = [
    "Who ",
    "Whom ",
    "Whose ",
    "Whoever ",
    "What ",
    "Whatever ",
    "Whether it ",
    "That which ",
    "How many ",
    "How long ",
    "How much ",
];

/// The first banned phrase in a text. "There is no X" is English; "X is no Y" is not.
fn banned(text: &str) -> Option<&'static str> {
    let words = |c: char| if c.is_alphanumeric() || c == '-' || c == '\'' { c.to_ascii_lowercase() } else { ' ' };
    let text = format!(" {} ", text.chars().map(words).collect::<String>());
    let text = text.split_whitespace().fold(" ".to_owned(), |text, word| text + word + " ");
    let text =
        [" there is no ", " there are no ", " answer is no "].iter().fold(text, |text, fine| text.replace(fine, " "));
    BANNED.into_iter().find(|phrase| text.contains(phrase))
}

/// The contents of the string literals of a line; good enough for prose in code.
fn strings(line: &str) -> String {
    let mut strings = String::new();
    let mut rest = line;
    while let Some(start) = rest.find('"') {
        let inner = &rest[start + 1..];
        let mut escaped = false;
        let end = inner.find(|c| {
            let ends = c == '"' && !escaped;
            escaped = c == '\\' && !escaped;
            ends
        });
        let end = end.unwrap_or(inner.len());
        strings.push_str(&inner[..end]);
        strings.push_str(" | ");
        rest = inner.get(end + 1..).unwrap_or_default();
    }
    strings
}

/// Comments, help texts and messages in `src`, man pages, pages, schema and README use the glossary's words.
#[test]
fn texts_use_plain_english() {
    let mut wrong = Vec::new();
    for (file, _, text) in sources() {
        for (number, line) in text.lines().enumerate() {
            let comment = line.split_once("//").map(|(_, comment)| comment).unwrap_or_default();
            if let Some(phrase) = banned(comment).or_else(|| banned(&strings(line))) {
                wrong.push(format!("src/{}:{}: {phrase:?} in {}", file.display(), number + 1, line.trim()));
            }
        }
    }
    let documents = ["man/in", "assets/pages", "assets/schema", "assets/site"];
    let documents =
        documents.iter().flat_map(|folder| files_below(&root().join(folder), &["1", "5", "7", "html", "json"]));
    for file in documents.chain([root().join("README.md")]) {
        let text = fs::read_to_string(&file).expect("UTF-8");
        for (number, line) in text.lines().enumerate() {
            if let Some(phrase) = banned(line) {
                wrong.push(format!("{}:{}: {phrase:?} in {}", file.display(), number + 1, line.trim()));
            }
        }
    }
    assert!(wrong.is_empty(), "{} phrases:\n{}", wrong.len(), wrong.join("\n"));
}

/// A doc comment begins with a noun phrase or a verb that names the item, and says more than one word.
#[test]
fn doc_comments_name_their_item() {
    let mut wrong = Vec::new();
    for (file, _, text) in sources() {
        let lines: Vec<&str> = text.lines().map(str::trim_start).collect();
        for (number, line) in lines.iter().enumerate() {
            let marker = ["///", "//!"].into_iter().find(|marker| line.starts_with(marker));
            let Some(marker) = marker else { continue };
            if number > 0 && lines[number - 1].starts_with(marker) {
                continue;
            }
            let comment = line.trim_start_matches(marker).trim();
            let is_whole = !lines.get(number + 1).is_some_and(|next| next.starts_with(marker));
            let is_riddle = BANNED_BEGINNINGS.iter().any(|beginning| comment.starts_with(beginning));
            if is_riddle || (is_whole && comment.split_whitespace().count() < 2) {
                wrong.push(format!("src/{}:{}: {comment}", file.display(), number + 1));
            }
        }
    }
    assert!(wrong.is_empty(), "{} doc comments:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn the_reader_of_imports_reads_lists_and_paths() {
    assert_eq!(imports("use crate::error::{Error, Result};"), ["error"]);
    assert_eq!(imports("use crate::{net, output::Style};"), ["net", "output"]);
    assert_eq!(imports("        crate::disk::replace(file)"), ["disk"]);
    assert!(imports("use std::fs;").is_empty());
}

#[test]
fn the_reader_of_words_finds_phrases_and_leaves_english_alone() {
    assert_eq!(banned("a URL is none"), Some(" is none "));
    assert_eq!(banned("It is no rate."), Some(" is no "));
    assert_eq!(banned("The peer,\twhoever it is"), Some(" whoever "));
    assert_eq!(banned("there is no such host"), None);
    assert_eq!(strings(r#"send_and_read("a \"yes\"", 'x', "no")"#), "a \\\"yes\\\" | no | ");
}
