//! What an answer's bytes mean: which events carry tokens, why the model stopped, what the server counted, what failed.
//!
//! An event is read by the cheapest way that is certain: against the *template* of the event before it (`template`),
//! and else by a parser (`facts`).

mod answer;
mod error;
mod facts;
mod reader;
mod sse;
mod template;
mod text;

pub use answer::{Answer, AnswerOptions, Outcome};
pub use reader::ReadTally;

use crate::engine::config::Api;

/// The path of an API on a server.
pub fn api_path(api: Api) -> &'static str {
    match api {
        Api::Chat => "/v1/chat/completions",
        Api::Completions => "/v1/completions",
    }
}
