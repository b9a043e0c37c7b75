//! What one attempt says, on its way to those who follow it.

use magpie_core::lease::Fence;
use magpie_core::progress::{AttemptNews, AttemptRecord, Progress};

use super::super::attempt_streams::AttemptStreams;
use crate::executor::LogTap;

/// Dropped, the attempt says nothing more.
pub struct Voice {
    streams: AttemptStreams,
    fence: Fence,
    /// How far it was when it was last told.
    told: Option<Progress>,
}

impl Voice {
    pub fn begin(streams: &AttemptStreams, fence: Fence) -> Self {
        streams.begin(fence);
        Self { streams: streams.clone(), fence, told: None }
    }

    /// Where its log goes.
    pub fn log(&self) -> LogTap {
        let (streams, fence) = (self.streams.clone(), self.fence);
        LogTap::new(move |text| streams.push(fence, AttemptRecord::Log(text)))
    }

    /// A checkpoint alone is no news to who follows.
    pub fn tell(&mut self, news: &AttemptNews) {
        if news.progress != self.told {
            self.told.clone_from(&news.progress);
            let said = news.progress.clone().map(AttemptRecord::Progress);
            said.into_iter().for_each(|record| self.streams.push(self.fence, record));
        }
    }
}

impl Drop for Voice {
    fn drop(&mut self) {
        self.streams.end(self.fence);
    }
}

#[cfg(test)]
mod tests {
    use magpie_core::ids::{Epoch, LedgerTag, TaskId};
    use magpie_core::stream::{Inlet, Window};
    use tokio::time::Instant;

    use super::*;
    use crate::messages::stream::AttemptPiece;

    #[tokio::test]
    async fn log_and_progress_come_in_the_order_in_which_they_were_said() {
        let fence = Fence { task: TaskId { ulid: 1, ledger: LedgerTag([3; 5]) }, epoch: Epoch(9) };
        let streams = AttemptStreams::default();
        let mut voice = Voice::begin(&streams, fence);
        let progress = |fraction| Some(Progress { fraction: Some(fraction), message: String::new() });
        let mut says =
            |progress: &Option<Progress>| voice.tell(&AttemptNews { progress: progress.clone(), checkpoint: None });
        says(&progress(0.1));
        says(&progress(0.1));
        says(&progress(0.2));
        voice.log().tell("one\n".to_owned());
        voice.log().tell(String::new());
        drop(voice);
        let ask = Inlet::new(None).ask(Window { len_max: 10, bytes_max: 10_000 });
        let Ok(AttemptPiece::Said(piece)) = streams.read(fence, &ask, Instant::now()).await else {
            panic!("it is kept")
        };
        let said = [progress(0.1), progress(0.2)].into_iter().flatten().map(AttemptRecord::Progress);
        let said: Vec<AttemptRecord> = said.chain([AttemptRecord::Log("one\n".to_owned())]).collect();
        assert_eq!((piece.records, piece.ended, piece.epoch.0), (said, true, 9));
    }
}
