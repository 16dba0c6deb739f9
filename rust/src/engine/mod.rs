//! The engine: workers that share nothing take requests from one plan, make them, and write what happened.

pub mod config;
