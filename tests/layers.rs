//! Imports look down only: reads the paths that the sources name and fails on an arrow upward.

use std::fs;
use std::path::{Path, PathBuf};

/// The layers, lowest first. Those on one level do not know each other, except that `document` may
/// use `model`, which is a level below it.
const LEVELS: [&[&str]; 8] = [
    &["model"],
    &["document"],
    &["crypto", "store", "cluster", "identity", "audit", "telemetry"],
    &["vault"],
    &["fs"],
    &["fuse"],
    &["daemon"],
    &["cli"],
];

fn level(module: &str) -> Option<usize> {
    LEVELS.iter().position(|level| level.contains(&module))
}

/// A file of `src/`.
struct Source {
    /// Relative to `src/`, with `/`.
    path: String,
    code: String,
}

impl Source {
    /// The layer to which the file belongs; none for `lib.rs` and the programs' entries.
    fn layer(&self) -> Option<&str> {
        let (first, rest) = self.path.split_once('/')?;
        (first != "bin" && !rest.is_empty()).then_some(first)
    }

    /// The names of the modules that lead to the file.
    fn modules(&self) -> Vec<&str> {
        let path = self.path.trim_end_matches(".rs").trim_end_matches("/mod");
        path.split('/').collect()
    }

    /// Everything that the code outside its tests names, as paths from the root of a crate.
    fn names(&self) -> Vec<Vec<String>> {
        let tokens = without_tests(&tokens(&self.code));
        let modules = self.modules();
        let from_root = |path: Vec<String>| {
            let up = path.iter().take_while(|name| *name == "super").count();
            if up == 0 {
                return path;
            }
            let kept = modules.len().saturating_sub(up);
            let base = ["crate"].iter().chain(&modules[..kept]).map(|name| (*name).to_owned());
            base.chain(path.into_iter().skip(up)).collect()
        };
        paths(&tokens).into_iter().map(from_root).collect()
    }
}

#[test]
fn imports_look_down_only() {
    let mut wrong = Vec::new();
    for source in sources() {
        let Some(from) = source.layer() else { continue };
        let Some(own) = level(from) else {
            wrong.push(format!("src/{}: `{from}` is no layer; add it to the order", source.path));
            continue;
        };
        for name in source.names() {
            let [root, to, ..] = &name[..] else { continue };
            let upward = level(to).is_some_and(|other| to != from && other >= own);
            if root == "crate" && upward {
                wrong.push(format!("src/{} uses {}", source.path, name.join("::")));
            }
        }
    }
    assert!(wrong.is_empty(), "arrows upward or sideways:\n{}", wrong.join("\n"));
}

#[test]
fn only_fuse_knows_fuser() {
    let wrong: Vec<_> = sources()
        .into_iter()
        .filter(|source| source.layer() != Some("fuse"))
        .filter(|source| without_tests(&tokens(&source.code)).iter().any(|token| token == "fuser"))
        .map(|source| source.path)
        .collect();
    assert!(wrong.is_empty(), "they name fuser: {wrong:?}");
}

#[test]
fn only_one_file_names_error_numbers() {
    let mut wrong = Vec::new();
    // Whoever talks to the system reads its numbers; what callers of the mount are told is another
    // matter.
    let reads_the_system = ["store", "identity", "daemon", "cli"];
    let answers = |source: &Source| {
        source.path != "fuse/errno.rs"
            && !source.layer().is_some_and(|layer| reads_the_system.contains(&layer))
    };
    for source in sources().into_iter().filter(answers) {
        for name in source.names() {
            if let [root, .., last] = &name[..]
                && (root == "libc" || root == "Errno")
                && is_errno(last)
            {
                wrong.push(format!("src/{} names {}", source.path, name.join("::")));
            }
        }
    }
    assert!(wrong.is_empty(), "map a typed error in src/fuse/errno.rs:\n{}", wrong.join("\n"));
}

/// `EACCES`, and not `EPOLLIN` or `Errno`.
fn is_errno(name: &str) -> bool {
    let shape = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit();
    name.starts_with('E')
        && name.len() > 2
        && name.chars().all(shape)
        && !name.starts_with("EPOLL")
        && !name.starts_with("EFD")
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&root, &mut files);
    let sources: Vec<_> = files
        .into_iter()
        .filter(|path| !path.ends_with("tests.rs") && !path.iter().any(|part| part == "tests"))
        .map(|path| Source {
            path: path.strip_prefix(&root).expect("it is below").to_string_lossy().into_owned(),
            code: fs::read_to_string(&path).expect("the sources are UTF-8"),
        })
        .collect();
    assert!(sources.len() > 10, "these are not the sources");
    sources
}

fn collect(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).expect("the directory can be listed") {
        let path = entry.expect("the directory can be listed").path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// Identifiers, `::` and single characters of the code; no comments, strings, characters, lifetimes.
fn tokens(code: &str) -> Vec<String> {
    let code: Vec<char> = code.chars().collect();
    let at = |index: usize| code.get(index).copied().unwrap_or('\0');
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut tokens = Vec::new();
    let mut here = 0;
    while here < code.len() {
        let start = here;
        match (at(here), at(here + 1)) {
            ('/', '/') => here = find(&code, here, '\n'),
            ('/', '*') => here = end_of_comment(&code, here),
            ('"', _) => here = end_of_string(&code, here),
            // A character, or the quote of a lifetime.
            ('\'', '\\') => here = find(&code, here + 3, '\'') + 1,
            ('\'', _) => here += if at(here + 2) == '\'' { 3 } else { 1 },
            (':', ':') => {
                here += 2;
                tokens.push("::".to_owned());
            }
            (first, _) if is_word(first) => {
                while is_word(at(here)) {
                    here += 1;
                }
                let word: String = code[start..here].iter().collect();
                let hashes = code[here..].iter().take_while(|&&c| c == '#').count();
                let prefix = matches!(word.as_str(), "r" | "b" | "c" | "br" | "cr");
                if prefix && word.ends_with('r') && at(here + hashes) == '"' {
                    here = end_of_raw_string(&code, here + hashes + 1, hashes);
                } else if prefix && at(here) == '"' {
                    here = end_of_string(&code, here);
                } else if !prefix || at(here) != '\'' {
                    tokens.push(word);
                }
            }
            (other, _) => {
                here += 1;
                if !other.is_whitespace() {
                    tokens.push(other.to_string());
                }
            }
        }
    }
    tokens
}

fn find(code: &[char], from: usize, wanted: char) -> usize {
    (from..code.len()).find(|&index| code[index] == wanted).unwrap_or(code.len())
}

fn end_of_comment(code: &[char], start: usize) -> usize {
    let (mut depth, mut here) = (0, start);
    while here < code.len() {
        match code.get(here..here + 2) {
            Some(['/', '*']) => (depth, here) = (depth + 1, here + 2),
            Some(['*', '/']) => (depth, here) = (depth - 1, here + 2),
            _ => here += 1,
        }
        if depth == 0 {
            break;
        }
    }
    here
}

fn end_of_string(code: &[char], start: usize) -> usize {
    let mut here = start + 1;
    while here < code.len() && code[here] != '"' {
        here += if code[here] == '\\' { 2 } else { 1 };
    }
    here + 1
}

fn end_of_raw_string(code: &[char], start: usize, hashes: usize) -> usize {
    let mut here = start;
    loop {
        here = find(code, here, '"') + 1;
        let end = (here + hashes).min(code.len());
        if here >= code.len() || code[here..end].iter().all(|&c| c == '#') {
            return end;
        }
    }
}

/// The tokens without items that only tests have: after `#[cfg(test)]` up to the end of the item.
fn without_tests(tokens: &[String]) -> Vec<String> {
    const MARK: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
    let mut kept = Vec::new();
    let mut here = 0;
    while here < tokens.len() {
        let marked = tokens[here..].len() >= MARK.len()
            && MARK.iter().zip(&tokens[here..]).all(|(m, t)| m == t);
        if !marked {
            kept.push(tokens[here].clone());
            here += 1;
            continue;
        }
        here += MARK.len();
        let mut depth = 0;
        while let Some(token) = tokens.get(here) {
            here += 1;
            match token.as_str() {
                "{" => depth += 1,
                "}" => depth -= 1,
                _ => {}
            }
            if depth == 0 && (token == "}" || token == ";") {
                break;
            }
        }
    }
    kept
}

/// Every path that begins with `crate`, `super`, `libc` or `Errno`, with the trees of `use` unfolded.
fn paths(tokens: &[String]) -> Vec<Vec<String>> {
    let (mut found, mut here) = (Vec::new(), 0);
    while let Some(token) = tokens.get(here) {
        let begins = ["crate", "super", "libc", "Errno"].contains(&token.as_str());
        here = if begins && (here == 0 || tokens[here - 1] != "::") {
            unfold(tokens, here, &[], &mut found)
        } else {
            here + 1
        };
    }
    found
}

/// Reads the path or tree at `here` and gives where it ends.
fn unfold(
    tokens: &[String],
    here: usize,
    prefix: &[String],
    found: &mut Vec<Vec<String>>,
) -> usize {
    let token = |index: usize| tokens.get(index).map_or("", String::as_str);
    if token(here) == "{" {
        let mut here = here + 1;
        while !matches!(token(here), "}" | "") {
            here = unfold(tokens, here, prefix, found);
            // An alias, and the comma.
            while !matches!(token(here), "," | "}" | "") {
                here += 1;
            }
            here += usize::from(token(here) == ",");
        }
        return here + 1;
    }
    let path = [prefix, &[token(here).to_owned()]].concat();
    if token(here + 1) == "::" {
        return unfold(tokens, here + 2, &path, found);
    }
    found.push(path);
    here + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(path: &str, code: &str) -> Vec<String> {
        let source = Source { path: path.to_owned(), code: code.to_owned() };
        source.names().into_iter().map(|name| name.join("::")).collect()
    }

    #[test]
    fn paths_are_found_wherever_they_stand() {
        let code = r##"
            use crate::{model::{Key, Slug as S}, vault, store::*};
            use super::super::fs::tree; // use crate::comment;
            /* crate::comment /* nested */ crate::comment */
            fn f<'a>(c: char) { crate::cli::run("crate::string \" {", r#"crate::raw "#); }
            const Q: char = '"'; const B: &[u8] = b"crate::bytes"; const E: u8 = b'\'';
            fn g() -> i32 { libc::EACCES }
        "##;
        assert_eq!(
            names("vault/open.rs", code),
            [
                "crate::model::Key",
                "crate::model::Slug",
                "crate::vault",
                "crate::store::*",
                "crate::fs::tree",
                "crate::cli::run",
                "libc::EACCES"
            ]
        );
    }

    #[test]
    fn super_is_counted_from_the_file() {
        assert_eq!(names("fs/mod.rs", "use super::cli;"), ["crate::cli"]);
        assert_eq!(names("fs/tree.rs", "use super::node;"), ["crate::fs::node"]);
        let nested = names("fs/a/b.rs", "use super::{super::{super::vault}, c};");
        assert_eq!(nested, ["crate::vault", "crate::fs::a::c"]);
    }

    #[test]
    fn tests_are_left_out() {
        let code =
            "use crate::a; #[cfg(test)] mod tests { use crate::b; fn f() { {} } } use crate::c;
            #[cfg(test)] use crate::d; #[cfg(test)] mod more; use crate::e;";
        assert_eq!(names("fs/mod.rs", code), ["crate::a", "crate::c", "crate::e"]);
    }

    #[test]
    fn error_numbers_are_known_by_their_form() {
        assert!(["EACCES", "EIO", "E2BIG", "EFBIG"].into_iter().all(is_errno));
        assert!(
            ["Errno", "EPOLLIN", "EFD_CLOEXEC", "O_EXCL", "ERASE_LINE"]
                .into_iter()
                .all(|n| !is_errno(n))
        );
    }
}
