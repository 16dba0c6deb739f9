//! What an answer will say in all, decided before its first byte: how many tokens, of what kind, and how it ends.

use super::api::{Call, Endpoint};
use super::config::{Config, Flavour, Usage};
use super::draw::{Draws, Purpose};
use super::voice::Tokens;

/// What a stream will say in all.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    /// Per choice.
    pub tokens: u32,
    /// Of them reasoning, at the start.
    pub reasoning: u32,
    pub n: u32,
    pub prompt: u32,
    pub tool: bool,
    pub reason: &'static str,
    pub usage: Usage,
    pub continuous: bool,
    pub role: Role,
    /// The finish reason rides on the last token's event.
    pub finish_on_token: bool,
    pub done: bool,
}

/// When the event with the role comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Never,
    /// With the request's slot, long before the first token.
    Early,
    /// Due with the first token, in a write of its own unless writes are coalesced.
    Apart,
    /// In the write of the first token.
    Joined,
}

impl Plan {
    pub(super) fn new(config: &Config, endpoint: Endpoint, call: &Call, draws: Draws) -> Self {
        if endpoint.is_ollama() {
            return Self::of_ollama(config, call, draws);
        }
        let chat = endpoint == Endpoint::Chat;
        let tool = config.tool_calls && chat;
        let (tokens, cut) = length(config, call, draws);
        let flavour = config.flavour;
        let role = match flavour {
            _ if !chat => Role::Never,
            Flavour::Ollama => Role::Never,
            Flavour::Transformers => Role::Early,
            Flavour::Vllm | Flavour::Llamacpp => Role::Joined,
            Flavour::Openai | Flavour::Litellm => Role::Apart,
        };
        Self {
            tokens,
            reasoning: if chat { (f64::from(tokens) * config.reasoning).round() as u32 } else { 0 },
            n: call.n,
            prompt: call.prompt_tokens,
            tool,
            reason: if cut {
                "length"
            } else if tool {
                "tool_calls"
            } else {
                "stop"
            },
            usage: if call.include_usage { config.usage_where() } else { Usage::None },
            continuous: call.include_usage && call.continuous_usage,
            role,
            finish_on_token: flavour == Flavour::Vllm,
            done: flavour != Flavour::Transformers,
        }
    }

    /// Lines with text, and a last one with the reason and the counts.
    fn of_ollama(config: &Config, call: &Call, draws: Draws) -> Self {
        let (tokens, cut) = length(config, call, draws);
        Self {
            tokens,
            reasoning: 0,
            n: 1,
            prompt: call.prompt_tokens,
            tool: false,
            reason: if cut { "length" } else { "stop" },
            usage: Usage::Finish,
            continuous: false,
            role: Role::Never,
            finish_on_token: false,
            done: false,
        }
    }

    /// The usage of the whole answer.
    pub(super) fn total(&self) -> Tokens {
        let of_all = |tokens: u32| tokens.saturating_mul(self.n);
        Tokens { prompt: self.prompt, completion: of_all(self.tokens), reasoning: of_all(self.reasoning) }
    }
}

/// The answer's length, and whether the request's bound cut it.
fn length(config: &Config, call: &Call, draws: Draws) -> (u32, bool) {
    match (&config.output_tokens, call.max_tokens) {
        (None, Some(max)) => (max, true),
        (None, None) => (16, false),
        (Some(length), max) => {
            let wanted = length.draw(draws, Purpose::Length, 0);
            let bound = max.unwrap_or(u32::MAX);
            (wanted.min(bound), wanted > bound)
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn more_tokens_than_can_be_counted_are_told_as_the_most_that_can() {
        let config = Config::from_json(r#"{"reasoning": 1}"#).unwrap();
        let call = Call { n: 2, max_tokens: Some(u32::MAX), ..Call::default() };
        let total = Plan::new(&config, Endpoint::Chat, &call, Draws::new(0, 0)).total();
        assert_eq!((total.completion, total.reasoning), (u32::MAX, u32::MAX));
    }
}
