//! `encrypt --in`, `encrypt --from` and `reseal`: files that get values and nothing else.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use crate::harness::{ALICE, ROOT, set_mode};
use crate::kit::Cli;

const FOREIGN: &str = include_str!("foreign.recipient");

const FILE: &str = "# of the web servers\r\n- key: alice/A   # the first\r\n  readers: [ alice, 'bob' ]\r\n  value: >-\r\n    \
                    in the clear\r\n- {key: alice/B, value: \"old\"}   # the second\r\n\r\n# the end\r\n";

/// The text without the values, which are random, and whether each is sealed.
fn without_values(text: &str) -> String {
    let words = text.split_inclusive(['"', '\n']);
    words.map(|word| if word.contains("c2ZzA") { "SEALED" } else { word }).collect()
}

#[test]
fn a_document_in_a_file_gets_the_value_and_nothing_else_changes() {
    let Some(cli) = Cli::start() else { return };
    cli.file(ALICE, "r", cli.run(ROOT, "secretfs recipient").done());
    cli.file(ALICE, "web.yaml", FILE);
    let path = cli.home(ALICE).join("web.yaml");
    std::os::unix::fs::chown(&path, Some(ALICE.uid), Some(ALICE.uid)).unwrap();
    std::os::unix::fs::chown(cli.home(ALICE).join("r"), Some(ALICE.uid), None).unwrap();
    set_mode(&path, 0o640);
    cli.run(ALICE, "ln -s web.yaml link.yaml").done();
    let sealed = "Sealed 1 values into 1 files.\n";
    cli.run(ALICE, "secretfs encrypt alice/B hunter2 --in link.yaml").is(0, "", sealed);
    let second = FILE.replace("value: \"old\"", "encrypted: true, value: \"SEALED\"");
    let text = || fs::read_to_string(&path).unwrap();
    assert_eq!(
        without_values(&text()).replace("SEALED\"", "SEALED"),
        second.replace("SEALED\"", "SEALED")
    );
    cli.run(ALICE, "printf hunter3 | secretfs encrypt alice/A - --in web.yaml --to r")
        .is(0, "", sealed);
    cli.run(
        ALICE,
        "printf hunter4 > v; secretfs encrypt alice/C --from-file v --in web.yaml --to r",
    )
    .is(0, "", sealed);
    let now = text();
    assert!(now.contains("'bob' ]\r\n  encrypted: true\r\n  value: >-\r\n    c2ZzA"), "{now}");
    assert!(
        now.contains("# the end\r\n- id: \"secr_") && now.ends_with("  encrypted: true\r\n"),
        "{now}"
    );
    assert!(!now.contains("hunter") && !now.contains("in the clear"));
    let metadata = path.metadata().unwrap();
    assert_eq!((metadata.mode() & 0o7777, metadata.uid()), (0o640, ALICE.uid));
    assert!(cli.home(ALICE).join("link.yaml").is_symlink());
    cli.run(ALICE, "ls -A").is(0, "link.yaml\nr\nv\nweb.yaml\n", "");
    cli.run(ALICE, "secretfs save web.yaml && cat $SECRETFS_MOUNT/alice/{A,B,C}").is(
        0,
        "hunter3hunter2hunter4",
        "line 2: alice/A: created\nline 7: alice/B: created\nline 10: alice/C: created\n",
    );
}

#[test]
fn a_checksum_is_kept_right_and_errors_change_nothing() {
    let Some(cli) = Cli::prepare() else { return };
    cli.file(ALICE, "r", FOREIGN);
    let old = "key: K\nvalue: v\nchecksum: \"4d0a4b6a\" # c\n";
    cli.file(ALICE, "k.yaml", "key: K\nvalue: v\nreadrs: []\n");
    cli.run(ALICE, "secretfs encrypt K v --in k.yaml --to r").is(
        5,
        "",
        "Error: k.yaml: line 3: unknown field `readrs`; did you mean `readers`?\n",
    );
    fs::remove_file(cli.home(ALICE).join("k.yaml")).unwrap();
    cli.run(ALICE, "printf 'key: K\\nvalue: v\\n' > k.yaml").done();
    cli.run(ALICE, "secretfs encrypt K/below v --in k.yaml --to r")
        .code
        .filter(|&code| code == 5)
        .unwrap();
    cli.run(ALICE, "cat k.yaml").is(0, "key: K\nvalue: v\n", "");
    let write = format!("cat > k.yaml <<'END'\n{old}END\n");
    cli.run(ALICE, &write).done();
    cli.run(ALICE, "secretfs encrypt K example-value --in k.yaml --to r --checksum-algorithm none").is(
        5,
        "",
        "Error: `K` in k.yaml has a checksum, which would be wrong; remove it there, or name an algorithm\n",
    );
    cli.run(ALICE, "cat k.yaml").is(0, old, "");
    cli.run(ALICE, "secretfs encrypt K example-value --in k.yaml --to r && tail -1 k.yaml").is(
        0,
        "checksum: \"45a3b25f\" # c\n",
        "Sealed 1 values into 1 files.\n",
    );
}

#[test]
fn many_values_at_once() {
    let Some(cli) = Cli::start() else { return };
    cli.file(ALICE, "r", cli.run(ROOT, "secretfs recipient").done());
    let dotenv = b"# c\nexport A=hunter2\nB=\"two\\nlines\" # c\n";
    let from = "secretfs encrypt --from dotenv --prefix alice/web/ --to r";
    let piped = cli.run_with(ALICE, &format!("{from} > web.yaml; secretfs save web.yaml"), dotenv);
    piped.is(0, "", "line 1: alice/web/A: created\nline 5: alice/web/B: created\n");
    cli.run(ALICE, "cat $SECRETFS_MOUNT/alice/web/*").is(0, "hunter2two\nlines", "");
    // Into a directory: the file that has the key, and new ones.
    cli.run_with(
        ALICE,
        &format!("mkdir d; mv web.yaml d; {from} --in d"),
        b"A=hunter3\nC=hunter4\n",
    )
    .is(0, "", "Sealed 2 values into 2 files.\n");
    cli.run(ALICE, "cd d; find . -type f | sort; stat -c %a alice/web/C.yaml").is(
        0,
        "./alice/web/C.yaml\n./web.yaml\n644\n",
        "",
    );
    cli.run(ALICE, "secretfs save d && cat $SECRETFS_MOUNT/alice/web/{A,C}").done();
    cli.run(ALICE, "cat $SECRETFS_MOUNT/alice/web/{A,C}").is(0, "hunter3hunter4", "");
    let secret =
        b"kind: Secret\ndata:\n  .dockerconfigjson: aHVudGVyNQ==\nstringData: {t: hunter6}\n";
    let from = "secretfs encrypt --from kubernetes --prefix alice/ci/ --to r --in k/";
    cli.run_with(ALICE, from, secret).is(0, "", "Sealed 2 values into 2 files.\n");
    cli.run(
        ALICE,
        "secretfs save k/ 2>/dev/null; cat $SECRETFS_MOUNT/alice/ci/{.dockerconfigjson,t}",
    )
    .is(0, "hunter5hunter6", "");
    cli.run(ALICE, "grep -rl hunter . | wc -l").is(0, "0\n", "");
    for (input, said) in [
        (
            &b"A=1\nhunter2\n"[..],
            "Error: standard input: line 2: this is not NAME=VALUE; a name has letters, digits, `_`, `.` and `-`, and begins with a letter or `_`\n",
        ),
        (b"", "Error: standard input: line 1: there is no value in it\n"),
    ] {
        cli.run_with(ALICE, "secretfs encrypt --from dotenv --to r", input).is(5, "", said);
    }
    assert_eq!(cli.run(ALICE, "secretfs encrypt K v --from dotenv").code, Some(2));
    assert_eq!(cli.run(ALICE, "secretfs encrypt").code, Some(2));
}

#[test]
fn reseal_puts_values_under_the_current_key_and_leaves_the_rest() {
    let Some(cli) = Cli::start() else { return };
    cli.file(ALICE, "r", cli.run(ROOT, "secretfs recipient").done());
    cli.file(ALICE, "foreign", FOREIGN);
    cli.run(
        ALICE,
        "secretfs encrypt alice/A hunter2 > s; secretfs encrypt alice/B hunter3 --to r >> s",
    )
    .done();
    let values: Vec<String> = cli
        .run(ALICE, "grep ^value s | cut -d'\"' -f2")
        .done()
        .lines()
        .map(str::to_owned)
        .collect();
    let lines = |value: &str| {
        value
            .as_bytes()
            .chunks(70)
            .map(|line| format!("    {}\n", String::from_utf8_lossy(line)))
            .collect::<String>()
    };
    let text = |a: &str, b: &str| {
        format!(
            "# of the web servers\n- key: alice/A # c\n  encrypted: true\n  value: '{a}' # d\n- value: |\n{}\n  key: alice/B\n  \
         encrypted: true\n- {{key: alice/C, value: plain}}\n",
            lines(b)
        )
    };
    cli.run(ALICE, "mkdir d").done();
    cli.run_with(ALICE, "cat > d/web.yaml", text(&values[0], &values[1]).as_bytes()).done();
    cli.run(ALICE, "printf 'key: alice/L\\nreaders: [alice]\\n' > d/lists.yaml").done();

    // The key is replaced; the old one still opens what it sealed.
    let previous = cli.mount.state().with_file_name("previous");
    fs::write(&previous, crate::harness::KEY).unwrap();
    set_mode(&previous, 0o600);
    let Cli { mut mount } = cli;
    mount.stop();
    let another = "00000000000000000000000000000000000000000000000000000000000000ff";
    let file = ["--previous-encryption-key-file", previous.to_str().unwrap()];
    let mut mount = mount.with_env("OB_ENCRYPTION_KEY", Some(another)).with_args(&file);
    mount.go();
    let cli = Cli { mount };
    cli.file(ALICE, "new", cli.run(ROOT, "secretfs recipient").done());
    assert_eq!(cli.run(ALICE, "secretfs verify --to new d").code, Some(1));
    cli.run(ALICE, "secretfs reseal d").is(0, "", "Re-encrypted 2 values in 1 files.\n");
    cli.run(ALICE, "secretfs verify --to new d").done();
    let now = fs::read_to_string(cli.home(ALICE).join("d/web.yaml")).unwrap();
    let [a, b] = [
        now.split('\'').nth(1).unwrap(),
        now.split("value: |\n").nth(1).unwrap().split("\n\n").next().unwrap(),
    ];
    let b: String = b.split_whitespace().collect();
    assert!(a != values[0] && b != values[1]);
    assert_eq!(now, text(a, &b));
    cli.run(ALICE, "secretfs save d/web.yaml 2>/dev/null && cat $SECRETFS_MOUNT/alice/{A,B}").is(
        0,
        "hunter2hunter3",
        "",
    );

    // What does not open, and what is foreign, changes no file.
    cli.run(ALICE, "secretfs encrypt alice/D v --to foreign > d/x.yaml; sed -i s,alice/A,alice/M, d/web.yaml; cp -r d e").done();
    let refused = cli.run(ALICE, "secretfs reseal d");
    assert_eq!((refused.code, refused.stdout.as_str()), (Some(5), ""));
    let lines: Vec<_> = refused.stderr.lines().collect();
    assert!(
        lines[0].starts_with("Error: d/web.yaml: line 4: ")
            && lines[0].contains("another key name"),
        "{}",
        lines[0]
    );
    assert!(
        lines[1].starts_with("Error: d/x.yaml: line 3: ")
            && lines[1].contains("recipient of another key"),
        "{}",
        lines[1]
    );
    cli.run(ALICE, "diff -r d e").is(0, "", "");
    cli.run(ALICE, "printf x > $SECRETFS_MOUNT/.encrypt/.reseal/K; cat $SECRETFS_MOUNT/.status/last-error | tail -1 | grep -c 'open it for reading'").is(0, "1\n", "bash: line 1: /secrets/.encrypt/.reseal/K: Operation not permitted\n");
}

#[test]
fn a_file_is_the_old_or_the_new_one_whenever_it_is_interrupted() {
    let Some(cli) = Cli::prepare() else { return };
    cli.file(ALICE, "r", FOREIGN);
    let all =
        |prefix: &str| (0..400).map(|number| format!("{prefix}{number}=v\n")).collect::<String>();
    let from = "secretfs encrypt --from dotenv --to r --in all.yaml";
    cli.run_with(ALICE, from, all("A").as_bytes()).done();
    let (mut old, mut new) = (0, 0);
    for after in 0..12 {
        let before = fs::read(cli.home(ALICE).join("all.yaml")).unwrap();
        let line = format!("timeout -s KILL 0.{:03} {from}", 20 + 40 * after);
        cli.run_with(ALICE, &line, all("A").as_bytes());
        let now = fs::read(cli.home(ALICE).join("all.yaml")).unwrap();
        if now == before {
            old += 1;
        } else {
            new += 1;
            let verified = cli.run(ALICE, "secretfs verify --to r all.yaml");
            assert_eq!(verified.stderr, "Nothing is wrong with 400 documents in 1 files.\n");
            assert!(now.len() == before.len(), "each value has another one");
        }
    }
    println!("interrupted before the change: {old}, after: {new}");
    assert_eq!(
        cli.home(ALICE).join("all.yaml").metadata().unwrap().permissions().mode() & 0o777,
        0o644
    );
}
