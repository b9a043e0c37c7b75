//! Who polls many asks those alone that were woken.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Wake, Waker};

/// Rung when what polls with it is woken; wakes then who looked at it last.
pub(crate) struct Bell {
    ring: Arc<Ring>,
    waker: Waker,
}

struct Ring {
    rung: AtomicBool,
    /// It stays after it was woken: whoever looks again in the same task has nothing to do.
    listener: Mutex<Option<Waker>>,
}

impl Ring {
    fn listener(&self) -> MutexGuard<'_, Option<Waker>> {
        self.listener.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake for Ring {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.rung.store(true, Ordering::Release);
        if let Some(listener) = self.listener().as_ref() {
            listener.wake_by_ref();
        }
    }
}

impl Default for Bell {
    /// One that was rung.
    fn default() -> Self {
        let ring = Arc::new(Ring { rung: AtomicBool::new(true), listener: Mutex::default() });
        Self { waker: Waker::from(ring.clone()), ring }
    }
}

impl Bell {
    /// For who looks at it next anyhow.
    pub fn ring(&self) {
        self.ring.rung.store(true, Ordering::Release);
    }

    /// What to poll with, if it was rung since it was last asked. If not, or once it is rung again, `context` is woken.
    pub fn answer(&self, context: &Context<'_>) -> Option<Context<'_>> {
        let rung = self.ring.rung.swap(false, Ordering::AcqRel);
        let mut listener = self.ring.listener();
        if listener.as_ref().is_some_and(|listener| listener.will_wake(context.waker())) {
            return rung.then(|| Context::from_waker(&self.waker));
        }
        // It may have been rung for who listened before.
        *listener = Some(context.waker().clone());
        Some(Context::from_waker(&self.waker))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[derive(Default)]
    struct Wakes(AtomicUsize);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_bell_lets_one_look_through_for_each_time_that_it_was_rung_and_wakes_who_looks() {
        let (wakes, others) = (Arc::new(Wakes::default()), Arc::new(Wakes::default()));
        let (waker, other) = (Waker::from(wakes.clone()), Waker::from(others.clone()));
        let (mine, its) = (Context::from_waker(&waker), Context::from_waker(&other));
        let bell = Bell::default();
        let own = bell.answer(&mine).map(|own| own.waker().clone()).unwrap();
        assert!(bell.answer(&mine).is_none(), "nobody rang it");
        own.wake_by_ref();
        assert_eq!(wakes.0.load(Ordering::Relaxed), 1);
        own.wake_by_ref();
        assert!(bell.answer(&mine).is_some());
        assert!(bell.answer(&mine).is_none(), "twice before a look is once");
        bell.ring();
        assert!(bell.answer(&mine).is_some());
        assert_eq!(wakes.0.load(Ordering::Relaxed), 2, "who looks anyhow is not woken");
        assert!(bell.answer(&its).is_some(), "who comes anew looks");
        own.wake();
        assert_eq!((wakes.0.load(Ordering::Relaxed), others.0.load(Ordering::Relaxed)), (2, 1));
    }
}
