//! What the Python side tells the engine, as JSON: once per run, and once per phase.
//!
//! Python validates what a user typed; these types are the edge after which the engine trusts its input.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::balance::BalanceConfig;
use crate::endpoint::Api;
use crate::event::EventsConfig;
use crate::schedule::{Load, Order};

/// One run: the target, how to speak to it unless a phase says otherwise, where its log goes.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunConfig {
    /// Where requests go: `http://`, `https://` or `unix:`; the API's path is appended as the contract says. Nobody looks
    /// at it where there are `nodes`.
    #[serde(default)]
    pub url: String,
    /// Where they go if to several servers; requests name them by their place here.
    #[serde(default)]
    pub nodes: Vec<NodeConfig>,
    /// The API spoken.
    #[serde(default)]
    pub api: Api,
    /// Ask for a stream of server-sent events.
    #[serde(default = "yes")]
    pub stream: bool,
    /// Ask for `stream_options.include_usage` until a server refuses it.
    #[serde(default = "yes")]
    pub include_usage: bool,
    /// HTTP/2 (h2 over TLS, h2c with prior knowledge otherwise).
    #[serde(default)]
    pub http2: bool,
    /// Do not verify the server's certificate.
    #[serde(default)]
    pub insecure: bool,
    /// PEM file of the authorities to trust instead of the system's.
    #[serde(default)]
    pub cacert: Option<PathBuf>,
    /// PEM file of the client's certificate chain.
    #[serde(default)]
    pub cert: Option<PathBuf>,
    /// PEM file of the client's key.
    #[serde(default)]
    pub key: Option<PathBuf>,
    /// An HTTP proxy's URL. The environment's proxies are never used.
    #[serde(default)]
    pub proxy: Option<String>,
    /// Further request headers, in order.
    #[serde(default)]
    pub headers: Vec<(String, String)>,
    /// The API key; sent as a bearer token, never written anywhere.
    #[serde(default)]
    pub api_key: Option<String>,
    /// Seconds for a whole request.
    pub timeout_s: f64,
    /// Seconds for a connection: name, TCP, TLS.
    pub connect_timeout_s: f64,
    /// Seconds between bytes, from the first byte on.
    pub stall_timeout_s: f64,
    /// Worker threads.
    pub workers: u16,
    /// Directory of the run; `run.log` is created in it. None where nobody will read the log: then there is none.
    #[serde(default)]
    pub dir: Option<PathBuf>,
    /// Keep the answers' text in `answers.log`.
    #[serde(default)]
    pub save_responses: bool,
    /// Keep there the text of good answers whose tokens the server doesn't count, for a tokenizer to do so afterwards.
    #[serde(default)]
    pub keep_uncounted: bool,
    /// Tell of every transition as it happens.
    #[serde(default)]
    pub events: Option<EventsConfig>,
    /// What a later `loadgen report` must know of the run (id, version, redacted configuration, environment):
    /// a JSON object, stored in the log as it is.
    pub meta: serde_json::Value,
}

/// One of several servers that a run's requests go to.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeConfig {
    /// Where it is, as the run's URL.
    pub url: String,
    /// The API that it speaks, whatever run and phase do; a phase then has bodies for that one.
    #[serde(default)]
    pub api: Option<Api>,
    /// Request headers of its own, beside the run's or the phase's; of the same name they win.
    #[serde(default)]
    pub headers: Vec<(String, String)>,
    /// Its API key, instead of the run's.
    #[serde(default)]
    pub api_key: Option<String>,
}

/// How a phase ends being a phase: what kind it is.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize, Eq)]
#[serde(rename_all = "lowercase")]
pub enum PhaseType {
    /// Heats the server up; not part of any result.
    Warmup,
    /// Measured.
    #[default]
    Performance,
    /// Answers are kept and scored.
    Accuracy,
}

/// What whoever waits for a phase's requests is told of each one that ends.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Completions {
    /// Nothing.
    #[default]
    None,
    /// Its row, and why it failed.
    Ids,
    /// The answer's text as well.
    Answers,
}

/// How a phase's requests differ from the run's: what is absent is as there.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RequestConfig {
    /// The API spoken.
    pub api: Option<Api>,
    /// Ask for a stream of server-sent events.
    pub stream: Option<bool>,
    /// Ask for `stream_options.include_usage` until a server refuses it.
    pub include_usage: Option<bool>,
    /// Further request headers, instead of the run's. The API key stays.
    pub headers: Option<Vec<(String, String)>>,
    /// Seconds for a whole request.
    pub timeout_s: Option<f64>,
    /// Seconds between bytes, from the first byte on.
    pub stall_timeout_s: Option<f64>,
    /// Keep the answers' text in `answers.log`.
    pub save_responses: Option<bool>,
}

/// One phase of a run.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct PhaseConfig {
    /// Its name, unique in the run.
    pub name: String,
    /// Its kind.
    #[serde(default, rename = "type")]
    pub kind: PhaseType,
    /// When requests start.
    pub load: Load,
    /// At most this many in flight, on top of a rate.
    #[serde(default)]
    pub max_concurrency: Option<u32>,
    /// Stop after this many requests.
    #[serde(default)]
    pub requests: Option<u64>,
    /// Stop after this many seconds from the phase's start.
    #[serde(default)]
    pub duration_s: Option<f64>,
    /// Wait for what is in flight at the phase's end. A warm-up hands it over instead.
    #[serde(default = "yes")]
    pub drain: bool,
    /// Seconds that wait may take; then the rest is cancelled.
    pub drain_timeout_s: f64,
    /// Sample order.
    #[serde(default)]
    pub order: Order,
    /// Seed of order and arrivals.
    #[serde(default)]
    pub seed: u64,
    /// Put a different marker into every prompt, so that no server's prefix cache helps.
    #[serde(default)]
    pub unique_prompts: bool,
    /// How its requests are spread over several nodes, where no policy decides that; one after the other if nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub balance: Option<BalanceConfig>,
    /// How its requests are made. The log has what came of it and the run's, without headers.
    #[serde(default, skip_serializing)]
    pub request: RequestConfig,
    /// What [`super::Engine::take_completions`] tells of its requests.
    #[serde(default)]
    pub completions: Completions,
    /// Stop when the first answers are all 401, 403, 404 or refused connections.
    #[serde(default = "yes")]
    pub stop_early: bool,
    /// What the report must know of the phase (dataset, load in words, SLOs): stored in the log as it is.
    #[serde(default)]
    pub meta: serde_json::Value,
}

fn yes() -> bool {
    true
}
