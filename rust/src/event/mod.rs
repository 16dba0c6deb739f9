//! Transitions as events: encoded as they happen, batched by topic, on their way to the event log and to subscribers.

mod batch;
mod decode;
mod emitter;
mod encode;
mod frame;
mod kind;
mod queue;
mod reader;
pub mod ring;
mod session;

pub use batch::{Batch, BatchLimits};
pub use decode::{FrameFault, Record, is_one_value};
pub use emitter::{Emitter, Outlets, SessionData};
pub use encode::Event;
pub use frame::{FRAME_HEAD, Frame, Records, SESSION_SOURCE};
pub use kind::{EventType, TOPIC_BYTES, TYPES};
pub use queue::{EventQueue, FrameSender, event_queue};
pub use reader::EventReader;
pub use session::{EventsConfig, EventsError, RunEvents};
