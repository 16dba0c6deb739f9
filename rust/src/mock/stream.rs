//! A stream's script, made event by event: what comes next, when it is due, and its JSON.

use super::config::{Config, Usage};
use super::draw::{Count, Delay, Draws, Purpose};
use super::plan::{Plan, Role};
use super::voice::{Carries, Event, Tokens, Voice};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Role,
    Tokens,
    Finish,
    Usage,
    Done,
    End,
}

/// A stream in the middle of its telling.
#[derive(Clone, Debug)]
pub(super) struct Stream {
    pub plan: Plan,
    pub voice: Voice,
    draws: Draws,
    gap: Delay,
    per_chunk: Count,
    /// Gap in nanoseconds and tokens in an event, where they are always the same.
    steady: Option<(u64, u32)>,
    per_write: u32,
    stage: Stage,
    choice: u32,
    /// Tokens told so far, per choice; token-carrying events told so far, per choice.
    told: u32,
    chunk: u32,
    /// Rounds of token events that go out together and are still to be told.
    released: u32,
    start: u64,
    /// When the first token is due on its own.
    first: u64,
    due: u64,
}

/// What was just appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Told {
    pub event: Event,
    /// The tokens it carried.
    pub tokens: u32,
    /// Whether what follows belongs into the same write.
    pub joins: bool,
}

impl Stream {
    /// A stream whose request got its slot at `start` and whose first token is due at `first`.
    pub(super) fn new(config: &Config, plan: Plan, voice: Voice, draws: Draws, start: u64, first: u64) -> Self {
        let mut stream = Self {
            stage: if plan.role == Role::Never { Stage::Tokens } else { Stage::Role },
            plan,
            voice,
            draws,
            gap: config.gap,
            per_chunk: config.tokens_per_chunk,
            steady: config.gap.steady_ns().zip(config.tokens_per_chunk.steady()),
            per_write: config.events_per_write,
            choice: 0,
            told: 0,
            chunk: 0,
            released: 0,
            start,
            first,
            due: first,
        };
        stream.release(true);
        stream
    }

    /// When the next event is due; `None` after the last.
    pub(super) fn next_due(&self) -> Option<u64> {
        match self.stage {
            Stage::End => None,
            Stage::Role if self.plan.role == Role::Early => Some(self.start),
            _ => Some(self.due),
        }
    }

    /// When the first event with tokens is due.
    pub(super) fn first_due(&self) -> u64 {
        self.due
    }

    /// When the last token is due: the moment a whole answer would be ready.
    pub(super) fn last_due(mut self) -> u64 {
        if let Some((gap, tokens)) = self.steady
            && self.plan.reasoning == 0
        {
            return self.first + u64::from(self.plan.tokens.div_ceil(tokens) - 1) * gap;
        }
        // Releasing everything at once adds up all gaps.
        self.per_write = u32::MAX;
        (self.told, self.chunk, self.released, self.due) = (0, 0, 0, self.first);
        self.release(true);
        self.due
    }

    /// Append the next event's payload.
    pub(super) fn tell(&mut self, out: &mut Vec<u8>) -> Told {
        match self.stage {
            Stage::Role => {
                let event = Event::Role { choice: self.choice };
                self.voice.event(out, event, None);
                let last = self.next_choice(Stage::Tokens);
                Told { event, tokens: 0, joins: !last || self.plan.role == Role::Joined }
            }
            Stage::Tokens => self.tell_token(out),
            Stage::Finish => {
                let event = Event::Finish { choice: self.choice, reason: self.plan.reason };
                let usage = (self.plan.usage == Usage::Finish).then(|| self.plan.total());
                self.voice.event(out, event, usage.or_else(|| self.so_far()));
                self.next_choice(self.after_finish());
                Told { event, tokens: 0, joins: true }
            }
            Stage::Usage => {
                let event = Event::Usage { delta: self.plan.usage == Usage::Delta };
                self.voice.event(out, event, Some(self.plan.total()));
                self.stage = self.after_usage();
                Told { event, tokens: 0, joins: true }
            }
            Stage::Done | Stage::End => {
                self.voice.event(out, Event::Done, None);
                self.stage = Stage::End;
                Told { event: Event::Done, tokens: 0, joins: true }
            }
        }
    }

    fn tell_token(&mut self, out: &mut Vec<u8>) -> Told {
        let tokens = self.size_of(self.chunk, self.told);
        let last = self.told + tokens == self.plan.tokens;
        let carries = if self.told < self.plan.reasoning {
            Carries::Reasoning
        } else if self.plan.tool {
            Carries::Tool { first: self.told == self.plan.reasoning }
        } else {
            Carries::Content
        };
        let finish = (last && self.plan.finish_on_token).then_some(self.plan.reason);
        let event = Event::Token { choice: self.choice, word: self.told, tokens, carries, finish };
        let usage = if finish.is_some() && self.plan.usage == Usage::Finish {
            Some(self.plan.total())
        } else {
            self.plan.continuous.then(|| self.counted(self.told * self.plan.n + tokens * (self.choice + 1)))
        };
        self.voice.event(out, event, usage);
        if self.choice + 1 < self.plan.n {
            self.choice += 1;
            return Told { event, tokens, joins: self.released > 1 };
        }
        self.choice = 0;
        self.told += tokens;
        self.chunk += 1;
        self.released -= 1;
        if last {
            self.stage = if self.plan.finish_on_token { self.after_finish() } else { Stage::Finish };
            return Told { event, tokens, joins: true };
        }
        let joins = self.released > 0;
        if !joins {
            self.release(false);
        }
        Told { event, tokens, joins }
    }

    /// Let the next round, or the next `events_per_write` of them, go out together when the last of them is due.
    fn release(&mut self, first: bool) {
        let mut told = self.told;
        while self.released < self.per_write && told < self.plan.tokens {
            let chunk = self.chunk + self.released;
            if !(first && self.released == 0) {
                self.due += self.gap_before(chunk);
            }
            told += self.size_of(chunk, told);
            self.released += 1;
        }
    }

    fn gap_before(&self, chunk: u32) -> u64 {
        match self.steady {
            Some((gap, _)) => gap,
            None => self.gap.draw_ns(self.draws, Purpose::Gap, u64::from(chunk)),
        }
    }

    /// Tokens in a chunk: as drawn, but reasoning and content never share one, and the length is kept.
    fn size_of(&self, chunk: u32, told: u32) -> u32 {
        let wanted = match self.steady {
            Some((_, tokens)) => tokens,
            None => self.per_chunk.draw(self.draws, Purpose::ChunkTokens, u64::from(chunk)),
        };
        let end = if told < self.plan.reasoning { self.plan.reasoning } else { self.plan.tokens };
        wanted.min(end - told)
    }

    fn counted(&self, completion: u32) -> Tokens {
        let reasoning = completion.min(self.plan.reasoning * self.plan.n);
        Tokens { prompt: self.plan.prompt, completion, reasoning }
    }

    fn so_far(&self) -> Option<Tokens> {
        self.plan.continuous.then(|| self.plan.total())
    }

    /// Go on to the next choice; from the last one to `next`, and say so.
    fn next_choice(&mut self, next: Stage) -> bool {
        self.choice += 1;
        if self.choice < self.plan.n {
            return false;
        }
        self.choice = 0;
        self.stage = next;
        true
    }

    fn after_finish(&self) -> Stage {
        match self.plan.usage {
            Usage::Own | Usage::Delta => Stage::Usage,
            Usage::Finish | Usage::None => self.after_usage(),
        }
    }

    fn after_usage(&self) -> Stage {
        if self.plan.done { Stage::Done } else { Stage::End }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::mock::api::{Call, Endpoint};
    use crate::sync::Arc;
    use proptest::prelude::*;

    fn stream(config: &str, call: Call) -> Stream {
        let config = Arc::new(Config::from_json(config).unwrap());
        let draws = Draws::new(config.seed, 5);
        let plan = Plan::new(&config, Endpoint::Chat, &call, draws);
        let voice = Voice::new(Arc::clone(&config), Endpoint::Chat, "mock", draws, 1).for_events();
        Stream::new(&config, plan, voice, draws, 1_000, 51_000_000)
    }

    fn call() -> Call {
        Call { n: 1, prompt_tokens: 3, include_usage: true, stream: true, ..Call::default() }
    }

    /// Every event: when it was due, what it carried, whether the next one joins it, its JSON.
    fn all(mut stream: Stream) -> Vec<(u64, Told, String)> {
        let mut events = Vec::new();
        while let Some(due) = stream.next_due() {
            let mut out = Vec::new();
            let told = stream.tell(&mut out);
            events.push((due, told, String::from_utf8(out).unwrap()));
        }
        events
    }

    #[test]
    fn the_schedule_is_absolute_and_the_tail_rides_on_the_last_token() {
        let events = all(stream(r#"{"gap": 10, "output_tokens": 4}"#, call()));
        let dues: Vec<u64> = events.iter().map(|e| e.0 / 1_000_000).collect();
        // role, four tokens, finish, usage, [DONE]
        assert_eq!(dues, [51, 51, 61, 71, 81, 81, 81, 81]);
        assert_eq!(events.last().unwrap().2, "[DONE]");
        assert!(events[6].2.contains("\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":4"));
        let joins: Vec<bool> = events.iter().map(|e| e.1.joins).collect();
        assert_eq!(joins, [false, false, false, false, true, true, true, true]);
    }

    #[test]
    fn grouped_events_leave_when_the_last_of_them_is_due() {
        let events = all(stream(r#"{"gap": 10, "output_tokens": 5, "events_per_write": 2}"#, call()));
        let dues: Vec<u64> = events.iter().filter(|e| e.1.tokens > 0).map(|e| e.0 / 1_000_000).collect();
        assert_eq!(dues, [61, 61, 81, 81, 91]);
    }

    #[test]
    fn each_flavour_places_role_usage_and_end_as_its_server_does() {
        let shape = |flavour: &str| {
            let config = format!(r#"{{"flavour": "{flavour}", "output_tokens": 2}}"#);
            all(stream(&config, call())).into_iter().map(|e| e.2).collect::<Vec<_>>()
        };
        let openai = shape("openai");
        assert_eq!(openai.len(), 6);
        let vllm = shape("vllm");
        assert!(vllm[2].contains("\"finish_reason\":\"stop\"") && vllm.len() == 5, "{vllm:?}");
        let llama = shape("llamacpp");
        assert!(llama[0].contains("\"content\":null") && llama[4].contains("\"timings\""), "{llama:?}");
        let ollama = shape("ollama");
        assert!(ollama[..3].iter().all(|e| e.contains("\"role\":\"assistant\"")), "{ollama:?}");
        let transformers = shape("transformers");
        assert!(transformers.last().unwrap().contains("\"finish_reason\":\"stop\""));
        assert!(transformers.last().unwrap().contains("\"usage\""), "{transformers:?}");
        let litellm = shape("litellm");
        assert!(litellm[4].contains("\"choices\":[{\"index\":0,\"delta\":{}}],\"usage\""), "{litellm:?}");
    }

    #[test]
    fn the_role_of_transformers_comes_long_before_its_first_token() {
        let events = all(stream(r#"{"flavour": "transformers", "output_tokens": 2}"#, call()));
        assert_eq!((events[0].0, events[1].0), (1_000, 51_000_000));
    }

    #[test]
    fn usage_is_told_only_when_asked_for_and_continuously_when_that_is() {
        let none = all(stream("{}", Call { include_usage: false, ..call() }));
        assert!(none.iter().all(|e| !e.2.contains("usage")));
        let each = all(stream(r#"{"output_tokens": 3}"#, Call { continuous_usage: true, ..call() }));
        for (n, event) in each.iter().filter(|e| e.1.tokens > 0).enumerate() {
            assert!(event.2.contains(&format!("\"completion_tokens\":{}", n + 1)), "{}", event.2);
        }
    }

    #[test]
    fn the_requests_bound_cuts_the_answer_and_says_so() {
        let cut = stream(r#"{"output_tokens": 30}"#, Call { max_tokens: Some(4), ..call() });
        assert_eq!((cut.plan.tokens, cut.plan.reason), (4, "length"));
        let free = stream(r#"{"output_tokens": 30}"#, Call { max_tokens: Some(40), ..call() });
        assert_eq!((free.plan.tokens, free.plan.reason), (30, "stop"));
        assert_eq!(stream("{}", Call { max_tokens: Some(9), ..call() }).plan.tokens, 9);
        assert_eq!(stream("{}", call()).plan.tokens, 16);
    }

    #[test]
    fn choices_are_interleaved_and_reasoning_comes_first() {
        let events = all(stream(r#"{"output_tokens": 4, "reasoning": 0.5}"#, Call { n: 2, ..call() }));
        let tokens: Vec<&String> = events.iter().filter(|e| e.1.tokens > 0).map(|e| &e.2).collect();
        assert_eq!(tokens.len(), 8);
        for (n, event) in tokens.iter().enumerate() {
            assert!(event.contains(&format!("\"index\":{}", n % 2)), "{event}");
            assert_eq!(event.contains("reasoning_content"), n < 4, "{event}");
        }
        let last = &events[events.len() - 2].2;
        assert!(last.contains("\"completion_tokens\":8") && last.contains("\"reasoning_tokens\":4"), "{last}");
    }

    proptest! {
        #[test]
        fn no_shape_loses_a_token_or_goes_back_in_time(
            tokens in 1u32..200, low in 0u32..4, width in 0u32..6, n in 1u32..4, group in 1u32..7,
            reasoning in prop_oneof![Just(0.0), 0f64..1.0], gap in 0f64..20.0, steady in any::<bool>(), seed in any::<u64>(),
        ) {
            let width = if steady { 0 } else { width };
            let per_chunk = if steady { low.to_string() } else {
                format!(r#"{{"uniform": {{"low": {low}, "high": {}}}}}"#, low + width)
            };
            let gap = if steady { gap.to_string() } else { format!(r#"{{"exponential": {{"mean": {gap}}}}}"#) };
            let config = format!(
                r#"{{"output_tokens": {tokens}, "tokens_per_chunk": {per_chunk}, "events_per_write": {group},
                "reasoning": {reasoning}, "gap": {gap}, "seed": {seed}}}"#
            );
            let made = stream(&config, Call { n, ..call() });
            let last_due = made.clone().last_due();
            let events = all(made);
            prop_assert_eq!(events.iter().map(|e| e.1.tokens).sum::<u32>(), tokens * n);
            prop_assert!(events.windows(2).all(|w| w[0].0 <= w[1].0));
            prop_assert_eq!(events.last().unwrap().0, last_due);
            prop_assert_eq!(events.last().unwrap().2.as_str(), "[DONE]");
        }
    }
}
