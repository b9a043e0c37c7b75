//! Whether the disk has room for tasks that need some: looked at every now and then, and when one met a disk without.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use magpie_core::lease::Fence;
use magpie_core::limits;
use magpie_core::worker::WorkerEvent;
use ractor::ActorRef;
use tokio::sync::Semaphore;

use super::WorkerState;
use crate::messages::registry::RegistryMsg;
use crate::messages::worker::WorkerMsg;
use crate::store::disk::check_room;

/// Before tasks are taken again, this many times as much must be free: else they would come and go.
const TIMES_FREE: u64 = 2;

pub struct Room {
    /// Where attempts work. `None`: no kind that this node offers needs room.
    dir: Option<PathBuf>,
    /// Why there is none, as it was last seen.
    none: Option<String>,
    /// One look at a time: a disk may take long to answer.
    looks: Arc<Semaphore>,
    /// Whether a file must be written to know, as after one that was not taken.
    doubted: bool,
}

impl Room {
    pub fn new(dir: Option<PathBuf>, me: &ActorRef<WorkerMsg>) -> Self {
        if dir.is_some() {
            let every = Duration::from_millis(limits::WORK_ROOM_LOOK_EVERY_MS);
            me.send_interval(every, || WorkerMsg::LookForRoom);
        }
        Self { dir, none: None, looks: Arc::new(Semaphore::new(1)), doubted: false }
    }
}

impl WorkerState {
    /// An attempt could not begin.
    pub(super) fn not_started(&mut self, fence: Fence, why: String) {
        tracing::warn!(task = %fence.task, why, "an attempt could not begin here: its home gets it back");
        self.event(WorkerEvent::NotStarted { fence, why });
        self.room.doubted = true;
        self.look_for_room();
    }

    pub(super) fn look_for_room(&mut self) {
        let Some(dir) = self.room.dir.clone() else { return };
        let Ok(look) = self.room.looks.clone().try_acquire_owned() else { return };
        let is_short = self.room.none.is_some();
        let thorough = std::mem::take(&mut self.room.doubted) || is_short;
        let bytes_min = limits::WORK_ROOM_BYTES_MIN * if is_short { TIMES_FREE } else { 1 };
        let me = self.me.clone();
        self.arguments.routes.peers.errand(async move {
            let looked = tokio::task::spawn_blocking(move || {
                let room = check_room(&dir, bytes_min, thorough);
                room.err().map(|failure| format!("{failure} ({}): {}", dir.display(), failure.remedy()))
            });
            let none = looked.await.unwrap_or_else(|panic| Some(panic.to_string()));
            let _ = me.cast(WorkerMsg::Room(none));
            drop(look);
        });
    }

    pub(super) fn room_seen(&mut self, mut none: Option<String>) {
        none.iter_mut().for_each(|why| why.truncate(why.floor_char_boundary(limits::ERROR_BYTES_MAX)));
        let changed = self.room.none != none;
        self.room.none.clone_from(&none);
        // It may hold what an earlier life of this worker said.
        self.tell_room();
        if !changed {
            return;
        }
        match &none {
            Some(why) => tracing::error!(why, "no task that needs room on the disk is taken"),
            None => tracing::info!("tasks that need room on the disk are taken again"),
        }
        self.event(WorkerEvent::RoomChanged { no_room: none });
    }

    pub(super) fn tell_room(&self) {
        let _ = self.arguments.routes.addresses.registry.cast(RegistryMsg::Room(self.room.none.clone()));
    }
}
