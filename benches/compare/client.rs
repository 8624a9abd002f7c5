//! The clients: processes of their own (this program again, with an argument), of a user who is no
//! admin, each with one thread that does raw system calls.

use std::io::{self, BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use nix::unistd::{Gid, Uid, setgid, setgroups, setuid};

use super::job::{Job, Took};

/// The argument that makes this program a client.
pub(crate) const ARGUMENT: &str = "--as-client";
/// The user that clients are: `nobody`.
pub(crate) const USER: u32 = 65534;

/// Serves the jobs on standard input until it ends. A line each way for every step: the job, `ready`,
/// `go`, the outcome.
pub(crate) fn serve() -> io::Result<()> {
    setgroups(&[])?;
    setgid(Gid::from_raw(USER))?;
    setuid(Uid::from_raw(USER))?;
    let mut lines = io::stdin().lines();
    while let Some(line) = lines.next() {
        let job: Job = serde_json::from_str(&line?)?;
        println!("ready");
        let Some(_go) = lines.next().transpose()? else { return Ok(()) };
        let outcome: Result<Took, String> = job.run().map_err(|error| error.to_string());
        println!("{}", serde_json::to_string(&outcome)?);
    }
    Ok(())
}

/// A client that waits for work.
struct Client {
    process: Child,
    jobs: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Client {
    fn start() -> io::Result<Self> {
        let mut process = Command::new(std::env::current_exe()?)
            .arg(ARGUMENT)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let missing = || io::Error::other("no pipe");
        let jobs = process.stdin.take().ok_or_else(missing)?;
        let answers = BufReader::new(process.stdout.take().ok_or_else(missing)?);
        Ok(Self { process, jobs, answers })
    }

    fn say(&mut self, line: &str) -> io::Result<()> {
        writeln!(self.jobs, "{line}")
    }

    fn hear(&mut self) -> io::Result<String> {
        let mut line = String::new();
        if self.answers.read_line(&mut line)? == 0 {
            return Err(io::Error::other("a client ended"));
        }
        Ok(line)
    }
}

/// Some clients.
pub(crate) struct Clients(Vec<Client>);

impl Clients {
    /// Starts so many.
    pub(crate) fn start(count: usize) -> io::Result<Self> {
        Ok(Self((0..count).map(|_| Client::start()).collect::<io::Result<_>>()?))
    }

    /// Lets as many clients as there are jobs do one each, at the same time, and gives what all of
    /// them together did: operations a second.
    pub(crate) fn run(&mut self, jobs: &[Job]) -> io::Result<f64> {
        let clients = &mut self.0[..jobs.len()];
        for (client, job) in clients.iter_mut().zip(jobs) {
            client.say(&serde_json::to_string(job)?)?;
            client.hear()?;
        }
        for client in clients.iter_mut() {
            client.say("go")?;
        }
        let mut rate = 0.0;
        for client in clients {
            let outcome: Result<Took, String> = serde_json::from_str(&client.hear()?)?;
            rate += outcome.map_err(io::Error::other)?.rate();
        }
        Ok(rate)
    }
}

impl Drop for Clients {
    /// Whatever they are doing: when all is well they do nothing.
    fn drop(&mut self) {
        for client in &mut self.0 {
            if let Err(error) = client.process.kill().and_then(|()| client.process.wait()) {
                eprintln!("a client did not end: {error}");
            }
        }
    }
}
