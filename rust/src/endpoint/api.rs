//! The APIs that can be spoken.

use serde::{Deserialize, Serialize};

/// Which API a request speaks.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Api {
    /// `/v1/chat/completions`
    #[default]
    Chat,
    /// `/v1/completions`
    Completions,
}

impl Api {
    /// Every API; `ALL[api as usize]` is that API.
    pub const ALL: [Self; 2] = [Self::Chat, Self::Completions];

    /// The path that a base URL is completed with.
    pub fn path(self) -> &'static str {
        match self {
            Self::Chat => "/v1/chat/completions",
            Self::Completions => "/v1/completions",
        }
    }
}
