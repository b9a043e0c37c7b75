use proptest::prelude::*;

use super::*;

const WINDOW: Window = Window { len_max: 8, bytes_max: 1_000 };
const EPOCH: StreamEpoch = StreamEpoch(7);

fn outlet(records: u64, bytes_max: usize) -> Outlet<u64> {
    let mut outlet = Outlet::new(EPOCH, bytes_max);
    for n in 1..=records {
        assert_eq!(outlet.push(n, 1), Some(n));
    }
    outlet
}

fn at(epoch: u64, seq: u64) -> Checkpoint {
    Checkpoint { epoch: StreamEpoch(epoch), seq }
}

#[test]
fn a_reader_gets_what_follows_its_checkpoint_and_acknowledges_the_rest() {
    let mut outlet = outlet(20, 100);
    let mut inlet = Inlet::new(Some(at(7, 5)));
    let piece = outlet.read(&inlet.ask(WINDOW)).unwrap().unwrap();
    assert_eq!((piece.first, piece.records.len(), piece.ended), (6, 8, false));
    assert_eq!(outlet.acknowledged(), 5);
    let taken = inlet.take(piece).unwrap();
    assert_eq!((taken.first, taken.records, taken.gone, taken.left), (6, (6..=13).collect(), None, None));
    assert_eq!(inlet.checkpoint(), Some(at(7, 13)));
}

#[test]
fn a_reader_that_has_all_is_told_nothing_until_there_is_more_or_the_end() {
    let mut outlet = outlet(3, 100);
    let mut inlet = Inlet::new(None);
    inlet.take(outlet.read(&inlet.ask(WINDOW)).unwrap().unwrap()).unwrap();
    assert_eq!(outlet.read(&inlet.ask(WINDOW)), Ok(None));
    assert!(!outlet.is_done());
    outlet.end();
    assert_eq!(outlet.push(4, 1), None, "nothing follows the end");
    let taken = inlet.take(outlet.read(&inlet.ask(WINDOW)).unwrap().unwrap()).unwrap();
    assert!(taken.ended && taken.records.is_empty());
    assert!(outlet.is_done(), "its reader had all when it asked");
}

#[test]
fn what_is_not_kept_any_more_is_said_with_its_numbers() {
    let mut outlet = outlet(20, 5);
    let mut inlet = Inlet::new(Some(at(7, 10)));
    let taken = inlet.take(outlet.read(&inlet.ask(WINDOW)).unwrap().unwrap()).unwrap();
    let gone = Gone { epoch: EPOCH, from: 11, before: 16 };
    assert_eq!((taken.gone, taken.first, taken.records.len()), (Some(gone), 16, 5));
    assert_eq!(gone.to_string(), "records 11 to 15 are not kept any more: 5 of them");
    assert_eq!(Gone { before: 12, ..gone }.to_string(), "record 11 is not kept any more");
}

#[test]
fn a_sender_that_began_anew_is_told_from_one_that_goes_on() {
    let mut outlet = outlet(3, 100);
    for (after, left) in [(at(6, 40), Some((StreamEpoch(6), false))), (at(7, 1), None)] {
        let mut inlet = Inlet::new(Some(after));
        let taken = inlet.take(outlet.read(&inlet.ask(WINDOW)).unwrap().unwrap()).unwrap();
        assert_eq!((taken.left, taken.records.last()), (left, Some(&3)));
    }
    let ask = |checkpoint| Inlet::new(Some(checkpoint)).ask(WINDOW);
    let later = CheckpointError::Later { held: EPOCH, presented: StreamEpoch(8) };
    assert_eq!(outlet.read(&ask(at(8, 1))), Err(later));
    assert_eq!(outlet.read(&ask(at(7, 4))), Err(CheckpointError::Ahead { held: 3, presented: 4 }));
}

#[test]
fn a_piece_is_taken_once_in_its_place_and_not_across_a_gap() {
    let mut outlet = outlet(30, 100);
    let mut ask = |seq| outlet.read(&Inlet::new(Some(at(7, seq))).ask(WINDOW)).unwrap().unwrap();
    let (first, overlapping, far) = (ask(0), ask(4), ask(20));
    let mut inlet = Inlet::new(None);
    assert_eq!(inlet.take(far.clone()), Err(TakeError::Gap { expected: 1, presented: 21 }));
    assert_eq!(inlet.take(first.clone()).unwrap().records, (1..=8).collect::<Vec<_>>());
    assert_eq!(inlet.take(first).unwrap().records, Vec::<u64>::new());
    let taken = inlet.take(overlapping).unwrap();
    assert_eq!((taken.first, taken.records), (9, vec![9, 10, 11, 12]));
    assert_eq!(inlet.take(far), Err(TakeError::Gap { expected: 13, presented: 21 }));
    let old = Piece { epoch: StreamEpoch(6), first: 13, kept_from: 1, records: vec![0], ended: false };
    assert_eq!(inlet.take(old), Err(TakeError::Stale { held: EPOCH, presented: StreamEpoch(6) }));
    assert_eq!(inlet.checkpoint(), Some(at(7, 12)), "what is not taken moves nothing");
}

#[test]
fn what_no_sender_says_is_refused() {
    let mut inlet = Inlet::new(None);
    for (first, kept_from) in [(1, 2), (0, 0), (1, 0), (u64::MAX, 1)] {
        let piece = Piece { epoch: EPOCH, first, kept_from, records: vec![1, 2], ended: false };
        assert_eq!(inlet.take(piece), Err(TakeError::Malformed { first, kept_from }));
    }
}

#[test]
fn a_small_window_gets_on_record_by_record() {
    let mut outlet = Outlet::new(EPOCH, 10_000);
    (0..4).for_each(|n| _ = outlet.push(n, 2_000));
    let mut inlet = Inlet::new(None);
    for n in 0..4 {
        let piece = outlet.read(&inlet.ask(Window { len_max: 0, bytes_max: 1 })).unwrap().unwrap();
        assert_eq!(inlet.take(piece).unwrap().records, [n]);
    }
}

#[test]
fn a_shelf_lets_go_what_was_read_to_its_end_then_the_oldest_end_then_of_the_largest() {
    let bounds = ShelfBounds { stream_bytes_max: 60, bytes_max: 100, ended_len_max: 2 };
    let mut shelf: Shelf<u32, u64> = Shelf::new(bounds);
    let from_the_start = Ask { after: None, window: WINDOW };
    let say = |shelf: &mut Shelf<u32, u64>, key, count| (0..count).for_each(|n| shelf.push(key, n, 10));
    for key in 1..=2 {
        shelf.begin(key, EPOCH);
        say(&mut shelf, key, 2);
        shelf.end(key);
    }
    // Key 2 is read to its end: it goes before key 1, which ended earlier.
    shelf.read(2, &from_the_start).unwrap().unwrap();
    assert!(shelf.read(2, &Ask { after: Some(at(7, 2)), ..from_the_start }).unwrap().unwrap().unwrap().ended);
    shelf.begin(3, EPOCH);
    shelf.end(3);
    assert!(shelf.read(2, &from_the_start).is_none());
    assert!(shelf.read(1, &from_the_start).is_some());
    for key in 4..=5 {
        shelf.begin(key, EPOCH);
        say(&mut shelf, key, 9);
    }
    assert!(shelf.read(1, &from_the_start).is_none() && shelf.read(3, &from_the_start).is_none());
    let kept_from =
        |shelf: &mut Shelf<u32, u64>, key| shelf.read(key, &from_the_start).unwrap().unwrap().unwrap().kept_from;
    assert_eq!(shelf.bytes(), 100);
    assert_eq!(
        kept_from(&mut shelf, 4) + kept_from(&mut shelf, 5),
        4 + 4 + 2,
        "each was cut to 6, and one or both more"
    );
}

#[derive(Debug, Clone)]
enum Step {
    Push(u8),
    Ask,
    /// The message in this place arrives.
    Deliver(usize),
    Double(usize),
    Lose(usize),
    /// All that is on its way is lost.
    Cut,
    /// The sender forgets all and begins anew.
    Restart,
    /// The reader goes on from what it wrote down with what it took.
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => any::<u8>().prop_map(|count| Step::Push(count % 16)),
        5 => Just(Step::Ask),
        8 => any::<usize>().prop_map(Step::Deliver),
        2 => any::<usize>().prop_map(Step::Double),
        2 => any::<usize>().prop_map(Step::Lose),
        1 => Just(Step::Cut),
        1 => Just(Step::Restart),
        1 => Just(Step::Reopen),
    ]
}

#[derive(Debug, Clone)]
enum Message {
    Ask(Ask),
    Piece(Piece<(u64, u64)>),
}

/// A sender, a reader, and what is on its way between them. Each record says its own epoch and number.
struct World {
    outlet: Outlet<(u64, u64)>,
    epoch: u64,
    bytes_max: usize,
    inlet: Inlet,
    on_the_way: Vec<Message>,
    /// Of the epoch at hand: all up to this was taken or said to be gone.
    covered: (u64, u64),
    taken: u64,
}

impl World {
    fn new(bytes_max: usize) -> Self {
        let (outlet, inlet) = (Outlet::new(StreamEpoch(1), bytes_max), Inlet::new(None));
        Self { outlet, epoch: 1, bytes_max, inlet, on_the_way: Vec::new(), covered: (0, 0), taken: 0 }
    }

    fn step(&mut self, step: &Step) {
        let len = self.on_the_way.len();
        match step {
            Step::Push(count) => (0..*count).for_each(|_| self.push()),
            Step::Ask => self.on_the_way.push(Message::Ask(self.inlet.ask(WINDOW))),
            Step::Deliver(place) if len > 0 => {
                let message = self.on_the_way.swap_remove(place % len);
                self.deliver(message);
            }
            Step::Double(place) if len > 0 => self.on_the_way.push(self.on_the_way[place % len].clone()),
            Step::Lose(place) if len > 0 => drop(self.on_the_way.swap_remove(place % len)),
            Step::Deliver(_) | Step::Double(_) | Step::Lose(_) => {}
            Step::Cut => self.on_the_way.clear(),
            Step::Restart => {
                self.epoch += 1;
                self.outlet = Outlet::new(StreamEpoch(self.epoch), self.bytes_max);
            }
            Step::Reopen => self.inlet = Inlet::new(self.inlet.checkpoint()),
        }
    }

    fn push(&mut self) {
        let record = (self.epoch, self.outlet.newest() + 1);
        self.outlet.push(record, 1);
    }

    fn deliver(&mut self, message: Message) {
        match message {
            Message::Ask(ask) => {
                let answer = self.outlet.read(&ask).expect("the reader has nothing that the sender never said");
                self.on_the_way.extend(answer.map(Message::Piece));
            }
            Message::Piece(piece) => {
                if let Ok(taken) = self.inlet.take(piece) {
                    self.check(&taken);
                }
            }
        }
    }

    /// No gap that is not said, nothing twice, nothing out of its place.
    fn check(&mut self, taken: &Taken<(u64, u64)>) {
        if taken.epoch.0 != self.covered.0 {
            assert!(taken.epoch.0 > self.covered.0);
            self.covered = (taken.epoch.0, 0);
        }
        if let Some(gone) = taken.gone {
            assert_eq!(gone.from, self.covered.1 + 1);
            self.covered.1 = gone.before - 1;
        }
        for (record, seq) in taken.records.iter().zip(taken.first..) {
            assert_eq!((*record, seq), ((self.covered.0, self.covered.1 + 1), self.covered.1 + 1));
            self.covered.1 += 1;
            self.taken += 1;
        }
    }

    /// Nothing fails any more: the reader asks until it has all.
    fn heal(&mut self) {
        self.on_the_way.clear();
        while let Some(piece) = self.outlet.read(&self.inlet.ask(WINDOW)).unwrap() {
            self.deliver(Message::Piece(piece));
        }
    }
}

proptest! {
    #[test]
    fn no_record_is_missed_doubled_or_moved_whatever_becomes_of_messages(
        bytes_max in prop_oneof![Just(12usize), Just(100_000)],
        steps in prop::collection::vec(step(), 0..300),
    ) {
        let mut world = World::new(bytes_max);
        steps.iter().for_each(|step| world.step(step));
        world.push();
        world.heal();
        prop_assert_eq!(world.covered, (world.epoch, world.outlet.newest()));
    }

    #[test]
    fn a_reader_takes_anything_without_a_panic(
        pieces in prop::collection::vec((0..4u64, any::<u64>(), any::<u64>(), 0..4usize, any::<bool>()), 0..20),
    ) {
        let mut inlet = Inlet::new(None);
        for (epoch, first, kept_from, len, ended) in pieces {
            let piece = Piece { epoch: StreamEpoch(epoch), first, kept_from, records: vec![0; len], ended };
            let before = inlet.checkpoint();
            if inlet.take(piece).is_err() {
                prop_assert_eq!(inlet.checkpoint(), before);
            }
        }
    }
}

/// A sender that waits for its reader loses nothing, whatever the way between them does. The long form runs
/// over real connections, in `scripts/nightly.sh`.
#[test]
fn a_sender_within_its_window_loses_no_record_of_many() {
    const RECORDS: u64 = 100_000;
    let mut seed = 0x9e37_79b9_7f4a_7c15u64;
    let mut draw = |below: u64| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed % below
    };
    let mut world = World::new(64);
    while world.taken < RECORDS {
        while world.outlet.newest() < RECORDS && world.outlet.newest() - world.outlet.acknowledged() < 64 {
            world.push();
        }
        let place = draw(1 << 32) as usize;
        world.step(&match draw(100) {
            0..30 => Step::Ask,
            30..85 => Step::Deliver(place),
            85..90 => Step::Double(place),
            90..95 => Step::Lose(place),
            95..98 => Step::Cut,
            _ => Step::Reopen,
        });
    }
    assert_eq!((world.covered, world.taken), ((1, RECORDS), RECORDS), "0 gaps, 0 duplicates");
}
