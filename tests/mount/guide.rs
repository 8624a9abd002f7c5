//! docs/guide.md does what it says: its blocks of shell commands, run in their order as they stand, on a
//! machine that is thrown away, and the sentences of errors that it explains.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::harness::{can_mount, skip};

const GUIDE: &str = include_str!("../../docs/guide.md");

/// Promises of what a line prints stand behind this.
const PRINTS: &str = "# → ";

/// A block of commands, with the line on which it begins, the first being 1.
struct Block {
    line: usize,
    commands: String,
}

impl Block {
    fn promises(&self) -> impl Iterator<Item = &str> {
        self.commands.lines().filter_map(|line| Some(line.split_once(PRINTS)?.1.trim()))
    }
}

/// The blocks between ```` ```sh ```` and ```` ``` ````.
fn blocks(page: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut inside = false;
    for (at, line) in page.lines().enumerate() {
        match line {
            "```sh" => {
                inside = true;
                blocks.push(Block { line: at + 1, commands: String::new() });
            }
            "```" => inside = false,
            _ if inside => {
                let block = blocks.last_mut().expect("one was begun");
                block.commands.push_str(line);
                block.commands.push('\n');
            }
            _ => {}
        }
    }
    blocks
}

/// All blocks as one script, which says where each begins.
fn script(blocks: &[Block]) -> String {
    let one = |block: &Block| format!("echo; echo @@{}\n{}", block.line, block.commands);
    let blocks: String = blocks.iter().map(one).collect();
    // What runs in the background ends before the script is read as ended.
    format!("set -euo pipefail\nexec 2>&1\n{blocks}echo; echo @@end\n")
}

#[test]
fn the_guides_commands_do_what_it_says() {
    if !can_mount() {
        return;
    }
    let needed = ["dpkg-deb", "dpkg", "git", "setpriv", "strip"];
    let is_there = |name: &&&str| {
        ["/usr/bin", "/usr/sbin"].iter().any(|directory| Path::new(directory).join(name).exists())
    };
    if !needed.iter().all(|name| is_there(&name)) {
        return skip("needs dpkg, git, setpriv and strip");
    }
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| -> PathBuf { directory.path().join(name) };
    let blocks = blocks(GUIDE);
    assert!(blocks.len() > 15, "the blocks were not found: {}", blocks.len());
    fs::create_dir(path("room")).unwrap();
    fs::write(path("script"), script(&blocks)).unwrap();
    fs::write(path("systemctl"), include_str!("guide/systemctl.sh")).unwrap();
    let program = Path::new(env!("CARGO_BIN_EXE_secretfs"));
    let output = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "--pid", "--fork", "--kill-child"])
        .args(["bash", "-c", include_str!("guide/machine.sh")])
        .env("ROOM", path("room"))
        .env("SOURCE", env!("CARGO_MANIFEST_DIR"))
        .env("PROGRAMS", program.parent().unwrap())
        .env("STAND_IN", path("systemctl"))
        .env("SCRIPT", path("script"))
        .stdin(Stdio::null())
        .output()
        .expect("util-linux is there");
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(said.ends_with("@@end\n"), "a command failed ({}):\n{said}\n{errors}", output.status);
    for block in &blocks {
        let begin = format!("\n@@{}\n", block.line);
        let (_, rest) = said.split_once(&begin).expect("each block was begun");
        let mut rest = rest.split("\n@@").next().expect("there is always a first");
        for promise in block.promises() {
            let Some((_, after)) = rest.split_once(promise) else {
                panic!("line {}: `{promise}` is not in what is left:\n{rest}", block.line)
            };
            rest = after;
        }
    }
}

/// The code spans of a line of Markdown, with one backtick or two around them.
fn spans(text: &str) -> Vec<&str> {
    let mut spans = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find('`') {
        let after = &rest[start..];
        let fence = if after.starts_with("``") { "``" } else { "`" };
        let after = &after[fence.len()..];
        let Some(end) = after.find(fence) else { break };
        spans.push(after[..end].trim());
        rest = &after[end + fence.len()..];
    }
    spans
}

/// All of the source's text, each string of it on one line.
fn source() -> String {
    let (mut text, mut directories) = (String::new(), vec!["src".into(), PathBuf::from("mount")]);
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(directory)).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|name| name == "rs") {
                text += &fs::read_to_string(path).unwrap();
            }
        }
    }
    let lines: Vec<_> = text.split("\\\n").map(str::trim_start).collect();
    lines.concat().replace("\\\"", "\"")
}

#[test]
fn the_errors_that_the_guide_explains_are_the_programs_own() {
    let source = source();
    let (_, section) = GUIDE.split_once("\n## Troubleshooting by error text\n").unwrap();
    let (own, _system) = section.split_once("\n### Errors of the system\n").unwrap();
    let rows = own.lines().filter(|line| line.starts_with("| `"));
    let mut count = 0;
    for row in rows {
        let spans = spans(row);
        for part in spans[0].split('…').map(|part| part.trim_matches([' ', '`', ':', ')', '('])) {
            assert!(source.contains(part), "no part of the source says `{part}`");
        }
        count += 1;
    }
    assert!(count > 40, "the rows were not found: {count}");
}
