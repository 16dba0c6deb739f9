//! How the requests of one phase are made and their answers read: the run's settings, overridden by the phase's own, and
//! for each node by what that one is.

use serde_json::{Value, json};

use super::bodies::{Bodies, Renderings};
use super::config::{Completions, PhaseConfig, RunConfig};
use super::error::EngineError;
use super::nodes::Node;
use crate::endpoint::{Answer, AnswerOptions, Api};
use crate::http::{Limits, RequestTemplate, Secrets};
use crate::record::{Failure, Row, TokenSource};
use crate::schedule::Load;
use crate::sync::Arc;

/// What a phase's requests share. Requests of an earlier phase that are still in flight keep that phase's.
pub(super) struct Settings {
    nodes: Box<[NodeSettings]>,
    pub(super) timeout_ns: u64,
    pub(super) stall_timeout_ns: u64,
    /// Every answer's text goes to `answers.log`.
    save_responses: bool,
    /// So does that of good answers whose tokens the server doesn't count.
    keep_uncounted: bool,
    /// Answers are read as text at all.
    keep_text: bool,
    /// Heads are read for when to come again.
    keep_hints: bool,
    secrets: Secrets,
    timeout_s: f64,
    stall_timeout_s: f64,
}

/// How the requests that go to one node differ from those that go to others.
pub(super) struct NodeSettings {
    pub(super) api: Api,
    /// A stream of server-sent events is asked for.
    pub(super) stream: bool,
    /// So is usage within it, until a server refuses.
    include_usage: bool,
    /// Everything of a request but its body.
    pub(super) template: RequestTemplate,
    /// What is sent, in its API.
    pub(super) bodies: Arc<Bodies>,
}

impl Settings {
    /// The settings of a phase of this `run`, which sends these `bodies` to these `nodes`.
    pub(super) fn new(
        run: &RunConfig,
        nodes: &[Node],
        phase: &PhaseConfig,
        bodies: &Renderings,
    ) -> Result<Self, EngineError> {
        let own = &phase.request;
        let nodes: Result<Box<[_]>, _> = nodes.iter().map(|node| NodeSettings::new(run, node, phase, bodies)).collect();
        let nodes = nodes?;
        let timeout_s = own.timeout_s.unwrap_or(run.timeout_s);
        let stall_timeout_s = own.stall_timeout_s.unwrap_or(run.stall_timeout_s);
        let save_responses = own.save_responses.unwrap_or(run.save_responses);
        Ok(Self {
            timeout_ns: nanoseconds(timeout_s),
            stall_timeout_ns: nanoseconds(stall_timeout_s),
            save_responses,
            keep_uncounted: run.keep_uncounted,
            keep_text: save_responses || run.keep_uncounted || phase.completions == Completions::Answers,
            keep_hints: matches!(phase.load, Load::Dispatch { .. }) || phase.completions == Completions::Answers,
            // What one node was told may turn up in the words of another that stands behind the same proxy.
            secrets: nodes.iter().fold(Secrets::default(), |all, node| all.and(node.template.secrets())),
            nodes,
            timeout_s,
            stall_timeout_s,
        })
    }

    /// The settings of one node, by its place in the run.
    #[inline]
    pub(super) fn node(&self, node: u16) -> &NodeSettings {
        &self.nodes[usize::from(node)]
    }

    /// Those of all nodes, in the run's order.
    pub(super) fn nodes(&self) -> &[NodeSettings] {
        &self.nodes
    }

    /// What must be taken out of any text that a server may have echoed it into.
    pub(super) fn secrets(&self) -> &Secrets {
        &self.secrets
    }

    /// Whether `answers.log` gets anything of this phase.
    pub(super) fn keep_answers(&self) -> bool {
        self.save_responses || self.keep_uncounted
    }

    /// Whether an answer's text goes there: every one does, or for a tokenizer those that it will have to count.
    pub(super) fn keeps_answer(&self, row: &Row) -> bool {
        let uncounted = row.failure == Failure::None && row.token_source != TokenSource::Usage;
        self.save_responses || self.keep_uncounted && uncounted
    }

    /// A decoder of one node's answers.
    pub(super) fn answer(&self, node: u16) -> Answer {
        let options =
            AnswerOptions { keep_text: self.keep_text, keep_hints: self.keep_hints, limits: Limits::default() };
        Answer::new(self.node(node).api, options).with_secrets(self.secrets.clone())
    }

    /// What the log keeps of them: all but the headers, which may hold secrets.
    pub(super) fn account(&self) -> Value {
        let mut account = json!({
            "timeout_s": self.timeout_s, "stall_timeout_s": self.stall_timeout_s,
            "save_responses": self.save_responses,
        });
        let mut each: Vec<Value> = self.nodes.iter().map(NodeSettings::account).collect();
        if each.len() > 1 {
            account["nodes"] = json!(each);
        }
        // Of several, the first one's stand for the phase, as if it were the only one.
        if let (Value::Object(account), Value::Object(first)) = (&mut account, each.swap_remove(0)) {
            account.extend(first);
        }
        account
    }
}

impl NodeSettings {
    fn new(run: &RunConfig, node: &Node, phase: &PhaseConfig, bodies: &Renderings) -> Result<Self, EngineError> {
        let own = &phase.request;
        let common = own.api.unwrap_or(run.api);
        let api = node.config.api.unwrap_or(common);
        // Vectors come all at once.
        let stream = own.stream.unwrap_or(run.stream) && !api.embeds();
        let of_all = own.headers.as_ref().unwrap_or(&run.headers);
        let headers = with_own(of_all, &node.config.headers);
        let api_key = node.config.api_key.as_deref().or(run.api_key.as_deref());
        let template = RequestTemplate::new(&node.target(api), &headers, api_key, stream)?;
        let found = if api == common { Some(bodies.first()) } else { bodies.of(api) };
        let bodies = found.ok_or_else(|| {
            EngineError::Nodes(format!("the node speaks {}, and the phase has no bodies for it", json!(api)))
        })?;
        Ok(Self {
            api,
            stream,
            // Where lines are streamed, the last one tells.
            include_usage: own.include_usage.unwrap_or(run.include_usage) && !api.streams_lines(),
            template: template.through(&node.connector),
            bodies: Arc::clone(bodies),
        })
    }

    /// Whether usage is wanted in the stream, refused or not.
    pub(super) fn wants_usage(&self) -> bool {
        self.stream && self.include_usage
    }

    /// What every body opens with.
    #[inline]
    pub(super) fn opening(&self, ask_usage: bool) -> &'static [u8] {
        match (self.stream, ask_usage) {
            // These stream unless told not to.
            (false, _) if self.api.streams_lines() => br#"{"stream":false,"#,
            (true, true) => br#"{"stream":true,"stream_options":{"include_usage":true},"#,
            (true, false) => br#"{"stream":true,"#,
            (false, _) => b"{",
        }
    }

    fn account(&self) -> Value {
        json!({"api": self.api, "stream": self.stream, "include_usage": self.include_usage})
    }
}

/// Headers of all nodes, and one node's own, which win over those of the same name.
fn with_own(of_all: &[(String, String)], own: &[(String, String)]) -> Vec<(String, String)> {
    let is_own = |name: &str| own.iter().any(|(given, _)| given.eq_ignore_ascii_case(name));
    of_all.iter().filter(|(name, _)| !is_own(name)).chain(own).cloned().collect()
}

fn nanoseconds(s: f64) -> u64 {
    (s * 1e9) as u64
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::engine::nodes::tests::run;

    fn bodies() -> Arc<Bodies> {
        Arc::new(Bodies::new([br#"{"a":1}"#.as_slice()].into_iter(), vec![]).unwrap())
    }

    /// The settings of a phase of a run, each with these words beside the ones that it must have.
    pub(in super::super) fn settings(of_run: Value, phase: Value) -> Settings {
        settings_with(of_run, phase, &Renderings::from(bodies())).unwrap()
    }

    fn settings_with(of_run: Value, phase: Value, bodies: &Renderings) -> Result<Settings, EngineError> {
        let run = run(of_run);
        let mut told = json!({"name": "p", "load": {"kind": "burst", "n": 1}, "drain_timeout_s": 1.0});
        told.as_object_mut().unwrap().extend(phase.as_object().unwrap().clone());
        let phase: PhaseConfig = serde_json::from_value(told).unwrap();
        Settings::new(&run, &Node::all(&run).unwrap(), &phase, bodies)
    }

    fn head(settings: &NodeSettings) -> String {
        let mut out = Vec::new();
        settings.template.render(&[b"{}"], &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn what_a_phase_says_overrides_the_run_field_by_field() {
        let run = json!({"headers": [["x-run", "of-the-run"]], "api_key": "canary-key"});
        let same = settings(run.clone(), json!({}));
        assert_eq!((same.node(0).api, same.node(0).stream, same.timeout_ns), (Api::Chat, true, 30_000_000_000));
        let said = head(same.node(0));
        assert!(said.starts_with("POST /v1/chat/completions?key=1 "), "{said}");
        assert!(said.contains("x-run: of-the-run\r\n"));
        let request = json!({"api": "completions", "stream": false, "headers": [["x-phase", "1"]], "timeout_s": 0.5});
        let own = settings(run, json!({"request": request}));
        assert_eq!((own.node(0).api, own.node(0).stream, own.timeout_ns), (Api::Completions, false, 500_000_000));
        assert_eq!(own.stall_timeout_ns, 10_000_000_000);
        let head = head(own.node(0));
        assert!(head.starts_with("POST /v1/completions?key=1 ") && head.contains("x-phase: 1\r\n"), "{head}");
        assert!(!head.contains("x-run") && head.contains("Bearer canary-key"), "{head}");
    }

    #[test]
    fn each_api_is_asked_for_what_it_can_do() {
        let opening = |api: &str, stream: bool| {
            let told = settings(json!({}), json!({"request": {"api": api, "stream": stream}}));
            let node = told.node(0);
            String::from_utf8(node.opening(node.wants_usage()).to_vec()).unwrap()
        };
        assert_eq!(opening("embeddings", true), "{");
        assert_eq!(opening("ollama_embed", true), "{");
        assert_eq!(opening("ollama_chat", true), r#"{"stream":true,"#);
        assert_eq!(opening("ollama_generate", false), r#"{"stream":false,"#);
        assert_eq!(opening("completions", false), "{");
    }

    #[test]
    fn the_log_learns_what_was_in_force_but_no_header() {
        let request = json!({"stream": false, "headers": [["x-token", "canary-header"]], "save_responses": true});
        let account = settings(json!({}), json!({"request": request})).account();
        assert_eq!(
            account,
            json!({"api": "chat", "stream": false, "include_usage": true, "timeout_s": 30.0, "stall_timeout_s": 10.0,
                   "save_responses": true})
        );
    }

    #[test]
    fn a_node_has_what_is_its_own_and_shares_the_rest() {
        let nodes = json!([
            {"url": "http://a"},
            {"url": "http://b", "headers": [["X-Run", "of-the-node"]], "api_key": "canary-of-b"},
        ]);
        let run =
            json!({"nodes": nodes, "headers": [["x-run", "of-the-run"], ["x-more", "1"]], "api_key": "canary-key"});
        let told = settings(run, json!({}));
        let [a, b] = [head(told.node(0)), head(told.node(1))];
        assert!(
            a.contains("Host: a\r\n") && a.contains("Bearer canary-key") && a.contains("x-run: of-the-run\r\n"),
            "{a}"
        );
        assert!(
            b.contains("Host: b\r\n") && b.contains("Bearer canary-of-b") && b.contains("X-Run: of-the-node\r\n"),
            "{b}"
        );
        assert!(b.contains("x-more: 1\r\n") && !b.contains("of-the-run") && !b.contains("canary-key"), "{b}");
        let words = "they said canary-key and canary-of-b";
        assert_eq!(told.secrets().redact(words), "they said [redacted] and [redacted]");
        assert!(!told.account().to_string().contains("canary"));
    }

    #[test]
    fn a_node_that_speaks_another_api_needs_bodies_of_its_own() {
        let nodes = json!({"nodes": [{"url": "http://a"}, {"url": "http://b", "api": "ollama_chat"}]});
        let error = settings_with(nodes.clone(), json!({}), &Renderings::from(bodies())).err().unwrap();
        assert_eq!(error.to_string(), r#"the node speaks "ollama_chat", and the phase has no bodies for it"#);
        let both = Renderings::new(bodies(), vec![(Api::OllamaChat, bodies())]).unwrap();
        let told = settings_with(nodes, json!({"request": {"stream": false}}), &both).unwrap();
        assert_eq!([told.node(0).api, told.node(1).api], [Api::Chat, Api::OllamaChat]);
        assert_eq!(told.node(1).opening(false), br#"{"stream":false,"#);
        let account = told.account();
        assert_eq!((&account["api"], &account["nodes"][1]["api"]), (&json!("chat"), &json!("ollama_chat")));
    }
}
