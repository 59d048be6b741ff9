//! Flags for what is served: hidden files, index files, listings, header fields.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::str::FromStr as _;

use clap::Args;

use crate::commands::header_field::HeaderField;
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::http::is_field_value;
use crate::site::{Entry, Root, SitePath};

#[derive(Clone, Debug, Args)]
pub(super) struct SiteArgs {
    /// Directory or file to serve
    #[arg(default_value = ".", value_name = "DIR")]
    pub root: PathBuf,

    /// Index file; repeatable
    ///
    /// The first one that exists in a directory is sent. If none exists, the directory is listed.
    #[arg(long, value_name = "NAME", default_value = "index.html", value_parser = index_name)]
    pub index: Vec<String>,

    /// Do not list directories without an index file
    #[arg(long, hide_short_help = true)]
    pub no_listing: bool,

    /// Serve and list names that begin with a dot
    #[arg(long, hide_short_help = true)]
    pub hidden: bool,

    /// Add 'Name: value' to each response, or replace its field; repeatable
    ///
    /// By default, responses have Cache-Control: no-cache, so that a browser asks for changes at each visit.
    #[arg(long, value_name = "FIELD", value_parser = HeaderField::from_str, hide_short_help = true)]
    pub header: Vec<HeaderField>,

    /// Compress text on the fly with zstd or gzip
    ///
    /// Without it, a file NAME.br, NAME.zst or NAME.gz that is not older than NAME is sent to clients that accept it.
    #[arg(long, hide_short_help = true)]
    pub compress: bool,

    /// Send this file of DIR to browsers for pages that do not exist
    ///
    /// For applications whose paths are resolved by a script. Requests that do not accept text/html by name get 404.
    #[arg(long, value_name = "FILE", value_parser = spa_page, hide_short_help = true)]
    pub spa: Option<PathBuf>,

    /// Media type of files with this extension; repeatable
    #[arg(long, value_name = "EXT=TYPE", value_parser = media_type, hide_short_help = true)]
    pub mime: Vec<(String, String)>,
}

/// Parses `--mime`: an extension and the value of Content-Type.
fn media_type(text: &str) -> Result<(String, String), String> {
    let (extension, kind) = text.split_once('=').ok_or("expected EXT=TYPE, such as log=text/plain")?;
    let extension = extension.trim_start_matches('.');
    if extension.is_empty() || !kind.contains('/') || !is_field_value(kind.as_bytes()) {
        return Err("expected EXT=TYPE, such as log=text/plain".to_owned());
    }
    Ok((extension.to_owned(), kind.to_owned()))
}

/// Parses `--index`: a file name, not a path.
fn index_name(text: &str) -> Result<String, String> {
    if text.is_empty() || text.contains('/') || text == "." || text == ".." {
        return Err("expected a file name without /".to_owned());
    }
    Ok(text.to_owned())
}

/// Parses `--spa`: a path below the directory.
fn spa_page(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    match SitePath::of_relative(&path) {
        Some(_) => Ok(path),
        None => Err("expected a file below DIR, such as index.html".to_owned()),
    }
}

/// Target of the path that was given: a directory, or one file of it.
#[derive(Debug)]
pub(super) struct Target {
    /// Directory that is opened.
    pub directory: PathBuf,
    /// Only file that is served from it.
    pub only: Option<OnlyFile>,
}

#[derive(Debug)]
pub(super) struct OnlyFile {
    /// Name in the URL.
    pub name: OsString,
    /// Name in the directory; another one if the path is a link that leads out of its directory.
    pub file: OsString,
}

impl SiteArgs {
    /// Finds out whether the path is a directory or a file. Called once: if the file vanishes later, the path must not
    /// count as a directory.
    pub(super) fn target(&self) -> Target {
        let (Some(parent), Some(name), true) = (self.root.parent(), self.root.file_name(), self.root.is_file()) else {
            return Target { directory: self.root.clone(), only: None };
        };
        let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
        let outside = std::fs::canonicalize(&self.root)
            .ok()
            .filter(|real| std::fs::canonicalize(parent).is_ok_and(|parent| !real.starts_with(parent)));
        let (directory, file) = match outside.as_deref().and_then(|real| real.parent().zip(real.file_name())) {
            Some(real) => real,
            None => (parent, name),
        };
        Target {
            directory: directory.to_owned(),
            only: Some(OnlyFile { name: name.to_owned(), file: file.to_owned() }),
        }
    }

    /// Path as it was given.
    pub(super) fn path(&self) -> &Path {
        &self.root
    }

    /// Opens the directory, and checks that it has the page of `--spa`.
    pub(super) fn open_root(&self, target: &Target) -> Result<Root> {
        let root = self.open_directory(target)?;
        let Some(page) = &self.spa else { return Ok(root) };
        let found = SitePath::of_relative(page).map(|page| root.open_entry(&page));
        if target.only.is_some() || !matches!(found, Some(Ok(Entry::File(..)))) {
            return Err(Error::new(
                Exit::InputMissing,
                format!("'{}' of --spa is not a file in '{}'", page.display(), self.root.display()),
            )
            .expected("a path below DIR, such as index.html"));
        }
        Ok(root)
    }

    fn open_directory(&self, target: &Target) -> Result<Root> {
        let root = self.root.display();
        Root::open(&target.directory).map_err(|error| {
            let (exit, reason) = match error.kind() {
                std::io::ErrorKind::NotFound => (Exit::InputMissing, "no such directory or file"),
                std::io::ErrorKind::NotADirectory => (Exit::InputMissing, "neither a directory nor a regular file"),
                std::io::ErrorKind::PermissionDenied => (Exit::Permission, "permission denied"),
                std::io::ErrorKind::Unsupported => {
                    (Exit::OsError, "the system call openat2 is missing (Linux 5.6) or forbidden by a seccomp filter")
                }
                _ => (Exit::InputMissing, "cannot be opened"),
            };
            let text = self.root.to_string_lossy();
            let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
            let remedy = match exit {
                Exit::OsError => "use a newer kernel, or a container runtime that allows openat2".to_owned(),
                _ if is_number => format!("for port {text}: --bind {text}; for {text} threads: --threads={text}"),
                _ => "specify one: netlab serve-http DIR".to_owned(),
            };
            Error::new(exit, format!("cannot serve '{root}': {reason}"))
                .expected("a readable directory or file")
                .remedy(remedy)
                .with_source(error)
        })
    }
}
