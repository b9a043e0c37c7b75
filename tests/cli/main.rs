//! `nodectl` as a shell sees it: real binaries, real nodes.

#[cfg(test)]
mod dev;
#[cfg(test)]
mod documents;
#[cfg(test)]
mod fixture;
#[cfg(test)]
mod refusals;
#[cfg(test)]
mod streams;
#[cfg(test)]
mod usage;
#[cfg(test)]
mod waiting;
