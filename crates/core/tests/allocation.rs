//! What is asked per grant allocates nothing, and what a stranger sends allocates in proportion to what was received.
#![allow(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::unwrap_in_result, reason = "a test may panic where it stands")]

#[path = "allocation/decoders.rs"]
mod decoders;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::BTreeSet;

use magpie_core::device::{DeviceReply, DeviceRequest};
use magpie_core::ids::PeerId;
use magpie_core::lease::{Grant, Renewal};
use magpie_core::limits;
use magpie_core::matching::{Capabilities, Gpu, Shape};
use magpie_core::placement::{Beacon, Target};
use magpie_core::task::{Tag, TaskKind, TaskSpec};
use magpie_core::wire::{WIRE_VERSION, decode};
use serde::Deserialize;

thread_local! {
    static ALLOCATED_BYTES: Cell<usize> = const { Cell::new(0) };
    /// What is held now; negative where another thread's memory was given back here.
    static LIVE_BYTES: Cell<isize> = const { Cell::new(0) };
    static PEAK_BYTES: Cell<isize> = const { Cell::new(0) };
}

/// The system's allocator, and how many bytes each thread has asked it for and held at a time.
struct Counting;

// SAFETY: every call goes to the system's allocator as it came; the counters are plain numbers without a destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATED_BYTES.with(|bytes| bytes.set(bytes.get() + layout.size()));
        let live =
            LIVE_BYTES.with(|bytes| bytes.replace(bytes.get() + layout.size() as isize)) + layout.size() as isize;
        PEAK_BYTES.with(|bytes| bytes.set(bytes.get().max(live)));
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE_BYTES.with(|bytes| bytes.set(bytes.get() - layout.size() as isize));
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The bytes that `work` asks for, those it gives back included.
fn allocated_by<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = ALLOCATED_BYTES.with(Cell::get);
    let done = work();
    (done, ALLOCATED_BYTES.with(Cell::get) - before)
}

/// The most bytes that `work` holds at a time.
fn peak_of<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = LIVE_BYTES.with(Cell::get);
    PEAK_BYTES.with(|bytes| bytes.set(before));
    let done = work();
    (done, usize::try_from(PEAK_BYTES.with(Cell::get) - before).unwrap_or(0))
}

#[test]
fn the_counters_count() {
    assert_eq!(allocated_by(|| vec![0u8; 1_000]).1, 1_000);
    let twice = || {
        for _ in 0..2 {
            drop(std::hint::black_box(vec![0u8; 1_000]));
        }
    };
    assert_eq!((allocated_by(twice).1, peak_of(twice).1), (2_000, 1_000));
}

#[test]
fn asking_whether_a_node_fits_allocates_nothing() {
    let requires = "gpu.vram >= 16GiB && label.zone == \"eu\" && version >= 0.1.0 && (model:minilm || !label:slow)";
    let spec = TaskSpec {
        run: vec!["python3".to_owned()],
        tag: Some(Tag::UnitTest),
        requires: Some(requires.to_owned()),
        ..TaskSpec::new(TaskKind::Process)
    };
    let shape = Shape::of(&spec).unwrap();
    let node = Capabilities {
        labels: [("zone".to_owned(), "eu".to_owned())].into(),
        kinds: BTreeSet::from([TaskKind::Process]),
        commands: BTreeSet::from(["python3".to_owned()]),
        tags: BTreeSet::from([Tag::UnitTest]),
        gpus: vec![Gpu { name: "L4".to_owned(), vram_bytes: 24 << 30 }],
        version: "0.1.0".to_owned(),
        ..Capabilities::default()
    };
    assert_eq!(allocated_by(|| shape.fits(&node)), (true, 0));
    assert_eq!(allocated_by(|| shape.distance(&Capabilities::default())), (6, 0));
}

#[test]
fn preferring_a_peer_allocates_nothing() {
    let peers: Vec<_> = (0..100).map(|n| PeerId([n; 32])).map(|peer| (peer, Beacon::of(&peer))).collect();
    let (found, bytes) =
        allocated_by(|| Target::of(&[1; 32], &[2; 32]).nearest(peers.iter().map(|(peer, beacon)| (peer, beacon))));
    assert!(found.is_some());
    assert_eq!(bytes, 0);
}

fn refused_within<'a, T: Deserialize<'a>>(payload: &'a [u8], bytes_max: usize) {
    let (read, bytes) = allocated_by(|| decode::<T>(payload).map(|_| ()));
    assert!(read.is_err());
    assert!(bytes <= bytes_max, "{bytes} bytes for {read:?}");
}

#[test]
fn a_header_of_four_billion_elements_allocates_nothing() {
    let four_billion = |before: &[u8], header: u8| {
        [&[WIRE_VERSION], before, &[header, 0xff, 0xff, 0xff, 0xff], &[0x90; 64][..]].concat()
    };
    for header in [0xdd, 0xdf, 0xc6, 0xdb, 0xc9] {
        refused_within::<Vec<Renewal>>(&four_billion(&[], header), 0);
        refused_within::<Grant>(&four_billion(&[], header), 0);
        refused_within::<DeviceReply>(&four_billion(b"\x81\xa8embedded\x81\xa7vectors", header), 0);
        refused_within::<DeviceRequest>(&four_billion(b"\x81\xa5embed\x81\xa5texts", header), 0);
    }
}

#[test]
fn a_frame_of_the_smallest_elements_is_bounded_by_their_number() {
    let texts = |len: usize| {
        let head = [&[WIRE_VERSION], &b"\x81\xa5embed\x83\xa2id\x01\xa5model\xa1m\xa5texts\xdd"[..]].concat();
        [head, u32::try_from(len).unwrap().to_be_bytes().to_vec(), vec![0xa0; len]].concat()
    };
    let few = texts(64 * 1024);
    let (read, bytes) = allocated_by(|| decode::<DeviceRequest>(&few).is_ok());
    assert!(read && bytes <= 64 * few.len(), "{bytes} bytes for a frame of {}", few.len());
    refused_within::<DeviceRequest>(&texts(limits::FRAME_ITEMS_MAX), 0);
}
