//! Machines of a network, each a network namespace that ends with the test.

use std::fs;
use std::process::{Child, Command, Stdio};

use nix::unistd::Pid;

use crate::harness::eventually;

/// A switch to which all machines are connected, and which has an address itself.
pub(super) struct Network {
    hub: Machine,
    count: u8,
}

/// One machine.
pub(super) struct Machine {
    holder: Child,
    number: u8,
}

impl Network {
    pub(super) fn new() -> Self {
        let hub = Machine::new(254);
        hub.run("ip", &["link", "add", "br0", "type", "bridge"]);
        hub.run("ip", &["addr", "add", &format!("{}/24", hub.address()), "dev", "br0"]);
        hub.run("ip", &["link", "set", "br0", "up"]);
        Self { hub, count: 0 }
    }

    /// Adds a machine, connected.
    pub(super) fn machine(&mut self) -> Machine {
        self.count += 1;
        let machine = Machine::new(self.count);
        let (port, address) = (machine.port(), format!("{}/24", machine.address()));
        let [hub, own] = [&self.hub, &machine].map(|one| one.pid().to_string());
        run(Command::new("ip")
            .args(["link", "add", &port, "netns", &hub, "type", "veth"])
            .args(["peer", "name", "eth0", "netns", &own]));
        self.hub.run("ip", &["link", "set", &port, "master", "br0", "up"]);
        machine.run("ip", &["link", "set", "lo", "up"]);
        machine.run("ip", &["addr", "add", &address, "dev", "eth0"]);
        machine.run("ip", &["link", "set", "eth0", "up"]);
        machine
    }

    /// Pulls the plug of a machine, or puts it back.
    pub(super) fn connect(&self, machine: &Machine, is_connected: bool) {
        let state = if is_connected { "up" } else { "down" };
        self.hub.run("ip", &["link", "set", &machine.port(), state]);
    }

    /// The machine that is the switch.
    pub(super) fn hub(&self) -> &Machine {
        &self.hub
    }
}

impl Machine {
    fn new(number: u8) -> Self {
        let holder = Command::new("unshare")
            .args(["--net", "--kill-child", "sleep", "infinity"])
            .stdin(Stdio::null())
            .spawn()
            .expect("util-linux is installed");
        let machine = Self { holder, number };
        let own = fs::read_link("/proc/self/ns/net").expect("Linux has namespaces");
        eventually("the machine has a network of its own", || {
            fs::read_link(machine.namespace()).is_ok_and(|other| other != own)
        });
        machine
    }

    pub(super) fn address(&self) -> String {
        format!("10.213.0.{}", self.number)
    }

    pub(super) fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.holder.id()).expect("Linux's ids fit"))
    }

    pub(super) fn namespace(&self) -> String {
        format!("/proc/{}/ns/net", self.holder.id())
    }

    fn port(&self) -> String {
        format!("port{}", self.number)
    }

    /// A program on this machine, which has the files of the one that the test runs on.
    pub(super) fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.namespace())).arg(program);
        command
    }

    pub(super) fn run(&self, program: &str, arguments: &[&str]) -> String {
        run(self.command(program).args(arguments))
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

#[track_caller]
fn run(command: &mut Command) -> String {
    let output = command.output().expect("the program is installed");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}
