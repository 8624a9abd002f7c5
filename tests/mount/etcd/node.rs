//! Nodes of etcd, Debian's, on machines of their own.

use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::harness::{can_mount, eventually, skip};

use super::net::{Machine, Network};

/// Some nodes, one store.
pub(super) struct Etcd {
    pub(super) network: Network,
    nodes: Vec<Node>,
    arguments: Vec<String>,
    scheme: &'static str,
    /// What `etcdctl` needs beside the addresses.
    control: Vec<String>,
}

struct Node {
    machine: Machine,
    directory: TempDir,
    process: Option<Child>,
}

impl Etcd {
    /// That many, which agree; none where that cannot be tested.
    pub(super) fn start(count: usize) -> Option<Self> {
        Self::with(count, "http", &[], &[])
    }

    /// As [`Etcd::start`], with arguments of etcd and of etcdctl.
    pub(super) fn with(
        count: usize,
        scheme: &'static str,
        arguments: &[&str],
        control: &[&str],
    ) -> Option<Self> {
        if !can_mount() {
            return None;
        }
        let is_there = Command::new("etcd").arg("--version").stdout(Stdio::null()).status();
        if is_there.is_err() {
            skip("needs etcd; install etcd-server and etcd-client");
            return None;
        }
        let mut network = Network::new();
        let nodes = (0..count).map(|_| Node {
            machine: network.machine(),
            directory: tempfile::tempdir().expect("a directory"),
            process: None,
        });
        let nodes = nodes.collect();
        let strings = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect();
        let (arguments, control) = (strings(arguments), strings(control));
        let mut etcd = Self { network, nodes, arguments, scheme, control };
        (0..count).for_each(|number| etcd.revive(number));
        eventually("etcd answers", || etcd.try_control(&["get", "x"], 3).is_some());
        Some(etcd)
    }

    /// The address of the store.
    pub(super) fn store(&self, prefix: &str) -> String {
        let hosts: Vec<_> = self.nodes.iter().map(|node| node.machine.address()).collect();
        format!("etcd://{}{prefix}", hosts.join(","))
    }

    /// The address of the store for whoever knows that node alone.
    pub(super) fn store_at(&self, number: usize, prefix: &str) -> String {
        format!("etcd://{}{prefix}", self.nodes[number].machine.address())
    }

    /// The network of a node's machine.
    pub(super) fn namespace(&self, number: usize) -> String {
        self.nodes[number].machine.namespace()
    }

    /// Pulls the plug of a node's machine, or puts it back. Who is on that machine reaches it still.
    pub(super) fn connect(&self, number: usize, is_connected: bool) {
        self.network.connect(&self.nodes[number].machine, is_connected);
    }

    /// Starts a node, or starts it again.
    pub(super) fn revive(&mut self, number: usize) {
        let peers = self
            .nodes
            .iter()
            .enumerate()
            .map(|(number, node)| format!("n{number}=http://{}:2380", node.machine.address()));
        let peers = peers.collect::<Vec<_>>().join(",");
        let node = &mut self.nodes[number];
        let address = node.machine.address();
        let (client, peer) =
            (format!("{}://{address}:2379", self.scheme), format!("http://{address}:2380"));
        let directory = node.directory.path().join("data");
        let process = node
            .machine
            .command("etcd")
            .args(["--name", &format!("n{number}"), "--log-level", "error"])
            .arg("--unsafe-no-fsync")
            .arg("--data-dir")
            .arg(directory)
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &peers])
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("it was there before");
        node.process = Some(process);
    }

    pub(super) fn kill(&mut self, number: usize) {
        if let Some(mut process) = self.nodes[number].process.take() {
            process.kill().expect("it is our child");
            process.wait().expect("it is our child");
        }
    }

    /// The number of the node that leads.
    pub(super) fn leader(&self) -> usize {
        let mut leader = None;
        eventually("a node leads", || {
            leader = (0..self.nodes.len()).find(|&number| {
                let endpoint = self.endpoint(number);
                let arguments = ["endpoint", "status", "-w", "json"];
                // A node that was killed does not answer: the others are asked soon.
                let Some(text) = self.try_control_at(&endpoint, &arguments, 3) else {
                    return false;
                };
                let status: serde_json::Value = serde_json::from_str(&text).expect("it is JSON");
                let status = &status[0]["Status"];
                status["leader"] == status["header"]["member_id"]
            });
            leader.is_some()
        });
        leader.expect("it was found")
    }

    /// Has etcd forget all that happened.
    pub(super) fn compact(&self) {
        let text = self.control(&["get", "x", "-w", "json"]);
        let answer: serde_json::Value = serde_json::from_str(&text).expect("it is JSON");
        self.control(&["compact", &answer["header"]["revision"].to_string()]);
    }

    /// How many records there are below a prefix.
    pub(super) fn count(&self, prefix: &str) -> usize {
        let text = self.control(&["get", "--prefix", "--keys-only", "-w", "json", prefix]);
        let answer: serde_json::Value = serde_json::from_str(&text).expect("it is JSON");
        answer["count"].as_u64().unwrap_or(0).try_into().expect("they are few")
    }

    #[track_caller]
    pub(super) fn control(&self, arguments: &[&str]) -> String {
        // More than it takes: the machine may have other things to do.
        let answer = self.try_control(arguments, 60);
        answer.unwrap_or_else(|| panic!("etcdctl {arguments:?} failed"))
    }

    /// What etcdctl says, if it is done within so many seconds.
    fn try_control(&self, arguments: &[&str], timeout: u32) -> Option<String> {
        let endpoints: Vec<_> = (0..self.nodes.len()).map(|number| self.endpoint(number)).collect();
        self.try_control_at(&endpoints.join(","), arguments, timeout)
    }

    fn try_control_at(&self, endpoints: &str, arguments: &[&str], timeout: u32) -> Option<String> {
        let mut command = self.network.hub().command("etcdctl");
        command.env("ETCDCTL_API", "3").arg(format!("--endpoints={endpoints}"));
        command.arg(format!("--command-timeout={timeout}s"));
        let output = command.args(&self.control).args(arguments).output();
        let output = output.expect("etcd-client is installed");
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn endpoint(&self, number: usize) -> String {
        format!("{}://{}:2379", self.scheme, self.nodes[number].machine.address())
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        (0..self.nodes.len()).for_each(|number| self.kill(number));
    }
}
