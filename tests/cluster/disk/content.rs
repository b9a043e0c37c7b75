use std::collections::BTreeMap;
use std::sync::Arc;

pub const PAGE_BYTES: usize = 4_096;
const ZEROS: [u8; PAGE_BYTES] = [0; PAGE_BYTES];

/// The bytes of a file. Pages of zeros take no room, and copies share the others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Content {
    len: u64,
    pages: BTreeMap<u64, Arc<[u8; PAGE_BYTES]>>,
}

impl Content {
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Pages that hold something, with their place.
    pub fn pages(&self) -> impl Iterator<Item = (u64, &[u8])> {
        self.pages.iter().map(|(page, bytes)| {
            let at = page * PAGE_BYTES as u64;
            (at, &bytes[..PAGE_BYTES.min((self.len - at) as usize)])
        })
    }

    pub fn read(&self, at: u64, len: usize) -> Vec<u8> {
        let len = len.min(self.len.saturating_sub(at) as usize);
        let mut bytes = vec![0; len];
        for (page, within, range) in pieces(at, len) {
            if let Some(held) = self.pages.get(&page) {
                let piece = range.len();
                bytes[range].copy_from_slice(&held[within..within + piece]);
            }
        }
        bytes
    }

    pub fn write(&mut self, at: u64, bytes: &[u8]) {
        for (page, within, range) in pieces(at, bytes.len()) {
            let piece = &bytes[range];
            let is_zero = *piece == ZEROS[..piece.len()];
            if is_zero && (piece.len() == PAGE_BYTES || !self.pages.contains_key(&page)) {
                if piece.len() == PAGE_BYTES {
                    self.pages.remove(&page);
                }
                continue;
            }
            let held = self.pages.entry(page).or_insert_with(|| Arc::new([0; PAGE_BYTES]));
            Arc::make_mut(held)[within..within + piece.len()].copy_from_slice(piece);
        }
        self.len = self.len.max(at + bytes.len() as u64);
    }

    pub fn set_len(&mut self, len: u64) {
        let _beyond = self.pages.split_off(&len.div_ceil(PAGE_BYTES as u64));
        if let Some(last) = self.pages.get_mut(&(len / PAGE_BYTES as u64)) {
            Arc::make_mut(last)[(len % PAGE_BYTES as u64) as usize..].fill(0);
        }
        self.len = len;
    }
}

/// A range of a file, page by page: the page, where in it, and which part of the range.
fn pieces(at: u64, len: usize) -> impl Iterator<Item = (u64, usize, std::ops::Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        (done < len).then(|| {
            let place = at + done as u64;
            let within = (place % PAGE_BYTES as u64) as usize;
            let piece = (PAGE_BYTES - within).min(len - done);
            let range = done..done + piece;
            done += piece;
            (place / PAGE_BYTES as u64, within, range)
        })
    })
}

#[test]
fn a_content_is_a_vector_that_holds_no_zeros() {
    let mut content = Content::default();
    let mut model: Vec<u8> = Vec::new();
    let mut random = 12_345_u64;
    let mut draw = |below: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % below
    };
    for _ in 0..500 {
        let at = draw(20_000) as usize;
        if draw(5) == 0 {
            content.set_len(at as u64);
            model.resize(at, 0);
        } else {
            let (len, byte) = (draw(9_000) as usize, draw(3) as u8);
            content.write(at as u64, &vec![byte; len]);
            model.resize(model.len().max(at + len), 0);
            model[at..at + len].fill(byte);
        }
        assert_eq!((content.len(), content.read(0, 100_000)), (model.len() as u64, model.clone()));
    }
}
