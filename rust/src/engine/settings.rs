//! How the requests of one phase are made and their answers read: the run's settings, overridden by the phase's own.

use serde_json::{Value, json};

use super::config::{Completions, PhaseConfig, RunConfig};
use crate::endpoint::{Answer, AnswerOptions, Api};
use crate::http::{Connector, Limits, RequestTemplate, Target, TargetError};
use crate::schedule::Load;
use crate::sync::{AtomicBool, Ordering};

/// What a phase's requests share. Requests of an earlier phase that are still in flight keep that phase's.
pub(super) struct Settings {
    pub(super) api: Api,
    /// A stream of server-sent events is asked for.
    pub(super) stream: bool,
    /// So is usage within it, until a server refuses.
    include_usage: bool,
    /// Everything of a request but its body.
    pub(super) template: RequestTemplate,
    pub(super) timeout_ns: u64,
    pub(super) stall_timeout_ns: u64,
    /// Every answer's text goes to `answers.log`.
    pub(super) save_responses: bool,
    /// So does that of good answers whose tokens the server doesn't count.
    pub(super) keep_uncounted: bool,
    /// Answers are read as text at all.
    keep_text: bool,
    /// Heads are read for when to come again.
    keep_hints: bool,
    timeout_s: f64,
    stall_timeout_s: f64,
}

impl Settings {
    /// The settings of a phase of this `run`, whose `target` is the one of the run's API.
    pub(super) fn new(
        run: &RunConfig,
        target: &Target,
        connector: &Connector,
        phase: &PhaseConfig,
    ) -> Result<Self, TargetError> {
        let own = &phase.request;
        let api = own.api.unwrap_or(run.api);
        // Vectors come all at once.
        let stream = own.stream.unwrap_or(run.stream) && !api.embeds();
        let target = target.with_api(run.api.path(), api.path());
        let headers = own.headers.as_ref().unwrap_or(&run.headers);
        let template = RequestTemplate::new(&target, headers, run.api_key.as_deref(), stream)?;
        let timeout_s = own.timeout_s.unwrap_or(run.timeout_s);
        let stall_timeout_s = own.stall_timeout_s.unwrap_or(run.stall_timeout_s);
        let save_responses = own.save_responses.unwrap_or(run.save_responses);
        Ok(Self {
            api,
            stream,
            // Where lines are streamed, the last one tells.
            include_usage: own.include_usage.unwrap_or(run.include_usage) && !api.streams_lines(),
            template: template.through(connector),
            timeout_ns: nanoseconds(timeout_s),
            stall_timeout_ns: nanoseconds(stall_timeout_s),
            save_responses,
            keep_uncounted: run.keep_uncounted,
            keep_text: save_responses || run.keep_uncounted || phase.completions == Completions::Answers,
            keep_hints: matches!(phase.load, Load::Dispatch { .. }),
            timeout_s,
            stall_timeout_s,
        })
    }

    /// Whether `answers.log` gets anything of this phase.
    pub(super) fn keep_answers(&self) -> bool {
        self.save_responses || self.keep_uncounted
    }

    /// A decoder of answers.
    pub(super) fn answer(&self) -> Answer {
        let options =
            AnswerOptions { keep_text: self.keep_text, keep_hints: self.keep_hints, limits: Limits::default() };
        Answer::new(self.api, options).with_secrets(self.template.secrets().clone())
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

    /// What the log keeps of them: all but the headers, which may hold secrets.
    pub(super) fn account(&self) -> Value {
        json!({
            "api": self.api, "stream": self.stream, "include_usage": self.include_usage,
            "timeout_s": self.timeout_s, "stall_timeout_s": self.stall_timeout_s,
            "save_responses": self.save_responses,
        })
    }
}

/// Which APIs of the server don't know `stream_options`, as learned by any request of the run.
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

fn nanoseconds(s: f64) -> u64 {
    (s * 1e9) as u64
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::Duration;

    use super::*;
    use crate::http::TlsOptions;

    /// The settings of a phase of a run, each with these words beside the ones that it must have.
    pub(in super::super) fn settings(run: Value, phase: Value) -> Settings {
        let mut told = json!({"url": "http://h/v1/chat/completions?key=1", "timeout_s": 30.0, "connect_timeout_s": 1.0,
            "stall_timeout_s": 10.0, "workers": 1, "dir": ".", "meta": {}});
        told.as_object_mut().unwrap().extend(run.as_object().unwrap().clone());
        let run: RunConfig = serde_json::from_value(told).unwrap();
        let mut told = json!({"name": "p", "load": {"kind": "burst", "n": 1}, "drain_timeout_s": 1.0});
        told.as_object_mut().unwrap().extend(phase.as_object().unwrap().clone());
        let phase: PhaseConfig = serde_json::from_value(told).unwrap();
        let target = Target::parse(&run.url, run.api.path(), false).unwrap();
        let tls = TlsOptions { cacert: None, cert: None, key: None, insecure: false };
        let connector = Connector::new(&target, &tls, None, Duration::from_secs(1)).unwrap();
        Settings::new(&run, &target, &connector, &phase).unwrap()
    }

    fn head(settings: &Settings) -> String {
        let mut out = Vec::new();
        settings.template.render(&[b"{}"], &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn what_a_phase_says_overrides_the_run_field_by_field() {
        let run = json!({"headers": [["x-run", "of-the-run"]], "api_key": "canary-key"});
        let same = settings(run.clone(), json!({}));
        assert_eq!((same.api, same.stream, same.timeout_ns), (Api::Chat, true, 30_000_000_000));
        assert!(head(&same).starts_with("POST /v1/chat/completions?key=1 "), "{}", head(&same));
        assert!(head(&same).contains("x-run: of-the-run\r\n"));
        let request = json!({"api": "completions", "stream": false, "headers": [["x-phase", "1"]], "timeout_s": 0.5});
        let own = settings(run, json!({"request": request}));
        assert_eq!((own.api, own.stream, own.timeout_ns), (Api::Completions, false, 500_000_000));
        assert_eq!(own.stall_timeout_ns, 10_000_000_000);
        let head = head(&own);
        assert!(head.starts_with("POST /v1/completions?key=1 ") && head.contains("x-phase: 1\r\n"), "{head}");
        assert!(!head.contains("x-run") && head.contains("Bearer canary-key"), "{head}");
    }

    #[test]
    fn each_api_is_asked_for_what_it_can_do() {
        let opening = |api: &str, stream: bool| {
            let told = settings(json!({}), json!({"request": {"api": api, "stream": stream}}));
            String::from_utf8(told.opening(told.wants_usage()).to_vec()).unwrap()
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
    fn usage_is_refused_by_one_api_not_by_the_others() {
        let refusals = UsageRefusals::default();
        refusals.note(Api::Completions);
        assert!(refusals.has(Api::Completions) && !refusals.has(Api::Chat));
    }
}
