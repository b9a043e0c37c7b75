//! A task mesh without a broker: at-least-once execution, exactly-once commit.

pub mod store;
