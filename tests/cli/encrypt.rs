//! `encrypt` and `convert`: sealed documents.

use crate::harness::{ALICE, ROOT, UNKNOWN};
use crate::kit::{Cli, Outcome};

/// A document without what is random in it.
fn plain(outcome: &Outcome) -> String {
    let is_value = |line: &&str| line.trim_start().starts_with("value: ");
    for line in outcome.stdout.lines().filter(is_value) {
        let sealed = line.trim_start().trim_start_matches("value: \"").trim_end_matches('"');
        assert!(sealed.len() > 40 && !sealed.contains(' '), "{line}");
    }
    outcome.stdout.lines().filter(|line| !is_value(line)).map(|line| format!("{line}\n")).collect()
}

#[test]
fn needs_no_right_and_prints_the_form_of_the_reference() {
    let Some(cli) = Cli::start() else { return };
    for person in [ROOT, ALICE, UNKNOWN] {
        let outcome = cli.run(person, "oo secret encrypt example-key example-value");
        assert_eq!((outcome.code, outcome.stderr.as_str()), (Some(0), ""));
        assert_eq!(
            plain(&outcome),
            "id: \"secr_…\"\nkey: \"example-key\"\nencrypted: true\nchecksum: \"45a3b25f\"\n\
             checksumAlgorithm: \"CRC32\"\n"
        );
    }
    cli.run(ROOT, "secretfs list -o json").is(0, "[]\n", "");
}

#[test]
fn every_source_of_a_value_and_every_checksum() {
    let Some(cli) = Cli::start() else { return };
    cli.file(ALICE, "f", "example-value");
    for (arguments, checksum) in [
        ("- --checksum-algorithm crc32", "45a3b25f"),
        ("--from-file f --checksum-algorithm SHA-256", &sha("sha256sum", &cli)),
        ("--from-file f --checksum-algorithm SHA-512", &sha("sha512sum", &cli)),
    ] {
        let line = format!("secretfs encrypt K {arguments} | sed -n 's/^checksum: //p'");
        let outcome = cli.run_with(ALICE, &line, b"example-value");
        outcome.is(0, &format!("\"{checksum}\"\n"), "");
    }
    cli.run(ALICE, "secretfs encrypt K v --checksum-algorithm none | grep -c checksum")
        .is(1, "0\n", "");
    let outcome = cli.run(ALICE, "secretfs encrypt K v --checksum-algorithm BLAKE2s");
    assert!(outcome.done().ends_with("checksumAlgorithm: \"BLAKE2s\"\n"), "{}", outcome.stdout);
    cli.run_with(ALICE, "secretfs encrypt K - > /dev/null", b"v\n").is(
        0,
        "",
        "Warning: the value ends in a newline, which is kept; use --trim to take it off\n",
    );
}

fn sha(program: &str, cli: &Cli) -> String {
    cli.run(ALICE, &format!("{program} < f")).done().split(' ').next().expect("a word").to_owned()
}

#[test]
fn what_it_prints_passes_the_hook() {
    let Some(cli) = Cli::start() else { return };
    let line = "secretfs encrypt K v > k.yaml && secretfs verify --require-encrypted k.yaml";
    cli.run(ALICE, line).is(0, "", "Nothing is wrong with 1 documents in 1 files.\n");
}

/// `example-value` as upstream's tool writes it, under its default key.
const UPSTREAM: &str = "AAECAwQFBgcICQoLDA0ODz2GV7Gs4gRN6S4UF7ATLec=";

#[test]
fn convert_seals_the_files_of_upstreams_tool() {
    let Some(cli) = Cli::start() else { return };
    let head = "id: \"secr_up\"\nkey: \"example-key\"\n";
    let tail = "checksum: \"45a3b25f\"\nchecksumAlgorithm: \"CRC32\"\n";
    let lists = "readers: [\"alice\"]\n";
    let upstream =
        format!("# a comment\n{head}value: \"{UPSTREAM}\"\nencrypted: true\n{tail}{lists}");
    cli.file(ALICE, "up.yaml", &upstream);
    let converted = cli.run(ALICE, "secretfs convert up.yaml");
    assert_eq!((converted.code, converted.stderr.as_str()), (Some(0), ""));
    assert_eq!(plain(&converted), format!("{head}encrypted: true\n{tail}{lists}"));
    assert!(!converted.stdout.contains(UPSTREAM));
    // What is sealed stays as it is.
    cli.file(ALICE, "sealed.yaml", &converted.stdout);
    cli.run(ALICE, "secretfs convert sealed.yaml").is(0, &converted.stdout, "");
    cli.file(ALICE, "wrong-key", "0123456789abcdef0123456789abcdef");
    let refused = cli.run(ALICE, "secretfs convert --encryption-key-file wrong-key up.yaml");
    assert_eq!((refused.code, refused.stdout.as_str()), (Some(5), ""), "{}", refused.stderr);
    assert!(refused.stderr.starts_with("Error: up.yaml: line 4: "), "{}", refused.stderr);
}
