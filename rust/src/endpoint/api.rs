//! The APIs that can be spoken.

use serde::{Deserialize, Serialize};

/// Which API a request speaks.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Api {
    /// `/v1/chat/completions`
    #[default]
    Chat,
    /// `/v1/completions`
    Completions,
    /// `/v1/embeddings`
    Embeddings,
    /// Ollama's `/api/chat`
    OllamaChat,
    /// Ollama's `/api/generate`
    OllamaGenerate,
    /// Ollama's `/api/embed`
    OllamaEmbed,
}

impl Api {
    /// Every API; `ALL[api as usize]` is that API.
    pub const ALL: [Self; 6] =
        [Self::Chat, Self::Completions, Self::Embeddings, Self::OllamaChat, Self::OllamaGenerate, Self::OllamaEmbed];

    /// The path that a base URL is completed with.
    pub fn path(self) -> &'static str {
        match self {
            Self::Chat => "/v1/chat/completions",
            Self::Completions => "/v1/completions",
            Self::Embeddings => "/v1/embeddings",
            Self::OllamaChat => "/api/chat",
            Self::OllamaGenerate => "/api/generate",
            Self::OllamaEmbed => "/api/embed",
        }
    }

    /// Whether its streams are lines of JSON rather than server-sent events.
    pub fn streams_lines(self) -> bool {
        matches!(self, Self::OllamaChat | Self::OllamaGenerate)
    }

    /// Whether it answers with vectors, all at once.
    pub fn embeds(self) -> bool {
        matches!(self, Self::Embeddings | Self::OllamaEmbed)
    }

    /// What an answer that holds nothing lacks.
    pub(super) fn substance(self) -> &'static str {
        match self {
            Self::Chat | Self::Completions => "choices",
            Self::Embeddings | Self::OllamaEmbed => "embeddings",
            Self::OllamaChat => "message",
            Self::OllamaGenerate => "response",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_stands_at_its_number_and_is_called_by_its_name() {
        let names = ["chat", "completions", "embeddings", "ollama_chat", "ollama_generate", "ollama_embed"];
        for (i, (api, name)) in Api::ALL.into_iter().zip(names).enumerate() {
            assert_eq!(api as usize, i);
            assert_eq!(serde_json::to_value(api).unwrap(), name);
        }
    }
}
