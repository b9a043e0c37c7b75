//! Every interleaving of grant, renew, expire and complete in a small mesh, over the cores themselves.
//!
//! One home and two workers share two tasks. [`Mesh`] is a state of all three, of what is on its way between them and on
//! the home's disk; [`Interleavings`] says what may happen next. Stateright goes through all of it: whatever the order of
//! messages, whichever of them are late or lost, whoever dies or stands still, the invariants hold in every state, and
//! every path ends with both tasks terminal.
//!
//! A message arrives at once, in the order of sending, but for as many as the budget says: each message may be the one
//! that is lost, or that is late, by any time, so that any later one overtakes it. Time leaps by a quarter of a lease: the
//! ends of a lease, at the worker and at the home, are instants of their own. When the leaps are used up, what is late is
//! lost, and everything else happens in its order until both tasks have ended: so every path is finite, and one on which
//! a task does not become terminal is seen.

mod action;
mod checks;
mod home;
mod letters;
mod mesh;
mod model;
mod worker;

pub use action::{Action, Fate};
pub use checks::{Breach, Checks};
pub use letters::{Body, Letter};
pub use mesh::{Budget, Mesh};
pub use model::{Explored, Interleavings, explore};
