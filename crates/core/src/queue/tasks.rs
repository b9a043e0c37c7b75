//! All tasks of a home, by id.

use std::ops::Index;

use hashbrown::HashMap;

use super::task_entry::Task;
use crate::ids::TaskId;

/// Each stands in memory of its own: a map that grows then moves words, and its empty places cost words.
#[derive(Debug, Clone, Default)]
pub(super) struct Tasks(HashMap<TaskId, Box<Task>, foldhash::fast::FixedState>);

impl Tasks {
    pub fn get(&self, id: &TaskId) -> Option<&Task> {
        self.0.get(id).map(|task| &**task)
    }

    pub fn get_mut(&mut self, id: &TaskId) -> Option<&mut Task> {
        self.0.get_mut(id).map(|task| &mut **task)
    }

    pub fn contains_key(&self, id: &TaskId) -> bool {
        self.0.contains_key(id)
    }

    /// The one that had its id before, if there was one.
    pub fn insert(&mut self, task: Task) -> Option<Box<Task>> {
        self.0.insert(task.id, Box::new(task))
    }

    pub fn remove(&mut self, id: &TaskId) -> Option<Task> {
        self.0.remove(id).map(|task| *task)
    }

    pub fn values(&self) -> impl Iterator<Item = &Task> {
        self.0.values().map(|task| &**task)
    }
}

impl Index<&TaskId> for Tasks {
    type Output = Task;

    fn index(&self, id: &TaskId) -> &Task {
        &self.0[id]
    }
}
