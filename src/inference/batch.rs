//! Texts of several tasks into batches, and vectors back to their tasks.
//!
//! A state machine without a clock: callers hand in the time and wake at [`BatchFormer::next_deadline_ms`]. A batch is
//! formed when it is full or its oldest text has waited long enough, and takes from the tasks in turn, so that a task
//! of thousands of texts never hides a task of one.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use magpie_core::limits::{DEVICE_BATCH_BYTES_MAX, DEVICE_BATCH_LEN_MAX, DEVICE_BATCH_WAIT_MS, DEVICE_QUEUE_BYTES_MAX};
use magpie_core::task::Used;

use super::shares::BatchUsed;

/// What a text that waits takes beside its characters.
const TEXT_OVERHEAD_BYTES: usize = 64;

/// A task's place in a [`BatchFormer`]; never given twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(u64);

/// Why texts are not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PushError {
    #[error("there is nothing to embed")]
    NoTexts,
    #[error("text {place} has {bytes} bytes, at most {bytes_max} are embedded; cut it into passages")]
    TextTooLong { place: usize, bytes: usize, bytes_max: usize },
    #[error("texts of {held} bytes wait for the device, {presented} more would pass {bytes_max}")]
    QueueFull { held: usize, presented: usize, bytes_max: usize },
}

/// A device that did not answer text by text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{vectors} vectors for {texts} texts")]
pub struct CompleteError {
    pub texts: usize,
    pub vectors: usize,
}

/// Texts for one request to a device: of one model, within the limits of a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    pub model: Arc<str>,
    pub texts: Vec<String>,
    /// For each text its task and its place there.
    origins: Vec<(Ticket, usize)>,
}

impl Batch {
    /// Whether all texts are of one task, so that a failure is no other's.
    pub fn is_of_one_task(&self) -> bool {
        self.origins.windows(2).all(|pair| pair[0].0 == pair[1].0)
    }

    fn fits(&self, text: &str) -> bool {
        let bytes: usize = self.texts.iter().map(String::len).sum();
        self.texts.len() < DEVICE_BATCH_LEN_MAX && bytes + text.len() <= DEVICE_BATCH_BYTES_MAX
    }
}

/// A task whose texts all have their vectors, in the order of the texts.
#[derive(Debug, Clone, PartialEq)]
pub struct Embedded {
    pub ticket: Ticket,
    pub vectors: Vec<Vec<f32>>,
    /// Its share of what its batches took.
    pub used: Used,
}

#[derive(Debug)]
struct Job {
    model: Arc<str>,
    /// With their places in the task, lowest first.
    waiting: VecDeque<(usize, String)>,
    /// By place in the task; empty until its batch has come back.
    vectors: Vec<Vec<f32>>,
    lacking: usize,
    used: Used,
    since_ms: u64,
    /// Shares no batch: one that it was in has failed, and now it shows whose fault that was.
    apart: bool,
}

/// Forms batches. Holds at most [`DEVICE_QUEUE_BYTES_MAX`] bytes of texts that wait, those given back aside.
#[derive(Debug, Default)]
pub struct BatchFormer {
    jobs: BTreeMap<Ticket, Job>,
    /// By model, the jobs with texts that wait, in the order of their turns.
    turns: BTreeMap<Arc<str>, VecDeque<Ticket>>,
    next_ticket: u64,
    waiting_bytes: usize,
}

impl BatchFormer {
    /// Takes the texts of a task, at least one.
    ///
    /// # Errors
    /// No text, one that no frame carries, and texts beyond what may wait.
    pub fn push(&mut self, now_ms: u64, model: &str, texts: Vec<String>) -> Result<Ticket, PushError> {
        let bytes_max = DEVICE_BATCH_BYTES_MAX;
        if let Some((place, text)) = texts.iter().enumerate().find(|(_, text)| text.len() > bytes_max) {
            return Err(PushError::TextTooLong { place, bytes: text.len(), bytes_max });
        }
        let (held, presented) = (self.waiting_bytes, texts.iter().map(|text| weight(text)).sum());
        if texts.is_empty() {
            return Err(PushError::NoTexts);
        }
        if held + presented > DEVICE_QUEUE_BYTES_MAX {
            return Err(PushError::QueueFull { held, presented, bytes_max: DEVICE_QUEUE_BYTES_MAX });
        }
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        self.waiting_bytes += presented;
        let model: Arc<str> = model.into();
        self.turns.entry(model.clone()).or_default().push_back(ticket);
        let (lacking, vectors) = (texts.len(), vec![Vec::new(); texts.len()]);
        let waiting = texts.into_iter().enumerate().collect();
        let used = Used::default();
        self.jobs.insert(ticket, Job { model, waiting, vectors, lacking, used, since_ms: now_ms, apart: false });
        Ok(ticket)
    }

    /// When [`Self::form`] gives a batch: at once if that lies in the past.
    pub fn next_deadline_ms(&self) -> Option<u64> {
        self.turns.values().map(|turns| self.due_ms(turns)).min()
    }

    /// The batch that is due longest, if one is. Ask again: several may be.
    pub fn form(&mut self, now_ms: u64) -> Option<Batch> {
        let due = self.turns.iter().map(|(model, turns)| (self.due_ms(turns), model));
        let (_, model) = due.filter(|(due_ms, _)| *due_ms <= now_ms).min()?;
        let model = model.clone();
        let turns = self.turns.remove(&model).unwrap_or_default();
        let mut batch = Batch { model: model.clone(), texts: Vec::new(), origins: Vec::new() };
        let left = self.fill(&mut batch, turns);
        if !left.is_empty() {
            self.turns.insert(model, left);
        }
        Some(batch)
    }

    /// Takes a batch's vectors, one per text, and what it took; returns the tasks that are now whole.
    ///
    /// # Errors
    /// Another number of vectors: nothing is taken, and the batch is still to be given back or failed.
    pub fn complete(
        &mut self,
        batch: &Batch,
        vectors: Vec<Vec<f32>>,
        used: &BatchUsed,
    ) -> Result<Vec<Embedded>, CompleteError> {
        if vectors.len() != batch.texts.len() {
            return Err(CompleteError { texts: batch.texts.len(), vectors: vectors.len() });
        }
        let mut whole = Vec::new();
        for (((ticket, place), vector), share) in batch.origins.iter().zip(vectors).zip(used.shares(batch.texts.len()))
        {
            // A task that was cancelled meanwhile wants nothing.
            let Some(job) = self.jobs.get_mut(ticket) else { continue };
            job.vectors[*place] = vector;
            job.used = job.used.plus(share);
            job.lacking -= 1;
            if job.lacking == 0 {
                let job = self.jobs.remove(ticket);
                whole.extend(job.map(|Job { vectors, used, .. }| Embedded { ticket: *ticket, vectors, used }));
            }
        }
        Ok(whole)
    }

    /// Takes a batch back that came to nothing, to be formed anew at once. If several tasks were in it, from now on each
    /// has batches of its own, so that a text that no device bears fails its own task alone.
    pub fn give_back(&mut self, batch: Batch) {
        let apart = !batch.is_of_one_task();
        for ((ticket, place), text) in batch.origins.into_iter().zip(batch.texts).rev() {
            let Some(job) = self.jobs.get_mut(&ticket) else { continue };
            self.waiting_bytes += weight(&text);
            job.apart |= apart;
            job.since_ms = 0;
            if job.waiting.is_empty() {
                self.turns.entry(job.model.clone()).or_default().push_front(ticket);
            }
            job.waiting.push_front((place, text));
        }
    }

    /// Forgets the tasks of a batch, and returns them to be failed.
    pub fn fail(&mut self, batch: &Batch) -> Vec<Ticket> {
        batch.origins.iter().map(|(ticket, _)| *ticket).filter(|ticket| self.cancel(*ticket)).collect()
    }

    /// Forgets a task; `false` if it is not here. Texts of it that are under way come back to nobody.
    pub fn cancel(&mut self, ticket: Ticket) -> bool {
        let Some(job) = self.jobs.remove(&ticket) else { return false };
        self.waiting_bytes -= job.waiting.iter().map(|(_, text)| weight(text)).sum::<usize>();
        if let Some(turns) = self.turns.get_mut(&job.model) {
            turns.retain(|turn| *turn != ticket);
            if turns.is_empty() {
                self.turns.remove(&job.model);
            }
        }
        true
    }

    /// Every task that is not whole.
    pub fn tickets(&self) -> impl Iterator<Item = Ticket> {
        self.jobs.keys().copied()
    }

    /// Texts that wait, those under way aside.
    pub fn waiting_len(&self) -> usize {
        self.jobs.values().map(|job| job.waiting.len()).sum()
    }

    fn due_ms(&self, turns: &VecDeque<Ticket>) -> u64 {
        let jobs = || turns.iter().filter_map(|ticket| self.jobs.get(ticket));
        let full = jobs().map(|job| job.waiting.len()).sum::<usize>() >= DEVICE_BATCH_LEN_MAX;
        let oldest_ms = jobs().map(|job| job.since_ms).min().unwrap_or_default();
        if full { oldest_ms } else { oldest_ms + DEVICE_BATCH_WAIT_MS }
    }

    /// Fills `batch` from the jobs in turn, and returns those that still wait.
    fn fill(&mut self, batch: &mut Batch, mut turns: VecDeque<Ticket>) -> VecDeque<Ticket> {
        if turns.front().is_some_and(|ticket| self.is_apart(*ticket)) {
            self.take_turn(batch, &mut turns, DEVICE_BATCH_LEN_MAX);
            return turns;
        }
        let (mut shared, apart): (VecDeque<_>, VecDeque<_>) =
            turns.into_iter().partition(|ticket| !self.is_apart(*ticket));
        let share = (DEVICE_BATCH_LEN_MAX / shared.len().max(1)).max(1);
        while !shared.is_empty() && self.take_turn(batch, &mut shared, share) {}
        apart.into_iter().chain(shared).collect()
    }

    fn is_apart(&self, ticket: Ticket) -> bool {
        self.jobs.get(&ticket).is_some_and(|job| job.apart)
    }

    /// Moves up to `share` texts of the first job into `batch`, and the job, if it still waits, behind the others.
    /// `false` if the batch took fewer than it was offered: it is full.
    fn take_turn(&mut self, batch: &mut Batch, turns: &mut VecDeque<Ticket>, share: usize) -> bool {
        let Some(ticket) = turns.pop_front() else { return false };
        let Some(job) = self.jobs.get_mut(&ticket) else { return true };
        for _ in 0..share {
            match job.waiting.pop_front() {
                Some((place, text)) if batch.fits(&text) => {
                    self.waiting_bytes -= weight(&text);
                    batch.texts.push(text);
                    batch.origins.push((ticket, place));
                }
                Some(unfit) => {
                    job.waiting.push_front(unfit);
                    turns.push_front(ticket);
                    return false;
                }
                None => return true,
            }
        }
        if !job.waiting.is_empty() {
            turns.push_back(ticket);
        }
        true
    }
}

fn weight(text: &str) -> usize {
    text.len() + TEXT_OVERHEAD_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn texts(count: usize) -> Vec<String> {
        (0..count).map(|place| place.to_string()).collect()
    }

    /// Stands for a text's vector.
    fn vector(text: &str) -> Vec<f32> {
        vec![text.bytes().map(f32::from).sum(), text.len() as f32]
    }

    fn vectors(texts: &[String]) -> Vec<Vec<f32>> {
        texts.iter().map(|text| vector(text)).collect()
    }

    #[test]
    fn a_lone_text_waits_for_company_but_not_for_long() {
        let mut former = BatchFormer::default();
        assert_eq!(former.next_deadline_ms(), None);
        let ticket = former.push(100, "m", texts(1)).unwrap();
        let due_ms = 100 + DEVICE_BATCH_WAIT_MS;
        assert_eq!(former.next_deadline_ms(), Some(due_ms));
        assert_eq!(former.form(due_ms - 1), None);
        let batch = former.form(due_ms).unwrap();
        assert_eq!((&*batch.model, &batch.texts), ("m", &texts(1)));
        assert_eq!(former.next_deadline_ms(), None);
        let whole = former.complete(&batch, vectors(&batch.texts), &BatchUsed::default()).unwrap();
        assert_eq!(whole, [Embedded { ticket, vectors: vectors(&texts(1)), used: Used::default() }]);
    }

    #[test]
    fn a_full_batch_leaves_at_once_with_texts_of_several_tasks() {
        let mut former = BatchFormer::default();
        for _ in 0..DEVICE_BATCH_LEN_MAX {
            assert_eq!(former.form(100), None);
            former.push(100, "m", texts(1)).unwrap();
        }
        let batch = former.form(100).unwrap();
        assert_eq!(batch.texts.len(), DEVICE_BATCH_LEN_MAX);
        assert!(!batch.is_of_one_task());
        assert_eq!(
            former.complete(&batch, vectors(&batch.texts), &BatchUsed::default()).unwrap().len(),
            DEVICE_BATCH_LEN_MAX
        );
    }

    #[test]
    fn a_task_of_thousands_does_not_hide_a_task_of_one() {
        let mut former = BatchFormer::default();
        let large = former.push(0, "m", texts(4_000)).unwrap();
        former.form(0).unwrap();
        let small = former.push(1, "m", vec!["small".to_owned()]).unwrap();
        let batch = former.form(1).unwrap();
        assert_eq!(batch.texts.len(), DEVICE_BATCH_LEN_MAX);
        assert!(batch.origins.iter().any(|(ticket, _)| *ticket == small));
        assert!(batch.origins.iter().any(|(ticket, _)| *ticket == large));
    }

    #[test]
    fn each_task_of_a_batch_takes_the_share_of_its_tokens() {
        let mut former = BatchFormer::default();
        let small = former.push(0, "m", texts(1)).unwrap();
        let large = former.push(0, "m", texts(2)).unwrap();
        let batch = former.form(1_000).unwrap();
        let used = Used { cpu_us: Some(700), gpu_us: Some(70) };
        let text_tokens = batch.origins.iter().map(|(ticket, _)| if *ticket == small { 1 } else { 3 }).collect();
        let whole = former.complete(&batch, vectors(&batch.texts), &BatchUsed { used, text_tokens }).unwrap();
        let used_by = |ticket| whole.iter().find(|done| done.ticket == ticket).unwrap().used;
        assert_eq!(used_by(small), Used { cpu_us: Some(100), gpu_us: Some(10) });
        assert_eq!(used_by(large), Used { cpu_us: Some(600), gpu_us: Some(60) });
    }

    #[test]
    fn models_are_not_mixed_and_the_longest_due_comes_first() {
        let mut former = BatchFormer::default();
        former.push(2, "a", texts(1)).unwrap();
        former.push(1, "b", texts(1)).unwrap();
        former.push(3, "b", texts(1)).unwrap();
        let first = former.form(100).unwrap();
        assert_eq!((&*first.model, first.texts.len()), ("b", 2));
        assert_eq!(&*former.form(100).unwrap().model, "a");
        assert_eq!(former.form(100), None);
    }

    #[test]
    fn a_batch_stays_within_a_frame() {
        let mut former = BatchFormer::default();
        let ticket = former.push(0, "m", vec!["x".repeat(DEVICE_BATCH_BYTES_MAX); 3]).unwrap();
        for _ in 0..2 {
            let batch = former.form(1_000).unwrap();
            assert_eq!(batch.texts.len(), 1);
            assert_eq!(former.complete(&batch, vec![vec![1.0]], &BatchUsed::default()), Ok(Vec::new()));
        }
        let batch = former.form(1_000).unwrap();
        let whole = former.complete(&batch, vec![vec![2.0]], &BatchUsed::default()).unwrap();
        assert_eq!(whole, [Embedded { ticket, vectors: vec![vec![1.0], vec![1.0], vec![2.0]], used: Used::default() }]);
    }

    #[test]
    fn what_cannot_wait_is_refused_in_words() {
        let mut former = BatchFormer::default();
        assert_eq!(former.push(0, "m", Vec::new()), Err(PushError::NoTexts));
        let long = former.push(0, "m", vec![String::new(), "x".repeat(DEVICE_BATCH_BYTES_MAX + 1)]).unwrap_err();
        assert!(matches!(long, PushError::TextTooLong { place: 1, .. }));
        let large = vec!["x".repeat(DEVICE_BATCH_BYTES_MAX - TEXT_OVERHEAD_BYTES)];
        let fit = DEVICE_QUEUE_BYTES_MAX / DEVICE_BATCH_BYTES_MAX;
        for _ in 0..fit {
            former.push(0, "m", large.clone()).unwrap();
        }
        assert!(matches!(former.push(0, "m", texts(1)), Err(PushError::QueueFull { .. })));
        former.form(1_000).unwrap();
        former.push(0, "m", texts(1)).unwrap();
    }

    #[test]
    fn tasks_of_a_failed_batch_are_tried_apart() {
        let mut former = BatchFormer::default();
        let good = former.push(0, "m", vec!["good".to_owned(); 2]).unwrap();
        let bad = former.push(0, "m", vec!["bad".to_owned()]).unwrap();
        let mixed = former.form(1_000).unwrap();
        former.give_back(mixed);
        let later = former.push(1_000, "m", texts(1)).unwrap();
        let mut seen = Vec::new();
        while let Some(batch) = former.form(2_000) {
            assert!(batch.is_of_one_task());
            if batch.texts[0] == "bad" {
                assert_eq!(former.fail(&batch), [bad]);
            } else {
                seen.extend(
                    former
                        .complete(&batch, vectors(&batch.texts), &BatchUsed::default())
                        .unwrap()
                        .into_iter()
                        .map(|done| done.ticket),
                );
            }
        }
        assert_eq!(seen, [good, later]);
        assert_eq!((former.tickets().count(), former.waiting_bytes), (0, 0));
    }

    #[test]
    fn a_cancelled_task_leaves_nothing_behind() {
        let mut former = BatchFormer::default();
        let ticket = former.push(0, "m", texts(40)).unwrap();
        let under_way = former.form(0).unwrap();
        assert!(former.cancel(ticket));
        assert!(!former.cancel(ticket));
        assert_eq!(former.form(1_000), None);
        assert_eq!(former.complete(&under_way, vectors(&under_way.texts), &BatchUsed::default()), Ok(Vec::new()));
        former.give_back(under_way);
        assert_eq!((former.waiting_bytes, former.next_deadline_ms()), (0, None));
    }

    #[test]
    fn an_answer_of_another_length_is_not_taken() {
        let mut former = BatchFormer::default();
        former.push(0, "m", texts(2)).unwrap();
        let batch = former.form(1_000).unwrap();
        assert_eq!(
            former.complete(&batch, vec![vec![0.0]], &BatchUsed::default()),
            Err(CompleteError { texts: 2, vectors: 1 })
        );
        assert_eq!(former.fail(&batch).len(), 1);
    }

    #[derive(Debug, Clone)]
    enum Step {
        Push { model: u8, lengths: Vec<usize> },
        Form,
        Complete(prop::sample::Index),
        GiveBack(prop::sample::Index),
        Cancel(prop::sample::Index),
    }

    fn step() -> impl Strategy<Value = Step> {
        let lengths = prop::collection::vec(0usize..200, 1..80);
        prop_oneof![
            3 => (0u8..3, lengths).prop_map(|(model, lengths)| Step::Push { model, lengths }),
            4 => Just(Step::Form),
            3 => any::<prop::sample::Index>().prop_map(Step::Complete),
            1 => any::<prop::sample::Index>().prop_map(Step::GiveBack),
            1 => any::<prop::sample::Index>().prop_map(Step::Cancel),
        ]
    }

    /// A former, what was asked of it, and what is under way.
    #[derive(Default)]
    struct Run {
        former: BatchFormer,
        asked: BTreeMap<Ticket, Vec<String>>,
        under_way: Vec<Batch>,
        now_ms: u64,
    }

    impl Run {
        fn take(&mut self, index: &prop::sample::Index) -> Option<Batch> {
            (!self.under_way.is_empty()).then(|| self.under_way.swap_remove(index.index(self.under_way.len())))
        }

        fn complete(&mut self, batch: &Batch) {
            for Embedded { ticket, vectors: held, .. } in
                self.former.complete(batch, vectors(&batch.texts), &BatchUsed::default()).unwrap()
            {
                assert_eq!(held, vectors(&self.asked.remove(&ticket).unwrap()));
            }
        }

        fn form(&mut self) -> bool {
            let due = self.former.next_deadline_ms().is_some_and(|due_ms| due_ms <= self.now_ms);
            let formed = self.former.form(self.now_ms);
            assert_eq!(formed.is_some(), due);
            let Some(batch) = formed else { return false };
            assert!((1..=DEVICE_BATCH_LEN_MAX).contains(&batch.texts.len()));
            self.under_way.push(batch);
            true
        }

        fn apply(&mut self, step: &Step) {
            self.now_ms += 1;
            match step {
                Step::Push { model, lengths } => {
                    let texts: Vec<String> = lengths.iter().map(|length| "x".repeat(*length)).collect();
                    let ticket = self.former.push(self.now_ms, &model.to_string(), texts.clone()).unwrap();
                    self.asked.insert(ticket, texts);
                }
                Step::Form => drop(self.form()),
                Step::Complete(index) => {
                    if let Some(batch) = self.take(index) {
                        self.complete(&batch);
                    }
                }
                Step::GiveBack(index) => {
                    if let Some(batch) = self.take(index) {
                        self.former.give_back(batch);
                    }
                }
                Step::Cancel(index) => {
                    let tickets: Vec<Ticket> = self.former.tickets().collect();
                    if !tickets.is_empty() {
                        let ticket = tickets[index.index(tickets.len())];
                        assert!(self.former.cancel(ticket));
                        self.asked.remove(&ticket);
                    }
                }
            }
        }
    }

    proptest! {
        #[test]
        fn every_task_gets_its_vectors_in_order_whatever_happens(steps in prop::collection::vec(step(), 0..60)) {
            let mut run = Run::default();
            for step in &steps {
                run.apply(step);
            }
            run.now_ms += DEVICE_BATCH_WAIT_MS;
            while run.form() {}
            for batch in std::mem::take(&mut run.under_way) {
                run.complete(&batch);
            }
            prop_assert!(run.asked.is_empty());
            prop_assert_eq!(run.former.waiting_bytes, 0);
            prop_assert_eq!(run.former.next_deadline_ms(), None);
        }
    }
}
