//! Blobs that arrive in pieces. Those of one sender who brings a blob twice at a time help each other: each is told where the
//! next piece starts, whoever sent the last.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use magpie_core::ids::{ContentId, PeerId};
use magpie_core::payload::BlobRef;

use super::blobs::{BlobWriter, Blobs, PutBlobError};

/// Blobs on their way in, over all senders; the one that waits longest for its next piece gives way, and is begun anew.
const ARRIVALS_MAX: usize = 64;
/// One whose sender is silent for so long is given up.
const SILENT_MAX: Duration = Duration::from_secs(120);

/// Who sends a blob: a peer, or a client of this node, in whose name. Others know nothing of what it has sent.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sender {
    pub peer: Option<PeerId>,
    pub owner: Arc<str>,
}

/// What one sender brings, and how many bytes of it there are to be.
type Arrival = (Sender, ContentId, u64);

/// How far one has come. Whoever holds it writes.
type Progress = Arc<Mutex<Stage>>;

enum Stage {
    Begins,
    Grows(BlobWriter),
    Stored,
}

struct Arriving {
    progress: Progress,
    heard: Instant,
}

#[derive(Clone)]
pub struct ArrivingBlobs {
    store: Blobs,
    arrivals: Arc<Mutex<BTreeMap<Arrival, Arriving>>>,
}

impl ArrivingBlobs {
    pub fn new(store: Blobs) -> Self {
        Self { store, arrivals: Arc::default() }
    }

    /// Takes the piece at `offset` and answers where the next one starts: at the length of the blob once that is stored, before
    /// `offset` if the pieces before it are not here, behind this piece if another had brought it. Blocks on the disk.
    ///
    /// # Errors
    /// What the disk says, or that the bytes are not the blob's; then all that came of it is dropped.
    pub fn take(&self, sender: &Sender, blob: BlobRef, offset: u64, piece: &[u8]) -> Result<u64, PutBlobError> {
        let arrival = (sender.clone(), blob.cid, blob.bytes);
        let Some(progress) = self.progress(&arrival, offset == 0) else { return Ok(0) };
        let mut stage = progress.lock().unwrap_or_else(PoisonError::into_inner);
        let mut writer = match std::mem::replace(&mut *stage, Stage::Begins) {
            Stage::Begins if offset == 0 => self.store.open_writer()?,
            Stage::Begins => return Ok(0),
            Stage::Grows(writer) if writer.bytes() == offset => writer,
            Stage::Grows(writer) => {
                let next = writer.bytes();
                *stage = Stage::Grows(writer);
                return Ok(next);
            }
            // Its sender may bring it twice, and be late with one; it may be gone again by then.
            Stage::Stored if matches!(self.store.stat(blob.cid), Ok(Some(_))) => {
                *stage = Stage::Stored;
                return Ok(blob.bytes);
            }
            Stage::Stored if offset == 0 => self.store.open_writer()?,
            Stage::Stored => return Ok(0),
        };
        writer.write(piece)?;
        let next = writer.bytes();
        if next < blob.bytes {
            *stage = Stage::Grows(writer);
        } else {
            writer.finish(blob.cid)?;
            *stage = Stage::Stored;
        }
        Ok(next)
    }

    /// How far `arrival` is, from its beginning on if it `begins`.
    fn progress(&self, arrival: &Arrival, begins: bool) -> Option<Progress> {
        let (mut arrivals, now) = (self.lock(), Instant::now());
        if let Some(arriving) = arrivals.get_mut(arrival) {
            arriving.heard = now;
            return Some(arriving.progress.clone());
        }
        if !begins {
            return None;
        }
        arrivals.retain(|_, arriving| now.duration_since(arriving.heard) < SILENT_MAX);
        if arrivals.len() >= ARRIVALS_MAX {
            let eldest = arrivals.iter().min_by_key(|(_, arriving)| arriving.heard).map(|(arrival, _)| arrival.clone());
            eldest.and_then(|eldest| arrivals.remove(&eldest));
        }
        let progress = Arc::new(Mutex::new(Stage::Begins));
        arrivals.insert(arrival.clone(), Arriving { progress: progress.clone(), heard: now });
        Some(progress)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Arrival, Arriving>> {
        self.arrivals.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PIECE: usize = 1_000;

    struct Rig {
        arriving: ArrivingBlobs,
        store: Blobs,
        _dir: tempfile::TempDir,
    }

    fn rig() -> Rig {
        let dir = tempfile::tempdir().unwrap();
        let store = Blobs::open(dir.path().join("blobs")).unwrap();
        Rig { arriving: ArrivingBlobs::new(store.clone()), store, _dir: dir }
    }

    fn client(owner: &str) -> Sender {
        Sender { peer: None, owner: Arc::from(owner) }
    }

    fn blob_of(bytes: &[u8]) -> BlobRef {
        BlobRef { cid: ContentId::of(bytes), bytes: bytes.len() as u64 }
    }

    fn some_bytes(n: u8) -> Vec<u8> {
        (0..10 * PIECE).map(|index| (index % 251) as u8 ^ n).collect()
    }

    /// As any client does; how often it was sent back.
    fn send(arriving: &ArrivingBlobs, sender: &Sender, bytes: &[u8]) -> usize {
        let (mut offset, mut sent_back) = (0, 0);
        while offset < bytes.len() {
            let piece = &bytes[offset..bytes.len().min(offset + PIECE)];
            let next = arriving.take(sender, blob_of(bytes), offset as u64, piece).unwrap() as usize;
            sent_back += usize::from(next <= offset);
            offset = next;
        }
        sent_back
    }

    #[test]
    fn many_clients_of_one_name_bring_one_blob_at_a_time_and_none_is_sent_back() {
        let Rig { arriving, store, _dir } = rig();
        let bytes = some_bytes(0);
        std::thread::scope(|scope| {
            let senders: Vec<_> =
                (0..8).map(|_| scope.spawn(|| send(&arriving, &client("local:nodectl"), &bytes))).collect();
            for sender in senders {
                assert_eq!(sender.join().unwrap(), 0);
            }
        });
        assert_eq!(store.read(blob_of(&bytes).cid, u64::MAX).unwrap().unwrap(), bytes);
        std::fs::remove_file(store.path(blob_of(&bytes).cid)).unwrap();
        assert_eq!(send(&arriving, &client("local:nodectl"), &bytes), 0);
        assert!(store.stat(blob_of(&bytes).cid).unwrap().is_some(), "what is gone is taken again");
    }

    #[test]
    fn what_one_has_sent_is_no_others() {
        let Rig { arriving, store, _dir } = rig();
        let (bytes, wrong) = (some_bytes(0), vec![0; PIECE]);
        let blob = blob_of(&bytes);
        assert_eq!(arriving.take(&client("token:a"), blob, 0, &bytes[..PIECE]).unwrap(), PIECE as u64);
        assert_eq!(arriving.take(&client("token:b"), blob, PIECE as u64, &wrong).unwrap(), 0, "it has sent nothing");
        assert_eq!(arriving.take(&client("token:b"), blob, 0, &wrong).unwrap(), PIECE as u64);
        assert_eq!(send(&arriving, &client("token:a"), &bytes), 0);
        assert!(store.stat(blob.cid).unwrap().is_some());
    }

    #[test]
    fn bytes_of_another_blob_are_dropped_and_it_can_be_brought_again() {
        let Rig { arriving, store, _dir } = rig();
        let (bytes, other) = (some_bytes(0), some_bytes(1));
        let (sender, blob) = (client("a"), blob_of(&bytes));
        assert_eq!(arriving.take(&sender, blob, 0, &other[..PIECE]).unwrap(), PIECE as u64);
        let refused = arriving.take(&sender, blob, PIECE as u64, &bytes[PIECE..]).unwrap_err();
        assert!(matches!(refused, PutBlobError::WrongDigest { .. }), "{refused}");
        assert!(store.stat(blob.cid).unwrap().is_none());
        assert_eq!(send(&arriving, &sender, &bytes), 0);
    }

    #[test]
    fn the_one_that_is_silent_longest_gives_way_and_its_sender_is_sent_to_the_beginning() {
        let Rig { arriving, _dir, .. } = rig();
        let bytes = some_bytes(0);
        let begin = |n: usize| arriving.take(&client(&n.to_string()), blob_of(&bytes), 0, &bytes[..PIECE]).unwrap();
        (0..ARRIVALS_MAX).for_each(|n| assert_eq!(begin(n), PIECE as u64));
        let go_on = |n: usize| {
            arriving.take(&client(&n.to_string()), blob_of(&bytes), PIECE as u64, &bytes[PIECE..2 * PIECE]).unwrap()
        };
        assert_eq!(go_on(0), 2 * PIECE as u64);
        assert_eq!(begin(ARRIVALS_MAX), PIECE as u64);
        assert_eq!((go_on(1), go_on(2), arriving.lock().len()), (0, 2 * PIECE as u64, ARRIVALS_MAX));
    }
}
