//! What a request sends: its sample's body or its own, with the wish for usage where the server knows that.

use super::{Request, Ticket};
use crate::engine::connection::Connection;
use crate::engine::finish::Close;
use crate::engine::reception::Reception;
use crate::record::Failure;

impl Request {
    /// Whether the next attempt asks for usage in the stream.
    fn asks_usage(&self) -> bool {
        let settings = self.settings();
        settings.wants_usage() && !self.node().usage_refusals.has(settings.api)
    }

    /// Make the request's bytes, for `connection` to write.
    pub(super) fn render(&mut self, connection: &mut Connection) {
        self.asked_usage = self.asks_usage();
        let marker = self.phase.shared.marker(self.id());
        let (template, pieces) = (&self.settings().template, self.pieces(&marker));
        let bytes = connection.reset(&self.phase.shared, |out| template.render(&pieces, out));
        self.bytes_out += bytes as u64;
    }

    /// The request's body alone.
    pub(super) fn body(&mut self) -> Vec<u8> {
        self.asked_usage = self.asks_usage();
        let marker = self.phase.shared.marker(self.id());
        self.pieces(&marker).concat()
    }

    fn pieces<'a>(&'a self, marker: &'a str) -> [&'a [u8]; 4] {
        let Ticket { node, sample, .. } = self.ticket;
        match &self.body {
            Some(body) => [self.settings().opening(self.asked_usage), &body[1..], b"", b""],
            None => self.phase.shared.pieces(node, sample, self.asked_usage, marker),
        }
    }

    /// A server that answers 400 or 422 because it does not know `stream_options`: asked again without it.
    pub(super) fn refuses_usage(&self, close: &Close, reception: &Reception) -> bool {
        let refused = close.failure == Failure::Http && matches!(reception.answer.outcome().status, 400 | 422);
        // Once refused it isn't asked for again, so this can't go on for ever.
        refused && self.asked_usage && (close.text.contains("stream_options") || close.text.contains("include_usage"))
    }
}
