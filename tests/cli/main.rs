//! `nodectl` as a shell sees it: real binaries, real nodes.

#![allow(clippy::unwrap_used, clippy::unwrap_in_result, reason = "a test may panic where it stands")]

#[cfg(test)]
mod access;
#[cfg(test)]
mod all_homes;
#[cfg(test)]
mod approvals;
#[cfg(test)]
mod attempts;
#[cfg(test)]
mod audit;
#[cfg(test)]
mod clocks;
#[cfg(test)]
mod copies;
#[cfg(test)]
mod debug_bundle;
mod dev;
#[cfg(test)]
mod dlq;
#[cfg(test)]
mod doctor;
#[cfg(test)]
mod documents;
#[cfg(test)]
mod drain;
#[cfg(test)]
mod fixture;
mod follow;
#[cfg(test)]
mod handover;
#[cfg(test)]
mod install;
#[cfg(test)]
mod peers;
#[cfg(test)]
mod refusals;
#[cfg(test)]
mod room;
#[cfg(test)]
mod schedules;
#[cfg(test)]
mod streams;
#[cfg(test)]
mod tools;
#[cfg(test)]
mod usage;
#[cfg(test)]
mod waiting;
#[cfg(test)]
mod watching;
#[cfg(test)]
mod workflows;
