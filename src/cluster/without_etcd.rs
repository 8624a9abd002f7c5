//! What stands in for etcd in a program that is built without it.

use std::convert::Infallible;
use std::ops::ControlFlow;

use super::{Cluster, ClusterAddress, ClusterError, Credentials, News, Outcome, Page, Transaction};

/// There is none: see [`ClusterError::NotBuilt`].
#[derive(Debug)]
pub struct EtcdCluster(Infallible);

impl EtcdCluster {
    /// Refuses.
    ///
    /// # Errors
    /// [`ClusterError::NotBuilt`].
    pub fn prepare(_: &ClusterAddress, _: &Credentials) -> Result<Self, ClusterError> {
        Err(ClusterError::NotBuilt)
    }
}

impl Cluster for EtcdCluster {
    fn commit(&self, _: &Transaction) -> Result<Outcome, ClusterError> {
        match self.0 {}
    }

    fn read(&self, _: &[u8], _: &[u8], _: Option<u64>) -> Result<Page, ClusterError> {
        match self.0 {}
    }

    fn list(&self, _: &[u8], _: &[u8]) -> Result<Page, ClusterError> {
        match self.0 {}
    }

    fn watch(
        &self,
        _: &[u8],
        _: &[u8],
        _: u64,
        _: &mut dyn FnMut(News) -> ControlFlow<()>,
    ) -> Result<(), ClusterError> {
        match self.0 {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_what_to_do() {
        let address = ClusterAddress::parse("etcd://a/x").unwrap();
        let error = EtcdCluster::prepare(&address, &Credentials::default()).unwrap_err();
        assert!(error.to_string().contains("--features etcd"), "{error}");
    }
}
