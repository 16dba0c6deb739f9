//! What a worker does beside its requests: tasks that hold no slot, and whose panic ends the run.

use std::future::Future;
use std::rc::Rc;

use tokio::task::{JoinHandle, spawn_local};

use super::worker::Worker;

/// Start `task` on this worker's thread. Where it panics the run ends, and says `what` it was at.
///
/// What makes requests has a [`PanicGuard`](super::worker::PanicGuard) instead, which gives its slot back as well.
pub(super) fn spawn<F>(worker: &Rc<Worker>, what: &'static str, task: F) -> JoinHandle<F::Output>
where
    F: Future<Output: 'static> + 'static,
{
    let watch = Watch::over(worker, what);
    spawn_local(async move {
        let _watch = watch;
        task.await
    })
}

/// While it lives, a panic of whoever holds it ends the run. The runtime keeps a task's panic to itself, and a thread's is
/// only known once it is joined: until then the phase would wait for what was to be done.
pub(super) struct Watch {
    worker: Rc<Worker>,
    what: &'static str,
}

impl Watch {
    pub(super) fn over(worker: &Rc<Worker>, what: &'static str) -> Self {
        Self { worker: Rc::clone(worker), what }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.worker.run.fail(format!("worker {} panicked {}; rows may be missing", self.worker.id, self.what));
            // Who waits for the last request's end looks again whether there is still somebody to bring it about.
            self.worker.idle.notify_one();
        }
    }
}
