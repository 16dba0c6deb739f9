//! The nodes of a run: where each is, how it is reached, what it speaks, and what it was found not to know.

use std::time::Duration;

use super::config::{NodeConfig, RunConfig};
use super::error::EngineError;
use crate::endpoint::Api;
use crate::http::{Connector, Target, TlsClient, TlsOptions};
use crate::sync::{AtomicBool, Ordering};

/// So many nodes at most: a call of a policy remembers in a word of bits those that it was sent to.
const MOST: usize = 64;

/// One node of a run.
pub(super) struct Node {
    pub(super) config: NodeConfig,
    /// Where its requests go, of the API at `path`.
    target: Target,
    path: &'static str,
    pub(super) connector: Connector,
    pub(super) usage_refusals: UsageRefusals,
}

impl Node {
    /// The nodes of `run`, in order: those that it names, or its URL alone.
    pub(super) fn all(run: &RunConfig) -> Result<Box<[Self]>, EngineError> {
        let alone = [NodeConfig { url: run.url.clone(), ..NodeConfig::default() }];
        let nodes = if run.nodes.is_empty() { &alone } else { &run.nodes[..] };
        if nodes.len() > MOST {
            return Err(EngineError::Nodes(format!("{} nodes: a run takes at most {MOST}", nodes.len())));
        }
        let tls = TlsClient::from(TlsOptions {
            cacert: run.cacert.clone(),
            cert: run.cert.clone(),
            key: run.key.clone(),
            insecure: run.insecure,
        });
        nodes.iter().map(|node| Self::new(run, node, &tls)).collect()
    }

    /// A node that nobody connects to: whoever makes the requests knows where they go.
    pub(super) fn nowhere(run: &RunConfig) -> Result<Box<[Self]>, EngineError> {
        let alone = RunConfig { url: "http://localhost".to_owned(), nodes: Vec::new(), proxy: None, ..run.clone() };
        Self::all(&alone)
    }

    fn new(run: &RunConfig, node: &NodeConfig, tls: &TlsClient) -> Result<Self, EngineError> {
        let path = node.api.unwrap_or(run.api).path();
        let target = Target::parse(&node.url, path, run.http2)?;
        let connect_timeout = Duration::from_secs_f64(run.connect_timeout_s);
        let connector = Connector::new(&target, tls, run.proxy.as_deref(), connect_timeout)?;
        Ok(Self { config: node.clone(), target, path, connector, usage_refusals: UsageRefusals::default() })
    }

    /// Where its requests of this API go.
    pub(super) fn target(&self, api: Api) -> Target {
        self.target.with_api(self.path, api.path())
    }
}

/// Which APIs of a node don't know `stream_options`, as learned by any request of the run.
#[derive(Debug, Default)]
pub(super) struct UsageRefusals([AtomicBool; Api::ALL.len()]);

impl UsageRefusals {
    /// Whether usage was refused at this API.
    #[inline]
    pub(super) fn has(&self, api: Api) -> bool {
        // Relaxed: pairs with `note`; a request that asks once more is asked again.
        self.0[api as usize].load(Ordering::Relaxed)
    }

    /// The server refused it.
    pub(super) fn note(&self, api: Api) {
        // Relaxed: pairs with `has`.
        self.0[api as usize].store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// A run of which this is said, beside what must be.
    pub(in super::super) fn run(more: Value) -> RunConfig {
        let mut told = json!({"url": "http://h/v1/chat/completions?key=1", "timeout_s": 30.0, "connect_timeout_s": 1.0,
            "stall_timeout_s": 10.0, "workers": 1, "dir": ".", "meta": {}});
        told.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(told).unwrap()
    }

    #[test]
    fn a_run_without_nodes_has_its_url_as_the_only_one() {
        let all = Node::all(&run(json!({}))).unwrap();
        assert_eq!(all.len(), 1);
        assert_eq!(all[0].target(Api::Completions).path(), "/v1/completions?key=1");
    }

    #[test]
    fn each_node_has_the_paths_of_what_it_speaks() {
        let nodes = json!([{"url": "http://a/base/v1"}, {"url": "http://b:11434", "api": "ollama_chat"}]);
        let all = Node::all(&run(json!({"nodes": nodes}))).unwrap();
        assert_eq!(all[0].target(Api::Chat).path(), "/base/v1/chat/completions");
        assert_eq!(
            (all[1].target(Api::OllamaChat).path(), all[1].target(Api::OllamaChat).port()),
            ("/api/chat", Some(11434))
        );
    }

    #[test]
    fn more_nodes_than_a_call_can_remember_are_refused() {
        let nodes: Vec<Value> = (0..65).map(|i| json!({"url": format!("http://h{i}")})).collect();
        let error = Node::all(&run(json!({"nodes": nodes}))).err().unwrap();
        assert_eq!(error.to_string(), "65 nodes: a run takes at most 64");
    }

    #[test]
    fn usage_is_refused_by_one_api_not_by_the_others() {
        let refusals = UsageRefusals::default();
        refusals.note(Api::Completions);
        assert!(refusals.has(Api::Completions) && !refusals.has(Api::Chat));
    }
}
