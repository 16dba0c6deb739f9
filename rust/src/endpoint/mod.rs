//! What an answer's bytes mean: which events carry tokens, why the model stopped, what the server counted, what failed.
//!
//! An event is read by the cheapest way that is certain: against the *template* of the event before it (`template`),
//! else by a scanner that knows the usual JSON (`scan`), and else by a parser that knows any (`facts`). Ollama's own lines
//! (`ollama`) and vectors (`embedding`) have parsers of their own.

mod answer;
mod api;
mod embedding;
mod error;
mod facts;
#[cfg(fuzzing)]
pub mod fuzzing;
mod lines;
mod ollama;
mod reader;
mod scan;
mod sse;
mod template;
mod text;

pub use answer::{Answer, AnswerOptions, Outcome};
pub use api::Api;
pub use reader::ReadTally;
