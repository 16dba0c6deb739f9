//! Answers that are told at once, whatever is asked: vectors, the list of models, errors.

use super::api::Call;
use super::config::{Config, Flavour};
use super::draw::{Draws, Purpose};
use super::json::{put, put_number, quoted};
use crate::http::base64;

/// Append an answer of the embeddings API.
pub(super) fn embeddings(out: &mut Vec<u8>, model: &str, call: &Call, draws: Draws) {
    put(out, "{\"object\":\"list\",\"data\":[");
    for input in 0..call.inputs {
        put(
            out,
            if input == 0 { "{\"object\":\"embedding\",\"index\":" } else { ",{\"object\":\"embedding\",\"index\":" },
        );
        put_number(out, u64::from(input));
        put(out, ",\"embedding\":");
        let vector = vector(call, draws, input);
        if call.base64 {
            let bytes: Vec<u8> = vector.iter().flat_map(|x| x.to_le_bytes()).collect();
            put(out, "\"");
            put(out, &base64(&bytes));
            put(out, "\"}");
        } else {
            put_vector(out, &vector);
            put(out, "}");
        }
    }
    put(out, "],\"model\":");
    put(out, &quoted(model));
    put(out, ",\"usage\":{\"prompt_tokens\":");
    put_number(out, u64::from(call.prompt_tokens));
    put(out, ",\"total_tokens\":");
    put_number(out, u64::from(call.prompt_tokens));
    put(out, "}}");
}

/// The vector of one input.
pub(super) fn vector(call: &Call, draws: Draws, input: u32) -> Vec<f32> {
    let number = |d: u32| draws.unit(Purpose::Length as u64, u64::from(input) << 32 | u64::from(d)) * 2.0 - 1.0;
    (0..call.dimensions).map(|d| number(d) as f32).collect()
}

pub(super) fn put_vector(out: &mut Vec<u8>, vector: &[f32]) {
    let written: Vec<String> = vector.iter().map(|x| format!("{x:.6}")).collect();
    put(out, "[");
    put(out, &written.join(","));
    put(out, "]");
}

/// Append the list of models.
pub(super) fn models(out: &mut Vec<u8>, config: &Config, created: u64) {
    put(out, "{\"object\":\"list\",\"data\":[");
    for (n, model) in config.models.iter().enumerate() {
        put(out, if n == 0 { "{\"id\":" } else { ",{\"id\":" });
        put(out, &quoted(model));
        put(out, ",\"object\":\"model\",\"created\":");
        put_number(out, created);
        put(out, ",\"owned_by\":\"loadgen\"}");
    }
    put(out, "]}");
}

/// Append an error's body, as the imitated server words it.
pub(super) fn error(out: &mut Vec<u8>, flavour: Flavour, status: u16, code: Option<&str>, message: &str) {
    let kind = match status {
        401 => "authentication_error",
        429 => "rate_limit_error",
        400..500 => "invalid_request_error",
        _ => "server_error",
    };
    let code = code.map_or("null".to_owned(), quoted);
    let message = quoted(message);
    let text = match flavour {
        Flavour::Ollama => format!("{{\"error\":{message}}}"),
        Flavour::Transformers => format!("{{\"detail\":{message}}}"),
        Flavour::Vllm | Flavour::Llamacpp => {
            format!("{{\"error\":{{\"message\":{message},\"type\":\"{kind}\",\"param\":null,\"code\":{status}}}}}")
        }
        Flavour::Litellm => {
            format!("{{\"error\":{{\"message\":{message},\"type\":\"{kind}\",\"param\":null,\"code\":\"{status}\"}}}}")
        }
        Flavour::Openai => {
            format!("{{\"error\":{{\"message\":{message},\"type\":\"{kind}\",\"param\":null,\"code\":{code}}}}}")
        }
    };
    put(out, &text);
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn errors_have_the_shape_of_their_server() {
        let body = |flavour| {
            let mut out = Vec::new();
            error(&mut out, flavour, 404, Some("model_not_found"), "no \"x\"");
            serde_json::from_slice::<serde_json::Value>(&out).unwrap()
        };
        assert_eq!(body(Flavour::Openai)["error"]["code"], "model_not_found");
        assert_eq!(body(Flavour::Vllm)["error"]["code"], 404);
        assert_eq!(body(Flavour::Litellm)["error"]["code"], "404");
        assert_eq!(body(Flavour::Ollama)["error"], "no \"x\"");
        assert_eq!(body(Flavour::Transformers)["detail"], "no \"x\"");
    }

    #[test]
    fn embeddings_come_as_numbers_or_as_base64() {
        let call = Call { inputs: 2, dimensions: 3, prompt_tokens: 5, ..Call::default() };
        let mut out = Vec::new();
        embeddings(&mut out, "m", &call, Draws::new(0, 0));
        let json: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(json["data"][1]["embedding"].as_array().unwrap().len(), 3);
        assert_eq!(json["usage"]["total_tokens"], 5);
        let mut out = Vec::new();
        embeddings(&mut out, "m", &Call { base64: true, ..call }, Draws::new(0, 0));
        let json: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(json["data"][0]["embedding"].as_str().unwrap().len(), 16);
    }
}
