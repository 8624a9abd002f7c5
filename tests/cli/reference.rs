//! Every command line of the reference, taken from its own text, runs as it is written: as an admin,
//! from the first to the last, in a directory that has the files which the lines name.

use crate::harness::{ALICE, BUILT_IN_KEY, ROOT};
use crate::kit::Cli;
use crate::terminal::Terminal;

/// The source description of the service, as it was given.
const REFERENCE: &str = include_str!("reference/secret-svc.md");

/// Where a line names what is to be put there, and what this test puts there.
const PLACEHOLDERS: [(&str, &str); 10] = [
    ("[--key <key2>...]", "--key KEY_2"),
    ("[--id <id2>...]", "--id secr_id_2"),
    ("<key>", "KEY_1"),
    ("<id>", "secr_id_1"),
    ("<value>", "value"),
    ("[value]", "value"),
    ("<file.yaml>", "my-api-key.yaml"),
    ("<directory>", "secrets/production/"),
    ("[options]", "--show --namespace dev"),
    ("[key-pattern]", "KEY"),
];

/// A command line, and the lines of text that follow it up to the next.
struct Example {
    line: String,
    shown: Vec<&'static str>,
}

fn examples() -> Vec<Example> {
    let mut examples: Vec<Example> = Vec::new();
    for line in REFERENCE.lines() {
        let command = line.strip_prefix("$ ").unwrap_or(line);
        if command.starts_with("oo secret ") {
            let fill = |line: String, (from, to): &(&str, &str)| line.replace(from, to);
            let line = PLACEHOLDERS.iter().fold(command.to_owned(), fill);
            examples.push(Example { line, shown: Vec::new() });
        } else if let Some(last) = examples.last_mut() {
            last.shown.push(line);
        }
    }
    examples
}

/// The reference names a command alone where it introduces it.
fn is_heading(line: &str) -> bool {
    ["oo secret save", "oo secret remove", "oo secret encrypt"].contains(&line)
}

/// `encrypt` with a key alone asks for the value.
fn is_question(line: &str) -> bool {
    let command = line.split(" > ").next().unwrap_or(line);
    command.starts_with("oo secret encrypt") && command.split(' ').count() == 4
}

#[test]
fn every_line_runs_as_written() {
    let Some(cli) = Cli::start() else { return };
    let insecure = Cli::prepare().expect("it was possible");
    let mount = insecure.mount.with_env("OB_ENCRYPTION_KEY", Some(BUILT_IN_KEY)).started();
    let insecure = Cli { mount };
    make_files(&cli);
    let examples = examples();
    assert!(examples.len() > 50, "only {} lines were found", examples.len());
    for Example { line, shown } in &examples {
        if is_heading(line) {
            let outcome = cli.run(ROOT, line);
            assert_eq!(outcome.code, Some(2), "{line}");
            assert!(outcome.stderr.contains(&format!("\nUsage: {line} ")), "{}", outcome.stderr);
        } else if is_question(line) {
            let mut terminal = Terminal::run(&cli, ROOT, 80, line);
            terminal.expect_question("Enter secret value: ");
            terminal.type_in("example-value\r");
            let (code, shown) = terminal.end();
            assert_eq!(code, 0, "{line}: {shown}");
        } else if line == "oo secret is-secure" {
            match shown.first() {
                Some(error) if error.starts_with("Error: ") => {
                    insecure.run(ROOT, line).is(1, "", &format!("{error}\n"));
                }
                _ => cli.run(ROOT, line).is(0, "Service is secure.\n", ""),
            }
        } else {
            prepare(&cli, line);
            cli.run(ROOT, line).done();
        }
    }
    // What the last part of the reference has saved.
    for (key, value) in [
        ("auth-svc/OAUTH_CLIENT_SECRET", "oauth-client-secret"),
        ("payment-svc/STRIPE_SECRET_KEY", "sk_live_abc123"),
        ("email-svc/SENDGRID_API_KEY", "SG.abc123"),
        ("dev/REDIS_URL", "redis://localhost:6379"),
        ("production/API_KEY", "example-value"),
        ("staging/API_KEY", "example-value"),
        ("JWT_SECRET", "example-value"),
        ("MY_API_KEY", "example-value"),
    ] {
        cli.run(ROOT, &format!("cat $SECRETFS_MOUNT/{key}")).is(0, value, "");
    }
}

#[test]
fn encrypt_prints_the_documents_of_the_reference() {
    let Some(cli) = Cli::start() else { return };
    let example = examples().swap_remove(0);
    assert_eq!(example.line, "oo secret encrypt example-key example-value");
    let printed = cli.run(ROOT, &example.line);
    let without_random = |lines: &mut dyn Iterator<Item = &str>| -> Vec<String> {
        lines
            .map(|line| match line.split_once(": ") {
                Some((field @ ("id" | "value"), _)) => field.to_owned(),
                _ => line.to_owned(),
            })
            .collect()
    };
    assert_eq!(
        without_random(&mut printed.done().lines()),
        without_random(&mut example.shown.iter().copied().take(6))
    );
    assert_ne!(cli.run(ROOT, &example.line).stdout, printed.stdout, "sealed twice, it differs");
}

#[test]
fn service_specific_secrets_get_the_slug_of_a_user() {
    let Some(cli) = Cli::start() else { return };
    for (line, key) in [
        ("oo secret save auth-svc/JWT_SECRET", "alice/auth-svc/JWT_SECRET"),
        ("oo secret save payment-svc/WEBHOOK_SECRET", "alice/payment-svc/WEBHOOK_SECRET"),
    ] {
        let examples = examples();
        let example = examples.iter().find(|example| example.line.starts_with(line));
        let example = example.expect("it stands in the reference");
        cli.run(ALICE, &example.line).is(0, "", &format!("Saved `{key}`.\n"));
    }
}

/// What a line takes for granted.
fn prepare(cli: &Cli, line: &str) {
    let words: Vec<&str> = line.split(' ').collect();
    for pair in words.windows(2) {
        match pair {
            ["--key", key] if line.contains(" remove ") => {
                cli.run(ROOT, &format!("oo secret save {key} value")).done();
            }
            ["--id", id] => {
                let document = format!("{{id: {id}, key: OF-{id}, value: value}}");
                cli.file(ROOT, "with-id.yaml", document);
                cli.run(ROOT, "oo secret save with-id.yaml").done();
            }
            _ => {}
        }
    }
}

/// The files that the lines name, in the forms that the reference shows, with values that are sealed.
fn make_files(cli: &Cli) {
    let sealed = |key: &str| {
        let document = cli.run(ROOT, &format!("oo secret encrypt {key} example-value"));
        document.done().to_owned()
    };
    let as_item = |document: String| {
        let indented: String = document.lines().map(|line| format!("  {line}\n")).collect();
        indented.replacen("  ", "- ", 1)
    };
    let raw = |key: &str| {
        // Not through `sealed`, whose output has its id and its times replaced.
        let lists = "readers: [\"payment-svc\", \"order-svc\", \"admin-team\"]\n\
                     writers:\n- \"admin-team\"\n- \"devops-team\"\n";
        sealed(key).lines().skip(1).map(|line| format!("{line}\n")).collect::<String>() + lists
    };
    cli.file(ROOT, "my-api-key.yaml", raw("MY_API_KEY"));
    cli.file(ROOT, "secrets/production/api-key.yaml", raw("production/API_KEY"));
    cli.file(ROOT, "secrets/staging/api-key.yml", raw("staging/API_KEY"));
    let two = as_item(
        raw("DATABASE_URL_2")
            .replace("writers:\n- ", "writers:\n  - ")
            .replace("\n- \"devops", "\n  - \"devops"),
    ) + &as_item(raw("JWT_SECRET"))
        + "- key: \"REDIS_URL\"\n  value: \"redis://localhost:6379\"\n  encrypted: false\n  \
           readers: [\"api-svc\", \"cache-svc\"]\n  writers: [\"devops-team\"]\n";
    cli.file(ROOT, "environments/staging-secrets.yaml", two);
}
