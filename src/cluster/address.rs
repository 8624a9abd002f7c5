//! Where the shared store is, and who comes to it.

use std::path::{Path, PathBuf};

use super::ClusterError;

const SCHEME: &str = "etcd://";
const DEFAULT_PORT: u16 = 2379;

/// The address of a shared store: `etcd://HOST[:PORT][,HOST…]/PREFIX`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterAddress {
    /// Each with its port.
    hosts: Vec<String>,
    /// Begins and ends with `/`: no other store's prefix can begin with it by chance.
    prefix: String,
}

/// Who this host is to etcd: files, each if it is needed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Credentials {
    /// Certificates of those that sign etcd's, PEM. With it the connection is TLS.
    pub authority: Option<PathBuf>,
    /// This host's certificate, PEM.
    pub certificate: Option<PathBuf>,
    /// The certificate's key, PEM.
    pub key: Option<PathBuf>,
    /// The user's name.
    pub user: Option<String>,
    /// Holds the user's password, on its first line.
    pub password: Option<PathBuf>,
}

impl Credentials {
    /// All files that are named.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        let files = [&self.authority, &self.certificate, &self.key, &self.password];
        files.into_iter().filter_map(|path| path.as_deref())
    }
}

impl ClusterAddress {
    /// Reads an address.
    ///
    /// # Errors
    /// [`ClusterError::Address`].
    pub fn parse(address: &str) -> Result<Self, ClusterError> {
        let wrong =
            |why: &str| ClusterError::Address { address: address.to_owned(), why: why.to_owned() };
        let rest = address.strip_prefix(SCHEME).ok_or_else(|| wrong("it begins with etcd://"))?;
        let (hosts, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let prefix = prefix.trim_matches('/');
        if prefix.is_empty() {
            return Err(wrong("a prefix follows the hosts, such as /secretfs"));
        }
        if !prefix.chars().all(|c| c.is_ascii_alphanumeric() || "-_./".contains(c)) {
            return Err(wrong("a prefix is of letters, digits and - _ . /"));
        }
        let hosts = hosts.split(',').map(|host| {
            with_port(host)
                .ok_or_else(|| wrong("a host is a name or an address, with a port behind a colon"))
        });
        Ok(Self { hosts: hosts.collect::<Result<_, _>>()?, prefix: format!("/{prefix}/") })
    }

    /// The hosts, each with its port.
    pub fn hosts(&self) -> &[String] {
        &self.hosts
    }

    /// What every name in etcd begins with.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }
}

impl std::fmt::Display for ClusterAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{SCHEME}{}{}", self.hosts.join(","), self.prefix.trim_end_matches('/'))
    }
}

/// A host with its port; none if it is no host. An IPv6 address stands in brackets.
fn with_port(host: &str) -> Option<String> {
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => (name, port.parse().ok()?),
        _ => (host, DEFAULT_PORT),
    };
    let is_bracketed = name.starts_with('[') && name.ends_with(']');
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let is_name = !name.is_empty() && name.chars().all(allowed);
    let inner = name.trim_start_matches('[').trim_end_matches(']');
    let is_address = is_bracketed && inner.parse::<std::net::Ipv6Addr>().is_ok();
    (is_name || is_address).then(|| format!("{name}:{port}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_written() {
        let address = ClusterAddress::parse("etcd://a,10.0.0.2:1,[::1]:2,[fe80::1]/x/y/").unwrap();
        assert_eq!(address.hosts(), ["a:2379", "10.0.0.2:1", "[::1]:2", "[fe80::1]:2379"]);
        assert_eq!(address.prefix(), "/x/y/");
        assert_eq!(ClusterAddress::parse(&address.to_string()).unwrap(), address);
    }

    #[test]
    fn what_is_none_is_refused() {
        for wrong in [
            "http://a/x",
            "etcd://a",
            "etcd://a/",
            "etcd:///x",
            "etcd://a,,b/x",
            "etcd://a:b/x",
            "etcd://a/x y",
            "etcd://user@a/x",
            "etcd://[a]/x",
        ] {
            let error = ClusterAddress::parse(wrong).unwrap_err();
            assert!(error.to_string().contains(wrong) && !error.may_pass(), "{error}");
        }
    }
}
