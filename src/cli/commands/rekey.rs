//! `rekey`: re-seals everything under the current encryption key.

use std::collections::BTreeMap;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde::{Deserialize, Serialize};

use crate::cli::args::{Format, Output};
use crate::cli::client::{Client, ClientError};
use crate::cli::error::{CliError, Result};
use crate::cli::offline::{OfflineArgs, SelectedMount};
use crate::cli::output::print;
use crate::cli::style;
use crate::daemon;
use crate::vault::{RekeyState, RekeyTask, Vault};

/// How often to look how far it is.
const LOOK: Duration = Duration::from_millis(100);

const EXAMPLES: &str = "\
To replace a key without stopping anything: put the old key into the file of
--previous-encryption-key-file and the new one into that of --encryption-key-file, send the daemon
SIGHUP, and run `secretfs rekey`. When it is done, take the old key out and send SIGHUP again.

It may be interrupted at any point, also with kill -9, and run again.

Examples:
  secretfs rekey                 # as an admin, while the daemon serves
  secretfs rekey --count         # how many records each key has sealed
  secretfs rekey --offline --encryption-key-file new --previous-encryption-key-file old";

/// Re-seal everything under the current encryption key; tells how many records each key has sealed.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(in super::super) struct Args {
    /// Count only, and re-seal nothing.
    #[arg(long)]
    count: bool,
    #[command(flatten)]
    offline: OfflineArgs,
    #[command(flatten)]
    output: Output,
}

/// What `.status/rekey` says.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Status {
    state: State,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    seen: u64,
    expected: u64,
    resealed: u64,
    /// How many records each key has sealed, by its id.
    records: BTreeMap<String, u64>,
    unreadable: u64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    unreadable_named: Vec<String>,
    current: String,
    /// The keys that the store needs.
    needed: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum State {
    Idle,
    Running,
    Counting,
    Done,
    Counted,
    Failed,
}

pub(in super::super) fn run(
    mount: &SelectedMount,
    client: impl FnOnce() -> Result<Client, ClientError>,
    args: Args,
) -> Result {
    let task = if args.count { RekeyTask::Count } else { RekeyTask::Reseal };
    let format = args.output.format;
    let status = if args.offline.offline {
        offline(mount, args.offline, task)?
    } else {
        online(&client()?, task)?
    };
    show(&status, format)?;
    verdict(&status, task)
}

fn online(client: &Client, task: RekeyTask) -> Result<Status> {
    let not_understood = || ClientError::not_understood(".status/rekey");
    let look = || -> Result<Status> {
        Ok(serde_yaml::from_str(&client.status("rekey")?).map_err(|_| not_understood())?)
    };
    client.command("rekey", if task == RekeyTask::Count { "count\n" } else { "start\n" })?;
    until_over(look)
}

fn offline(mount: &SelectedMount, args: OfflineArgs, task: RekeyTask) -> Result<Status> {
    let vault = daemon::rekey_offline(args.settings(mount)?, task)?;
    until_over(|| Ok(Status::of(&vault)))
}

/// Shows how far it is, where standard error is a terminal, until it is over.
fn until_over(look: impl Fn() -> Result<Status>) -> Result<Status> {
    let style = ProgressStyle::with_template("{wide_bar} {pos}/{len} records, {eta} left")
        .expect("the template is valid");
    let bar = ProgressBar::new(0).with_style(style);
    loop {
        let status = look()?;
        if !matches!(status.state, State::Running | State::Counting) {
            bar.finish_and_clear();
            return Ok(status);
        }
        bar.set_length(status.expected);
        bar.set_position(status.seen);
        std::thread::sleep(LOOK);
    }
}

fn show(status: &Status, format: Format) -> Result {
    match format {
        Format::Json => {
            let text = serde_json::to_string(status).expect("strings and numbers always encode");
            print(&format!("{text}\n"))
        }
        Format::Yaml => {
            let text = serde_yaml::to_string(status).expect("strings and numbers always encode");
            print(&text)
        }
        Format::Table => {
            let role = |id: &String| if *id == status.current { " (current)" } else { "" };
            let line = |(id, count)| format!("{id}  {count} records{}\n", role(id));
            print(&status.records.iter().map(line).collect::<String>())
        }
    }
}

/// What became of it, as a sentence or an error.
fn verdict(status: &Status, task: RekeyTask) -> Result {
    if let Some(error) = status.error.as_ref().filter(|_| status.state == State::Failed) {
        return Err(CliError::Rekey(error.clone()));
    }
    if status.unreadable > 0 {
        let mut lines = vec![format!(
            "{} records do not unseal; they need the keys {} until they are written anew or removed",
            status.unreadable,
            status.needed.join(" and ")
        )];
        lines.extend(status.unreadable_named.iter().cloned());
        return Err(CliError::No(lines));
    }
    if task == RekeyTask::Reseal {
        style::note(&format!(
            "Re-sealed {} records. Everything is sealed with the key {}; no other is needed.",
            status.resealed, status.current
        ));
    }
    Ok(())
}

impl Status {
    fn of(vault: &Vault) -> Self {
        let status = vault.rekey_status();
        let (current, needed) = vault.key_ids();
        let (state, error) = match status.state {
            RekeyState::Idle => (State::Idle, None),
            RekeyState::Running(RekeyTask::Reseal) => (State::Running, None),
            RekeyState::Running(RekeyTask::Count) => (State::Counting, None),
            RekeyState::Done(RekeyTask::Reseal) => (State::Done, None),
            RekeyState::Done(RekeyTask::Count) => (State::Counted, None),
            RekeyState::Failed(why) => (State::Failed, Some(why)),
        };
        Self {
            state,
            error,
            seen: status.seen,
            expected: status.expected,
            resealed: status.resealed,
            records: status.counts.iter().map(|(id, count)| (id.to_string(), *count)).collect(),
            unreadable: status.unreadable,
            unreadable_named: status.unreadable_named,
            current: current.to_string(),
            needed: needed.iter().map(ToString::to_string).collect(),
        }
    }
}
